//! Copies between two connections, in both directions at once.
//!
//! All relays share one buffer, because a piece that was read is written in the same poll. What the other side does not
//! take at once is kept until it does, and nothing more is read before. So a connection that is idle costs no buffer.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Two directions and what went through them.
#[derive(Debug)]
pub struct Relay {
    up: Direction,
    down: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    /// Bytes that the other side took.
    passed: u64,
    /// Bytes that it did not take yet.
    kept: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// No more will come; the other side is still to be told.
    Ended,
    Closed,
}

impl Relay {
    /// That begins with what the client has sent already.
    pub fn beginning_with(first: Vec<u8>) -> Self {
        let up = Direction {
            kept: first,
            ..Direction::default()
        };
        Self {
            up,
            down: Direction::default(),
        }
    }

    /// Copies until both sides have ended, or one breaks. Each is given as what is read from and what is written to.
    pub async fn copy(
        &mut self,
        (mut from_client, mut to_client): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
        (mut from_server, mut to_server): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        poll_fn(|context| {
            let up = self.up.poll(context, &mut from_client, &mut to_server)?;
            let down = self.down.poll(context, &mut from_server, &mut to_client)?;
            match (up, down) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Bytes up and down that were passed on, also when it was cut.
    pub fn passed(&self) -> (u64, u64) {
        (self.up.passed, self.down.passed)
    }
}

impl Direction {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_kept(context, to))?;
            match self.state {
                State::Open => ready!(self.poll_piece(context, from, to))?,
                State::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what the other side did not take before.
    fn poll_kept(
        &mut self,
        context: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        let mut written = 0;
        while written < self.kept.len() {
            match Pin::new(&mut *to).poll_write(context, &self.kept[written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => written += length,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        self.passed += written as u64;
        if written == self.kept.len() {
            self.kept = Vec::new();
            return Poll::Ready(Ok(()));
        }
        self.kept.drain(..written);
        Poll::Pending
    }

    /// Reads one piece and writes as much of it as is taken at once.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut piece = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(context, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
            let written = match Pin::new(to).poll_write(context, piece) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.passed += written as u64;
            self.kept = piece[written..].to_vec();
            Poll::Ready(Ok(()))
        })
    }
}

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// As much as a connection on loopback delivers at once.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};

    use super::*;

    /// A relay between two ends that take `room` bytes at once; its task gives back what was passed.
    fn relay(first: &[u8], room: usize) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<(u64, u64)>) {
        let ((client, near), (far, server)) = (duplex(room), duplex(room));
        let first = first.to_vec();
        let task = tokio::spawn(async move {
            let mut relay = Relay::beginning_with(first);
            relay.copy(split(near), split(far)).await.unwrap();
            relay.passed()
        });
        (client, server, task)
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_all_bytes_arrive_in_order() {
        let (mut client, mut server, task) = relay(b"hello ", 7);
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let expected = [b"hello ", &sent[..]].concat();
        let writes = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let mut got = vec![0; expected.len()];
        server.read_exact(&mut got).await.unwrap();
        assert!(got == expected);
        drop(server);
        drop(writes.await.unwrap());
        assert_eq!(task.await.unwrap(), (expected.len() as u64, 0));
    }

    #[tokio::test]
    async fn one_side_may_end_while_the_other_still_talks() {
        let (mut client, mut server, task) = relay(b"", 64);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        server.write_all(b"a long answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(
            (question.as_str(), answer.as_str()),
            ("question", "a long answer")
        );
        assert_eq!(task.await.unwrap(), (8, 13));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_while_the_other_side_takes_nothing() {
        let (mut client, _server, _task) = relay(b"", 8);
        // Eight bytes wait at the server, eight are kept, eight wait at the client: a ninth write finds no room.
        client.write_all(&[0; 24]).await.unwrap();
        let more = tokio::time::timeout(std::time::Duration::from_millis(1), client.write_all(&[0; 1]));
        assert!(more.await.is_err());
    }
}
