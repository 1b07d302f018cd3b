//! How fast the queue is: claim and complete through a real `assay-api` over HTTP, with a short and with a long queue.
//!
//! usage: queue ASSAY-API RUNS WINDOWS
//!
//! Ten tenants and three classes share `RUNS` queued runs. Workers of every class claim as many runs as a screener has slots
//! and report each of them. One window is 1,000 runs; its samples are the rate and the time of every claim. The same
//! number of windows is taken with a short queue first, so that a queue that slows down as it grows shows it.
//!
//! Workers that claim as fast as they are answered show the highest rate, and wait for each other. So the time of a claim
//! is taken once more at [`PACE`], where each worker begins a round at its time however long the last one took.
//! Prints JSON.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use assay_cli::{
    api::Api,
    bundle,
    profile::Profile,
    up::{
        objects::Objects,
        postgres::{self, Postgres},
    },
};
use assay_core::{
    agent::Contract,
    cause::Cause,
    control::proxy::Ledger,
    id::WorkerId,
    policy::Policy,
    wire::{
        WIRE, WIRE_OLDEST,
        people::{NewAgent, NewEvaluation, NewTask, Scope},
        worker::{Assignment, Claim, Claimed, Register, Registered, Report, ResourceUse},
    },
};
use assay_runtime::client::Client;
use http::Method;
use serde::Serialize;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, runs, windows] = arguments.as_slice() else {
        return Err("usage: queue ASSAY-API RUNS WINDOWS".into());
    };
    let (runs, windows) = (runs.parse::<u32>()?, windows.parse::<usize>()?);
    let folder = tempfile::Builder::new().prefix("assay-queue-").tempdir()?;
    // PostgreSQL runs as another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let bench = Bench::start(Path::new(program), folder.path()).await?;
    let idle_kib = bench.resident_kib()?;
    bench.queue(2 * drained(windows)).await?;
    let short = bench.measure(windows, None).await?;
    bench.queue(runs).await?;
    let long = bench.measure(windows, None).await?;
    let paced = bench.measure(windows, Some(PACE)).await?;
    let found = Found {
        idle_kib,
        loaded_kib: bench.resident_kib()?,
        short,
        long,
        paced,
    };
    bench.stop().await?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&found)?)?;
    Ok(())
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Found {
    /// Resident memory of the API before the first request, KiB.
    idle_kib: u64,
    /// And after the last.
    loaded_kib: u64,
    /// With twice as many runs queued as are taken.
    short: Samples,
    /// With all runs queued.
    long: Samples,
    /// The same at [`PACE`].
    paced: Samples,
}

#[derive(Debug, Default, Serialize)]
struct Samples {
    /// Claimed and completed, one figure a window.
    runs_per_second: Vec<f64>,
    /// Every claim, milliseconds.
    claim_ms: Vec<f64>,
}

/// A database, an object store, a real API process, and keys.
struct Bench {
    postgres: Postgres,
    objects: Objects,
    server: Child,
    base: String,
    client: Client,
    worker_key: Arc<str>,
    tenants: Vec<Api>,
}

