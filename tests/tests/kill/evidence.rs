//! What must be true of a run whatever was killed: the records have no gap, and the books agree.

use anyhow::{Context as _, bail, ensure};
use assay_core::{
    control::proxy::AuditLine,
    digest::Digest,
    ledger::log,
    wire::{
        channel::{Channel, Record, Sidecar},
        people::Attempt,
    },
};
use assay_tests::processes::Installation;

/// Every stored stream of an attempt is whole from its first byte on; the proxy's records hang together.
pub async fn records(kit: &Installation, attempt: &Attempt) -> anyhow::Result<()> {
    for output in kit.api.outputs(attempt.id, 0, std::time::Duration::ZERO).await? {
        let bytes = whole(kit, attempt, output.step, output.channel).await?;
        ensure!(
            bytes.len() as u64 == output.bytes,
            "{}: {} bytes of {}",
            output.channel,
            bytes.len(),
            output.bytes
        );
        match output.channel {
            Channel::Printed(..) => counted(&bytes).with_context(|| output.channel.to_string())?,
            Channel::Proxy(_, Record::Audit) => chained(&bytes)?,
            Channel::Proxy(_, Record::Ledger) => {
                let lines = bytes
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .count();
                // The first one stands there twice.
                ensure!(
                    log::read(&bytes).len() + 1 == lines,
                    "the write-ahead log cannot be read to its end"
                );
            }
            Channel::Proxy(_, Record::Recording) => {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                ensure!(
                    assay_core::recording::calls(&bytes).len() == lines.count(),
                    "the recording cannot be read to its end"
                );
            }
        }
    }
    Ok(())
}

/// The audit of the agent's sandbox is there.
pub async fn has_audit(kit: &Installation, attempt: &Attempt) -> anyhow::Result<bool> {
    let wanted = Channel::Proxy(Sidecar::Main, Record::Audit);
    let outputs = kit.api.outputs(attempt.id, 0, std::time::Duration::ZERO).await?;
    Ok(outputs.iter().any(|output| output.channel == wanted))
}

async fn whole(
    kit: &Installation,
    attempt: &Attempt,
    step: u32,
    channel: Channel,
) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let at = all.len() as u64;
        let stretch = kit.api.output(attempt.id, (step, channel), at).await?;
        if stretch.bytes.is_empty() {
            return Ok(all);
        }
        ensure!(
            stretch.next_offset == at + stretch.bytes.len() as u64,
            "{channel} has a gap after {at}"
        );
        all.extend_from_slice(&stretch.bytes);
    }
}

/// `line 1`, `line 2` and so on, whatever else is printed around them.
fn counted(bytes: &[u8]) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let mut last = 0;
    for line in text.lines() {
        let Some(number) = line
            .strip_prefix("line ")
            .and_then(|rest| rest.parse::<u64>().ok())
        else {
            continue;
        };
        if number != last + 1 && number != 1 {
            bail!("line {number} follows line {last}");
        }
        last = number;
    }
    Ok(())
}

/// Each line of an audit carries the next number and the hash of the line before.
fn chained(bytes: &[u8]) -> anyhow::Result<()> {
    let mut before = "0".repeat(64);
    let text = std::str::from_utf8(bytes)?;
    for (number, line) in (1..).zip(text.lines()) {
        let parsed: AuditLine = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(
            (parsed.seq, &parsed.prev) == (number, &before),
            "audit line {number} does not follow: {line}"
        );
        before = Digest::of(line).hex();
    }
    Ok(())
}

/// Asks the database whether queue, attempts, counters and purses agree.
pub async fn books(kit: &Installation) -> anyhow::Result<()> {
    let wrong = kit.query(BOOKS).await?;
    ensure!(wrong.is_empty(), "the books are wrong: {wrong:#?}");
    Ok(())
}

const BOOKS: &str = "
SELECT 'run ' || run || ' is still in the queue' FROM run_queue
UNION ALL SELECT 'a purse of level ' || level || ' still holds ' || reserved FROM purses WHERE reserved <> 0
UNION ALL SELECT 'attempt ' || id || ' is open' FROM attempts WHERE state <> 'closed'
UNION ALL SELECT 'run ' || r.id || ' counts ' || r.attempts || ' attempts' FROM runs r
    WHERE r.attempts <> (SELECT count(*) FROM attempts a WHERE a.run = r.id)
UNION ALL SELECT 'run ' || r.id || ' was graded ' || n || ' times'
    FROM runs r, LATERAL (SELECT count(*) AS n FROM attempts a
                          WHERE a.run = r.id AND a.cause IN ('completed', 'agent_broke_sandbox')) g
    WHERE n <> CASE r.state WHEN 'cancelled' THEN 0 ELSE 1 END
UNION ALL SELECT 'evaluation ' || e.id || ' counts wrong' FROM evaluations e
    WHERE e.finished <> e.total OR e.finished_at IS NULL
       OR e.graded <> (SELECT count(*) FROM runs r WHERE r.evaluation = e.id AND r.state <> 'cancelled')
       OR e.score_sum <> (SELECT COALESCE(sum(r.score), 0) FROM runs r WHERE r.evaluation = e.id)
       OR e.cost_pico <> (SELECT sum(a.cost_pico) FROM attempts a WHERE a.evaluation = e.id)
UNION ALL SELECT 'run ' || r.id || ' pays for what was not its own fault' FROM runs r
    WHERE COALESCE((SELECT sum(settled) FROM purses p WHERE p.level = 3 AND p.owner = r.id), 0)
       <> (SELECT sum(a.cost_pico) FROM attempts a WHERE a.run = r.id AND a.cause IN ('completed', 'agent_broke_sandbox', 'cancelled'))
UNION ALL SELECT 'the operator pays ' || settled FROM purses WHERE level = 0 AND settled
       <> (SELECT sum(a.cost_pico) FROM attempts a WHERE a.cause NOT IN ('completed', 'agent_broke_sandbox', 'cancelled'))
";
