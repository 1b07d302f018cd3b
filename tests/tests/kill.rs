//! `kill -9` of every part in every phase of a run, with real processes.
//!
//! One run waits in each phase, and one in a verifier that has a sandbox of its own; when all are verifiably there, the
//! part is killed, started again where a supervisor would do that, and everything goes on. However that goes, each run
//! ends in exactly one outcome with score 1, the books agree, stored streams have no gap, and nothing is left on the
//! engine. What happens in between:
//!
//! | killed | prepare | start, half made | start … verify | report |
//! |---|---|---|---|---|
//! | screener | adopted, the build is run again | adopted, the rest is made | adopted, the same execution goes on | adopted, reported |
//! | API, both replicas | goes on | goes on | goes on | goes on |
//! | PostgreSQL | goes on | goes on | goes on | goes on |
//! | proxy | `image_unavailable`, again | – | `proxy_lost`, again | goes on, the account closed at the grant |
//! | main (the runner) | – | – | `sandbox_lost`, again | goes on |
//! | container engine | `image_unavailable`, again | `sandbox_failed`, again | `sandbox_lost`, again | goes on, the account closed at the grant |
//!
//! Half made is a sandbox whose init and proxy exist and whose main does not: a gate before the engine keeps back the
//! request for it.
//!
//! Cancelling one run in each of these phases is a round of its own.
//!
//! "Again" is a second attempt, which the agent does not pay for. A proxy that is lost twice is the agent's fault.
//!
//! Needs root, Docker and PostgreSQL's programs. `ASSAY_SANDBOX_BIN` names the folder of the static programs.

#![expect(
    clippy::disallowed_methods,
    reason = "where the programs are, only its environment knows"
)]

#[path = "kill/cancel.rs"]
mod cancel;
#[path = "kill/evidence.rs"]
mod evidence;
#[path = "kill/fixture.rs"]
mod fixture;
#[path = "kill/stage.rs"]
mod stage;

use std::{path::PathBuf, process::Command, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use assay_core::{cause::Cause, id::AgentId, money::PicoUsd, phase::Phase, wire::people::RunState};
use assay_tests::processes::{Installation, Programs};

use self::stage::{Cell, Waiting};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Screener,
    Api,
    Postgres,
    Proxy,
    Main,
    Engine,
}

impl Victim {
    const ALL: [Self; 6] = [
        Self::Screener,
        Self::Api,
        Self::Postgres,
        Self::Proxy,
        Self::Main,
        Self::Engine,
    ];

