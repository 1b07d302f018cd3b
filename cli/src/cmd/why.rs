//! `why`: where a run is and why, on one screen.

use std::fmt::Write as _;

use assay_core::{
    cause::{Cause, Fault},
    control::proxy::{AuditLine, Decision},
    id::RunId,
    reward::Report,
    wire::people::{Attempt, Event, Run, RunState},
};

use super::{Context, logs, tested};
use crate::{error::Error, follow, screen::harmless, tables};

/// Explains a run.
pub(super) async fn why(context: &Context, id: RunId) -> Result<(), Error> {
    let api = context.api()?;
    let run = api.run(id).await?;
    let attempts = api.attempts(id).await?;
    let found = match run.attempt {
        Some(attempt) => Found {
            events: api.events(attempt).await?,
            audit: logs::audit_lines(&api, attempt).await?,
            tests: tested::of_attempt(&api, attempt).await?,
        },
        None => Found::default(),
    };
    if context.screen.json {
        return context.screen.document(&serde_json::json!({
            "run": run, "attempts": attempts, "events": found.events, "tests": found.tests,
        }));
    }
    let now = assay_core::clock::Clock::now(&assay_core::clock::SystemClock);
    context.screen.line(explain(&run, &attempts, &found, now))
}

/// What the last attempt left.
#[derive(Debug, Default)]
struct Found {
    events: Vec<Event>,
    audit: Vec<AuditLine>,
    tests: Vec<Report>,
}

/// The screen as text.
fn explain(run: &Run, attempts: &[Attempt], found: &Found, now: jiff::Timestamp) -> String {
    let Found { events, audit, tests } = found;
    let mut text = format!(
        "run {}  {}\n",
        run.id,
        follow::line(run).split_whitespace().collect::<Vec<_>>().join(" ")
    );
    let mut say = |words: String| writeln!(text, "{}", harmless(&words)).unwrap_or_default();
    say(format!("  {}", sentence(run, now)));
    if waits_for_image(run, events) {
        say(format!(
            "  It waits for its image; `assay logs {} -f` shows the build.",
            run.id
        ));
    }
    if let Some(detail) = run.detail.as_ref().filter(|detail| !detail.is_empty()) {
        let lines: Vec<&str> = detail.lines().collect();
        for line in &lines[lines.len().saturating_sub(MOST_REASONS)..] {
            say(format!("  {line}"));
        }
    }
    say(format!(
        "  cost {} USD{}, {} tokens, {} refusals of the proxy, {}",
        tables::usd(run.cost),
        if run.replayed { " (replayed)" } else { "" },
        run.tokens,
        run.denied,
        tables::wall(run.started_at, run.finished_at.or(Some(now)))
    ));
    for attempt in attempts {
        say(attempt_line(attempt));
    }
    tested::lines(tests).into_iter().for_each(&mut say);
    if !events.is_empty() {
        say("events of the last attempt".to_owned());
        let skipped = events.len().saturating_sub(MOST_EVENTS);
        for event in events.iter().skip(skipped) {
            say(event_line(event));
        }
    }
    let denied: Vec<&AuditLine> = audit
        .iter()
        .filter(|line| line.decision == Decision::Deny)
        .collect();
    if !denied.is_empty() {
        say(format!(
            "refused by the proxy: {} (the first {})",
            denied.len(),
            denied.len().min(MOST_DENIALS)
        ));
        for line in denied.iter().take(MOST_DENIALS) {
            let target = line.host.as_deref().or(line.original.as_deref()).unwrap_or("–");
            say(format!("  {:<8} {:<32} {}", line.kind, target, line.reason));
        }
    }
    say(format!("next: {}", next_step(run)));
    text.trim_end().to_owned()
}

fn sentence(run: &Run, now: jiff::Timestamp) -> String {
    match (run.state, run.cause) {
        (RunState::Queued, _) if run.not_before > now => {
            let seconds = run.not_before.duration_since(now).as_secs();
            format!(
                "It waits {seconds} s before its next attempt: {}.",
                cause_words(run.cause)
            )
        }
        (RunState::Queued, _) => "It waits for a worker with a free slot.".to_owned(),
        (RunState::Running, _) => format!(
            "Worker {} holds it, in phase {}.",
            run.worker.as_deref().unwrap_or("(unknown)"),
            run.phase.map_or("prepare", assay_core::phase::Phase::name)
        ),
        (RunState::Finished, cause) => format!("It was graded: {}.", cause_words(cause)),
        (RunState::GaveUp, cause) => format!(
            "It has no score after {} attempts: {}.",
            run.attempts,
            cause_words(cause)
        ),
        (RunState::Cancelled, _) => "Somebody cancelled it.".to_owned(),
    }
}

