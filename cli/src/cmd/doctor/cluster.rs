//! `doctor --cluster`: shows of a Kubernetes cluster whether its walls hold and whether what an installation needs is there.
//!
//! Each row is seen and not read from a setting where that can be: pods that must be refused are offered to the API server
//! (dry run), a sandbox that serves no run looks for ways out, an upload is begun at the registry.

mod services;
mod settings;
mod walls;

use assay_engine::kubernetes::Inspector;
use serde::Serialize;

use super::failed;
use crate::{args::DoctorArgs, cmd::Context, error::Error};

/// One row of the table.
#[derive(Debug, Serialize)]
struct Seen {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It is as it has to be.
    Ok,
    /// It is not: no untrusted program should run here.
    Missing,
    /// It could not be seen from here.
    Untried,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "MISSING",
            Self::Untried => "untried",
        }
    }
}

fn seen(what: &'static str, verdict: Verdict, detail: impl Into<String>) -> Seen {
    Seen {
        what,
        verdict,
        detail: detail.into(),
    }
}

/// Good, or missing with the words of the error.
fn of<T: Into<String>>(what: &'static str, result: Result<T, impl std::fmt::Display>) -> Seen {
    match result {
        Ok(detail) => seen(what, Verdict::Ok, detail),
        Err(error) => seen(what, Verdict::Missing, error.to_string()),
    }
}

/// Looks at everything, prints the table, fails when something is missing.
pub(super) async fn look(context: &Context, args: &DoctorArgs) -> Result<(), Error> {
    let access = settings::access(&args.at);
    let inspector = Inspector::connect(&access).await.map_err(failed)?;
    let version = inspector.version().await.map_err(failed)?;
    let system = args.at.system_namespace.as_str();
    let settings = settings::of(&inspector, access, system, &args.screener).await?;
    let mut rows = vec![seen("API server", Verdict::Ok, version)];
    rows.extend(Box::pin(walls::look(&inspector, &settings)).await);
    rows.push(services::pod_pids(&inspector, &settings).await);
    rows.extend(services::registry(&inspector, &settings).await);
    rows.push(services::scaler(&inspector, system).await);
    rows.extend(services::of_api(context, &inspector).await);
    show(context, &rows)
}

fn show(context: &Context, rows: &[Seen]) -> Result<(), Error> {
    if context.screen.json {
        context.screen.document(&rows)?;
    } else {
        let lines = rows.iter().map(|row| {
            vec![
                row.verdict.word().to_owned(),
                row.what.to_owned(),
                row.detail.clone(),
            ]
        });
        context.screen.table(&["", "what", "detail"], lines.collect())?;
    }
    let missing: Vec<_> = rows
        .iter()
        .filter(|row| row.verdict == Verdict::Missing)
        .map(|row| row.what)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "{} of {} checks failed: {}",
        missing.len(),
        rows.len(),
        missing.join(", ")
    )))
}
