//! Rows for people: evaluations, runs, audits.

use assay_core::{
    control::proxy::{AuditLine, Decision},
    money::PicoUsd,
    wire::people::{Evaluation, Run, RunState},
};
use jiff::Timestamp;

use crate::{follow, screen};

/// Runs as a table: what `run`, `watch` and `show` end with.
pub fn runs(runs: &[Run]) -> String {
    let head = [
        "task", "repeat", "state", "score", "cause", "cost usd", "tokens", "denied", "wall", "run",
    ];
    let rows = runs.iter().map(|run| {
        vec![
            run.task_name.clone(),
            (run.repeat + 1).to_string(),
            state(run).to_owned(),
            follow::score(run.score),
            run.cause
                .map_or_else(|| "–".to_owned(), |cause| cause.to_string()),
            if run.replayed {
                format!("{} replayed", usd(run.cost))
            } else {
                usd(run.cost)
            },
            run.tokens.to_string(),
            run.denied.to_string(),
            wall(run.started_at, run.finished_at),
            run.id.to_string(),
        ]
    });
    screen::table(&head, rows.collect())
}

/// Evaluations as a table.
pub fn evaluations(evaluations: &[Evaluation]) -> String {
    let head = [
        "evaluation",
        "agent",
        "state",
        "runs",
        "score",
        "cost usd",
        "submitted",
    ];
    let rows = evaluations.iter().map(|evaluation| {
        let counts = evaluation.runs;
        let all = counts.queued + counts.running + counts.finished;
        vec![
            evaluation.id.to_string(),
            evaluation.agent_name.clone(),
            evaluation_state(evaluation).to_owned(),
            format!("{}/{all}", counts.finished),
            follow::score(evaluation.score),
            usd(evaluation.cost),
            evaluation.created_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        ]
    });
    screen::table(&head, rows.collect())
}

/// Lines of the proxy's audit as a table; without its head where they go on one that is printed already.
pub fn audit(lines: &[AuditLine], with_head: bool) -> String {
    let head = [
        "time", "phase", "kind", "host", "model", "decision", "reason", "status", "cost usd",
    ];
    let head = if with_head { &head[..] } else { &[] };
    let dash = || "–".to_owned();
    let rows = lines.iter().map(|line| {
        let time = line
            .time
            .split_once('T')
            .map_or(line.time.as_str(), |(_, time)| time);
        vec![
            time.chars().take(12).collect(),
            line.phase.to_string(),
            line.kind.clone(),
            line.host
                .clone()
                .or_else(|| line.original.clone())
                .unwrap_or_else(dash),
            line.model.clone().unwrap_or_else(dash),
            decision(line.decision).to_owned(),
            line.reason.clone(),
            line.status.map_or_else(dash, |status| status.to_string()),
            line.cost.map_or_else(dash, usd),
        ]
    });
    screen::table(head, rows.collect())
}

/// The word of a decision.
pub fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
    }
}

/// The word of a run's state.
pub fn state(run: &Run) -> &'static str {
    match run.state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Finished => "finished",
        RunState::GaveUp => "gave_up",
        RunState::Cancelled => "cancelled",
    }
}

/// The word of an evaluation's state.
pub fn evaluation_state(evaluation: &Evaluation) -> &'static str {
    let counts = evaluation.runs;
    match (evaluation.cancelled, counts.queued, counts.running) {
        (true, ..) => "cancelled",
        (false, 0, 0) => "finished",
        (false, _, 0) if counts.finished == 0 => "queued",
        (false, ..) => "running",
    }
}

/// Dollars with six decimals at most: enough for one request, short enough for a table.
pub fn usd(amount: PicoUsd) -> String {
    let text = amount.to_string();
    match text.split_once('.') {
        Some((_, fraction)) if fraction.len() > 6 => {
            // Rounded up: a table must not show less than was spent.
            let micro = amount.pico().div_ceil(1_000_000);
            PicoUsd::from_pico(micro.saturating_mul(1_000_000)).to_string()
        }
        _ => text,
    }
}

/// Time between two instants in seconds, or a dash.
pub fn wall(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("{:.1}s", to.duration_since(from).as_secs_f64()),
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_core::cause::Cause;

    #[test]
    fn small_amounts_are_rounded_up_never_down() {
        assert_eq!(usd("0.0000001".parse().unwrap()), "0.000001");
        assert_eq!(usd("0.25".parse().unwrap()), "0.25");
        assert_eq!(usd(PicoUsd::ZERO), "0");
    }

    #[test]
    fn a_table_of_runs_shows_score_cause_and_wall_time() {
        let mut run = follow::tests::waiting_run("hello");
        run.state = RunState::Finished;
        run.score = Some(1.0);
        run.cause = Some(Cause::Completed);
        run.started_at = Some(run.created_at);
        run.finished_at = run
            .created_at
            .checked_add(jiff::SignedDuration::from_millis(1500))
            .ok();
        let text = runs(&[run]);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            &row[..9],
            ["hello", "1", "finished", "1", "completed", "0", "0", "0", "1.5s"]
        );
    }
}
