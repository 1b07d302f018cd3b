//! `get --trajectory` and `get --recording`: the agent's model calls as the proxy recorded them.

use std::time::Duration;

use assay_core::{
    id::{AttemptId, RunId},
    phase::EgressPhase,
    recording,
    trajectory::{self, Subject},
    wire::channel::{Channel, Record, Sidecar},
};

use super::Context;
use crate::{api::Api, error::Error};

/// Prints the recording of an attempt, or the trajectory that it gives.
pub(super) async fn print(
    context: &Context,
    api: &Api,
    (run, attempt): (RunId, AttemptId),
    as_trajectory: bool,
) -> Result<(), Error> {
    let recorded = read(api, attempt).await?;
    if recorded.is_empty() {
        return Err(Error::NoInput(format!(
            "run {run} recorded no model call; its policy must say record = \"models\""
        )));
    }
    if !as_trajectory {
        return context.screen.bytes(&recorded);
    }
    let subject = subject(api, run, attempt).await?;
    let mut calls = recording::calls(&recorded);
    calls.retain(|call| call.phase == EgressPhase::Agent);
    let exported = trajectory::export(subject, &calls);
    let exported = exported.ok_or_else(|| Error::NoInput(format!("run {run} recorded no conversation")))?;
    context.screen.document(&exported)
}

/// The recording of the agent's sandbox, as far as it is stored.
async fn read(api: &Api, attempt: AttemptId) -> Result<Vec<u8>, Error> {
    let channel = Channel::Proxy(Sidecar::Main, Record::Recording);
    let (mut all, mut offset) = (Vec::new(), 0);
    for stream in api.outputs(attempt, 0, Duration::ZERO).await? {
        while stream.channel == channel && offset < stream.bytes {
            let stretch = api.output(attempt, (stream.step, channel), offset).await?;
            if stretch.next_offset <= offset {
                break;
            }
            all.extend_from_slice(&stretch.bytes);
            offset = stretch.next_offset;
        }
    }
    Ok(all)
}

async fn subject(api: &Api, run: RunId, attempt: AttemptId) -> Result<Subject, Error> {
    let evaluation = api.evaluation(api.run(run).await?.evaluation).await?;
    let agent = api.agent(evaluation.agent).await?;
    Ok(Subject {
        run: run.to_string(),
        attempt: attempt.to_string(),
        version: agent
            .digest
            .map_or_else(|| agent.contract.name().to_owned(), |digest| digest.to_string()),
        agent: agent.name,
    })
}
