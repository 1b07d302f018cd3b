//! Two replicas over one database and one object store, with keys for two tenants.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use assay_api::{Config, Database, ObjectSettings, Server, WorkerTokens};
use assay_core::{
    agent::Contract,
    archive,
    digest::Digest,
    id::AgentId,
    policy::Policy,
    wire::people::{self, Evaluation, NewEvaluation, Page, Run, Scope},
};
use assay_runtime::client::{self, Client, Error};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::OnceCell};
use tokio_util::sync::CancellationToken;

use crate::contract;

/// Everything that a test needs.
pub struct Stage {
    pub pool: PgPool,
    pub client: Client,
    /// Base URLs of the replicas: public and internal.
    pub replicas: Vec<(String, String)>,
    pub validator: String,
    pub worker_key: String,
    pub stranger: String,
    stop: CancellationToken,
    objects: CancellationToken,
    task: OnceCell<Digest>,
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How a stage differs from the usual.
#[derive(Clone)]
pub struct Setting {
    pub lease_ms: u64,
    pub require_same_commit: bool,
    pub worker_tokens: WorkerTokens,
    /// The object store's host for those who are not beside it.
    pub public_host: Option<&'static str>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            lease_ms: 60_000,
            require_same_commit: false,
            worker_tokens: WorkerTokens::default(),
            public_host: None,
        }
    }
}

pub async fn stage() -> Option<Stage> {
    staged(Setting::default()).await
}

pub async fn staged(setting: Setting) -> Option<Stage> {
    let database_url = crate::postgres::database().await?;
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let objects = stop.child_token();
    let endpoint = object_store(folder.path(), objects.clone()).await;
    let public = setting
        .public_host
        .map(|host| endpoint.replace("127.0.0.1", host));
    let upstreams = folder.path().join("upstreams.toml");
    std::fs::write(&upstreams, UPSTREAMS).unwrap();
    let config = Config {
        database: Database {
            database_url,
            database_connections: 40,
        },
        objects: ObjectSettings {
            s3_endpoint: endpoint,
            s3_public_endpoint: public,
            s3_bucket: "assay".to_owned(),
            s3_access_key: "key".to_owned(),
            s3_secret_key: "secret".to_owned(),
            s3_region: "us-east-1".to_owned(),
        },
        worker_tokens: setting.worker_tokens,
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_internal: "127.0.0.1:0".parse().unwrap(),
        pending_work_token: Some("scaler".to_owned()),
        upstreams: Some(upstreams),
        seal_key: Some("5e".repeat(32)),
        seal_key_file: None,
        require_same_commit: setting.require_same_commit,
        source_dir: None,
        lease_ms: setting.lease_ms,
        beat_ms: setting.lease_ms / 4,
        slots_per_worker: 4,
        max_workers: 100,
        max_archive_bytes: 64 << 20,
    };
    let pool = assay_api::connect(&config.database.database_url, 8)
        .await
        .unwrap();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let server = Server::bind(config.clone()).await.unwrap();
        let (public, internal) = server.addresses().unwrap();
        replicas.push((format!("http://{public}"), format!("http://{internal}")));
        let stop = stop.clone();
        tokio::spawn(async move { server.run(stop).await.unwrap() });
    }
    let key = async |tenant: &str, scope| assay_api::create_key(&pool, tenant, "test", scope).await.unwrap();
    Some(Stage {
        validator: key("us", Scope::Admin).await,
        worker_key: key("operator", Scope::Worker).await,
        stranger: key("them", Scope::Admin).await,
        client: Client::new(Duration::from_mins(2)),
        pool,
        replicas,
        stop,
        objects,
        task: OnceCell::new(),
        _folder: folder,
    })
}

