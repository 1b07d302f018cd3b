//! Brings runs into their phases, lets them go, and waits for their ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use assay_cli::{bundle, error::Error};
use assay_core::{
    agent::Contract,
    id::{AgentId, RunId},
    phase::Phase,
    policy::Policy,
    wire::people::{Attempt, NewAgent, NewEvaluation, NewTask, Run, RunState},
};
use assay_tests::processes::{Daemon, Hold, Installation, MODEL};

use super::fixture::{self, Order};

/// Where a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub phase: Phase,
    /// The verifier has a sandbox of its own.
    pub apart: bool,
    /// The sandbox is half made: init and proxy exist, main does not.
    pub half: bool,
}

impl Cell {
    /// Every phase, the start also in its middle, and the verifier both ways.
    pub fn all() -> Vec<Self> {
        let shared = Phase::ALL.map(Self::from);
        let apart = Self {
            apart: true,
            ..Self::from(Phase::Verify)
        };
        let half = Self {
            half: true,
            ..Self::from(Phase::Start)
        };
        shared.into_iter().chain([apart, half]).collect()
    }
}

impl From<Phase> for Cell {
    fn from(phase: Phase) -> Self {
        Self {
            phase,
            apart: false,
            half: false,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let apart = if self.apart { "-apart" } else { "" };
        let half = if self.half { "-half" } else { "" };
        write!(f, "{}{apart}{half}", self.phase)
    }
}

/// A run that waits, or waited, in a cell of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub run: RunId,
    pub cell: Cell,
}

/// The agent of every run.
pub async fn agent(kit: &Installation) -> anyhow::Result<AgentId> {
    let folder = tempfile::tempdir()?;
    fixture::write_agent(folder.path())?;
    let archive = bundle::pack(folder.path())?;
    bundle::upload(&kit.api, &archive).await?;
    let new = NewAgent {
        name: "asker".to_owned(),
        contract: Contract::Command,
        digest: Some(archive.digest),
    };
    Ok(kit.api.register_agent(&new).await?.id)
}

/// Submits one run for each cell, and waits until each is verifiably in its own. What is kept half made comes last: a
/// request to the daemon does not wait for ever.
pub async fn bring(
    kit: &Installation,
    agent: AgentId,
    cells: &[Cell],
    round: &str,
) -> anyhow::Result<Vec<Waiting>> {
    let (last, first): (Vec<Cell>, Vec<Cell>) = cells.iter().copied().partition(|cell| cell.half);
    let mut all = bring_at_once(kit, agent, &first, round).await?;
    all.extend(bring_at_once(kit, agent, &last, round).await?);
    Ok(all)
}

async fn bring_at_once(
    kit: &Installation,
    agent: AgentId,
    cells: &[Cell],
    round: &str,
) -> anyhow::Result<Vec<Waiting>> {
    kit.front.stop_claims();
    let mut all = Vec::new();
    for cell in cells {
        let folder = tempfile::tempdir()?;
        fixture::write_task(folder.path(), *cell, round)?;
        let archive = bundle::pack(folder.path())?;
        bundle::upload(&kit.api, &archive).await?;
        let name = format!("wait-in-{cell}");
        let digest = archive.digest;
        let task = kit.api.register_task(&NewTask { digest, name }).await?.digest;
        let order = Order {
            task,
            agent,
            cell: *cell,
        };
        let run = submit(kit, order, round).await?;
        match cell.phase {
            Phase::Start if cell.half => kit.ground.gate.hold(run),
            // The healthcheck follows at once, so its beginning is where `start` has done its work.
            Phase::Start => kit.front.hold(run, Hold::Begin(Phase::Health)),
            Phase::Report => kit.front.hold(run, Hold::Report),
            Phase::Prepare | Phase::Health | Phase::Setup | Phase::Agent | Phase::Collect | Phase::Verify => {
            }
        }
        all.push(Waiting { run, cell: *cell });
    }
    kit.front.let_claim();
    for waiting in &all {
        arrive(kit, *waiting, 1).await?;
    }
    Ok(all)
}

