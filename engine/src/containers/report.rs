//! Waits for the line by which init says that the packet rules are proven.

use assay_core::control::init::InitReport;
use bollard::{container::LogOutput, query_parameters::AttachContainerOptions};
use futures_util::StreamExt as _;

use super::{
    Containers, death,
    fault::fault,
    place::{Placed, start},
};
use crate::Error;

/// More than this before the report is no report.
const MAX_BYTES: usize = 64 << 10;

/// Starts init and waits until the rules are proven.
///
/// Attached before the start: the line arrives when it is written, whatever the log driver does.
pub(super) async fn prove(engine: &Containers, init: &Placed) -> Result<InitReport, Error> {
    let options = AttachContainerOptions {
        logs: init.running,
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let mut attached = engine
        .docker
        .attach_container(&init.id, Some(options))
        .await
        .map_err(|error| fault("attach to init", &error))?;
    start(engine, init).await?;
    let mut printed = Vec::new();
    while let Some(output) = attached.output.next().await {
        let output = output.map_err(|error| fault("attach to init", &error))?;
        if !matches!(output, LogOutput::StdOut { .. }) {
            continue;
        }
        printed.extend_from_slice(&output.into_bytes());
        if let Some(report) = report(&printed) {
            return Ok(report);
        }
        if printed.len() > MAX_BYTES {
            break;
        }
    }
    Err(died(engine, init).await?)
}

fn report(printed: &[u8]) -> Option<InitReport> {
    printed
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .find_map(|line| serde_json::from_slice(line).ok())
}

async fn died(engine: &Containers, init: &Placed) -> Result<Error, Error> {
    let code = death::wait(engine, &init.id).await?;
    Ok(Error::Died {
        container: init.role.name(),
        code,
        log: death::tail(engine, &init.id).await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"backend":"nft","ipv4":"proven","ipv6":"disabled","ruleset":"sha256:0","millis":12}"#;

    #[test]
    fn the_report_is_the_first_whole_line_that_reads_as_one() {
        assert!(report(LINE.as_bytes()).is_none(), "half a line is none");
        let found = report(format!("warning\n{LINE}\n").as_bytes()).unwrap();
        assert_eq!(found.millis, 12);
        assert!(report(b"warning\n").is_none());
    }
}
