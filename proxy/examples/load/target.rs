//! What a client connects to, and a connection to it.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::certificates;

/// Where the load goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The proxy, or the backend itself
    #[arg(long)]
    address: SocketAddr,
    /// The name that is asked for; plain HTTP without the roots
    #[arg(long)]
    name: String,
    /// The roots that are trusted
    #[arg(long)]
    roots: Option<PathBuf>,
    /// The path of each request
    #[arg(long)]
    path: String,
    /// POST this file as JSON; GET without it
    #[arg(long)]
    body: Option<PathBuf>,
}

/// A target that is ready to be used.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    options: Options,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection, with or without TLS.
pub(crate) enum Stream {
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
    /// Without.
    Plain(TcpStream),
}

impl Target {
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        let tls = options.roots.as_deref().map(certificates::client).transpose()?;
        Ok(Self { options, tls })
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn path(&self) -> &str {
        &self.options.path
    }

    /// The body of each request.
    pub(crate) fn body(&self) -> io::Result<Option<String>> {
        self.options
            .body
            .as_ref()
            .map(std::fs::read_to_string)
            .transpose()
    }

    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(self.options.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let name = ServerName::try_from(self.options.name.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
