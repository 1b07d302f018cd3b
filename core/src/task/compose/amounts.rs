//! Sizes, cores, times, ports and command lines as compose files write them.

use std::time::Duration;

use super::{super::InvalidTask, node::Node};

/// Bytes: a number, or one with `b`, `k`, `m`, `g` (also `kb`, `KiB`, …), by 1024.
pub(super) fn bytes(node: &Node<'_>) -> Result<u64, InvalidTask> {
    let text = node.scalar()?;
    bytes_of(&text).ok_or_else(|| node.refuse(format!("{text:?} is no size; want e.g. 512m or 1g")))
}

pub(super) fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    let bytes = if let Ok(whole) = number.parse::<u64>() {
        whole.checked_mul(factor)
    } else {
        thousandths(number)?
            .checked_mul(factor)
            .map(|amount| amount / 1000)
    };
    bytes.filter(|bytes| *bytes > 0)
}

/// CPU in thousandths of a core.
pub(super) fn cpu_milli(node: &Node<'_>) -> Result<u64, InvalidTask> {
    let text = node.scalar()?;
    thousandths(&text)
        .filter(|milli| (1..=MOST_MILLI).contains(milli))
        .ok_or_else(|| node.refuse(format!("{text:?} is no number of cores")))
}

/// A decimal number in thousandths, what is smaller cut off.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction)
}

pub(super) fn count(node: &Node<'_>, most: u64) -> Result<u64, InvalidTask> {
    let text = node.scalar()?;
    let number = text
        .parse::<u64>()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| node.refuse(format!("{text:?} is no number from 1 to {most}")))
}

/// `1m30s`, `500ms`, `2s`.
pub(super) fn time(node: &Node<'_>) -> Result<Duration, InvalidTask> {
    let text = node.scalar()?;
    time_of(&text)
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| node.refuse(format!("{text:?} is no time up to a day; want e.g. 5s or 1m30s")))
}

pub(super) fn time_of(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut micros: u64 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let factor: u64 = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        };
        let part = thousandths(number)?.checked_mul(factor)? / 1000;
        micros = micros.checked_add(part)?;
        any = true;
        rest = next;
    }
    any.then(|| Duration::from_micros(micros))
}

/// A command: a list, or a line that is split as a shell would split it. No shell runs it.
pub(super) fn command(node: &Node<'_>) -> Result<Vec<String>, InvalidTask> {
    if node.value.is_array() {
        return node.texts();
    }
    let line = node.text()?;
    shlex::split(&line).ok_or_else(|| node.refuse("has a quote that does not end"))
}

/// The port that a container listens on, of `expose` and `ports`: the last part of `8000`, `8080:80`, `127.0.0.1:80:80/tcp`.
pub(super) fn port(node: &Node<'_>) -> Result<u16, InvalidTask> {
    let text = node.scalar()?;
    let (address, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<u16>().ok());
    match port.filter(|port| *port > 0) {
        Some(_) if protocol != "tcp" => Err(node.refuse("only TCP goes between services")),
        Some(port) if OURS.contains(&port) => Err(node.refuse("ports 15000 to 15099 are the platform's")),
        Some(port) => Ok(port),
        None => Err(node.refuse(format!("{text:?} is no port; ranges and maps are not read"))),
    }
}

const MOST_MILLI: u64 = 1_000_000;
const LONGEST: Duration = Duration::from_hours(24);
const OURS: std::ops::RangeInclusive<u16> = 15_000..=15_099;
