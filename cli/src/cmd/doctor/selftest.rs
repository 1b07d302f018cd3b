//! The proxy's self-test, run in a sandbox as its workload, and what it found.

use assay_engine::Engine;
use assay_screener::trial::Trial;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::error::Error;

/// One line of the self-test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) row: String,
    pub(super) what: String,
    pub(super) verdict: String,
    pub(super) detail: String,
}

/// Rows that have no probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LeftOut {
    pub(super) why: String,
    pub(super) rows: Vec<String>,
}

/// What it tried, and what it did not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) tried: Vec<Found>,
    pub(super) not_tried: Vec<LeftOut>,
}

/// Runs it where the program lies in the sandbox.
pub(super) async fn run<E: Engine>(trial: &Trial<'_, E>, program: &str) -> Result<Report, Error> {
    let (text, _) = trial
        .output(&[program, "selftest", "--json"])
        .await
        .map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| {
        let text = String::from_utf8_lossy(&text);
        Error::Failed(format!("the self-test said something else ({error}): {text}"))
    })
}
