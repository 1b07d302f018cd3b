//! Connections of a workload: to the proxy, or past it to a service, as where there is none.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Answer;

/// TLS with `host` at an address, with one trusted root.
pub(crate) async fn dial(
    address: SocketAddr,
    host: &str,
    root_pem: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// HTTP over [`dial`].
pub(crate) async fn tls(address: SocketAddr, host: &str, root_pem: &str) -> std::io::Result<Connection> {
    Ok(Connection::new(dial(address, host, root_pem).await?, host).await)
}

/// A connection of the workload.
pub(crate) struct Connection {
    host: String,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    pending: Option<JoinHandle<hyper::Result<http::Response<hyper::body::Incoming>>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(crate) async fn new<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        stream: S,
        host: &str,
    ) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        Self {
            host: host.to_owned(),
            sender,
            driver: tokio::spawn(async move { drop(connection.await) }),
            pending: None,
        }
    }

    pub(crate) async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", path, headers, body).await;
        self.receive().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], &Value::Null).await;
        self.receive().await
    }

    /// Sends without waiting for the answer.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) {
        self.sender.ready().await.unwrap();
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body).unwrap()
        };
        let mut request = Request::new(Full::new(Bytes::from(bytes)));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        let defaults = [("host", self.host.as_str()), ("content-type", "application/json")];
        for (name, value) in defaults.iter().chain(headers) {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        self.pending = Some(tokio::spawn(self.sender.send_request(request)));
    }

    pub(crate) async fn receive(&mut self) -> Answer {
        let pending = self.pending.take().unwrap();
        let response = timeout(Duration::from_mins(2), pending)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend(frame.into_data().unwrap_or_default());
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: bytes.into(),
        }
    }

    /// Was it closed by the other side?
    pub(crate) async fn is_closed(&mut self) -> bool {
        timeout(Duration::from_mins(2), &mut self.driver).await.is_ok()
    }
}
