//! `doctor`: checks this machine and the API, and says what to do.

mod cluster;
mod sandbox;
mod selftest;

use serde::Serialize;

use super::Context;
use crate::{args::DoctorArgs, error::Error, up};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    detail: String,
}

/// Looks at everything, then fails if something is missing.
pub(super) async fn doctor(context: &Context, args: &DoctorArgs) -> Result<(), Error> {
    if args.cluster {
        return Box::pin(cluster::look(context, args)).await;
    }
    if args.sandbox {
        return sandbox::try_ways_out(context, args).await;
    }
    let engine = up::engine::find(args.docker_host.as_deref()).await;
    let mut findings = vec![
        finding(
            "container engine",
            engine.map(|engine| format!("{} at {}", engine.version, engine.socket.display())),
        ),
        finding(
            "sandbox programs",
            up::sandbox::find(args.sandbox_bin.as_deref()).map(|found| found.folder.display().to_string()),
        ),
        finding(
            "PostgreSQL",
            up::postgres::programs(None).map(|found| found.display().to_string()),
        ),
        finding("git", found_in_path("git", "apt-get install git")),
    ];
    findings.extend(api(context).await);
    if context.screen.json {
        context.screen.document(&findings)?;
    } else {
        let rows = findings.iter().map(|finding| {
            let mark = if finding.ok { "ok" } else { "MISSING" };
            vec![mark.to_owned(), finding.what.to_owned(), finding.detail.clone()]
        });
        context.screen.table(&["", "what", "detail"], rows.collect())?;
    }
    let missing = findings.iter().filter(|finding| !finding.ok).count();
    match missing {
        0 => Ok(()),
        some => Err(Error::Failed(format!(
            "{some} of {} checks failed; each says what to do",
            findings.len()
        ))),
    }
}

async fn api(context: &Context) -> Vec<Finding> {
    let api = match context.api() {
        Ok(api) => api,
        Err(error) => return vec![finding("API", Err(error))],
    };
    let version = api.version().await.map(|version| {
        let ours = assay_core::version::BAKED_COMMIT;
        let same = if version.commit == ours {
            "the same commit as this program"
        } else {
            "another commit than this program's"
        };
        format!("{} version {}, {same}", api.address(), version.version)
    });
    vec![
        finding("API", version),
        finding(
            "key",
            api.evaluations(1)
                .await
                .map(|_| format!("profile {} opens it", context.global.profile)),
        ),
    ]
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}

fn found_in_path(program: &str, advice: &str) -> Result<String, Error> {
    match up::postgres::in_path(program) {
        Some(path) => Ok(path.display().to_string()),
        None => Err(Error::Config(format!("{program} is not in PATH; {advice}"))),
    }
}

fn finding(what: &'static str, result: Result<String, Error>) -> Finding {
    match result {
        Ok(detail) => Finding {
            what,
            ok: true,
            detail,
        },
        Err(error) => Finding {
            what,
            ok: false,
            detail: error.to_string(),
        },
    }
}
