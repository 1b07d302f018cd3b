//! Follows an evaluation to its end: live on a terminal, one line per change otherwise.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use assay_core::{
    id::{EvaluationId, RunId},
    wire::people::{Evaluation, Run, RunState},
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    api::Api,
    error::Error,
    screen::{Screen, harmless},
};

/// Waits until every run of the evaluation has ended, and returns it with its runs.
///
/// # Errors
/// The API refused, or did not answer for a minute.
pub async fn to_the_end(
    api: &Api,
    id: EvaluationId,
    screen: Screen,
) -> Result<(Evaluation, Vec<Run>), Error> {
    let mut view: Box<dyn View + Send> = if std::io::stderr().is_terminal() && !screen.json {
        Box::new(Live::new())
    } else {
        Box::new(Lines::new(screen))
    };
    let mut failures = 0_u32;
    loop {
        match snapshot(api, id).await {
            Ok((evaluation, runs)) => {
                failures = 0;
                view.update(&runs);
                if is_over(&runs) {
                    view.close();
                    return Ok((evaluation, runs));
                }
            }
            // A replica that restarts is no reason to lose sight of a long evaluation.
            Err(error) if is_passing(&error) && failures < MOST_FAILURES => failures += 1,
            Err(error) => {
                view.close();
                return Err(error);
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

async fn snapshot(api: &Api, id: EvaluationId) -> Result<(Evaluation, Vec<Run>), Error> {
    let runs = api.runs(id).await?;
    Ok((api.evaluation(id).await?, runs))
}

fn is_over(runs: &[Run]) -> bool {
    runs.iter().all(|run| is_ended(run.state))
}

/// Has a run of this state ended?
pub fn is_ended(state: RunState) -> bool {
    match state {
        RunState::Queued | RunState::Running => false,
        RunState::Finished | RunState::GaveUp | RunState::Cancelled => true,
    }
}

fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Api(inner) if inner.0.is_transient())
}

trait View {
    fn update(&mut self, runs: &[Run]);
    fn close(&mut self);
}

/// One line per change, for files, pipes and CI.
struct Lines {
    screen: Screen,
    seen: BTreeMap<RunId, String>,
}

impl Lines {
    fn new(screen: Screen) -> Self {
        let seen = BTreeMap::new();
        Self { screen, seen }
    }

    fn changes(&mut self, runs: &[Run]) -> Vec<String> {
        let mut lines = Vec::new();
        for run in runs {
            let line = line(run);
            if self.seen.get(&run.id) != Some(&line) {
                lines.push(line.clone());
                self.seen.insert(run.id, line);
            }
        }
        lines
    }
}

impl View for Lines {
    fn update(&mut self, runs: &[Run]) {
        for line in self.changes(runs) {
            self.screen.note(line);
        }
    }

    fn close(&mut self) {}
}

/// A bar over all runs and one line for each that is under way.
struct Live {
    bars: MultiProgress,
    all: ProgressBar,
    running: BTreeMap<RunId, ProgressBar>,
}

impl Live {
    fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs  {elapsed}  {wide_msg}");
        let all = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let all = bars.add(all);
        all.enable_steady_tick(Duration::from_secs(1));
        let running = BTreeMap::new();
        Self { bars, all, running }
    }

    fn bar(&self, run: &Run) -> ProgressBar {
        let style = ProgressStyle::with_template("  {spinner} {wide_msg}");
        let bar =
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let bar = self.bars.add(bar);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar.set_message(line(run));
        bar
    }
}

impl View for Live {
    fn update(&mut self, runs: &[Run]) {
        let count = |wanted: fn(RunState) -> bool| runs.iter().filter(|run| wanted(run.state)).count();
        let ended = count(is_ended);
        self.all.set_length(u64::try_from(runs.len()).unwrap_or(u64::MAX));
        self.all.set_position(u64::try_from(ended).unwrap_or(u64::MAX));
        let waiting = count(|state| state == RunState::Queued);
        self.all.set_message(if waiting > 0 {
            format!("{waiting} waiting")
        } else {
            String::new()
        });
        for run in runs {
            match (run.state == RunState::Running, self.running.get(&run.id)) {
                (true, Some(bar)) => bar.set_message(line(run)),
                (true, None) if self.running.len() < MOST_BARS => {
                    let bar = self.bar(run);
                    self.running.insert(run.id, bar);
                }
                (false, Some(bar)) => {
                    bar.finish_and_clear();
                    self.running.remove(&run.id);
                    self.bars.suspend(|| {
                        Screen {
                            json: false,
                            is_terminal: true,
                        }
                        .note(line(run));
                    });
                }
                (true | false, None) => {}
            }
        }
    }

    fn close(&mut self) {
        for bar in self.running.values() {
            bar.finish_and_clear();
        }
        self.all.finish_and_clear();
    }
}

/// Where a run is, on one line.
pub fn line(run: &Run) -> String {
    let name = format!(
        "{}{}",
        run.task_name,
        if run.repeat > 0 {
            format!(" #{}", run.repeat + 1)
        } else {
            String::new()
        }
    );
    let state = match run.state {
        RunState::Queued if run.attempts > 0 => "waiting for another attempt".to_owned(),
        RunState::Queued => "waiting".to_owned(),
        RunState::Running => run
            .phase
            .map_or_else(|| "claimed".to_owned(), |phase| phase.to_string()),
        RunState::Finished => format!("score {}", score(run.score)),
        RunState::GaveUp => "gave up".to_owned(),
        RunState::Cancelled => "cancelled".to_owned(),
    };
    let cause = match (run.cause, is_ended(run.state)) {
        (Some(cause), true) => format!("  ({cause})"),
        _ => String::new(),
    };
    let attempt = if run.attempts > 1 {
        format!("  attempt {}", run.attempts)
    } else {
        String::new()
    };
    harmless(&format!("{name:<24} {state}{cause}{attempt}"))
}

/// A score for people.
pub fn score(score: Option<f64>) -> String {
    score.map_or_else(
        || "–".to_owned(),
        |score| {
            let text = format!("{score:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        },
    )
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
const MOST_FAILURES: u32 = 200;
const MOST_BARS: usize = 12;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use assay_core::{cause::Cause, digest::Digest, money::PicoUsd, phase::Phase};
    use jiff::Timestamp;

    /// A run that waits.
    pub(crate) fn waiting_run(name: &str) -> Run {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        Run {
            id: RunId::new(at, [7; 10]),
            evaluation: EvaluationId::new(at, [1; 10]),
            task: Digest::of(name),
            task_name: name.to_owned(),
            repeat: 0,
            state: RunState::Queued,
            phase: None,
            not_before: at,
            attempts: 0,
            score: None,
            cause: None,
            detail: None,
            cost: PicoUsd::ZERO,
            tokens: 0,
            denied: 0,
            replayed: false,
            worker: None,
            attempt: None,
            created_at: at,
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn plain_progress_prints_each_change_once() {
        let screen = Screen {
            json: false,
            is_terminal: false,
        };
        let mut lines = Lines::new(screen);
        let mut run = waiting_run("hello");
        assert_eq!(
            lines.changes(std::slice::from_ref(&run)),
            ["hello                    waiting"]
        );
        assert!(lines.changes(std::slice::from_ref(&run)).is_empty());
        run.state = RunState::Running;
        run.phase = Some(Phase::Agent);
        run.attempts = 1;
        assert_eq!(
            lines.changes(std::slice::from_ref(&run)),
            ["hello                    agent"]
        );
        run.state = RunState::Finished;
        run.score = Some(1.0);
        run.cause = Some(Cause::Completed);
        assert_eq!(
            lines.changes(&[run]),
            ["hello                    score 1  (completed)"]
        );
    }

    #[test]
    fn an_evaluation_is_over_when_no_run_waits_or_works() {
        let mut runs = vec![waiting_run("a"), waiting_run("b")];
        assert!(!is_over(&runs));
        runs[0].state = RunState::GaveUp;
        assert!(!is_over(&runs));
        runs[1].state = RunState::Cancelled;
        assert!(is_over(&runs));
    }

    #[test]
    fn scores_are_short_and_an_absent_one_is_a_dash() {
        assert_eq!(score(Some(1.0)), "1");
        assert_eq!(score(Some(0.0)), "0");
        assert_eq!(score(Some(1.0 / 3.0)), "0.3333");
        assert_eq!(score(None), "–");
    }
}
