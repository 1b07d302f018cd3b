//! `packages.example`: an index for package managers as files, and repositories behind git's own server.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::TlsAcceptor;

use super::{Record, Visit};
use crate::stage::address::PACKAGES;

type Answer = Response<Full<Bytes>>;

#[derive(Debug)]
struct Shop {
    folder: PathBuf,
    record: Record,
}

/// Serves `folder` by TLS, in the background.
pub(super) async fn serve(
    folder: PathBuf,
    config: Arc<rustls::ServerConfig>,
    record: Record,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::new(PACKAGES.into(), 443)).await?;
    let acceptor = TlsAcceptor::from(config);
    let shop = Arc::new(Shop { folder, record });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&shop)));
        }
    });
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shop: Arc<Shop>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let name = stream.get_ref().1.server_name().map(str::to_owned);
    let service = service_fn(move |request| {
        let (shop, name) = (Arc::clone(&shop), name.clone());
        async move { Ok::<_, Infallible>(shop.handle(request, name).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A caller that goes away in the middle is its own business.
    served.await.unwrap_or_default();
}

impl Shop {
    async fn handle(&self, request: Request<Incoming>, name: Option<String>) -> Answer {
        let (parts, body) = request.into_parts();
        self.record.visit(Visit {
            site: PACKAGES.into(),
            port: 443,
            name,
            text: format!("{} {}", parts.method, parts.uri),
        });
        let answer = match parts.uri.path().strip_prefix("/git") {
            Some(path) => self.repository(path, &parts, body).await,
            None => self.file(parts.uri.path()),
        };
        answer.unwrap_or_else(|error| {
            let mut answer = Response::new(Full::from(format!("{error:#}")));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        })
    }

    fn file(&self, path: &str) -> anyhow::Result<Answer> {
        let inside = Path::new(path.trim_start_matches('/'));
        let plain = inside
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        anyhow::ensure!(plain, "{path} leaves the folder");
        let mut file = self.folder.join(inside);
        if file.is_dir() {
            file.push("index.html");
        }
        let kind = match file.extension().and_then(|end| end.to_str()) {
            Some("html") => "text/html",
            Some(_) => "application/octet-stream",
            None => "application/json",
        };
        let mut answer = Response::new(Full::from(std::fs::read(&file).context("no such file")?));
        let kind = HeaderValue::from_static(kind);
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(answer)
    }

    /// By git's own program for web servers.
    async fn repository(&self, path: &str, parts: &Parts, body: Incoming) -> anyhow::Result<Answer> {
        let told = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        let mut git = Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", self.folder.join("git"))
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", path)
            .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
            .env("REQUEST_METHOD", parts.method.as_str())
            .env("CONTENT_TYPE", told(header::CONTENT_TYPE).unwrap_or_default())
            .env(
                "HTTP_CONTENT_ENCODING",
                told(header::CONTENT_ENCODING).unwrap_or_default(),
            )
            .env("CONTENT_LENGTH", body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = git.stdin.take().context("no input")?;
        input.write_all(&body).await?;
        drop(input);
        answer_of(&git.wait_with_output().await?.stdout)
    }
}

/// The answer in what such a program prints: a head with perhaps a `Status:`, an empty line, the body.
fn answer_of(printed: &[u8]) -> anyhow::Result<Answer> {
    let end = printed.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, body) = printed.split_at(end.context("no head")?);
    let mut answer = Response::new(Full::from(body[4..].to_vec()));
    for line in std::str::from_utf8(head)?.lines() {
        let (name, value) = line.split_once(": ").context("no header")?;
        if name == "Status" {
            *answer.status_mut() = value.split(' ').next().unwrap_or_default().parse()?;
        } else {
            answer
                .headers_mut()
                .insert(name.parse::<HeaderName>()?, value.parse()?);
        }
    }
    Ok(answer)
}

const MOST_BYTES: usize = 16 << 20;
