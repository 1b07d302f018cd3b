//! Full disks, group J: what the log or the audit cannot hold is not forwarded, and nothing is lost but the time.

use assay_core::{
    agent::Contract,
    audit,
    cause::Cause,
    control::{
        proxy::Ledger,
        runner::{self, End, Usage},
    },
    ledger::{Book, Entry},
    limits::LimitSettings,
    money::PicoUsd,
    phase::Phase,
    policy::AuditDuty,
};
use assay_screener::{
    classify::{Finding, classify},
    evidence::{Evidence, Job},
    row::{Memo, Row},
};
use assay_tests::stage::{Outcome, Stage};

use crate::scene::{ALLOWED, NO_RUNNER, PYTHON, attack, fresh};

/// Small enough to be filled at once; a page of it is four KiB.
const DISK_KIB: u64 = 256;
/// More than what is left of the last page of a full disk can hold, a call each.
const CALLS: usize = 40;

fn on_a_small_disk(duty: AuditDuty) -> Option<Stage> {
    let mut stage = fresh(NO_RUNNER, |_| {})?;
    stage
        .begin_on_disk(DISK_KIB, |assignment| assignment.audit = duty)
        .unwrap();
    Some(stage)
}

/// Fills the disk, and shows that it is full.
fn fill(stage: &Stage) {
    stage.fill_disk().unwrap();
    let probe = stage.path("proxy/state/probe");
    let written = stage.operator(&format!("echo line >{}", probe.display()));
    assert!(
        written.is_err(),
        "a writer that does not look would lose this line"
    );
    stage.operator(&format!("rm {}", probe.display())).unwrap();
}

/// Calls until what was left of the last page is used up. How many were answered; all others were refused, in the end with
/// `code`. Where both the log and the audit are written first, either may be the first to find no room.
fn call_until_refused(stage: &Stage, code: &str) -> usize {
    let before = stage.ledger().unwrap();
    let calls = attack(stage, "web.model_call", &[&CALLS.to_string()]);
    let lines: Vec<&str> = calls.text.lines().collect();
    let answered = lines
        .iter()
        .position(|line| !line.starts_with("200"))
        .unwrap_or(lines.len());
    assert!(answered < CALLS, "the disk is never full: {}", calls.text);
    let refused = |line: &&str| ["403 ledger_unavailable", "403 audit_unavailable"].contains(line);
    assert!(lines[answered..].iter().all(refused), "{}", calls.text);
    assert_eq!(lines[CALLS - 1], format!("403 {code}"), "{}", calls.text);
    // By this the screener knows whose fault it was.
    let told = stage.ledger().unwrap().since(&before).unrecorded;
    assert_eq!(usize::try_from(told).unwrap(), CALLS - answered);
    answered
}

fn is_answered(stage: &Stage) -> bool {
    attack(stage, "web.model_call", &["1"]).text.starts_with("200")
}

fn billed(stage: &Stage) -> PicoUsd {
    stage.internet.model.bill().total()
}

/// The account as the log on the disk tells it, after a death now.
fn record(stage: &Stage) -> Book {
    let mut book = Book::replay(&stage.log_on_disk().unwrap());
    book.close();
    book
}

/// Reservations in the log, one for each request that may have been forwarded.
fn reserved(stage: &Stage) -> usize {
    let entries = stage.log_on_disk().unwrap();
    entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Reserve { .. }))
        .count()
}

/// Makes calls while a stream is under way whose end finds the disk full.
fn fill_under_a_stream(stage: &Stage) {
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| stream_quietly(stage));
        while stage.ledger().unwrap().reserved == PicoUsd::ZERO {
            assert!(!stream.is_finished(), "the stream came to its end too early");
        }
        fill(stage);
        call_until_refused(stage, "ledger_unavailable");
        stage.internet.model.go_on();
        let streamed = stream.join().unwrap();
        assert!(
            streamed.text.contains("[DONE]"),
            "who is served is served to the end"
        );
    });
}

/// A stream that ends once it may, on a connection of its own.
fn stream_quietly(stage: &Stage) -> Outcome {
    let attacks = stage.path("attacks");
    let argv = [
        PYTHON,
        "-B",
        attacks.to_str().unwrap(),
        "web.stream_to_its_end",
        "ASSAY-FAULT-HELD",
    ];
    stage.attack(None, &argv).unwrap()
}

/// Why an attempt ends whose agent failed while the account of its sandbox came to this.
fn cause_of(after: &Ledger) -> Option<Cause> {
    let row = Row {
        contract: Contract::Command,
        defaults: LimitSettings::default().default,
        step: 0,
        phase: Phase::Agent,
        memo: Memo::default(),
    };
    let end = End {
        outcome: runner::Outcome::Exited,
        exit_code: Some(1),
        signal: None,
        detail: None,
        wall_ms: 1_000,
        usage: Usage::default(),
        stdout_bytes: 0,
        stderr_bytes: 0,
    };
    let account = Evidence::Account {
        before: Ledger::default(),
        after: after.clone(),
    };
    match classify(&row, &[Evidence::Ended(Job::Agent, end), account]) {
        Finding::Passed(note) => note.map(|note| note.cause),
        Finding::Closed(note) => Some(note.cause),
        Finding::Nothing | Finding::Stored(_) => None,
    }
}

