//! Reports of single tests, as CTRF or `JUnit` files. They are shown, never scored.

mod junit;

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
    /// Reads a file that a verifier left, by the end of its name; `None` when it is no report. At most 10,000 tests are
    /// taken, 2,000 characters of each message.
    pub fn read(name: &str, bytes: &[u8]) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "json" => Self::from_ctrf(bytes),
            "xml" => junit::read(bytes).map(Self::capped),
            _ => None,
        }
    }

    /// Reads a `ctrf.json`.
    fn from_ctrf(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct File {
            results: Results,
        }
        #[derive(Deserialize)]
        struct Results {
            tests: Vec<TestCase>,
        }
        let file: File = serde_json::from_slice(bytes).ok()?;
        Some(Self::capped(file.results.tests))
    }

    fn capped(mut tests: Vec<TestCase>) -> Self {
        tests.truncate(MAX_TESTS);
        for test in &mut tests {
            test.name = test.name.chars().take(MAX_MESSAGE).collect();
            if let Some(message) = &mut test.message {
                *message = message.chars().take(MAX_MESSAGE).collect();
            }
        }
        Self { tests }
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
        let report = Report::read("ctrf.json", text).unwrap();
        assert_eq!(report.count(TestStatus::Passed), 1);
        assert_eq!(report.tests[1].message.as_deref(), Some("x"));
        assert_eq!(report.tests[2].status, TestStatus::Other);
        assert_eq!(Report::read("reward.json", br#"{"reward": 1}"#), None);
        assert_eq!(Report::read("notes.txt", text), None);
    }
}