async fn submit(kit: &Installation, order: Order, round: &str) -> anyhow::Result<RunId> {
    let mut policy = Policy::parse(&format!(
        "[models]\nallow = [\"{MODEL}\"]\n[budget]\nrun_usd = \"0.5\"\n"
    ))?;
    if order.cell.phase != Phase::Prepare {
        let without = Policy::parse("[egress.build]\nmode = \"none\"")?;
        policy.egress = without.egress;
    }
    let new = NewEvaluation {
        agent: order.agent,
        tasks: vec![order.task],
        task_set: None,
        policy,
        repeats: 1,
        class: "1".to_owned(),
        priority: 5,
        values: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    let evaluation = kit.api.submit(&new, &format!("{round}-{}", order.cell)).await?;
    let runs = kit.api.runs(evaluation.id).await?;
    Ok(runs.first().context("an evaluation without a run")?.id)
}

/// Waits until the attempt of this number waits in its phase.
pub async fn arrive(kit: &Installation, waiting: Waiting, number: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let attempts = kit.api.attempts(waiting.run).await?;
        if let Some(attempt) = attempts.get(number - 1)
            && is_there(kit, waiting, attempt).await?
        {
            return Ok(());
        }
        let ended = attempts
            .iter()
            .any(|attempt| attempt.cause.is_some() && attempt.number as usize == number);
        if ended || begun.elapsed() > PATIENCE {
            bail!("a run does not come to wait in {}: {attempts:#?}", waiting.cell);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn is_there(kit: &Installation, waiting: Waiting, attempt: &Attempt) -> anyhow::Result<bool> {
    if attempt.phase != Some(waiting.cell.phase) {
        return Ok(false);
    }
    match waiting.cell.phase {
        Phase::Start if waiting.cell.half => {
            let made = kit.ground.roles(waiting.run).await?;
            Ok(kit.ground.gate.holds(waiting.run) && made.iter().eq(["init", "proxy"]))
        }
        Phase::Start | Phase::Report => Ok(kit.front.holds(waiting.run)),
        // A healthcheck prints nothing; its phase begins with the first check.
        Phase::Health => Ok(true),
        Phase::Prepare | Phase::Setup | Phase::Agent | Phase::Collect | Phase::Verify => {
            let outputs = kit.api.outputs(attempt.id, 0, std::time::Duration::ZERO).await?;
            let phase = waiting.cell.phase.name();
            Ok(outputs.iter().any(|output| {
                output.channel.phase() == phase && output.channel.stream() == "stdout" && output.bytes > 0
            }))
        }
    }
}

/// Lets everything go on until it is dropped: what the front holds, and what waits in containers, new ones too.
pub struct Going(tokio::task::JoinHandle<()>);

impl Going {
    /// Stops that, and waits until it has stopped.
    pub async fn end(mut self) {
        self.0.abort();
        drop((&mut self.0).await);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens every gate.
pub fn let_go(kit: &Arc<Installation>) -> Going {
    kit.front.let_go();
    kit.ground.gate.let_go();
    let kit = Arc::clone(kit);
    Going(tokio::spawn(async move {
        let mut opened = BTreeSet::new();
        loop {
            // A daemon that was killed a moment ago is asked again.
            if let Err(error) = open(&kit.ground, kit.folder(), &mut opened).await {
                eprintln!("not opened for now: {error}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }))
}

async fn open(
    daemon: &Daemon,
    folder: &std::path::Path,
    opened: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    let go = folder.join("go");
    std::fs::write(&go, "")?;
    let go = go.display().to_string();
    let running = daemon.docker(["ps", "-q", "--no-trunc"]).await?;
    for id in running
        .lines()
        .filter(|id| !opened.contains(*id))
        .map(str::to_owned)
        .collect::<Vec<_>>()
    {
        // One that ended in between needs no gate.
        if daemon.docker(["cp", &go, &format!("{id}:/go")]).await.is_ok() {
            opened.insert(id);
        }
    }
    Ok(())
}

/// Waits for the end of a run.
pub async fn ended(kit: &Installation, waiting: Waiting) -> anyhow::Result<(Run, Vec<Attempt>)> {
    let begun = Instant::now();
    loop {
        match kit.api.run(waiting.run).await {
            Ok(run) if !matches!(run.state, RunState::Queued | RunState::Running) => {
                return Ok((run, kit.api.attempts(waiting.run).await?));
            }
            Ok(run) if begun.elapsed() > PATIENCE => bail!("a run does not end: {run:#?}"),
            Err(error) if begun.elapsed() > PATIENCE => return Err(Error::into(error)),
            Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Waits until nothing of any sandbox is left on the engine.
pub async fn swept(kit: &Installation) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let left = kit.ground.leftovers().await?;
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > SWEEP {
            bail!("left behind: {left:#?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

const PATIENCE: Duration = Duration::from_mins(10);
const SWEEP: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(100);