async fn object_store(folder: &std::path::Path, stop: CancellationToken) -> String {
    let root = folder.join("objects");
    std::fs::create_dir(&root).unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(&root).unwrap());
    builder.set_auth(s3s::auth::SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            // cancel-safe: accept loses no connection.
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = stop.cancelled() => return,
            };
            let (service, stop) = (service.clone(), stop.clone());
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let exchange = server.serve_connection(TokioIo::new(stream), service);
                stop.run_until_cancelled(exchange)
                    .await
                    .map(drop)
                    .unwrap_or_default();
            });
        }
    });
    format!("http://{address}")
}

impl Stage {
    /// Ends the object store, with the connections that it has.
    pub fn end_objects(&self) {
        self.objects.cancel();
    }

    /// Takes the database away from the replicas.
    pub async fn end_database(&self) {
        let name: String = sqlx::query_scalar("SELECT current_database()::text")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        crate::postgres::close(&name).await;
    }

    /// A call to the first replica as the validator.
    pub async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<A, Error> {
        self.call_as(&self.validator, method, path, body).await
    }

    /// A call to the first replica with some key.
    pub async fn call_as<A: DeserializeOwned>(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<A, Error> {
        let body = body.map(|body| serde_json::to_value(body).unwrap());
        let sent = body.as_ref().map(|body| (JSON, body.to_string().into_bytes()));
        let (status, answer) = self
            .send(self.at(0, path), method.clone(), Some(key), sent)
            .await?;
        if !status.is_success() {
            return Err(client::problem(status, &answer));
        }
        if let Some(body) = &body {
            contract::check_request(&method, path, body);
        }
        let text: &[u8] = if answer.is_empty() { b"null" } else { &answer };
        Ok(serde_json::from_slice(text).unwrap())
    }

    /// A URL of the public port of a replica.
    pub fn at(&self, replica: usize, path: &str) -> String {
        format!("{}{path}", self.replicas[replica].0)
    }

    /// Sends a request to the public port of a replica. Whatever is answered must be what the document promises.
    pub async fn send(
        &self,
        url: String,
        method: Method,
        key: Option<&str>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let mut request = http::Request::builder().method(method.clone()).uri(&url);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let (kind, bytes) = body.unwrap_or_default();
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let response = self
            .client
            .send(request.body(client::full(bytes)).unwrap())
            .await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = self.client.read(response, &url).await?;
        let path = url.splitn(4, '/').last().unwrap();
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap());
        contract::check_answer(&method, &format!("/{path}"), status.as_u16(), kind, &answer);
        assert!(headers.contains_key("x-request-id"));
        Ok((status, answer))
    }

    /// A key of the validator's tenant.
    pub async fn key(&self, scope: Scope) -> String {
        assay_api::create_key(&self.pool, "us", "test", scope)
            .await
            .unwrap()
    }

    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Error> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Uploads an archive and returns its digest.
    pub async fn upload(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.put_as(digest, bytes).await;
        digest
    }

    /// Uploads bytes under a digest that may not be theirs.
    pub async fn put_as(&self, digest: Digest, bytes: Vec<u8>) {
        let size_bytes = u64::try_from(bytes.len()).unwrap();
        let new = people::NewUpload { digest, size_bytes };
        let upload: people::Upload = self.call(Method::POST, "/v1/uploads", Some(&new)).await.unwrap();
        if let Some(url) = upload.url {
            self.put_url(&url, bytes).await;
        }
    }

    pub async fn put_url(&self, url: &str, bytes: Vec<u8>) {
        let digest = Digest::of(&bytes);
        assert_eq!(self.try_put(url, bytes, Some(digest)).await, StatusCode::OK);
    }

    /// Puts bytes under a URL, saying that they have this digest.
    pub async fn try_put(&self, url: &str, bytes: Vec<u8>, said: Option<Digest>) -> StatusCode {
        let mut request = http::Request::put(url);
        if let Some(digest) = said {
            request = request.header("x-amz-checksum-sha256", digest.base64());
        }
        let request = request.body(client::full(bytes)).unwrap();
        self.client.send(request).await.unwrap().status()
    }

