//! Finds the socket of a container engine that answers: Docker's or Podman's.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::error::Error;

/// An engine that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `unix://…` or `tcp://…`.
    pub address: String,
    /// What it calls itself, e.g. `Docker/20.10.24 (linux)`.
    pub version: String,
}

/// The engine at `address`, or the first of the usual places that answers.
///
/// # Errors
/// None answers.
pub async fn find(address: Option<&str>) -> Result<Engine, Error> {
    let places = match address {
        Some(address) => vec![address.to_owned()],
        None => usual_places(),
    };
    for address in &places {
        if let Some(version) = ask(address).await {
            let address = address.clone();
            return Ok(Engine { address, version });
        }
    }
    Err(Error::Unavailable(format!(
        "no container engine answers at {}; start Docker or `podman system service`, or name its socket by --docker-host",
        places.join(", ")
    )))
}

fn usual_places() -> Vec<String> {
    let user = nix::unistd::getuid();
    vec![
        "unix:///var/run/docker.sock".to_owned(),
        format!("unix:///run/user/{user}/docker.sock"),
        "unix:///run/podman/podman.sock".to_owned(),
        format!("unix:///run/user/{user}/podman/podman.sock"),
    ]
}

/// The `Server` header of `GET /_ping`, within two seconds.
async fn ask(address: &str) -> Option<String> {
    let answer = async {
        if let Some(path) = address.strip_prefix("unix://") {
            return ping(UnixStream::connect(Path::new(path)).await.ok()?).await;
        }
        let host = address
            .strip_prefix("tcp://")
            .or_else(|| address.strip_prefix("http://"))?;
        ping(TcpStream::connect(host).await.ok()?).await
    };
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
}
