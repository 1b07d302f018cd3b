//! `healthcheck` of a service, by Docker's rules and with its defaults.

use std::time::Duration;

use super::{
    super::InvalidTask,
    Check,
    amounts::{count, time},
    node::Node,
};

/// The check; `None` where it is switched off.
pub(super) fn check(node: &Node<'_>) -> Result<Option<Check>, InvalidTask> {
    let mut argv = None;
    let mut disabled = false;
    let mut check = Check {
        argv: Vec::new(),
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(30),
        retries: 3,
        start_period: Duration::ZERO,
        start_interval: Duration::from_secs(5),
    };
    for (key, node) in node.map()? {
        match key {
            "test" => argv = Some(test(&node)?),
            "disable" => disabled = node.flag()?,
            "interval" => check.interval = some_time(&node)?,
            "timeout" => check.timeout = some_time(&node)?,
            "start_interval" => check.start_interval = some_time(&node)?,
            "start_period" => check.start_period = time(&node)?,
            "retries" => check.retries = u32::try_from(count(&node, MOST_RETRIES)?).unwrap_or(u32::MAX),
            _ => return Err(node.refuse("is no key of a healthcheck")),
        }
    }
    match argv {
        _ if disabled => Ok(None),
        Some(argv) if argv.is_empty() => Ok(None),
        Some(argv) => Ok(Some(Check { argv, ..check })),
        None => Err(node.refuse_below("test", "is missing: it says what to run")),
    }
}

/// What to run; nothing for `NONE`.
fn test(node: &Node<'_>) -> Result<Vec<String>, InvalidTask> {
    let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    if !node.value.is_array() {
        return node.text().map(|line| shell(&line));
    }
    let words = node.texts()?;
    match (words.first().map(String::as_str), &words[1.min(words.len())..]) {
        (Some("NONE"), []) => Ok(Vec::new()),
        (Some("CMD"), argv @ [_, ..]) => Ok(argv.to_vec()),
        (Some("CMD-SHELL"), [line]) => Ok(shell(line)),
        _ => Err(node.refuse("want [\"CMD\", …], [\"CMD-SHELL\", \"…\"], [\"NONE\"] or a text")),
    }
}

fn some_time(node: &Node<'_>) -> Result<Duration, InvalidTask> {
    match time(node)? {
        Duration::ZERO => Err(node.refuse("want more than no time")),
        time => Ok(time),
    }
}

const MOST_RETRIES: u64 = 10_000;
