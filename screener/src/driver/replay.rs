//! A run that is answered from a recording: fetches it, checks it, and hands it over to each proxy that starts.

use assay_engine::Engine;
use tokio::io::AsyncReadExt as _;

use super::{Driver, Halt, fetch::local, live::Live};
use crate::{
    evidence::Evidence,
    platform::{self, transfer},
};

impl<E: Engine> Driver<E> {
    /// Does nothing where the policy names no recording. A proxy that has it already takes nothing twice.
    pub(super) async fn hand_over_recording(&self, live: &Live) -> Result<(), Halt> {
        let Some(recording) = &self.assignment.replay else {
            return Ok(());
        };
        let path = self.folder.join("replay.jsonl");
        let fetched = transfer::fetch(&recording.url, recording.size_bytes, &path).await;
        let digest = match fetched {
            Err(platform::Error::TooLong { .. }) => None,
            result => Some(result?),
        };
        if digest != Some(recording.digest) {
            let message = "the stored recording is not the one that the policy names";
            return Err(Evidence::Bug(message.to_owned()).into());
        }
        let mut file = tokio::fs::File::open(&path).await.map_err(local(&path))?;
        let (mut from, mut ready) = (0, false);
        loop {
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            while piece.len() < PIECE {
                let room = PIECE - piece.len();
                let read = (&mut file).take(room as u64).read_buf(&mut piece).await;
                if read.map_err(local(&path))? == 0 {
                    break;
                }
            }
            if piece.is_empty() {
                break;
            }
            let length = piece.len() as u64;
            ready = live.load_replay(from, piece.freeze()).await?.ready;
            from += length;
        }
        tokio::fs::remove_file(&path).await.map_err(local(&path))?;
        if ready {
            Ok(())
        } else {
            Err(Evidence::Silent("the proxy has not taken the whole recording".to_owned()).into())
        }
    }
}

/// No control request of a proxy is larger.
const PIECE: usize = 48 << 10;
