//! Connections to the model services: TLS with verified certificates, HTTP/1.1, the one place that sends a credential.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use assay_core::{
    clock::Clock,
    control::proxy::ProxyAssignment,
    egress::HostName,
    upstream::{Dialect, Upstream},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header, uri::PathAndQuery};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider, time_provider::TimeProvider};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    pool::{Connection, Idle},
    scrub::Secrets,
    spec::Api,
};
use crate::{
    dial,
    resolve::{self, Resolver},
    waits::{Wait, Waits},
};

/// How to reach each model service.
#[derive(Debug)]
pub struct Services(BTreeMap<HostName, Service>);

/// One model service.
#[derive(Debug)]
struct Service {
    tls: Arc<ClientConfig>,
    idle: Idle,
    secrets: Secrets,
}

/// The body of a request to a service.
pub type Body = Full<Bytes>;

/// Why a service cannot be reached, or not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] dial::Error),
    /// The handshake failed: a certificate that is not trusted, or no TLS at all.
    #[error("TLS handshake with {host}")]
    Handshake {
        /// The service.
        host: HostName,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// HTTP could not begin.
    #[error("begin HTTP")]
    Http(#[source] hyper::Error),
    /// An extra root is no certificate.
    #[error("an extra root certificate for {0} is malformed")]
    MalformedRoot(HostName),
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The credential or path cannot be sent in a header.
    #[error("the credential or path of {0} cannot be sent")]
    Unsendable(HostName),
}

impl Services {
    /// Trusts the public roots, and for each service the extra root that the operator gave it.
    pub fn new(
        assignment: &ProxyAssignment,
        provider: &Arc<CryptoProvider>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let configs = assignment.upstreams.iter().map(|upstream| {
            let fixed = upstream.address.is_some() || assignment.fixed_addresses.contains_key(&upstream.host);
            let shared = assignment.extra_roots_pem.as_ref().filter(|_| fixed);
            let extra = upstream.ca_pem.iter().chain(shared);
            let service = Service {
                tls: Arc::new(config(&upstream.host, extra, (provider, clock))?),
                idle: Idle::default(),
                secrets: Secrets::of(upstream.credential.expose()),
            };
            Ok((upstream.host.clone(), service))
        });
        Ok(Self(configs.collect::<Result<_, Error>>()?))
    }

    /// A connection to a service: one that is idle, or a new one.
    pub async fn connection(
        &self,
        resolver: &Resolver,
        waits: &Waits,
        upstream: &Upstream,
    ) -> Result<Connection, Error> {
        if let Some(service) = self.0.get(&upstream.host)
            && let Some(connection) = service.idle.take().await
        {
            return Ok(connection);
        }
        // Seldom needed and large: in a box it does not weigh on every call.
        let connected = Box::pin(self.connect(resolver, upstream));
        waits.measure(Wait::ModelConnect, connected).await
    }

    /// Keeps a connection whose answer was read to its end for the next request to the same service.
    pub fn keep(&self, host: &HostName, connection: Connection) {
        if let Some(service) = self.0.get(host) {
            service.idle.keep(connection);
        }
    }

    /// What must not come back from a service.
    pub fn secrets(&self, host: &HostName) -> Secrets {
        self.0
            .get(host)
            .map(|service| service.secrets.clone())
            .unwrap_or_default()
    }

    /// Connects to a service, within the deadlines of each step.
    async fn connect(&self, resolver: &Resolver, upstream: &Upstream) -> Result<Connection, Error> {
        let host = &upstream.host;
        let stream = match upstream.address {
            Some(fixed) => dial::any(&[fixed]).await.map_err(|source| dial::Error::Connect {
                host: host.clone(),
                source,
            })?,
            None => dial::host(resolver, host, HTTPS).await?,
        };
        let service = self
            .0
            .get(host)
            .ok_or(dial::Error::Resolve(resolve::Error::NoAddress))?;
        let tls = secure(&service.tls, host, stream).await?;
        let address = tls.get_ref().0.peer_addr().map_err(|source| Error::Handshake {
            host: host.clone(),
            source,
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(Error::Http)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a model service ended");
            }
        });
        Ok(Connection::new(address, sender))
    }
}

/// Speaks TLS with `host` over a connection, within a deadline.
pub async fn secure(
    tls: &Arc<ClientConfig>,
    host: &HostName,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let failed = |source| Error::Handshake {
        host: host.clone(),
        source,
    };
    let name =
        ServerName::try_from(host.to_string()).map_err(|error| failed(std::io::Error::other(error)))?;
    let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    timeout(PATIENCE, handshake)
        .await
        .map_err(|elapsed| failed(elapsed.into()))?
        .map_err(failed)
}

/// A call that goes out: our headers only.
pub fn post(upstream: &Upstream, api: Api, body: Bytes, stream: bool) -> Result<Request<Body>, Error> {
    let accept = if stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let path = format!("{}{}", upstream.base_path, api.spec().path);
    let mut request = request(upstream, Method::POST, &path, body)?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    Ok(request)
}

/// A question to the service with the operator's credential.
pub fn get(upstream: &Upstream, path: &str) -> Result<Request<Body>, Error> {
    let path = format!("{}{path}", upstream.base_path);
    request(upstream, Method::GET, &path, Bytes::new())
}

fn request(upstream: &Upstream, method: Method, path: &str, body: Bytes) -> Result<Request<Body>, Error> {
    let unsendable = || Error::Unsendable(upstream.host.clone());
    let path: PathAndQuery = path.parse().map_err(|_| unsendable())?;
    let (name, value) = match upstream.dialect {
        Dialect::Anthropic => (X_API_KEY, upstream.credential.expose().to_owned()),
        Dialect::OpenRouter | Dialect::OpenAi => (
            header::AUTHORIZATION,
            format!("Bearer {}", upstream.credential.expose()),
        ),
    };
    let mut credential = HeaderValue::try_from(value).map_err(|_| unsendable())?;
    credential.set_sensitive(true);
    let mut request = Request::builder()
        .method(method)
        .uri(http::Uri::from(path))
        .header(header::HOST, upstream.host.as_str())
        .header(name, credential)
        .header(header::ACCEPT_ENCODING, "identity")
        .header(
            header::USER_AGENT,
            concat!("assay-proxy/", env!("CARGO_PKG_VERSION")),
        );
    if upstream.dialect == Dialect::Anthropic {
        request = request.header(ANTHROPIC_VERSION, "2023-06-01");
    }
    request.body(Full::new(body)).map_err(|_| unsendable())
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Trusts the public roots and these, and speaks HTTP/1.1.
pub fn config<'a>(
    host: &HostName,
    extra: impl Iterator<Item = &'a String>,
    (provider, clock): (&Arc<CryptoProvider>, &Arc<dyn Clock>),
) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let malformed = || Error::MalformedRoot(host.clone());
    for pem in extra {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| malformed())?;
            roots.add(certificate).map_err(|_| malformed())?;
        }
    }
    let time = Arc::new(WallTime(Arc::clone(clock)));
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), time)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Certificates are judged by the clock that everything else is written down by.
struct WallTime(Arc<dyn Clock>);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

const HTTPS: u16 = 443;
const PATIENCE: Duration = Duration::from_secs(10);
