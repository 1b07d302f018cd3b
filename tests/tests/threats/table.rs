//! docs/SECURITY.md and the tests name each other: no row without a verdict, no test without a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use assay_proxy::selftest;

/// How many rows each group has.
const GROUPS: [(char, usize); 10] = [
    ('A', 18),
    ('B', 27),
    ('C', 14),
    ('D', 17),
    ('E', 9),
    ('F', 20),
    ('G', 6),
    ('H', 18),
    ('I', 8),
    ('J', 6),
];

#[derive(Debug)]
struct Row {
    what: String,
    verdict: String,
    tests: Vec<String>,
}

#[test]
fn every_row_has_a_verdict_and_every_named_test_exists() {
    let rows = rows();
    let expected: BTreeSet<String> = GROUPS
        .iter()
        .flat_map(|(group, count)| (1..=*count).map(move |number| format!("{group}{number}")))
        .collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let tests = all_tests();
    for (id, row) in &rows {
        assert!(!row.what.is_empty(), "{id} says nothing");
        assert!(
            ["closed", "limit", "live"].contains(&row.verdict.as_str()),
            "{id} has the verdict {:?}",
            row.verdict
        );
        assert!(
            row.verdict != "closed" || !row.tests.is_empty(),
            "{id} is called closed without a test"
        );
        for test in &row.tests {
            assert!(tests.contains(test), "{id} names {test}, which does not exist");
        }
    }
}

#[test]
fn every_test_of_a_row_is_named_in_its_row() {
    let rows = rows();
    for (test, id) in row_tests() {
        let named = rows.get(&id).is_some_and(|row| row.tests.contains(&test));
        assert!(named, "docs/SECURITY.md does not name {test} in row {id}");
    }
}

#[test]
fn the_self_test_tries_each_row_or_says_why_not() {
    let rows = rows();
    let tried: Vec<String> = selftest::rows().into_iter().map(str::to_owned).collect();
    let left: Vec<(String, &str)> = selftest::LEFT_OUT
        .iter()
        .flat_map(|left| left.rows().map(|row| (row, left.why)))
        .collect();
    let mut told: Vec<&String> = tried.iter().chain(left.iter().map(|(row, _)| row)).collect();
    told.sort();
    assert_eq!(told, rows.keys().collect::<Vec<_>>(), "each row once");
    for (id, row) in &rows {
        let why = left.iter().find(|(left, _)| left == id).map(|(_, why)| *why);
        let expected = match row.verdict.as_str() {
            "limit" => Some(selftest::LIMIT),
            "live" => Some(selftest::CLUSTER),
            _ => continue,
        };
        assert_eq!(why, expected, "{id} is {} in docs/SECURITY.md", row.verdict);
    }
    let closed = |id: &String| rows[id].verdict == "closed";
    let reasons = [selftest::LIMIT, selftest::CLUSTER];
    let wrong = left.iter().find(|(id, why)| reasons.contains(why) && closed(id));
    assert_eq!(wrong, None, "docs/SECURITY.md calls it closed");
}

/// `| A1 | what | verdict | `test`, `test` |`
fn rows() -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split(" | ")
            .map(str::trim)
            .collect();
        let [id, what, verdict, tests] = cells.as_slice() else {
            return None;
        };
        let is_row =
            id.starts_with(|first: char| first.is_ascii_uppercase()) && id[1..].parse::<usize>().is_ok();
        is_row.then(|| {
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let row = Row {
                what: (*what).to_owned(),
                verdict: (*verdict).to_owned(),
                tests,
            };
            ((*id).to_owned(), row)
        })
    });
    rows.collect()
}

/// The tests of this suite whose name begins with a row.
fn row_tests() -> Vec<(String, String)> {
    let folder = root().join("tests/tests/threats");
    let names = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(Result::ok)
        .flat_map(|entry| tests_in(&entry.path()));
    let rows = names.filter_map(|name| {
        let (id, _) = name.split_once('_')?;
        let is_row = id.len() > 1 && id[1..].parse::<usize>().is_ok();
        is_row.then(|| (name.clone(), id.to_uppercase()))
    });
    rows.collect()
}

fn all_tests() -> BTreeSet<String> {
    [
        "tests",
        "proxy",
        "runner",
        "init-iptables",
        "core",
        "engine",
        "screener",
        "runtime",
        "api",
        "cli",
    ]
    .iter()
    .flat_map(|package| sources(&root().join(package)))
    .flat_map(|path| tests_in(&path))
    .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => sources(&entry.path()),
            _ => vec![entry.path()],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The functions that follow a test attribute.
fn tests_in(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut tests = Vec::new();
    let mut waiting = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || line.starts_with("#[sqlx::test")
        {
            waiting = true;
        } else if waiting && let Some((_, rest)) = line.split_once("fn ") {
            tests.extend(rest.split('(').next().map(str::to_owned));
            waiting = false;
        }
    }
    tests
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
