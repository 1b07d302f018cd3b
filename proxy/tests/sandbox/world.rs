//! A proxy under test, with a workload's and a control plane's means to speak to it.

#[path = "world/connection.rs"]
mod connection;
#[path = "world/names.rs"]
mod names;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use assay_core::{
    clock::{Clock, SystemClock},
    control::{
        proxy::{AuditLine, Health, Ledger, ProxyAssignment},
        signature::{AUTH_HEADER, Claim, MAC_HEADER, Signer, response_mac},
    },
    digest::{Digest, hex},
    id::Fence,
    money::PicoUsd,
    phase::EgressPhase,
};
use assay_proxy::{
    listen::{Addresses, Bound},
    run::{self, Running, Start},
};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

pub(crate) use self::connection::{Connection, dial, tls};
use crate::model::{Model, Script};
pub(crate) use crate::ways_out::bodies::{ANTHROPIC_HOST, MODEL_HOST, OPENAI_HOST, every_service};

/// An ordinary host, allowed in setup.
pub(crate) const OTHER_HOST: &str = "pypi.example.com";

/// Waits until a condition holds.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(2);
    while !holds().await {
        assert!(Instant::now() < end, "the condition never held");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A proxy, its model service and its state.
pub(crate) struct World {
    /// The model service.
    pub(crate) model: Model,
    folder: tempfile::TempDir,
    running: Running,
    nonces: Arc<AtomicU64>,
}

impl World {
    /// In the agent's phase.
    pub(crate) async fn start(script: Script) -> Self {
        Self::with(script, |_| {}).await
    }

    /// In another phase.
    pub(crate) async fn in_phase(script: Script, phase: EgressPhase) -> Self {
        Self::with(script, |assignment| assignment.phase = phase).await
    }

    /// With a changed assignment.
    pub(crate) async fn with(script: Script, change: impl FnOnce(&mut ProxyAssignment)) -> Self {
        Self::by_clock(Arc::new(SystemClock), script, change).await
    }

    /// By another wall clock.
    pub(crate) async fn by_clock(
        clock: Arc<dyn Clock>,
        script: Script,
        change: impl FnOnce(&mut ProxyAssignment),
    ) -> Self {
        let model = Model::start(&[MODEL_HOST, OPENAI_HOST, ANTHROPIC_HOST, OTHER_HOST], script).await;
        let mut assignment = assignment(&model);
        change(&mut assignment);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assignment.json");
        std::fs::write(&path, serde_json::to_vec(&assignment).unwrap()).unwrap();
        let running = begin(&folder, clock);
        assert!(!path.exists());
        Self {
            model,
            folder,
            running,
            nonces: Arc::default(),
        }
    }

    /// Puts another assignment where the first one lay.
    pub(crate) fn offer(&self, change: impl FnOnce(&mut ProxyAssignment)) -> PathBuf {
        let mut assignment = assignment(&self.model);
        change(&mut assignment);
        let path = self.folder.path().join("assignment.json");
        std::fs::write(&path, serde_json::to_vec(&assignment).unwrap()).unwrap();
        path
    }

    /// A second proxy on the same state, as after a restart.
    pub(crate) fn start_again(&self) -> Control {
        let running = begin(&self.folder, Arc::new(SystemClock));
        assert!(running.workload.is_none());
        Control {
            address: running.control,
            nonces: Arc::clone(&self.nonces),
        }
    }

    /// A proxy that finds nothing of what the one before it wrote down: what each restart is to an account in memory.
    pub(crate) fn start_from_nothing(&mut self, change: impl FnOnce(&mut ProxyAssignment)) {
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        self.offer(change);
        self.running = begin(&self.folder, Arc::new(SystemClock));
    }

    /// What is in the state directory.
    pub(crate) fn state_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files
            .map(|file| String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).into_owned())
            .collect()
    }

    pub(crate) fn workload(&self) -> Bound {
        self.running.workload.unwrap()
    }

    pub(crate) fn control(&self) -> Control {
        Control {
            address: self.running.control,
            nonces: Arc::clone(&self.nonces),
        }
    }

    pub(crate) fn stop(&self) {
        self.running.stop();
    }

    pub(crate) async fn finished(self) {
        self.running.finished().await;
    }

    pub(crate) async fn ledger(&self) -> Ledger {
        self.control().ledger().await
    }

    /// The ledger once nothing is under way.
    pub(crate) async fn settled_ledger(&self) -> Ledger {
        eventually(async || self.ledger().await.reserved == PicoUsd::ZERO).await;
        self.ledger().await
    }

    pub(crate) async fn audit(&self) -> Vec<AuditLine> {
        let text = self.control().signed_get("/v1/audit?from=0").await.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A TLS connection as a captured workload makes it, trusting the proxy's root.
    pub(crate) async fn open_tls(&self, host: &str) -> std::io::Result<Connection> {
        let root = self.control().get("/trust").await.text();
        tls(self.workload().tls, host, &root).await
    }

    /// A TLS connection to the ordinary host, trusting only its own root.
    pub(crate) async fn splice_tls(&self) -> std::io::Result<Connection> {
        tls(self.workload().tls, OTHER_HOST, &self.model.root_pem).await
    }

    /// The plain port for models.
    pub(crate) async fn plain_model(&self) -> Connection {
        let stream = TcpStream::connect(self.workload().model).await.unwrap();
        Connection::new(stream, "127.0.0.1:15088").await
    }

    pub(crate) async fn http80(&self, host: &str) -> Answer {
        let stream = TcpStream::connect(self.workload().http).await.unwrap();
        Connection::new(stream, host).await.get("/").await
    }

    /// What the captured TLS port answers to these bytes.
    pub(crate) async fn raw_tls_port(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.workload().tls).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        answer
    }

    /// Is a connection to another port ended?
    pub(crate) async fn other_port(&self) -> bool {
        let mut stream = TcpStream::connect(self.workload().other).await.unwrap();
        !matches!(stream.read(&mut [0; 1]).await, Ok(1..))
    }
}

