//! The single tests of a run's verifier, as `why` shows them.

use assay_core::{
    id::AttemptId,
    reward::{Report, TestStatus},
};

use super::get;
use crate::{api::Api, error::Error};

/// The reports of an attempt, one for each step that left one.
pub(super) async fn of_attempt(api: &Api, attempt: AttemptId) -> Result<Vec<Report>, Error> {
    let artifacts = api.artifacts(attempt).await?;
    let mut reports = Vec::new();
    for artifact in artifacts
        .iter()
        .filter(|artifact| artifact.name.ends_with("tests.json"))
    {
        let content = get::read(api, &artifacts, &artifact.name).await?;
        let report = content.and_then(|content| serde_json::from_slice(&content).ok());
        reports.extend(report);
    }
    Ok(reports)
}

/// How many passed, and the first that failed with the beginning of what they said.
pub(super) fn lines(reports: &[Report]) -> Vec<String> {
    let mut lines = Vec::new();
    for report in reports {
        let failed = report.count(TestStatus::Failed);
        lines.push(format!(
            "tests: {} passed, {failed} failed, {} in all",
            report.count(TestStatus::Passed),
            report.tests.len()
        ));
        let failures = report
            .tests
            .iter()
            .filter(|test| test.status == TestStatus::Failed);
        for test in failures.take(MOST_FAILURES) {
            let message = test.message.as_deref().unwrap_or_default();
            let first: String = message
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(100)
                .collect();
            lines.push(format!("  failed  {}  {first}", test.name).trim_end().to_owned());
        }
    }
    lines
}

const MOST_FAILURES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_with_the_beginning_of_what_they_said() {
        let text = r#"{"tests":[{"name":"a","status":"passed"},{"name":"b","status":"failed","message":"1 != 2\nmore"},
            {"name":"c","status":"skipped"},{"name":"d","status":"failed"}]}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!(
            lines(&[report]),
            [
                "tests: 1 passed, 2 failed, 4 in all",
                "  failed  b  1 != 2",
                "  failed  d"
            ]
        );
    }
}