    pub async fn get_url(&self, url: &str) -> Vec<u8> {
        let request = http::Request::get(url).body(client::full("")).unwrap();
        let response = self.client.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        self.client.read(response, url).await.unwrap().to_vec()
    }

    /// A registered task, the same one each time.
    pub async fn task(&self) -> Digest {
        *self.task.get_or_init(|| self.new_task("hello")).await
    }

    pub async fn new_task(&self, name: &str) -> Digest {
        let digest = self.upload(task_archive(name, "")).await;
        let new = people::NewTask {
            digest,
            name: name.to_owned(),
        };
        let task: people::Task = self.call(Method::POST, "/v1/tasks", Some(&new)).await.unwrap();
        assert_eq!((task.digest, task.name.as_str()), (digest, name));
        digest
    }

    pub async fn agent(&self) -> AgentId {
        let new = people::NewAgent {
            name: "oracle".to_owned(),
            contract: Contract::Oracle,
            digest: None,
        };
        let agent: people::Agent = self.call(Method::POST, "/v1/agents", Some(&new)).await.unwrap();
        agent.id
    }

    /// An evaluation of one task, `repeats` times.
    pub async fn submission(&self, repeats: u32) -> NewEvaluation {
        NewEvaluation {
            agent: self.agent().await,
            tasks: vec![self.task().await],
            task_set: None,
            policy: Policy::default(),
            repeats,
            class: "1".to_owned(),
            priority: 5,
            values: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }

    pub async fn submit(&self, new: &NewEvaluation) -> Evaluation {
        self.call(Method::POST, "/v1/evaluations", Some(new))
            .await
            .unwrap()
    }

    pub async fn runs(&self, evaluation: &Evaluation) -> Vec<Run> {
        let path = format!("/v1/runs?evaluation={}", evaluation.id);
        self.get::<Page<Run>>(&path).await.unwrap().items
    }

    pub async fn evaluation(&self, evaluation: &Evaluation) -> Evaluation {
        self.get(&format!("/v1/evaluations/{}", evaluation.id))
            .await
            .unwrap()
    }
}

/// A packed task folder.
pub fn task_archive(name: &str, config: &str) -> Vec<u8> {
    let mut text = String::new();
    writeln!(text, "schema_version = \"1.0\"\n{config}").unwrap();
    archive_of(&[
        ("task.toml", &text),
        ("instruction.md", name),
        ("environment/Dockerfile", "FROM debian:bookworm-slim\n"),
        ("tests/test.sh", "echo 1 > /logs/verifier/reward.txt\n"),
        ("solution/solve.sh", "true\n"),
    ])
}

pub fn archive_of(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let files = archive::scan(folder.path(), archive::Caps::default()).unwrap();
    let mut bytes = Vec::new();
    archive::pack(folder.path(), &files, &mut bytes).unwrap();
    bytes
}

/// The code of a refusal.
pub fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    let error = answer.unwrap_err();
    error
        .code()
        .unwrap_or_else(|| panic!("no problem body: {error}"))
        .to_owned()
}

/// The content type of bodies.
pub const JSON: &str = "application/json";

/// Waits until a condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs many calls at the same time.
pub async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    calls: impl Iterator<Item = F>,
) -> Vec<T> {
    let mut set: tokio::task::JoinSet<T> = calls.collect();
    let mut answers = Vec::new();
    while let Some(answer) = set.join_next().await {
        answers.push(answer.unwrap());
    }
    answers
}

const UPSTREAMS: &str = r#"
    [prices]
    version = "v1"
    [prices.models."a/model"]
    input = "0.000001"
    output = "0.000002"
    context_tokens = 1000
    max_output_tokens = 100
    [[upstreams]]
    host = "models.example.com"
    base_path = "/v1"
    dialect = "open_ai"
    models = ["a/model"]
    credential = "key"
"#;
