//! Stored streams read back: stretches for readers, and the accounts that the proxies' streamed logs tell.

use assay_core::{
    id::AttemptId,
    ledger::{Book, log},
    phase::EgressPhase,
    recording::MOST_BYTES,
    wire::{
        channel::{Channel, Record},
        worker::Accounts,
    },
};

use crate::{
    app::App,
    code::Code,
    objects,
    refusal::Refusal,
    store::{
        self,
        outputs::{Body, Chunk, Name},
    },
};

/// A stretch from `offset` on, at most a MiB or so, and where it begins: later than asked where the middle was not kept.
pub async fn stretch(app: &App, name: Name, offset: u64) -> Result<(u64, Vec<u8>), Refusal> {
    let chunks = store::outputs::after(&app.pool, name, offset, CHUNKS_PER_ANSWER).await?;
    let Some(first) = chunks.first() else {
        return Ok((offset, Vec::new()));
    };
    let begin = first.offset.max(offset);
    let mut bytes = Vec::new();
    for chunk in chunks {
        let at = begin + u64::try_from(bytes.len()).unwrap_or(0);
        if chunk.offset > at || bytes.len() >= MAX_ANSWER_BYTES {
            break;
        }
        let skip = usize::try_from(at - chunk.offset).unwrap_or(usize::MAX);
        bytes.extend_from_slice(content(app, chunk).await?.get(skip..).unwrap_or_default());
    }
    Ok((begin, bytes))
}

/// What the streamed write-ahead logs of all proxies of an attempt say. Requests without an end count as unresolved.
pub async fn accounts(app: &App, attempt: AttemptId) -> Result<Accounts, Refusal> {
    let mut accounts = Accounts::default();
    for stream in store::outputs::streams(&app.pool, attempt).await? {
        let Channel::Proxy(_, Record::Ledger) = stream.channel else {
            continue;
        };
        let name = Name {
            attempt,
            step: stream.step,
            channel: stream.channel,
        };
        let mut book = Book::replay(&log::read(&whole(app, name).await?));
        book.close();
        accounts
            .agent
            .add(&book.ledger_of(|phase| phase != EgressPhase::Verify));
        accounts
            .verifier
            .add(&book.ledger_of(|phase| phase == EgressPhase::Verify));
    }
    Ok(accounts)
}

/// The recordings of all proxies of an attempt, one after the other; nothing where none was made.
pub async fn recording(app: &App, attempt: AttemptId) -> Result<Vec<u8>, Refusal> {
    let mut all = Vec::new();
    for stream in store::outputs::streams(&app.pool, attempt).await? {
        let Channel::Proxy(_, Record::Recording) = stream.channel else {
            continue;
        };
        let name = Name {
            attempt,
            step: stream.step,
            channel: stream.channel,
        };
        let bytes = whole(app, name).await?;
        // A proxy that died may have left half a line.
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        all.extend_from_slice(&bytes[..end]);
        if all.len() as u64 > MOST_BYTES {
            let detail =
                format!("the recordings of attempt {attempt} have more than {MOST_BYTES} bytes together");
            return Err(Refusal::new(Code::RecordingMissing, detail));
        }
    }
    Ok(all)
}

/// From the beginning to the first gap.
async fn whole(app: &App, name: Name) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    loop {
        let at = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (begin, more) = stretch(app, name, at).await?;
        if more.is_empty() || begin > at {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&more);
    }
}

async fn content(app: &App, chunk: Chunk) -> Result<Vec<u8>, Refusal> {
    let key = match chunk.body {
        Body::Inline(bytes) => return Ok(bytes),
        Body::Object(key) => key,
    };
    let Some(body) = app.objects.get(&key).await? else {
        tracing::error!(object = %key, "a stored chunk is missing in the object store");
        return Err(Refusal::internal());
    };
    // Every chunk was at most 256 KiB when it was taken.
    let whole = body
        .collect()
        .await
        .map_err(|error| objects::Error::File(error.into()))?;
    Ok(whole.to_vec())
}

/// Rows looked at for one answer.
const CHUNKS_PER_ANSWER: i64 = 64;
/// An answer ends with the chunk that reaches this.
const MAX_ANSWER_BYTES: usize = 1 << 20;