/// Nothing happened since the screener has said so.
fn waits_for_image(run: &Run, events: &[Event]) -> bool {
    let last = events.last().map(|last| last.event.kind.as_str());
    run.state == RunState::Running && last == Some("waiting_image")
}

fn cause_words(cause: Option<Cause>) -> String {
    cause.map_or_else(
        || "no cause is known yet".to_owned(),
        |cause| format!("{cause}, {}", fault_words(cause.fault())),
    )
}

fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::Nobody => "as it should",
        Fault::Agent => "the agent's doing",
        Fault::Task => "the task's fault",
        Fault::Provider => "the model service's fault",
        Fault::Platform => "the platform's fault",
        Fault::Operator => "a person asked for it",
    }
}

fn attempt_line(attempt: &Attempt) -> String {
    let end = match (attempt.cause, attempt.phase) {
        (Some(cause), _) => cause.to_string(),
        (None, Some(phase)) => format!("in phase {phase}"),
        (None, None) => "claimed".to_owned(),
    };
    let wall = tables::wall(Some(attempt.started_at), attempt.finished_at);
    let detail = attempt.detail.as_deref().unwrap_or_default();
    let detail: String = detail
        .lines()
        .last()
        .unwrap_or_default()
        .chars()
        .take(140)
        .collect();
    format!(
        "attempt {} on {}: {end} {wall} {detail}",
        attempt.number, attempt.worker
    )
}

fn event_line(event: &Event) -> String {
    let data = &event.event.data;
    let is_empty = data.is_null() || data.as_object().is_some_and(serde_json::Map::is_empty);
    let data: String = if is_empty {
        String::new()
    } else {
        data.to_string().chars().take(140).collect()
    };
    let time = event.event.at.strftime("%H:%M:%S%.3f");
    format!(
        "  {time} step {} {:<8} {} {data}",
        event.event.step + 1,
        event.event.phase,
        event.event.kind
    )
}

fn next_step(run: &Run) -> String {
    let id = run.id;
    match (run.state, run.cause.map(Cause::fault)) {
        (RunState::Queued, _) => "`assay doctor` shows whether a worker is there".to_owned(),
        (RunState::Running, _) => format!("`assay logs {id} -f` follows it, `assay cancel {id}` ends it"),
        (_, Some(Fault::Task)) => {
            format!("`assay logs {id}` shows the task's own output; then `assay task check DIR`")
        }
        (_, Some(Fault::Platform | Fault::Provider)) => format!("`assay logs {id}`, then the screener's log"),
        _ => format!("`assay logs {id}`, `assay logs {id} --proxy`, `assay get {id}`"),
    }
}

const MOST_EVENTS: usize = 12;
const MOST_REASONS: usize = 8;
const MOST_DENIALS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::waiting_run;

    #[test]
    fn a_waiting_run_says_what_it_waits_for() {
        let mut run = waiting_run("hello");
        let now = run.created_at;
        assert!(explain(&run, &[], &Found::default(), now).contains("waits for a worker"));
        run.not_before = now.checked_add(jiff::SignedDuration::from_secs(20)).unwrap();
        run.cause = Some(Cause::SandboxLost);
        let text = explain(&run, &[], &Found::default(), now);
        assert!(
            text.contains("waits 20 s") && text.contains("sandbox_lost, the platform's fault"),
            "{text}"
        );
    }

    #[test]
    fn the_explanation_fits_on_one_screen() {
        let mut run = waiting_run("hello");
        run.state = RunState::GaveUp;
        run.cause = Some(Cause::RewardMissing);
        run.detail = Some("many lines\n".repeat(30) + "no reward file\u{1b}[2J");
        let event = Event {
            cursor: 1,
            attempt: assay_core::id::AttemptId::new(run.created_at, [2; 10]),
            event: assay_core::wire::worker::NewEvent {
                seq: 1,
                at: run.created_at,
                step: 0,
                phase: assay_core::phase::Phase::Agent,
                kind: "note".to_owned(),
                data: serde_json::json!({ "text": "x".repeat(1000) }),
            },
        };
        let found = Found {
            events: vec![event; 100],
            ..Found::default()
        };
        let text = explain(&run, &[], &found, run.created_at);
        assert!(
            text.lines().count() <= 28 && text.contains("no reward file"),
            "{text}"
        );
        assert!(
            !text.contains('\u{1b}') && text.contains("the task's fault"),
            "{text}"
        );
    }
}
