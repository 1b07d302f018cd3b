//! The installation that all rows of an engine share, and what every row is held to.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use assay_cli::error::{ApiError, Error};
use assay_core::{cause::Cause, wire::people::RunState};
use assay_tests::installation::{Ended, Installation, Setup, files};
use libtest_mimic::Trial;
use tokio::{
    runtime::{Handle, Runtime},
    sync::OnceCell,
};

/// An engine and the installation on it, started by the first row.
pub struct Home {
    name: &'static str,
    setup: Setup,
    runtime: Handle,
    started: OnceCell<(Installation, BTreeSet<String>)>,
}

/// What is done when a row is through.
#[derive(Clone, Copy)]
pub enum After {
    /// The row ran nothing.
    Nothing,
    /// An ordinary oracle run has to score 1.
    Oracle,
}

/// A row under way.
pub type Row<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Home {
    /// `None`, with the reason, where something is missing.
    pub fn new(name: &'static str, variable: &str, runtime: &Runtime) -> Option<Arc<Self>> {
        match Setup::from_env(variable) {
            Ok(setup) => Some(Arc::new(Self {
                name,
                setup,
                runtime: runtime.handle().clone(),
                started: OnceCell::new(),
            })),
            Err(missing) => {
                println!("skipped: bad input on {name}: {missing}");
                None
            }
        }
    }

    /// A row as a test.
    pub fn trial(
        self: &Arc<Self>,
        name: &str,
        after: After,
        row: impl for<'a> FnOnce(&'a Installation) -> Row<'a> + Send + 'static,
    ) -> Trial {
        let home = Arc::clone(self);
        Trial::test(format!("{}::{name}", self.name), move || {
            home.runtime.block_on(async {
                let (installation, _) = home.installation().await;
                row(installation).await;
                if let After::Oracle = after {
                    oracle_scores_one(installation).await;
                }
            });
            Ok(())
        })
    }

    async fn installation(&self) -> &(Installation, BTreeSet<String>) {
        let start = async || {
            let installation = Installation::start(self.setup.clone()).await.unwrap();
            let before = installation.docker.loose_things().await.unwrap();
            (installation, before.into_iter().collect())
        };
        self.started.get_or_init(start).await
    }

    /// Whether any row ran.
    pub fn was_used(&self) -> bool {
        self.started.initialized()
    }

    /// The last test: everything ends, and nothing is left on the engine.
    pub fn end(self: Arc<Self>) -> Trial {
        Trial::test(format!("{}::nothing_is_left_behind", self.name), move || {
            let home = Arc::into_inner(self).ok_or("a row still holds the installation")?;
            let (installation, before) = home.started.into_inner().ok_or("never started")?;
            home.runtime.block_on(async {
                let docker = installation.docker.clone();
                installation.stop().await.unwrap();
                let deadline = Instant::now() + GONE;
                loop {
                    let now: BTreeSet<String> = docker.loose_things().await.unwrap().into_iter().collect();
                    let left: Vec<_> = now.difference(&before).collect();
                    if left.is_empty() {
                        return;
                    }
                    assert!(Instant::now() < deadline, "left behind: {left:?}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
            Ok(())
        })
    }
}

/// An ordinary run still goes well.
pub async fn oracle_scores_one(installation: &Installation) {
    let ended = installation.run(&files::task(), None).await.unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

/// A run ended for this reason, with this score, in words that hold these.
///
/// Whether there is a score follows from the cause: no fault of platform, provider or task is ever one.
#[track_caller]
pub fn expect(ended: &Ended, cause: Cause, score: Option<f64>, words: &[&str]) {
    let run = &ended.run;
    assert_eq!((run.cause, run.score), (Some(cause), score), "{}", ended.detail());
    let state = if cause.is_graded() {
        RunState::Finished
    } else {
        RunState::GaveUp
    };
    assert_eq!(run.state, state, "{}", ended.detail());
    assert_eq!(score.is_some(), cause.is_graded(), "{cause}");
    let tries = if cause.is_retried() { 3 } else { 1 };
    let causes: Vec<_> = ended.attempts.iter().map(|attempt| attempt.cause).collect();
    let details: Vec<_> = ended.attempts.iter().map(|attempt| &attempt.detail).collect();
    assert_eq!(causes, vec![Some(cause); tries], "{details:?}");
    for word in words {
        assert!(
            ended.detail().contains(word),
            "{word:?} is not in {:?}",
            ended.detail()
        );
    }
}

/// The API refused with this code, in a sentence that holds these words.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, Error>, code: &str, words: &[&str]) {
    let error = result.unwrap_err();
    let Error::Api(ApiError(answer)) = &error else {
        panic!("not the API's word: {error}");
    };
    let told = error.to_string();
    assert_eq!(answer.code(), Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
}

/// A sandbox's volumes and networks may go a moment after its containers.
const GONE: Duration = Duration::from_mins(2);
