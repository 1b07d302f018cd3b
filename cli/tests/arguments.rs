//! Command lines that are accepted and refused.

use assay_cli::args::{AgentChoice, Cli, Command};
use clap::Parser as _;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("assay").chain(line.split_whitespace()))
}

fn refusal(line: &str) -> String {
    parse(line)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

#[test]
fn built_in_agents_are_words_and_everything_else_is_a_folder() {
    for (word, built_in) in [
        ("oracle", true),
        ("nop", true),
        ("./oracle", false),
        ("patch", false),
    ] {
        let cli = parse(&format!("run tasks/a --agent {word}")).unwrap();
        let Command::Run(args) = cli.command else {
            panic!("no run")
        };
        assert_eq!(
            matches!(args.submit.agent, Some(AgentChoice::BuiltIn(_))),
            built_in,
            "{word}"
        );
    }
}

#[test]
fn a_policy_comes_from_a_file_or_from_flags_never_from_both() {
    parse("run t --agent nop --policy p.toml").unwrap();
    parse("run t --agent nop --model a/b --model a/c --budget 0.5 --timeout 60s").unwrap();
    parse("run t --agent nop --timeout 60").unwrap();
    assert!(refusal("run t --agent nop --policy p.toml --timeout 60").contains("cannot be used with"));
    assert!(refusal("run t --agent nop --model a/b").contains("--budget"));
    assert!(refusal("run t --agent nop --budget 1").contains("--model"));
}

#[test]
fn values_are_checked_where_they_enter() {
    for (line, word) in [
        ("run --agent nop", "TASKS"),
        ("run t", "--agent"),
        ("run t --agent nop --repeats 0", "1..=1000"),
        ("run t --agent nop --model GPT --budget 1", "not a model slug"),
        ("run t --agent nop --model a/b --budget -1", "-1"),
        ("run t --agent nop --timeout never", "seconds above 0"),
        ("run t --agent nop --priority 10", "0..=9"),
        ("show 17", "not an id"),
        (
            "logs 0192f0c1-2345-7000-8000-000000000000 --phase deploy",
            "prepare, start",
        ),
        ("list --profile ../x", "letters"),
    ] {
        let said = refusal(line);
        assert!(said.contains(word), "{line}: {said}");
    }
}

#[test]
fn json_can_be_asked_for_anywhere() {
    assert!(parse("--json list").unwrap().global.json);
    assert!(parse("list --json").unwrap().global.json);
}