impl Bench {
    async fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let postgres = Postgres::start(&postgres::programs(None)?, &folder.join("postgres")).await?;
        let objects = Objects::start(&folder.join("objects"), "assay").await?;
        let url = postgres.url();
        let pool = assay_api::connect(&url, 1).await?;
        assay_api::migrate(&pool).await?;
        let base = format!("http://127.0.0.1:{}", free_port()?);
        let server = serve(program, &url, &objects, &base)?;
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            let key =
                assay_api::create_key(&pool, &format!("tenant-{number}"), "bench", Scope::Admin).await?;
            tenants.push(Api::new(Profile::new(&base, &key)?));
        }
        let worker_key = assay_api::create_key(&pool, "operator", "bench", Scope::Worker)
            .await?
            .into();
        pool.close().await;
        let client = Client::new(Duration::from_secs(30));
        let first = tenants.first().ok_or("no tenants")?;
        let begun = Instant::now();
        while first.version().await.is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("the API does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            postgres,
            objects,
            server,
            base,
            client,
            worker_key,
            tenants,
        })
    }

    /// Queues about so many runs, the same number for each tenant and class.
    async fn queue(&self, runs: u32) -> Result<(), Failure> {
        let each = runs.div_ceil(TENANTS * u32::try_from(CLASSES.len())?);
        for api in &self.tenants {
            let new = submission(api).await?;
            for class in CLASSES {
                for (part, repeats) in parts(each).enumerate() {
                    let new = NewEvaluation {
                        class: class.to_owned(),
                        repeats,
                        ..new.clone()
                    };
                    let key = format!("{class}-{each}-{part}");
                    api.submit(&new, &key).await?;
                }
            }
        }
        Ok(())
    }

    /// Claims and completes `windows` times 1,000 runs, at so many runs a second or as fast as can be.
    async fn measure(&self, windows: usize, pace: Option<u32>) -> Result<Samples, Failure> {
        let mut workers = Vec::new();
        for class in CLASSES {
            for _ in 0..WORKERS_PER_CLASS {
                workers.push(self.register(class).await?);
            }
        }
        let mut samples = Samples::default();
        for _ in 0..windows {
            let begun = Instant::now();
            let mut set = JoinSet::new();
            let share = WINDOW.div_ceil(workers.len());
            let count = u32::try_from(workers.len())?;
            for (worker, turn) in workers.iter().zip(0..) {
                let every = pace.map(|pace| Duration::from_secs(1) * SLOTS * count / pace);
                set.spawn(worker.clone().work(share, Rounds::new(every, turn, count)));
            }
            let mut done = 0;
            while let Some(ended) = set.join_next().await {
                let (count, claims) = ended??;
                done += count;
                samples.claim_ms.extend(claims);
            }
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            samples
                .runs_per_second
                .push(done as f64 / begun.elapsed().as_secs_f64());
        }
        Ok(samples)
    }

    async fn register(&self, class: &str) -> Result<Worker, Failure> {
        let new = Register {
            name: format!("bench-{class}"),
            class: class.to_owned(),
            slots: SLOTS,
            engine: "containers".to_owned(),
            commit: "unknown".to_owned(),
            wire: WIRE,
            wire_oldest: WIRE_OLDEST,
        };
        let url = format!("{}/v1/workers", self.base);
        let registered: Registered = self
            .client
            .json(Method::POST, &url, Some(&self.worker_key), Some(&new))
            .await?;
        Ok(Worker {
            client: self.client.clone(),
            base: self.base.clone(),
            key: Arc::clone(&self.worker_key),
            id: registered.worker,
        })
    }

    fn resident_kib(&self) -> Result<u64, Failure> {
        let pid = self.server.id().ok_or("the API ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.server.kill().await?;
        self.objects.stop().await;
        self.postgres.stop().await;
        Ok(())
    }
}

/// One worker, with connections shared with the others.
#[derive(Clone)]
struct Worker {
    client: Client,
    base: String,
    key: Arc<str>,
    id: WorkerId,
}

impl Worker {
    /// Completes `share` runs; returns how many, and how long each claim took.
    async fn work(self, share: usize, mut rounds: Rounds) -> Result<(usize, Vec<f64>), Failure> {
        let (mut done, mut claims) = (0, Vec::new());
        let url = format!("{}/v1/workers/{}/claim", self.base, self.id);
        while done < share {
            rounds.next().await;
            let begun = Instant::now();
            let claimed: Claimed = self
                .client
                .json(
                    Method::POST,
                    &url,
                    Some(&self.key),
                    Some(&Claim {
                        slots: SLOTS,
                        fresh: None,
                    }),
                )
                .await?;
            claims.push(begun.elapsed().as_secs_f64() * 1000.0);
            if claimed.assignments.is_empty() {
                return Err("the queue ran dry".into());
            }
            done += claimed.assignments.len();
            for assignment in claimed.assignments {
                self.complete(&assignment).await?;
            }
        }
        Ok((done, claims))
    }

