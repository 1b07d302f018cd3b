//! `doctor --sandbox`: starts a sandbox, runs the proxy's self-test in it as the workload, and shows what it found.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::{
        runner::{Event, ExecLimits, Execute, Stream},
        signature::Signer,
    },
    id::{ExecId, Fence, SandboxId},
};
use assay_engine::{Engine as _, Sandbox, SandboxRef, trial};
use assay_runtime::control::RunnerClient;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{args::DoctorArgs, cmd::Context, error::Error, up};

/// One line of the self-test.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    row: String,
    what: String,
    verdict: String,
    detail: String,
}

/// Tries the known ways out from inside, and fails when one is open.
pub(super) async fn try_ways_out(context: &Context, args: &DoctorArgs) -> Result<(), Error> {
    let found = up::engine::find(args.docker_host.as_deref()).await?;
    let programs = up::sandbox::find(args.sandbox_bin.as_deref())?.folder;
    let owner = format!("doctor-{}", std::process::id());
    let engine = up::screener::connect(found.socket, owner, programs.clone())
        .await
        .map_err(failed)?;
    let (seed, number) = (random::<32>()?, random::<10>()?);
    let sandbox = SandboxId::new(SystemClock.now(), number);
    let spec = trial::spec(sandbox, &args.image, &Signer::new(&seed));
    let name = SandboxRef { sandbox };
    let tried = match engine.create(&spec).await {
        Ok(created) => self_test(&created, sandbox, &seed, &programs).await,
        Err(error) => Err(failed(error)),
    };
    engine.destroy(&name).await.map_err(failed)?;
    show(context, &tried?)
}

fn show(context: &Context, findings: &[Found]) -> Result<(), Error> {
    if context.screen.json {
        context.screen.document(&findings)?;
    } else {
        let rows = findings.iter().map(|found| {
            let Found {
                row,
                what,
                verdict,
                detail,
            } = found;
            vec![row.clone(), verdict.clone(), what.clone(), detail.clone()]
        });
        context
            .screen
            .table(&["row", "verdict", "what", "detail"], rows.collect())?;
    }
    match findings.iter().filter(|found| found.verdict == "open").count() {
        0 => Ok(()),
        open => Err(Error::Failed(format!(
            "{open} of {} ways out are open",
            findings.len()
        ))),
    }
}

async fn self_test(
    created: &Sandbox,
    sandbox: SandboxId,
    seed: &[u8; 32],
    programs: &Path,
) -> Result<Vec<Found>, Error> {
    let runner = RunnerClient::new(created.runner, sandbox, Fence(1), seed);
    until_ready(&runner).await?;
    let tar = packed(&programs.join("assay-proxy")).map_err(failed)?;
    runner.put_files("/tmp", None, tar.path()).await.map_err(failed)?;
    let text = output(&runner, &["/tmp/assay-proxy", "selftest", "--json"]).await?;
    serde_json::from_slice(&text).map_err(|error| {
        let text = String::from_utf8_lossy(&text);
        Error::Failed(format!("the self-test said something else ({error}): {text}"))
    })
}

async fn until_ready(runner: &RunnerClient) -> Result<(), Error> {
    let end = Instant::now() + START;
    loop {
        match runner.health().await {
            Ok(health) if health.ready => return Ok(()),
            Ok(health) if Instant::now() > end => {
                return Err(Error::Failed(format!(
                    "the sandbox is not ready: {:?}",
                    health.reason
                )));
            }
            Err(error) if Instant::now() > end => return Err(failed(error)),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What a program prints; its exit code is in what it prints.
async fn output(runner: &RunnerClient, argv: &[&str]) -> Result<Vec<u8>, Error> {
    let request = Execute {
        exec: ExecId::new(SystemClock.now(), random()?),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        cwd: None,
        env: std::collections::BTreeMap::new(),
        user: None,
        stdin: false,
        limits: ExecLimits {
            wall_ms: 120_000,
            grace_ms: 1_000,
        },
        keep_survivors: false,
    };
    let mut events = runner.execute(&request).await.map_err(failed)?;
    let mut printed = Vec::new();
    while let Some(event) = events.next().await.map_err(failed)? {
        match event {
            Event::Output {
                stream: Stream::Stdout,
                data,
                ..
            } => printed.extend(STANDARD.decode(data).map_err(failed)?),
            Event::End(_) => break,
            Event::Started { .. } | Event::Gap { .. } | Event::Output { .. } => {}
        }
    }
    Ok(printed)
}

fn packed(program: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut tar = tar::Builder::new(tempfile::NamedTempFile::new()?);
    tar.append_path_with_name(program, "assay-proxy")?;
    tar.into_inner()
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}

const START: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);
