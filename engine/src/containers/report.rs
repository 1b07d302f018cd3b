//! Waits for the line by which init says that the packet rules are proven.

use assay_core::control::init::InitReport;
use bollard::{
    container::LogOutput,
    query_parameters::{AttachContainerOptions, LogsOptions},
};
use futures_util::{StreamExt as _, stream::BoxStream};

use super::{
    Containers, death,
    fault::fault,
    place::{Placed, start},
};
use crate::Error;

type Outputs<'a> = BoxStream<'a, Result<LogOutput, bollard::errors::Error>>;

/// More than this before the report is no report.
const MAX_BYTES: usize = 64 << 10;

/// Starts init and waits until the rules are proven.
///
/// Attached before the start: the line arrives when it is written, whatever the log driver does.
pub(super) async fn prove(engine: &Containers, init: &Placed) -> Result<InitReport, Error> {
    let mut outputs = if init.running {
        written(engine, &init.id)
    } else {
        attach(engine, &init.id).await?
    };
    start(engine, init).await?;
    let mut printed = Vec::new();
    while let Some(output) = outputs.next().await {
        let output = output.map_err(|error| fault("read from init", &error))?;
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

async fn attach<'a>(engine: &'a Containers, init: &str) -> Result<Outputs<'a>, Error> {
    let options = AttachContainerOptions {
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let attached = engine.docker.attach_container(init, Some(options)).await;
    let attached = attached.map_err(|error| fault("attach to init", &error))?;
    Ok(attached.output)
}

/// What an init that runs already has printed, and goes on to print.
fn written<'a>(engine: &'a Containers, init: &str) -> Outputs<'a> {
    let options = LogsOptions {
        follow: true,
        stdout: true,
        tail: "all".to_owned(),
        ..LogsOptions::default()
    };
    engine.docker.logs(init, Some(options)).boxed()
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
