//! `doctor --sandbox`: starts a sandbox, runs the proxy's self-test in it as the workload, and shows what it found.

use std::path::Path;

use assay_core::phase::EgressPhase;
use assay_engine::Resources;
use assay_screener::trial::Trial;

use super::{
    failed,
    selftest::{self, Found, Report},
};
use crate::{args::DoctorArgs, cmd::Context, error::Error, up};

/// Tries the known ways out from inside, and fails when one is open.
pub(super) async fn try_ways_out(context: &Context, args: &DoctorArgs) -> Result<(), Error> {
    let found = up::engine::find(args.docker_host.as_deref()).await?;
    let programs = up::sandbox::find(args.sandbox_bin.as_deref())?.folder;
    let owner = format!("doctor-{}", std::process::id());
    let engine = up::screener::connect(found.socket, owner, programs.clone())
        .await
        .map_err(failed)?;
    let trial = Trial::start(&engine, &args.image, EgressPhase::Setup, USUAL)
        .await
        .map_err(failed)?;
    let tar = packed(&programs.join("assay-proxy")).map_err(failed)?;
    let put = trial.runner.put_files("/tmp", None, tar.path()).await;
    let tried = match put {
        Ok(_) => selftest::run(&trial, "/tmp/assay-proxy").await,
        Err(error) => Err(failed(error)),
    };
    trial.end().await.map_err(failed)?;
    show(context, &tried?)
}

fn show(context: &Context, report: &Report) -> Result<(), Error> {
    if context.screen.json {
        context.screen.document(report)?;
    } else {
        let rows = report.tried.iter().map(|found| {
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
        context.screen.line("")?;
        let left = report.not_tried.iter();
        let left = left.map(|left| vec![left.why.clone(), left.rows.join(" ")]);
        context
            .screen
            .table(&["not tried, because it", "rows"], left.collect())?;
    }
    match report
        .tried
        .iter()
        .filter(|found| found.verdict == "open")
        .count()
    {
        0 => Ok(()),
        open => Err(Error::Failed(format!(
            "{open} of {} ways out are open",
            report.tried.len()
        ))),
    }
}

fn packed(program: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut tar = tar::Builder::new(tempfile::NamedTempFile::new()?);
    // A program may have holes, and the runner takes plain files only.
    tar.sparse(false);
    tar.append_path_with_name(program, "assay-proxy")?;
    tar.into_inner()
}

/// What a small task has.
const USUAL: Resources = Resources {
    cpu_milli: 1_000,
    memory_bytes: 512 << 20,
    pids: 256,
    disk_bytes: 1 << 30,
};