    /// How the first attempt ends that was in this cell; `None` where it goes on to its reward.
    fn loses(self, cell: Cell) -> Option<Cause> {
        if cell.half {
            // Neither proxy nor main runs before main exists.
            return (self == Self::Engine).then_some(Cause::SandboxFailed);
        }
        match (self, cell.phase) {
            (Self::Screener | Self::Api | Self::Postgres, _)
            | (_, Phase::Report)
            | (Self::Main, Phase::Prepare) => None,
            (Self::Proxy | Self::Engine, Phase::Prepare) => Some(Cause::ImageUnavailable),
            (Self::Proxy, _) => Some(Cause::ProxyLost),
            (Self::Main | Self::Engine, _) => Some(Cause::SandboxLost),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_ends_in_exactly_one_outcome_whatever_is_killed() {
    let Some(kit) = installation().await else { return };
    let mut kit = Arc::new(kit);
    let result = matrix(&mut kit).await;
    if let Err(error) = result {
        panic!("{error:#}\n{}", kit.logs());
    }
}

async fn matrix(kit: &mut Arc<Installation>) -> anyhow::Result<()> {
    let agent = stage::agent(kit).await?;
    let only = std::env::var("ASSAY_KILL").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || name == only;
    for victim in Victim::ALL
        .into_iter()
        .filter(|victim| wanted(&format!("{victim:?}")))
    {
        let begun = Instant::now();
        round(kit, agent, victim)
            .await
            .with_context(|| format!("{victim:?} was killed"))?;
        eprintln!("{victim:?}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    if wanted("Cancel") {
        let begun = Instant::now();
        cancel::round(kit, agent).await.context("cancelled")?;
        eprintln!("Cancel: {:.1} s", begun.elapsed().as_secs_f64());
    }
    if wanted("Twice") {
        let begun = Instant::now();
        proxy_lost_twice(kit, agent)
            .await
            .context("the proxy was killed twice")?;
        eprintln!("Twice: {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn round(kit: &mut Arc<Installation>, agent: AgentId, victim: Victim) -> anyhow::Result<()> {
    if victim == Victim::Screener {
        // The first one is to hold every run, so that the other adopts in every phase.
        Arc::get_mut(kit).context("nobody else holds the kit")?.screeners[1]
            .kill()
            .await?;
    }
    let waiting = stage::bring(kit, agent, &Cell::all(), &format!("{victim:?}")).await?;
    kill(Arc::get_mut(kit).context("nobody else holds the kit")?, victim).await?;
    let going = stage::let_go(kit);
    let mut wrong = Vec::new();
    for run in waiting {
        if let Err(error) = outcome(kit, run, victim).await {
            wrong.push(format!("{}: {error:#}", run.cell));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    going.end().await;
    evidence::books(kit).await?;
    stage::swept(kit).await
}

/// Kills the part, and does what its supervisor would.
async fn kill(kit: &mut Installation, victim: Victim) -> anyhow::Result<()> {
    match victim {
        Victim::Screener => {
            kit.screeners[0].kill().await?;
            for screener in &mut kit.screeners {
                screener.start()?;
            }
        }
        Victim::Api => {
            kit.replicas[0].kill().await?;
            kit.api.version().await.context("one replica is left")?;
            kit.replicas[1].kill().await?;
            for replica in &mut kit.replicas {
                replica.start()?;
            }
            kit.replicas_answer().await?;
        }
        Victim::Postgres => {
            kit.kill_postgres()?;
            kit.restart_postgres().await?;
        }
        Victim::Proxy => kit.ground.kill_role("proxy").await?,
        Victim::Main => kit.ground.kill_role("main").await?,
        Victim::Engine => {
            kit.ground.kill().await?;
            kit.ground.restart().await?;
        }
    }
    Ok(())
}

/// The run has its reward, its first attempt ended as the table says, and its records are whole.
async fn outcome(kit: &Installation, waiting: Waiting, victim: Victim) -> anyhow::Result<()> {
    let (run, attempts) = stage::ended(kit, waiting).await?;
    let causes: Vec<Option<Cause>> = attempts.iter().map(|attempt| attempt.cause).collect();
    let lost = victim.loses(waiting.cell).map(Some);
    let expected: Vec<_> = lost.into_iter().chain([Some(Cause::Completed)]).collect();
    ensure!(causes == expected, "{causes:?}, not {expected:?}: {attempts:#?}");
    ensure!(
        run.state == RunState::Finished && run.score == Some(1.0),
        "{run:#?}"
    );
    ensure!(run.cost > PicoUsd::ZERO, "the agent asked the model: {run:#?}");
    for attempt in &attempts {
        evidence::records(kit, attempt).await?;
    }
    let last = attempts.last().context("a run without an attempt")?;
    ensure!(evidence::has_audit(kit, last).await?, "no audit is stored");
    Ok(())
}

/// The first loss is ours and tried again, the second is the agent's: a zero, charged.
async fn proxy_lost_twice(kit: &Arc<Installation>, agent: AgentId) -> anyhow::Result<()> {
    let waiting = stage::bring(kit, agent, &[Phase::Agent.into()], "twice").await?[0];
    kit.ground.kill_role("proxy").await?;
    stage::arrive(kit, waiting, 2).await?;
    kit.ground.kill_role("proxy").await?;
    let (run, attempts) = stage::ended(kit, waiting).await?;
    let causes: Vec<_> = attempts.iter().map(|attempt| attempt.cause).collect();
    ensure!(
        causes == [Some(Cause::ProxyLost), Some(Cause::AgentBrokeSandbox)],
        "{attempts:#?}"
    );
    ensure!(
        (run.state, run.score) == (RunState::Finished, Some(0.0)),
        "{run:#?}"
    );
    for attempt in &attempts {
        evidence::records(kit, attempt).await?;
        ensure!(
            evidence::has_audit(kit, attempt).await?,
            "what a lost proxy had decided is stored"
        );
    }
    evidence::books(kit).await?;
    stage::swept(kit).await
}

/// `None`, with a word about it, where this machine lacks something.
async fn installation() -> Option<Installation> {
    let skipped = |what: &str| {
        eprintln!("skipped: {what}");
        None
    };
    let Ok(sandbox) = std::env::var("ASSAY_SANDBOX_BIN") else {
        return skipped("ASSAY_SANDBOX_BIN is not set");
    };
    let root = Command::new("id").arg("-u").output().unwrap();
    if root.stdout != b"0\n" {
        return skipped("a container daemon of our own needs root");
    }
    if Command::new("dockerd").arg("--version").output().is_err() {
        return skipped("dockerd is missing");
    }
    if let Err(error) = assay_cli::up::postgres::programs(None) {
        return skipped(&error.to_string());
    }
    let programs = Programs {
        part: PathBuf::from(env!("CARGO_BIN_EXE_assay-part")),
        model: PathBuf::from(env!("CARGO_BIN_EXE_assay-scripted-model")),
        sandbox: PathBuf::from(sandbox),
        database_ahead_sec: 0,
    };
    Some(Installation::start(&programs).await.unwrap())
}
