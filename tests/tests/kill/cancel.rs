//! A word to cancel in each phase: no sandbox outlives it by more than ten seconds, whatever its worker waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use assay_core::{id::AgentId, phase::Phase, wire::people::RunState};
use assay_tests::processes::Installation;

use super::{
    evidence,
    stage::{self, Cell, Waiting},
};

/// Cancels one run in each cell. What holds it, the front or the engine's gate, is opened only when all sandboxes are gone.
pub async fn round(kit: &Arc<Installation>, agent: AgentId) -> anyhow::Result<()> {
    let waiting = stage::bring(kit, agent, &Cell::all(), "cancel").await?;
    let mut wrong = Vec::new();
    for run in &waiting {
        if let Err(error) = gone_in_time(kit, *run).await {
            wrong.push(format!("{}: {error:#}", run.cell));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let going = stage::let_go(kit);
    for waited in waiting {
        let (run, attempts) = stage::ended(kit, waited).await?;
        // Work that was done and verified counts.
        let expected = if waited.cell.phase == Phase::Report {
            (RunState::Finished, Some(1.0))
        } else {
            (RunState::Cancelled, None)
        };
        ensure!(
            (run.state, run.score) == expected && attempts.len() == 1,
            "{run:#?} {attempts:#?}"
        );
    }
    going.end().await;
    evidence::books(kit).await?;
    stage::swept(kit).await
}

async fn gone_in_time(kit: &Installation, waiting: Waiting) -> anyhow::Result<()> {
    ensure!(
        !kit.ground.roles(waiting.run).await?.is_empty(),
        "it has no sandbox"
    );
    let begun = Instant::now();
    kit.api.cancel_run(waiting.run).await?;
    loop {
        let left = kit.ground.roles(waiting.run).await?;
        if left.is_empty() {
            eprintln!(
                "{} cancelled: {:.1} s",
                waiting.cell,
                begun.elapsed().as_secs_f64()
            );
            return Ok(());
        }
        ensure!(begun.elapsed() < LONGEST, "{left:?} after {LONGEST:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Far more than it takes (docs/BENCHMARKS.md), and far less than any of these would wait otherwise.
const LONGEST: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(100);
