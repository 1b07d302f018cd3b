//! The help of every command, compared with the files in `help/`. `UPDATE_HELP=1 cargo test -p assay-cli` rewrites them.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

fn collect(command: &mut clap::Command, path: &str, pages: &mut Vec<(String, String)>) {
    pages.push((
        path.to_owned(),
        format!("{}\n", command.render_long_help().to_string().trim_end()),
    ));
    let names: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    for name in names {
        if let Some(inner) = command.find_subcommand_mut(&name) {
            collect(inner, &format!("{path}-{name}"), pages);
        }
    }
}

/// Every page; the lines are broken at a fixed width, whatever terminal the test runs in.
fn pages() -> Vec<(String, String)> {
    let mut command = assay_cli::args::Cli::command().term_width(100);
    command.build();
    let mut pages = Vec::new();
    collect(&mut command, "assay", &mut pages);
    pages
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/help")
        .join(format!("{name}.txt"))
}

#[test]
fn help_pages_are_as_recorded() {
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let mut differing = Vec::new();
    for (name, text) in pages() {
        if update {
            std::fs::create_dir_all(file("x").parent().unwrap()).unwrap();
            std::fs::write(file(&name), &text).unwrap();
        }
        if std::fs::read_to_string(file(&name)).ok().as_deref() != Some(text.as_str()) {
            differing.push(name);
        }
    }
    assert!(
        differing.is_empty(),
        "these pages changed; look at them, then run with UPDATE_HELP=1: {differing:?}"
    );
}

#[test]
fn every_recorded_page_is_of_a_command_that_exists() {
    let known: Vec<PathBuf> = pages().iter().map(|(name, _)| file(name)).collect();
    for entry in std::fs::read_dir(file("x").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        assert!(known.contains(&path), "{}", path.display());
    }
}
