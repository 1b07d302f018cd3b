//! The service with its own bill, and the proxy as a process of its own that can be killed.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use assay_core::{
    clock::SystemClock,
    control::{
        proxy::{Ledger, ProxyAssignment},
        signature::Signer,
    },
    digest::hex,
    id::{Fence, SandboxId},
    ledger::{self, Entry},
    money::PicoUsd,
    price::PriceTable,
    upstream::{Dialect, Upstream},
};
use assay_proxy::{
    listen::Addresses,
    run::{self, Start},
};
use assay_runtime::control::ProxyClient;
use assay_tests::model::{Model, Script, Settings};
use serde_json::json;

/// The only model.
pub(crate) const MODEL: &str = "assay/scripted";
const SANDBOX: &str = "01900000-0000-7000-8000-000000000001";
const SEED: [u8; 32] = [7; 32];

/// Says so where this machine allows too few open files for a thousand calls.
pub(crate) fn lacks_descriptors() -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let soft: u64 = files
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap_or(u64::MAX);
    let lacks = soft < 4_096;
    if lacks {
        println!("skipped: needs 4096 open files, `ulimit -n` allows {soft}");
    }
    lacks
}

/// A scripted service, and how the proxy gets to it.
pub(crate) struct Service {
    /// Keeps its own bill.
    pub(crate) model: Model,
    /// The operator's word on it.
    pub(crate) upstream: Upstream,
    assignment: ProxyAssignment,
}

impl Service {
    /// With a budget for the only phase.
    pub(crate) async fn start(budget: &str) -> Self {
        let price = json!({"input": "0.000001", "output": "0.000004", "context_tokens": 128_000, "max_output_tokens": 16_384});
        let prices: PriceTable =
            serde_json::from_value(json!({"version": "v", "models": {MODEL: price}})).unwrap();
        let model = Model::start(Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            names: vec!["models.example.com".to_owned()],
            dialect: Dialect::OpenRouter,
            dialects: BTreeMap::new(),
            key: "sk-real".to_owned(),
            prices: prices.clone(),
            script: Script::default(),
            pace: Duration::from_millis(5),
        })
        .await
        .unwrap();
        let signer = Signer::new(&SEED);
        let assignment: ProxyAssignment = serde_json::from_value(json!({
            "sandbox": SANDBOX, "run": "01900000-0000-7000-8000-000000000002", "fence": 1,
            "public_key": signer.public_key(), "mac_key": hex(&signer.mac_key()),
            "egress": {"agent": {"mode": "none"}}, "phase": "agent",
            "purses": {"agent": {
                "budget": budget, "models": [MODEL],
                "max_requests": 10_000, "max_tokens": 100_000_000, "max_parallel": 1_000,
            }},
            "upstreams": [{
                "host": "models.example.com", "base_path": "/api/v1", "dialect": "open_router", "models": [MODEL],
                "credential": "sk-real", "address": model.address, "ca_pem": model.root_pem,
            }],
            "prices": prices.models, "price_version": "v", "resolvers": [],
        }))
        .unwrap();
        let upstream = assignment.upstreams[0].clone();
        Self {
            model,
            upstream,
            assignment,
        }
    }
}

/// A proxy that runs as a process: this very program, started again.
pub(crate) struct Proxy {
    folder: tempfile::TempDir,
    child: Child,
    model: SocketAddr,
    control: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Proxy {
    pub(crate) fn start(service: &Service) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("assignment.json"),
            serde_json::to_vec(&service.assignment).unwrap(),
        )
        .unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "process::a_proxy_for_the_tests_above",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(PORTS).map(str::to_owned))
            .unwrap();
        let (model, control) = ports.split_once(' ').unwrap();
        Self {
            folder,
            child,
            model: model.parse().unwrap(),
            control: control.parse().unwrap(),
        }
    }

    /// Where the workload calls models.
    pub(crate) fn address(&self) -> SocketAddr {
        self.model
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The write-ahead log.
    pub(crate) fn log(&self) -> Vec<Entry> {
        ledger::log::read(&std::fs::read(self.folder.path().join("ledger.jsonl")).unwrap())
    }

    /// The account once nothing is under way and no bill is being asked for.
    pub(crate) async fn at_rest(&self) -> Ledger {
        let sandbox: SandboxId = SANDBOX.parse().unwrap();
        let client = ProxyClient::new(self.control, sandbox, Fence(1), &SEED);
        loop {
            let ledger = client.ledger().await.unwrap();
            if ledger.reserved == PicoUsd::ZERO && ledger.reconciling == 0 {
                return ledger;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The process behind [`Proxy`]; it ends by being killed.
#[test]
#[ignore = "started by the tests above as a process of its own"]
fn a_proxy_for_the_tests_above() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let running = run::start(Start {
            assignment: folder.join("assignment.json"),
            state: folder.clone(),
            addresses: Addresses::loopback(),
            grace: Duration::from_mins(1),
            commit: "test",
            clock: Arc::new(SystemClock),
        })
        .unwrap();
        println!("\n{PORTS}{} {}", running.workload.unwrap().model, running.control);
        running.finished().await;
    });
}

const FOLDER: &str = "ASSAY_MONEY_FOLDER";
const PORTS: &str = "ports: ";
