//! `audit verify`: is the record of decisions whole?

use std::{io::Read as _, path::Path, time::Duration};

use assay_core::{
    audit::{Chain, End, Verdict},
    id::RunId,
    wire::{
        channel::{Channel, Record},
        people::Attempt,
    },
};
use serde::Serialize;

use super::{Context, get::Stored, logs};
use crate::{api::Api, args::AuditVerifyArgs, error::Error};

/// One audit and what it is worth.
#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What was checked, and what speaks against it.
#[derive(Debug, Default, Serialize)]
struct Findings {
    audits: Vec<Checked>,
    /// The first broken lines and missing ends, a sentence each.
    faults: Vec<String>,
    /// What cannot be told from what is there.
    notes: Vec<String>,
}

/// Checks a file or the stored audits of a run. A broken chain or a missing end is a failure.
pub(super) async fn verify(context: &Context, args: &AuditVerifyArgs) -> Result<(), Error> {
    let findings = match args.source.parse::<RunId>() {
        Ok(run) => of_run(&context.api()?, run, args.attempt).await?,
        Err(_) => of_file(Path::new(&args.source))?,
    };
    show(context, &findings)?;
    match findings.faults.first() {
        None => Ok(()),
        Some(first) => Err(Error::Failed(first.clone())),
    }
}

fn of_file(path: &Path) -> Result<Findings, Error> {
    let unreadable = |error: std::io::Error| Error::unreadable(path, &error);
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let (mut chain, mut piece) = (Chain::default(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).map_err(unreadable)? {
            0 => break,
            length => chain.push(&piece[..length]),
        }
    }
    let verdict = chain.finish();
    if verdict.lines == 0 {
        let why = verdict.broken.map_or_else(
            || "it has no whole line".to_owned(),
            |broken| format!("line {}: {}", broken.line, broken.fault),
        );
        return Err(Error::Data(format!("{} is no audit: {why}", path.display())));
    }
    let mut findings = Findings::default();
    findings.take(path.display().to_string(), verdict, Ending::Told);
    Ok(findings)
}

async fn of_run(api: &Api, id: RunId, number: Option<u32>) -> Result<Findings, Error> {
    let run = api.run(id).await?;
    let attempt = logs::attempt_of(api, &run, number).await?;
    let attempt = attempt.ok_or_else(|| Error::NoInput(format!("no worker has taken run {id} yet")))?;
    // Before the streams: what an ended attempt has stored does not grow.
    let attempts = api.attempts(id).await?;
    let row = attempts.into_iter().find(|row| row.id == attempt);
    let mut findings = Findings::default();
    let ending = ending(row.as_ref());
    for stream in api.outputs(attempt, 0, Duration::ZERO).await? {
        let Channel::Proxy(_, Record::Audit) = stream.channel else {
            continue;
        };
        let Some(stored) = Stored::of(stream) else {
            continue;
        };
        let (mut chain, mut offset) = (Chain::default(), 0);
        loop {
            let place = (stored.stream.step, stored.stream.channel);
            let stretch = api.output(attempt, place, offset).await?;
            if stretch.next_offset <= offset {
                break;
            }
            chain.push(&stretch.bytes);
            offset = stretch.next_offset;
        }
        findings.take(stored.name, chain.finish(), ending);
    }
    if let Some(row) = row {
        findings.compare(&row);
    }
    Ok(findings)
}

/// What is known about how an audit must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// By its own last line alone.
    Told,
    /// The attempt still runs.
    NotYet,
    /// Its sandbox was lost: a proxy that died wrote no last line.
    Lost,
}

fn ending(attempt: Option<&Attempt>) -> Ending {
    use assay_core::cause::Cause;
    match attempt.map(|attempt| (attempt.finished_at, attempt.cause)) {
        Some((None, _)) => Ending::NotYet,
        Some((
            _,
            Some(
                Cause::Lost
                | Cause::ProxyLost
                | Cause::SandboxLost
                | Cause::Evicted
                | Cause::Preempted
                | Cause::NodeLost
                | Cause::Cancelled,
            ),
        )) => Ending::Lost,
        Some(_) | None => Ending::Told,
    }
}

