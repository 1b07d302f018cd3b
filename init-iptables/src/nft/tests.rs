use super::{Error, batch::batch, expression::expressions, verdict};
use crate::ruleset::plan;
use nix::errno::Errno;

/// That `nft` makes the same of the same rules is shown in `tests/netns.rs`.
#[test]
fn every_rule_renders_to_the_same_bytes_as_ever() {
    let text: Vec<String> = plan()
        .chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .map(|rule| {
            let bytes = assay_core::digest::hex(expressions(rule).as_bytes());
            format!("{rule}\n    {bytes}")
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn the_batch_deletes_the_old_table_and_asks_for_one_answer() {
    let steps = batch(&plan());
    let names: Vec<&str> = steps.iter().map(|step| step.what.as_str()).take(5).collect();
    assert_eq!(
        names,
        [
            "begin of the batch",
            "table",
            "old table",
            "table",
            "chain nat_output"
        ]
    );
    let asking: Vec<usize> = (0..steps.len())
        .filter(|index| steps[*index].message.flags & 4 != 0)
        .collect();
    assert_eq!(asking, [steps.len() - 2]);
}

#[test]
fn a_missing_expression_is_named() {
    let error = verdict(
        "rule of nat_output: fib daddr type local return".to_owned(),
        Errno::ENOENT,
    );
    assert!(matches!(&error, Error::Missing(what) if what.contains("fib daddr")));
}
