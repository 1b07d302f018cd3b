//! Requests on port 80 that must not be let through.

use std::net::SocketAddr;

use super::{
    Probe, Verdict,
    talk::{self, NOBODY},
};

pub(super) const PROBES: &[Probe] = &[
    probe("B22", "what is redirected arrives at the proxy", arrives),
    probe("C3", "HTTP for a name nobody allowed", || {
        refused("GET / HTTP/1.1\r\nhost: selftest.assay.invalid\r\n\r\n")
    }),
    probe("C10", "HTTP for cloud metadata", || {
        refused("GET /latest/meta-data HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n")
    }),
    probe("D1", "ambiguous requests on port 80", || {
        Verdict::all(super::ports::AMBIGUOUS.iter().map(|headers| {
            refused(&format!(
                "POST / HTTP/1.1\r\nhost: selftest.assay.invalid\r\n{headers}\r\n\r\n"
            ))
        }))
    }),
    probe("D6", "CONNECT on port 80", || {
        refused("CONNECT 192.0.2.1:443 HTTP/1.1\r\nhost: 192.0.2.1:443\r\n\r\n")
    }),
];

const fn probe(row: &'static str, what: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { row, what, run }
}

/// A filter that took back what the redirect gave would refuse it; the proxy answers.
fn arrives() -> Verdict {
    let asked = talk::first(
        TARGET,
        &[b"GET / HTTP/1.1\r\nhost: selftest.assay.invalid\r\n\r\n"],
    );
    match asked {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 4") => Verdict::Closed(talk::status(&answer)),
        Ok(answer) => Verdict::Open(talk::status(&answer)),
        Err(error) => Verdict::Open(format!("the proxy does not answer: {error}")),
    }
}

fn refused(request: &str) -> Verdict {
    match talk::first(TARGET, &[request.as_bytes()]) {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 4") => Verdict::Closed(talk::status(&answer)),
        other => talk::unanswered(TARGET, other),
    }
}

const TARGET: SocketAddr = SocketAddr::new(NOBODY, 80);
