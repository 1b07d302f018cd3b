//! Web servers, with and without TLS, at most addresses; and the model service.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use assay_core::upstream::Dialect;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Record, Visit};
use crate::{
    model::{Model, Script, Settings, tls},
    stage::address::{self, MODEL, MODEL_SERVICE, PACKAGES},
};

/// Where something listens. What comes to another port is in the record of packets.
const PORTS: &[u16] = &[22, 25, 80, 443, 853, 1337, 8080, 8443];

/// What the sites show of themselves, and the model service.
pub struct Served {
    /// The root of the sites' certificate, PEM.
    pub root_pem: String,
    /// How a site answers by TLS.
    pub config: Arc<rustls::ServerConfig>,
    /// The model service.
    pub model: Model,
}

/// Starts them in the background.
pub async fn serve(record: &Record) -> anyhow::Result<Served> {
    let names = [
        "allowed.example",
        "packages.example",
        "*.wild.example",
        "other.example",
        "evil.example",
    ]
    .map(str::to_owned);
    let identity = tls::identity(&names)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
    let elsewhere = address::all().into_iter();
    for address in elsewhere.filter(|&address| address != MODEL && address != PACKAGES) {
        for port in PORTS {
            let listener = TcpListener::bind(SocketAddr::new(address, *port)).await?;
            tokio::spawn(accept(listener, acceptor.clone(), record.clone()));
        }
    }
    let settings = Settings {
        listen: MODEL_SERVICE,
        names: MODEL_HOSTS.map(|(host, _)| host.to_owned()).to_vec(),
        dialect: Dialect::OpenRouter,
        dialects: MODEL_HOSTS
            .map(|(host, dialect)| (host.to_owned(), dialect))
            .into(),
        key: "sk-stage-real-credential".to_owned(),
        prices: toml::from_str(PRICES)?,
        script: Script::default(),
        pace: Duration::from_millis(1),
    };
    Ok(Served {
        root_pem: identity.root_pem,
        config: identity.config,
        model: Model::start(settings).await?,
    })
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, record: Record) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors in a flood; the tests after it find the site again.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (acceptor, record) = (acceptor.clone(), record.clone());
        tokio::spawn(async move { drop(timeout(LONGEST, serve_one(stream, acceptor, &record)).await) });
    }
}

async fn serve_one(stream: TcpStream, acceptor: TlsAcceptor, record: &Record) -> std::io::Result<()> {
    let local = stream.local_addr()?;
    let visit = |name: Option<String>, text: String| Visit {
        site: local.ip(),
        port: local.port(),
        name,
        text,
    };
    let mut first = [0; 1];
    stream.peek(&mut first).await?;
    // 22: a TLS handshake.
    if first != [22] {
        return converse(stream, |text| record.visit(visit(None, text))).await;
    }
    let stream = acceptor.accept(stream).await?;
    let name = stream.get_ref().1.server_name().map(str::to_owned);
    record.visit(visit(name.clone(), String::new()));
    converse(stream, |text| record.visit(visit(name.clone(), text))).await
}

/// Answers each request head with the site's greeting, and what is no HTTP not at all.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    tell: impl Fn(String),
) -> std::io::Result<()> {
    let mut said = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut said).await?;
        if length == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&said[..length]).into_owned();
        let (head, kind) = match text.split_whitespace().nth(1) {
            Some("/redirect") => ("302 Found\r\nlocation: http://169.254.169.254/latest", "away"),
            Some("/switch") => (
                "101 Switching Protocols\r\nupgrade: raw\r\nconnection: upgrade",
                "",
            ),
            _ => ("200 OK", "welcome"),
        };
        let is_request = text.contains(" HTTP/1.");
        tell(text);
        if !is_request {
            continue;
        }
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{kind}", kind.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Of the model service, which keeps its own bill.
pub fn prices() -> Arc<str> {
    PRICES.into()
}

/// The names of the model service.
const MODEL_HOSTS: [(&str, Dialect); 3] = [
    ("models.example.com", Dialect::OpenRouter),
    ("openai.example.com", Dialect::OpenAi),
    ("anthropic.example.com", Dialect::Anthropic),
];

const PRICES: &str = r#"
version = "stage"
[models."test/small"]
input = "0.000001"
output = "0.000002"
cached_input = "0.0000001"
context_tokens = 100000
max_output_tokens = 4000
"#;
const LONGEST: Duration = Duration::from_secs(60);