    async fn complete(&self, assignment: &Assignment) -> Result<(), Failure> {
        let report = Report {
            fence: assignment.fence,
            cause: Cause::Completed,
            detail: "bench".to_owned(),
            rewards: None,
            score: Some(1.0),
            verifier_mode: None,
            ledger: Ledger::default(),
            verifier_ledger: Ledger::default(),
            usage: ResourceUse::default(),
            replayed: false,
        };
        let url = format!("{}/v1/attempts/{}/report", self.base, assignment.attempt);
        let answer: Result<(), _> = self
            .client
            .json(Method::POST, &url, Some(&self.key), Some(&report))
            .await;
        Ok(answer?)
    }
}

/// When a worker begins its rounds.
struct Rounds(Option<tokio::time::Interval>);

impl Rounds {
    /// One each time; the turns of `count` workers lie evenly between. At once without a time.
    fn new(every: Option<Duration>, turn: u32, count: u32) -> Self {
        Self(every.map(|every| {
            let first = tokio::time::Instant::now() + every * turn / count;
            tokio::time::interval_at(first, every)
        }))
    }

    /// Waits for the next. One that is late begins at once, and the ones behind it keep their times.
    async fn next(&mut self) {
        if let Some(interval) = &mut self.0 {
            interval.tick().await;
        }
    }
}

/// A task and an agent of this tenant; class and repeats are filled in later.
async fn submission(api: &Api) -> Result<NewEvaluation, Failure> {
    let archive = bundle::pack(Path::new("examples/tasks/hello-file"))?;
    bundle::upload(api, &archive).await?;
    let name = "hello-file".to_owned();
    let task = api
        .register_task(&NewTask {
            digest: archive.digest,
            name,
        })
        .await?;
    let agent = api
        .register_agent(&NewAgent {
            name: "oracle".to_owned(),
            contract: Contract::Oracle,
            digest: None,
        })
        .await?;
    Ok(NewEvaluation {
        agent: agent.id,
        tasks: vec![task.digest],
        task_set: None,
        policy: Policy::default(),
        repeats: 1,
        class: String::new(),
        priority: 5,
        values: BTreeMap::new(),
        secrets: BTreeMap::new(),
    })
}

/// An evaluation repeats a task at most 1,000 times.
fn parts(runs: u32) -> impl Iterator<Item = u32> {
    (0..runs.div_ceil(1000)).map(move |part| (runs - part * 1000).min(1000))
}

/// What one measurement takes out of the queue, at least.
fn drained(windows: usize) -> u32 {
    u32::try_from(windows * WINDOW).unwrap_or(u32::MAX)
}

fn serve(program: &Path, database: &str, objects: &Objects, base: &str) -> Result<Child, Failure> {
    let listen = base.trim_start_matches("http://");
    Ok(Command::new(program)
        .arg("serve")
        .args(["--listen", listen, "--listen-internal", "127.0.0.1:0"])
        .env("DATABASE_URL", database)
        .env("S3_ENDPOINT", format!("http://{}", objects.address))
        .env("S3_ACCESS_KEY", &objects.access_key)
        .env("S3_SECRET_KEY", &objects.secret_key)
        .env("ASSAY_SEAL_KEY", "5e".repeat(32))
        .env("ASSAY_LOG", "warn")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?)
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

const TENANTS: u32 = 10;
const CLASSES: [&str; 3] = ["1", "2", "validator"];
const WORKERS_PER_CLASS: usize = 2;
/// What a screener has free when it claims.
const SLOTS: u32 = 4;
/// Runs a second that the queue has to bear.
const PACE: u32 = 500;
/// Runs of one window.
const WINDOW: usize = 1000;