fn begin(folder: &tempfile::TempDir, clock: Arc<dyn Clock>) -> Running {
    run::start(Start {
        assignment: PathBuf::from(folder.path()).join("assignment.json"),
        state: folder.path().to_owned(),
        addresses: Addresses::loopback(),
        grace: Duration::from_mins(1),
        commit: "test",
        clock,
    })
    .unwrap()
}

fn signer() -> Signer {
    Signer::new(&[7; 32])
}

fn assignment(model: &Model) -> ProxyAssignment {
    let signer = signer();
    serde_json::from_value(json!({
        "sandbox": "01900000-0000-7000-8000-000000000001",
        "run": "01900000-0000-7000-8000-000000000002",
        "fence": 1,
        "public_key": signer.public_key(),
        "mac_key": hex(&signer.mac_key()),
        "egress": {
            "setup": {"mode": "hosts", "hosts": [OTHER_HOST]},
            "agent": {"mode": "none"},
            "verify": {"mode": "public"},
        },
        "phase": "agent",
        "purses": {"agent": {
            "budget": "1", "models": ["test/small", "test/large"],
            "max_requests": 100, "max_tokens": 1_000_000, "max_parallel": 32,
        }},
        "upstreams": [{
            "host": MODEL_HOST, "base_path": "/api/v1", "dialect": "open_router",
            "models": ["test/small", "test/large"], "credential": "sk-real",
            "address": model.address, "ca_pem": model.root_pem,
        }],
        "prices": {
            "test/small": {"input": "0.000001", "output": "0.000002", "context_tokens": 100_000, "max_output_tokens": 4_000},
            "test/large": {"input": "0.00001", "output": "0.00002", "context_tokens": 200_000, "max_output_tokens": 8_000},
        },
        "price_version": "test",
        "resolvers": [],
        "fixed_addresses": {OTHER_HOST: model.address},
    }))
    .unwrap()
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The control plane.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    nonces: Arc<AtomicU64>,
}

impl Control {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None, b"").await
    }

    pub(crate) async fn ledger(&self) -> Ledger {
        serde_json::from_slice(&self.signed_get("/v1/ledger").await.body).unwrap()
    }

    pub(crate) async fn signed_get(&self, path: &str) -> Answer {
        let auth = self.authorize("GET", path, b"").await;
        let answer = self.request("GET", path, Some(&auth), b"").await;
        assert!(Self::mac_fits(&auth, &answer), "{path}: {}", answer.text());
        answer
    }

    pub(crate) async fn signed(&self, method: &str, path: &str, body: &impl Serialize) -> Answer {
        self.signed_bytes(method, path, &serde_json::to_vec(body).unwrap())
            .await
    }

    pub(crate) async fn signed_bytes(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let auth = self.authorize(method, path, body).await;
        let answer = self.request(method, path, Some(&auth), body).await;
        assert!(Self::mac_fits(&auth, &answer), "{path}: {}", answer.text());
        answer
    }

    pub(crate) async fn authorize(&self, method: &str, path: &str, body: &[u8]) -> (String, String) {
        let health: Health = serde_json::from_slice(&self.get("/healthz").await.body).unwrap();
        let nonce = format!("{:032x}", self.nonces.fetch_add(1, Ordering::SeqCst));
        let claim = Claim {
            sandbox: "01900000-0000-7000-8000-000000000001".parse().unwrap(),
            fence: Fence(1),
            nonce: nonce.clone(),
            deadline_ms: health.monotonic_ms + 60_000,
            boot: health.boot,
            content: Some(Digest::of(body)),
        };
        (nonce, signer().authorize(&claim, method, path))
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        auth: Option<&(String, String)>,
        body: &[u8],
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "proxy");
        if let Some((_, auth)) = auth {
            request = request.header(AUTH_HEADER, auth);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub(crate) fn mac_fits(auth: &(String, String), answer: &Answer) -> bool {
        let mac = response_mac(&signer().mac_key(), &auth.0, answer.status, &answer.body);
        answer.header(MAC_HEADER) == Some(&mac)
    }
}
