//! What stands between screeners and the container daemon: it carries every byte on, and can keep back the request that
//! makes the last container of a sandbox. So a sandbox stays half made for as long as a suite wants.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use assay_core::id::RunId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

/// The gate. Dropping it lets nobody new pass.
#[derive(Debug)]
pub struct Gate {
    socket: PathBuf,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeSet<RunId>,
    held: BTreeSet<RunId>,
}

impl Gate {
    /// Listens on `socket`, before the daemon's own.
    pub fn before(daemon: PathBuf, socket: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let shared = Arc::<Shared>::default();
        let serving = tokio::spawn(serve(listener, daemon, Arc::clone(&shared)));
        Ok(Self {
            socket,
            shared,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Will keep back what makes main of this run's sandboxes.
    pub fn hold(&self, run: RunId) {
        self.shared.with(|state| state.wanted.insert(run));
    }

    /// Is it kept back now? Once it was, until [`Self::let_go`].
    pub fn holds(&self, run: RunId) -> bool {
        self.shared.read(|state| state.held.contains(&run))
    }

    /// Lets everything go on and holds nothing any more.
    pub fn let_go(&self) {
        self.shared.with(|state| *state = State::default());
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let answer = act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        answer
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The run that this request works for, if it is to be kept back.
    fn wants(&self, request: &[u8]) -> Option<RunId> {
        let text = String::from_utf8_lossy(request);
        let named = |run: &RunId| text.contains(&run.to_string());
        self.read(|state| state.wanted.iter().copied().find(named))
    }

    async fn until_let_go(&self, run: RunId) {
        loop {
            let changed = self.changed.notified();
            if !self.read(|state| state.wanted.contains(&run)) {
                return;
            }
            changed.await;
        }
    }
}

async fn serve(listener: UnixListener, daemon: PathBuf, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let (daemon, shared) = (daemon.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // However a connection ends, both sides see it end.
            drop(carry(client, &daemon, &shared).await);
        });
    }
}

/// Until the daemon has said its last. One that is not there closes at once, as its own socket does.
async fn carry(client: UnixStream, daemon: &Path, shared: &Shared) -> io::Result<()> {
    let (mut from_daemon, to_daemon) = UnixStream::connect(daemon).await?.into_split();
    let (from_client, mut to_client) = client.into_split();
    let asks = async {
        let asked = ask(from_client, to_daemon, shared).await;
        // A client that has nothing more to say may still listen.
        match asked {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        // cancel-safe: the connections end with this.
        error = asks => Err(error),
        answered = tokio::io::copy(&mut from_daemon, &mut to_client) => answered.map(|_| ()),
    }
}

async fn ask(mut client: OwnedReadHalf, mut daemon: OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = client.read(&mut piece).await?;
        if length == 0 {
            return daemon.shutdown().await;
        }
        if !makes_main(&piece[..length]) {
            daemon.write_all(&piece[..length]).await?;
            continue;
        }
        let request = whole(piece[..length].to_vec(), &mut client).await?;
        if let Some(run) = shared.wants(&request) {
            shared.with(|state| state.held.insert(run));
            tokio::select! {
                // cancel-safe: what is read here is an end, nobody speaks before the answer.
                _ = client.read(&mut piece) => return Err(io::ErrorKind::ConnectionAborted.into()),
                () = shared.until_let_go(run) => {}
            }
        }
        daemon.write_all(&request).await?;
    }
}

/// Does a request begin here that creates the main container of a sandbox? Clients wait for an answer before they ask
/// again, so a request begins where something is read.
fn makes_main(piece: &[u8]) -> bool {
    let line = piece.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let query = line
        .strip_prefix("POST ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|target| target.split_once("/containers/create?"));
    query.is_some_and(|(_, query)| {
        let mut names = query
            .split('&')
            .filter_map(|parameter| parameter.strip_prefix("name="));
        names.any(|name| name.starts_with("assay-") && name.ends_with("-main"))
    })
}

/// The request to the end of its body.
async fn whole(mut request: Vec<u8>, client: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; PIECE];
    while missing(&request) {
        let length = client.read(&mut piece).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&piece[..length]);
    }
    Ok(request)
}

fn missing(request: &[u8]) -> bool {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else { return true };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse::<usize>().ok());
    length.is_some_and(|length| request.len() < end + 4 + length)
}

const PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v1.41/containers/create?name=assay-0190-main HTTP/1.1\r\ncontent-length: 4\r\n";

    #[test]
    fn only_the_creation_of_main_is_looked_at() {
        assert!(makes_main(HEAD.as_bytes()));
        for other in [
            HEAD.replace("-main", "-proxy"),
            HEAD.replace("POST", "GET"),
            HEAD.replace("create?", "create/"),
            HEAD.replace("assay-", "other-"),
            "\u{1f}\u{8b} a piece of an archive".to_owned(),
        ] {
            assert!(!makes_main(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_request_is_whole_with_its_body() {
        let whole = format!("{HEAD}\r\n{{..}}");
        assert!(!missing(whole.as_bytes()));
        for end in 0..whole.len() {
            assert!(missing(&whole.as_bytes()[..end]), "{end}");
        }
    }
}