impl Findings {
    fn take(&mut self, name: String, verdict: Verdict, ending: Ending) {
        if let Some(broken) = &verdict.broken {
            self.faults.push(format!(
                "{name}: line {} breaks the chain: {}",
                broken.line, broken.fault
            ));
        } else {
            let after = verdict.lines;
            match (verdict.end, ending) {
                (End::Closed, _) => {}
                (End::Open | End::Torn, Ending::NotYet) => self
                    .notes
                    .push(format!("{name}: the attempt still runs; {after} lines so far")),
                (End::Open | End::Torn, Ending::Lost) => self.notes.push(format!(
                    "{name}: its proxy was lost, so there is no last line; line {after} is the last one stored"
                )),
                (End::Open, Ending::Told) => self
                    .faults
                    .push(format!("{name}: cut off after line {after}: the last line is missing")),
                (End::Torn, Ending::Told) => self
                    .faults
                    .push(format!("{name}: cut off in line {}", after + 1)),
            }
        }
        self.audits.push(Checked { name, verdict });
    }

    /// The report says how many bytes there were at least.
    fn compare(&mut self, attempt: &Attempt) {
        let Some(report) = &attempt.report else {
            return;
        };
        let told = report
            .ledger
            .audit_bytes
            .saturating_add(report.verifier_ledger.audit_bytes);
        let stored: u64 = self.audits.iter().map(|audit| audit.verdict.bytes).sum();
        if stored < told {
            self.faults.push(format!(
                "the report of attempt {} counts {told} bytes of audit, stored are {stored}",
                attempt.number
            ));
        }
        if self.audits.is_empty() {
            self.notes
                .push("the attempt had no proxy, or it never answered".to_owned());
        }
    }
}

fn show(context: &Context, findings: &Findings) -> Result<(), Error> {
    if context.screen.json {
        return context.screen.document(findings);
    }
    let rows = findings.audits.iter().map(|Checked { name, verdict }| {
        vec![
            name.clone(),
            verdict.lines.to_string(),
            verdict.decisions.allowed.to_string(),
            verdict.decisions.denied.to_string(),
            match (&verdict.broken, verdict.end) {
                (Some(broken), _) => format!("broken at line {}", broken.line),
                (None, End::Closed) => "whole".to_owned(),
                (None, End::Open) => "without end".to_owned(),
                (None, End::Torn) => "cut in a line".to_owned(),
            },
            verdict.head.chars().take(16).collect(),
        ]
    });
    let head = ["audit", "lines", "allowed", "denied", "chain", "head"];
    context.screen.table(&head, rows.collect())?;
    for note in &findings.notes {
        context.screen.note(note);
    }
    Ok(())
}

const PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    const LINE: &str = "{\"seq\":1,\"time\":\"t\",\"phase\":\"agent\",\"kind\":\"control\",\"decision\":\"allow\",\
        \"reason\":\"started\",\"prev\":\"0000000000000000000000000000000000000000000000000000000000000000\"}\n";

    #[test]
    fn what_is_no_audit_is_wrong_input_and_what_is_missing_is_missing() {
        assert_eq!(of_file(file("hello\n").path()).unwrap_err().exit_code(), 65);
        assert_eq!(of_file(file("").path()).unwrap_err().exit_code(), 65);
        assert_eq!(of_file(Path::new("/nowhere/at/all")).unwrap_err().exit_code(), 66);
    }

    #[test]
    fn an_audit_without_its_end_is_cut_off() {
        let open = of_file(file(LINE).path()).unwrap();
        assert!(open.faults[0].contains("cut off after line 1"), "{open:?}");
        let torn = of_file(file(&format!("{LINE}{{\"seq\":2")).path()).unwrap();
        assert!(torn.faults[0].contains("cut off in line 2"), "{torn:?}");
        let twice = of_file(file(&format!("{LINE}{LINE}")).path()).unwrap();
        assert!(twice.faults[0].contains("line 2 breaks the chain"), "{twice:?}");
    }

    #[test]
    fn a_lost_proxy_and_one_that_serves_need_no_last_line() {
        for ending in [Ending::NotYet, Ending::Lost] {
            let mut findings = Findings::default();
            let mut chain = Chain::default();
            chain.push(LINE.as_bytes());
            findings.take("a".to_owned(), chain.finish(), ending);
            assert!(findings.faults.is_empty() && findings.notes.len() == 1);
        }
    }
}
