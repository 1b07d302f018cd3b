//! Log lines say which request, run, attempt and fence they are about.

use assay_core::cause::Cause;
use assay_runtime::telemetry;
use serde_json::Value;

use crate::{evidence::held, stage::stage};

// One thread, so that this subscriber is the servers', too.
#[tokio::test]
async fn a_line_of_a_workers_call_says_what_it_is_about() {
    let lines = tempfile::NamedTempFile::new().unwrap();
    let guard = tracing::subscriber::set_default(telemetry::json_lines("info", lines.reopen().unwrap()));
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    stage.finish(&held, Cause::Completed).await;
    drop(guard);
    let text = std::fs::read_to_string(lines.path()).unwrap();
    let line: Value = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|line: &Value| line["fields"]["message"] == "an attempt ended")
        .unwrap();
    let span = &line["span"];
    assert_eq!(span["run.id"], held.run.to_string());
    assert_eq!(span["attempt.id"], held.attempt.to_string());
    assert_eq!(span["fence"], held.fence.0);
    assert!(span["request.id"].as_str().unwrap().len() == 36, "{line}");
}
