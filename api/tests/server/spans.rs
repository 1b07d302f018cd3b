//! Log lines say which request, run, attempt and fence they are about.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use assay_core::cause::Cause;
use assay_runtime::telemetry;
use serde_json::Value;

use crate::{evidence::held, stage::stage};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let lines = self.0.lock();
        lines
            .map_err(|_| std::io::Error::other("poisoned"))?
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// One thread, so that this subscriber is the servers', too.
#[tokio::test]
async fn a_line_of_a_workers_call_says_what_it_is_about() {
    let lines = Lines::default();
    let writer = lines.clone();
    let guard = tracing::subscriber::set_default(telemetry::json_lines("info", move || writer.clone()));
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    stage.finish(&held, Cause::Completed).await;
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
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
