//! `logs`: what the programs of a run printed, or the proxy's audit.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use assay_core::{
    control::{proxy::AuditLine, runner::Stream},
    id::AttemptId,
    phase::Phase,
    wire::people::{Output, Run},
};

use super::{Context, get};
use crate::{
    api::Api,
    args::{LogsArgs, StreamName},
    error::Error,
    follow::is_ended,
    tables,
};

/// Prints output or the audit.
pub(super) async fn logs(context: &Context, args: &LogsArgs) -> Result<(), Error> {
    let api = context.api()?;
    if args.proxy {
        audit(context, &api, args).await
    } else {
        output(context, &api, args).await
    }
}

async fn output(context: &Context, api: &Api, args: &LogsArgs) -> Result<(), Error> {
    let mut printed: BTreeMap<(AttemptId, u32, Phase, &'static str), u64> = BTreeMap::new();
    let mut last = None;
    let (mut followed, mut stored) = (None, 0);
    loop {
        // The state is asked for before the output: what came until the end is printed then.
        let run = api.run(args.run).await?;
        let mut is_news = false;
        if let Some(attempt) = attempt_of(api, &run, args.attempt).await? {
            if followed.replace(attempt) != Some(attempt) {
                stored = 0;
            }
            let patience = if args.follow { PATIENCE } else { Duration::ZERO };
            let streams = api.outputs(attempt, stored, patience).await?;
            let bytes = streams.iter().map(|stream| stream.bytes).sum();
            is_news = bytes > stored;
            stored = bytes;
            for stream in streams.into_iter().filter(|stream| is_wanted(args, stream)) {
                let key = (attempt, stream.step, stream.phase, stream.stream.name());
                let from = printed.entry(key).or_default();
                if *from < stream.bytes && last != Some(key) {
                    heading(context, &stream);
                    last = Some(key);
                }
                *from = copy(context, api, attempt, &stream, *from).await?;
            }
        }
        if is_ended(run.state) || !args.follow {
            if printed.is_empty() {
                context.screen.note(format!(
                    "nothing was printed so far; `assay why {}` says where the run is",
                    run.id
                ));
            }
            return Ok(());
        }
        if !is_news {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

/// The attempt of that number, or the last one; `None` before the first claim.
async fn attempt_of(api: &Api, run: &Run, number: Option<u32>) -> Result<Option<AttemptId>, Error> {
    let Some(number) = number else {
        return Ok(run.attempt);
    };
    let attempts = api.attempts(run.id).await?;
    match attempts.iter().find(|attempt| attempt.number == number) {
        Some(attempt) => Ok(Some(attempt.id)),
        None => Err(Error::NoInput(format!(
            "run {} has {} attempts",
            run.id,
            attempts.len()
        ))),
    }
}

fn is_wanted(args: &LogsArgs, output: &Output) -> bool {
    let stream = match args.stream {
        None => true,
        Some(StreamName::Stdout) => output.stream == Stream::Stdout,
        Some(StreamName::Stderr) => output.stream == Stream::Stderr,
    };
    stream
        && args.phase.is_none_or(|phase| phase == output.phase)
        && args.step.is_none_or(|step| step == output.step + 1)
}

/// Headings go to standard error, so that a pipe gets the bytes alone.
fn heading(context: &Context, output: &Output) {
    context.screen.note(format!(
        "── step {} · {} · {}",
        output.step + 1,
        output.phase,
        output.stream.name()
    ));
}

async fn copy(
    context: &Context,
    api: &Api,
    attempt: AttemptId,
    output: &Output,
    from: u64,
) -> Result<u64, Error> {
    let mut offset = from;
    while offset < output.bytes {
        let stretch = api
            .output(attempt, (output.step, output.phase, output.stream), offset)
            .await?;
        if context.screen.json {
            context.screen.document(&serde_json::json!({
                "step": output.step + 1, "phase": output.phase, "stream": output.stream.name(),
                "offset": offset, "text": String::from_utf8_lossy(&stretch.bytes),
            }))?;
        } else if output.stream == Stream::Stderr && !context.screen.is_terminal {
            std::io::stderr().write_all(&stretch.bytes).unwrap_or_default();
        } else {
            context.screen.untrusted(&stretch.bytes)?;
        }
        if stretch.next_offset <= offset {
            break;
        }
        offset = stretch.next_offset;
    }
    Ok(offset)
}

async fn audit(context: &Context, api: &Api, args: &LogsArgs) -> Result<(), Error> {
    loop {
        let run = api.run(args.run).await?;
        let lines = match attempt_of(api, &run, args.attempt).await? {
            Some(attempt) => audit_lines(api, attempt).await?,
            None => Vec::new(),
        };
        if is_ended(run.state) || !args.follow {
            if context.screen.json {
                return lines.iter().try_for_each(|line| context.screen.document(line));
            }
            if lines.is_empty() {
                context
                    .screen
                    .note("the proxy decided nothing so far; its audit is stored when the attempt ends");
                return Ok(());
            }
            return context.screen.line(tables::audit(&lines));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The audit of an attempt, over all its sandboxes. A line that cannot be read is left out.
pub(super) async fn audit_lines(api: &Api, attempt: AttemptId) -> Result<Vec<AuditLine>, Error> {
    let artifacts = api.artifacts(attempt).await?;
    let mut lines = Vec::new();
    for artifact in artifacts.iter().filter(|artifact| is_audit(&artifact.name)) {
        let content = get::read(api, std::slice::from_ref(artifact), &artifact.name)
            .await?
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        lines.extend(
            text.lines()
                .filter_map(|line| serde_json::from_str::<AuditLine>(line).ok()),
        );
    }
    Ok(lines)
}

/// `audit.jsonl`, and with a prefix those of the other sandboxes of an attempt.
fn is_audit(name: &str) -> bool {
    name == "audit.jsonl" || name.strip_suffix("-audit.jsonl").is_some()
}

/// How long the API may keep us waiting for output.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
