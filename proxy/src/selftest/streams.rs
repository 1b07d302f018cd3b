//! Hellos and requests that must not be let through, and our own ports.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
};

use assay_core::egress::port;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

use super::{PATIENCE, Probe, Verdict};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        row: "A1",
        what: "TLS for a name nobody allowed",
        run: || hello("selftest.assay.invalid", false),
    },
    Probe {
        row: "A6",
        what: "TLS for an address",
        run: || hello("192.0.2.1", false),
    },
    Probe {
        row: "A8",
        what: "TLS for such a name, cut into records",
        run: || hello("selftest.assay.invalid", true),
    },
    Probe {
        row: "A14",
        what: "no TLS on port 443",
        run: || unanswered(443, talk(at(443), b"SSH-2.0-selftest\r\n")),
    },
    Probe {
        row: "C3",
        what: "HTTP for a name nobody allowed",
        run: || refused(b"GET / HTTP/1.1\r\nhost: selftest.assay.invalid\r\n\r\n"),
    },
    Probe {
        row: "C10",
        what: "HTTP for cloud metadata",
        run: || refused(b"GET /latest/meta-data HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n"),
    },
    Probe {
        row: "D6",
        what: "CONNECT on port 80",
        run: || refused(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nhost: 192.0.2.1:443\r\n\r\n"),
    },
    Probe {
        row: "C11",
        what: "unsigned calls to our own ports",
        run: || Verdict::all(CALLS.iter().map(|(port, call)| unsigned(*port, call))),
    },
    Probe {
        row: "C12",
        what: "switching the phase",
        run: || unsigned(port::PROXY, "POST /v1/phase"),
    },
];

/// Somebody answered such a hello with a handshake: it was let out.
fn hello(name: &str, cut: bool) -> Verdict {
    match client_hello(name) {
        Ok(hello) if cut => unanswered(443, talk(at(443), &in_records(&hello))),
        Ok(hello) => unanswered(443, talk(at(443), &hello)),
        Err(error) => Verdict::Untried(error.to_string()),
    }
}

fn client_hello(name: &str) -> io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

fn in_records(hello: &[u8]) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap_or(0).to_be_bytes();
        [&[22, 3, 1], length.as_slice(), part].concat()
    };
    hello
        .get(5..)
        .unwrap_or_default()
        .chunks(7)
        .flat_map(record)
        .collect()
}

fn refused(request: &[u8]) -> Verdict {
    match talk(at(80), request) {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 4") => Verdict::Closed(status(&answer)),
        other => unanswered(80, other),
    }
}

/// A connection that is ended without an answer was refused.
fn unanswered(port: u16, talked: io::Result<Vec<u8>>) -> Verdict {
    match talked {
        Ok(answer) if answer.is_empty() => Verdict::Closed("ended without an answer".to_owned()),
        Ok(answer) => Verdict::Open(format!("answered with {} bytes", answer.len())),
        Err(error) => Verdict::of_failure(at(port), &error),
    }
}

fn unsigned(port: u16, call: &str) -> Verdict {
    let request =
        format!("{call} HTTP/1.1\r\nhost: sandbox\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    match talk(target, request.as_bytes()) {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 401") => Verdict::Closed(status(&answer)),
        Ok(answer) => Verdict::Open(status(&answer)),
        Err(error) => Verdict::Open(format!("port {port} is not ours here: {error}")),
    }
}

fn talk(target: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut answer = vec![0; 2048];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer)
        .lines()
        .next()
        .unwrap_or("no answer")
        .to_owned()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
}

const CALLS: &[(u16, &str)] = &[
    (port::PROXY, "GET /v1/ledger"),
    (port::PROXY, "GET /v1/audit"),
    (port::PROXY, "GET /v1/metrics"),
    (port::PROXY, "POST /v1/probe"),
    (port::PROXY, "POST /v1/collected"),
    (port::RUNNER, "POST /v1/execute"),
    (port::RUNNER, "POST /v1/kill"),
];
