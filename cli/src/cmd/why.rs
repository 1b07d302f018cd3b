//! `why`: where a run is and why, on one screen.

use std::fmt::Write as _;

use assay_core::{
    cause::{Cause, Fault},
    control::proxy::{AuditLine, Decision},
    id::RunId,
    wire::people::{Attempt, Event, Run, RunState},
};

use super::{Context, logs};
use crate::{error::Error, follow, screen::harmless, tables};

/// Explains a run.
pub(super) async fn why(context: &Context, id: RunId) -> Result<(), Error> {
    let api = context.api()?;
    let run = api.run(id).await?;
    let attempts = api.attempts(id).await?;
    let (events, audit) = match run.attempt {
        Some(attempt) => (
            api.events(attempt).await?,
            logs::audit_lines(&api, attempt).await?,
        ),
        None => (Vec::new(), Vec::new()),
    };
    if context.screen.json {
        return context
            .screen
            .document(&serde_json::json!({ "run": run, "attempts": attempts, "events": events }));
    }
    let now = assay_core::clock::Clock::now(&assay_core::clock::SystemClock);
    context
        .screen
        .line(explain(&run, &attempts, &events, &audit, now))
}

/// The screen as text.
fn explain(
    run: &Run,
    attempts: &[Attempt],
    events: &[Event],
    audit: &[AuditLine],
    now: jiff::Timestamp,
) -> String {
    let mut text = format!(
        "run {}  {}\n",
        run.id,
        follow::line(run).split_whitespace().collect::<Vec<_>>().join(" ")
    );
    let mut say = |words: String| writeln!(text, "{}", harmless(&words)).unwrap_or_default();
    say(format!("  {}", sentence(run, now)));
    if let Some(detail) = run.detail.as_ref().filter(|detail| !detail.is_empty()) {
        say(format!("  {detail}"));
    }
    say(format!(
        "  cost {} USD, {} tokens, {} refusals of the proxy, {}",
        tables::usd(run.cost),
        run.tokens,
        run.denied,
        tables::wall(run.started_at, run.finished_at.or(Some(now)))
    ));
    for attempt in attempts {
        say(attempt_line(attempt));
    }
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
const MOST_DENIALS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::waiting_run;

    #[test]
    fn a_waiting_run_says_what_it_waits_for() {
        let mut run = waiting_run("hello");
        let now = run.created_at;
        assert!(explain(&run, &[], &[], &[], now).contains("waits for a worker"));
        run.not_before = now.checked_add(jiff::SignedDuration::from_secs(20)).unwrap();
        run.cause = Some(Cause::SandboxLost);
        let text = explain(&run, &[], &[], &[], now);
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
        run.detail = Some("no reward file\u{1b}[2J".to_owned());
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
        let text = explain(&run, &[], &vec![event; 100], &[], run.created_at);
        assert!(text.lines().count() <= 24, "{text}");
        assert!(
            !text.contains('\u{1b}') && text.contains("the task's fault"),
            "{text}"
        );
    }
}