#[test]
fn j2_a_full_disk_under_the_log_lets_nothing_be_forwarded_that_it_cannot_hold() {
    let Some(stage) = on_a_small_disk(AuditDuty::BestEffort) else {
        return;
    };
    let pid = stage.proxy_pid().unwrap();
    assert!(is_answered(&stage));
    assert_eq!(cause_of(&stage.ledger().unwrap()), Some(Cause::AgentFailed));
    fill_under_a_stream(&stage);

    let forwarded = stage.internet.model.generations().len();
    assert_eq!(
        reserved(&stage),
        forwarded,
        "one reservation for each that was forwarded"
    );
    let health = stage.proxy_answer().unwrap();
    assert!(health.serving && health.faults.contains(&"log_broken".to_owned()));
    assert_eq!(
        cause_of(&stage.ledger().unwrap()),
        Some(Cause::ProxyOutOfDisk),
        "an agent that fails for that is tried again"
    );
    let (ledger, dead) = (stage.ledger().unwrap(), record(&stage).ledger());
    assert_eq!(ledger.settled, billed(&stage));
    assert!(
        dead.unresolved > PicoUsd::ZERO,
        "the end of the stream is not in the log"
    );
    assert!(dead.cost_min() < billed(&stage) && billed(&stage) <= dead.cost_max());

    stage.empty_disk().unwrap();
    assert!(is_answered(&stage), "there is room again");
    assert_eq!(stage.proxy_pid().unwrap(), pid, "the same process, all the time");
    assert!(stage.proxy_answer().unwrap().faults.is_empty());
    let (ledger, recorded) = (stage.ledger().unwrap(), record(&stage).ledger());
    assert_eq!(ledger.settled, billed(&stage));
    assert_eq!(
        (recorded.settled, recorded.unresolved, recorded.requests),
        (ledger.settled, PicoUsd::ZERO, ledger.requests)
    );
    let verdict = stage.closed_audit().unwrap();
    assert_eq!((verdict.broken, verdict.end), (None, audit::End::Closed));
    assert_eq!(verdict.decisions.denied, stage.ledger().unwrap().denied);
}

#[test]
fn j2_where_the_audit_is_required_a_full_disk_under_it_lets_nothing_out() {
    let Some(stage) = on_a_small_disk(AuditDuty::Required) else {
        return;
    };
    assert!(is_answered(&stage));
    fill(&stage);
    call_until_refused(&stage, "audit_unavailable");
    for (name, host) in [("tls.fetch", "allowed.example"), ("web.plain", "allowed.example")] {
        let outcome = attack(&stage, name, &[host]);
        assert!(!outcome.seen.reached(ALLOWED), "{name}: {}", outcome.text);
    }
    let health = stage.proxy_answer().unwrap();
    assert!(health.serving && health.faults.contains(&"audit_broken".to_owned()));
    stage.empty_disk().unwrap();
    assert!(is_answered(&stage));
    assert!(
        attack(&stage, "tls.fetch", &["allowed.example"])
            .seen
            .reached(ALLOWED)
    );
    assert!(stage.proxy_answer().unwrap().faults.is_empty());
    assert_eq!(stage.ledger().unwrap().settled, billed(&stage));
    let verdict = stage.closed_audit().unwrap();
    assert_eq!((verdict.broken, verdict.end), (None, audit::End::Closed));
    assert_eq!(verdict.decisions.denied, stage.ledger().unwrap().denied);
}

#[test]
fn h3_a_proxy_that_dies_on_a_full_disk_counts_what_it_could_not_write_as_spent() {
    let Some(mut stage) = on_a_small_disk(AuditDuty::BestEffort) else {
        return;
    };
    fill_under_a_stream(&stage);
    let before = stage.ledger().unwrap();
    assert_eq!(
        (before.settled, before.unresolved),
        (billed(&stage), PicoUsd::ZERO)
    );
    stage.kill_proxy().unwrap();
    stage.start_proxy().unwrap();
    assert!(!stage.proxy_answer().unwrap().serving);
    let ledger = stage.ledger().unwrap();
    assert!(billed(&stage) <= ledger.cost_max() && ledger.cost_max() <= ledger.budget);
    // A log that tells bills and no reservations, as others do, has lost what the stream cost.
    let entries = stage.log_on_disk().unwrap();
    let bills = entries.iter().filter_map(|entry| match entry {
        Entry::Settle { bill, .. } => Some(bill.cost),
        _ => None,
    });
    assert!(bills.sum::<PicoUsd>() < billed(&stage));
}
