//! Finds the socket of a container engine that answers: Docker's or Podman's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::error::Error;

/// An engine that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its unix socket.
    pub socket: PathBuf,
    /// What it calls itself, e.g. `Docker/20.10.24 (linux)`.
    pub version: String,
}

/// The engine at `address` (`unix:///…` or a path), or the first of the usual places that answers.
///
/// # Errors
/// None answers, or the address is no unix socket.
pub async fn find(address: Option<&str>) -> Result<Engine, Error> {
    let places = match address {
        Some(address) => vec![socket(address)?],
        None => usual_places(),
    };
    for socket in &places {
        if let Some(version) = ask(socket).await {
            let socket = socket.clone();
            return Ok(Engine { socket, version });
        }
    }
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Error::Unavailable(format!(
        "no container engine answers at {}; start Docker or `podman system service`, or name its socket by --docker-host",
        places.join(", ")
    )))
}

/// Sandboxes are reached on 127.0.0.1, so the engine has to run on this machine.
fn socket(address: &str) -> Result<PathBuf, Error> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(Error::Usage(format!(
            "{address:?} is no unix socket of this machine; want unix:///path/to/docker.sock"
        )))
    }
}

fn usual_places() -> Vec<PathBuf> {
    let user = nix::unistd::getuid();
    vec![
        PathBuf::from("/var/run/docker.sock"),
        PathBuf::from(format!("/run/user/{user}/docker.sock")),
        PathBuf::from("/run/podman/podman.sock"),
        PathBuf::from(format!("/run/user/{user}/podman/podman.sock")),
    ]
}

/// The `Server` header of `GET /_ping`, within two seconds.
async fn ask(socket: &Path) -> Option<String> {
    let answer = async { ping(UnixStream::connect(socket).await.ok()?).await };
    tokio::time::timeout(Duration::from_secs(2), answer).await.ok()?
}

async fn ping<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Option<String> {
    stream
        .write_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
        .await
        .ok()?;
    let mut head = Vec::new();
    stream.take(8 << 10).read_to_end(&mut head).await.ok()?;
    version(&String::from_utf8_lossy(&head))
}

fn version(head: &str) -> Option<String> {
    let mut lines = head.lines();
    lines.next()?.contains(" 200").then_some(())?;
    let server = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("server")
            .then(|| value.trim().to_owned())
    });
    Some(server.unwrap_or_else(|| "an engine".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_names_itself() {
        let head = "HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\n\r\nOK";
        assert_eq!(version(head).as_deref(), Some("Docker/20.10.24 (linux)"));
        assert_eq!(version("HTTP/1.0 200 OK\r\n\r\nOK").as_deref(), Some("an engine"));
        assert_eq!(version("HTTP/1.0 503 No\r\n\r\n"), None);
        assert_eq!(version(""), None);
    }

    #[tokio::test]
    async fn a_socket_where_nobody_listens_is_named_in_the_advice() {
        let error = find(Some("unix:///does/not/exist.sock")).await.unwrap_err();
        assert!(error.to_string().contains("/does/not/exist.sock"), "{error}");
        assert_eq!(error.exit_code(), 69);
    }

    #[tokio::test]
    async fn an_engine_on_another_machine_is_refused() {
        assert_eq!(
            find(Some("tcp://10.0.0.1:2375")).await.unwrap_err().exit_code(),
            64
        );
    }
}
