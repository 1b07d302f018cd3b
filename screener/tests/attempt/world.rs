//! A worker on a real engine, and what it is given.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use assay_core::{
    agent::Contract,
    clock::{Clock as _, SystemClock},
    id::{AttemptId, EvaluationId, Fence, RunId, TenantId},
    money::PicoUsd,
    policy::Policy,
    price::PriceTable,
    upstream::Secret,
    wire::worker::{Assignment, Report},
};
use assay_engine::{
    Engine as _, SandboxRef,
    containers::{Binaries, Containers, Settings},
};
use assay_screener::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::platform::Platform;

/// A folder as a table.
#[derive(Debug, Clone)]
pub(crate) struct Files(BTreeMap<String, String>);

impl Files {
    pub(crate) fn from<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self(
            files
                .map(|(path, content)| (path.to_owned(), content.to_owned()))
                .into(),
        )
    }

    pub(crate) fn insert(&mut self, path: &str, content: &str) {
        self.0.insert(path.to_owned(), content.to_owned());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

pub(crate) struct World {
    pub(crate) platform: Platform,
    settings: Settings,
    engine: Containers,
    folder: tempfile::TempDir,
    worker: Option<(CancellationToken, JoinHandle<()>)>,
    stop: CancellationToken,
}

impl World {
    /// `None`, with a word about it, where there is no engine to test with.
    pub(crate) async fn new() -> Option<Self> {
        let (Ok(socket), Ok(binaries)) = (
            std::env::var("ASSAY_TEST_DOCKER"),
            std::env::var("ASSAY_SANDBOX_BIN"),
        ) else {
            eprintln!("skipped: ASSAY_TEST_DOCKER and ASSAY_SANDBOX_BIN are not set");
            return None;
        };
        let socket = PathBuf::from(socket.trim_start_matches("unix://"));
        let stop = CancellationToken::new();
        let settings = Settings {
            socket,
            owner: format!("screener-test-{}-{}", std::process::id(), next()),
            binaries: Binaries::in_folder(&PathBuf::from(binaries)),
        };
        let mut world = Self {
            platform: Platform::start(stop.clone()).await,
            engine: Containers::connect(&settings).await.unwrap(),
            settings,
            folder: tempfile::tempdir().unwrap(),
            worker: None,
            stop,
        };
        world.start_worker();
        Some(world)
    }

    pub(crate) fn start_worker(&mut self) {
        let stop = CancellationToken::new();
        let config = Config {
            reconcile_every: Duration::from_secs(1),
            ..Config::new(
                self.platform.url(),
                Secret::new("key"),
                self.folder.path().to_owned(),
            )
        };
        let settings = self.settings.clone();
        let connect = |_: String| async move { Containers::connect(&settings).await };
        let run = assay_screener::run(config, stop.clone(), connect);
        let worker = tokio::spawn(async move { run.await.unwrap() });
        self.worker = Some((stop, worker));
    }

    pub(crate) async fn stop_worker(&mut self) {
        let (stop, worker) = self.worker.take().unwrap();
        stop.cancel();
        worker.await.unwrap();
    }

    /// Lets another worker go on with the attempt, and waits until it does. The sandbox that they share.
    pub(crate) async fn hand_over(&mut self, assignment: &mut Assignment) -> SandboxRef {
        self.stop_worker().await;
        let sandboxes = self.sandboxes().await;
        assert_eq!(sandboxes.len(), 1, "the sandbox must live on");
        let adoptions = self.platform.adoptions();
        assignment.adopted = Some(self.platform.progress());
        assignment.fence.0 += 1;
        self.start_worker();
        self.platform.give(assignment.clone());
        self.platform.wait_for_adoption(adoptions + 1).await;
        sandboxes[0]
    }

    /// A new attempt without models.
    pub(crate) fn assignment(&self, contract: Contract, task: &Files) -> Assignment {
        let number = u128::from(next()) << 64 | u128::from(std::process::id());
        Assignment {
            tenant: TenantId(Uuid::from_u128(number)),
            evaluation: EvaluationId(Uuid::from_u128(number)),
            run: RunId(Uuid::from_u128(number)),
            attempt: AttemptId(Uuid::from_u128(number)),
            number: 1,
            fence: Fence(1),
            deadline: SystemClock.now() + jiff::SignedDuration::from_mins(10),
            now: None,
            task: self.platform.archive("task", task),
            contract,
            agent: None,
            policy: Policy::parse("[egress.build]\nmode = 'none'").unwrap(),
            budget: PicoUsd::ZERO,
            verifier_budget: PicoUsd::ZERO,
            upstreams: Vec::new(),
            prices: PriceTable {
                version: "none".to_owned(),
                models: BTreeMap::new(),
            },
            values: BTreeMap::new(),
            secrets: BTreeMap::new(),
            seed: Secret::new("07".repeat(32)),
            replay: None,
            adopted: None,
        }
    }

    pub(crate) async fn run(&self, assignment: Assignment) -> Report {
        self.platform.give(assignment);
        let report = self.platform.report().await;
        assert!(self.sandboxes().await.is_empty(), "a sandbox is left behind");
        report
    }

    /// The sandboxes of this test, once those that are being removed are gone.
    pub(crate) async fn sandboxes(&self) -> Vec<SandboxRef> {
        let end = std::time::Instant::now() + Duration::from_mins(2);
        loop {
            let listed = self.engine.list().await.unwrap();
            let mut names: Vec<_> = listed.into_iter().map(|one| one.name).collect();
            names.dedup();
            if names.is_empty() || self.worker.is_none() || std::time::Instant::now() > end {
                return names;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes a file in a sandbox, as its runner is told.
    pub(crate) async fn touch(&self, name: SandboxRef, path: &str) {
        let sandbox = self.engine.find(&name).await.unwrap().unwrap();
        let client = assay_runtime::control::RunnerClient::new(
            sandbox.runner,
            name.sandbox,
            self.platform.fence(),
            &[7; 32],
        );
        let tar = self.folder.path().join("touch.tar");
        let mut builder = tar::Builder::new(std::fs::File::create(&tar).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path.trim_start_matches('/'), std::io::empty())
            .unwrap();
        builder.into_inner().unwrap();
        client.put_files("/", None, &tar).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some((stop, _)) = &self.worker {
            stop.cancel();
        }
    }
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
