//! Reports of single tests, in the CTRF format. They are shown, never scored.

use serde::{Deserialize, Serialize};

/// The tests that a verifier ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Each test.
    pub tests: Vec<TestCase>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCase {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: TestStatus,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was left out.
    Skipped,
    /// It has not been run.
    Pending,
    /// Something else.
    #[serde(other)]
    Other,
}

impl Report {
    /// Reads a `ctrf.json`; `None` when it is none. At most 10,000 tests are taken, 2,000 characters of each message.
    pub fn from_ctrf(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct File {
            results: Results,
        }
        #[derive(Deserialize)]
        struct Results {
            tests: Vec<TestCase>,
        }
        let file: File = serde_json::from_slice(bytes).ok()?;
        let mut tests = file.results.tests;
        tests.truncate(MAX_TESTS);
        for test in &mut tests {
            if let Some(message) = &mut test.message {
                *message = message.chars().take(MAX_MESSAGE).collect();
            }
        }
        Some(Self { tests })
    }

    /// How many tests ended that way.
    pub fn count(&self, status: TestStatus) -> usize {
        self.tests.iter().filter(|test| test.status == status).count()
    }
}

const MAX_TESTS: usize = 10_000;
const MAX_MESSAGE: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrf_is_read_and_anything_else_is_not() {
        let text = br#"{"results":{"tool":{"name":"pytest"},"tests":[
            {"name":"a","status":"passed","duration":1},{"name":"b","status":"failed","message":"x"},
            {"name":"c","status":"flaky"}]}}"#;
        let report = Report::from_ctrf(text).unwrap();
        assert_eq!(report.count(TestStatus::Passed), 1);
        assert_eq!(report.tests[1].message.as_deref(), Some("x"));
        assert_eq!(report.tests[2].status, TestStatus::Other);
        assert_eq!(Report::from_ctrf(b"{}"), None);
    }
}
