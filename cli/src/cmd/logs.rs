//! `logs`: what the programs of a run printed, or the proxy's audit.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use assay_core::{
    control::{proxy::AuditLine, runner::Stream},
    id::AttemptId,
    wire::{
        channel::{Channel, Record, Sidecar},
        people::{Output, Run},
    },
};

use super::Context;
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
    let mut printed: BTreeMap<(AttemptId, u32, Channel), u64> = BTreeMap::new();
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
                let key = (attempt, stream.step, stream.channel);
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
pub(super) async fn attempt_of(
    api: &Api,
    run: &Run,
    number: Option<u32>,
) -> Result<Option<AttemptId>, Error> {
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
    let Channel::Printed(phase, stream) = output.channel else {
        return false;
    };
    let wanted = match args.stream {
        None => true,
        Some(StreamName::Stdout) => stream == Stream::Stdout,
        Some(StreamName::Stderr) => stream == Stream::Stderr,
    };
    wanted
        && args.phase.is_none_or(|wanted| wanted == phase)
        && args.step.is_none_or(|step| step == output.step + 1)
}

/// Headings go to standard error, so that a pipe gets the bytes alone.
fn heading(context: &Context, output: &Output) {
    context.screen.note(format!(
        "── step {} · {} · {}",
        output.step + 1,
        output.channel.phase(),
        output.channel.stream()
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
    let is_stderr = matches!(output.channel, Channel::Printed(_, Stream::Stderr));
    while offset < output.bytes {
        let stretch = api.output(attempt, (output.step, output.channel), offset).await?;
        if context.screen.json {
            context.screen.document(&serde_json::json!({
                "step": output.step + 1, "phase": output.channel.phase(), "stream": output.channel.stream(),
                "offset": offset, "text": String::from_utf8_lossy(&stretch.bytes),
            }))?;
        } else if is_stderr && !context.screen.is_terminal {
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
    let mut audits = Audits::default();
    let mut told = false;
    loop {
        // The state is asked for before the lines: what was decided until the end is printed then.
        let run = api.run(args.run).await?;
        let lines = match attempt_of(api, &run, args.attempt).await? {
            Some(attempt) => audits.read(api, attempt).await?,
            None => Vec::new(),
        };
        if context.screen.json {
            lines.iter().try_for_each(|line| context.screen.document(line))?;
        } else if !lines.is_empty() {
            context.screen.line(tables::audit(&lines, !told))?;
        }
        told |= !lines.is_empty();
        if is_ended(run.state) || !args.follow {
            if !told && !context.screen.json {
                context.screen.note("the proxy decided nothing so far");
            }
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The audit of an attempt so far, over all its sandboxes.
pub(super) async fn audit_lines(api: &Api, attempt: AttemptId) -> Result<Vec<AuditLine>, Error> {
    Audits::default().read(api, attempt).await
}

/// How much of each audit was read, and the line that is not whole yet.
#[derive(Debug, Default)]
struct Audits(BTreeMap<(AttemptId, u32, Sidecar), (u64, Vec<u8>)>);

impl Audits {
    /// The lines that came since. One that cannot be read is left out.
    async fn read(&mut self, api: &Api, attempt: AttemptId) -> Result<Vec<AuditLine>, Error> {
        let mut lines = Vec::new();
        for stream in api.outputs(attempt, 0, Duration::ZERO).await? {
            let Channel::Proxy(sidecar, Record::Audit) = stream.channel else {
                continue;
            };
            let (offset, rest) = self.0.entry((attempt, stream.step, sidecar)).or_default();
            while *offset < stream.bytes {
                let stretch = api
                    .output(attempt, (stream.step, stream.channel), *offset)
                    .await?;
                if stretch.next_offset <= *offset {
                    break;
                }
                rest.extend_from_slice(&stretch.bytes);
                *offset = stretch.next_offset;
            }
            let whole = rest
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            let text: Vec<u8> = rest.drain(..whole).collect();
            let parsed = text.split(|byte| *byte == b'\n');
            lines.extend(parsed.filter_map(|line| serde_json::from_slice::<AuditLine>(line).ok()));
        }
        Ok(lines)
    }
}

/// How long the API may keep us waiting for output.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
