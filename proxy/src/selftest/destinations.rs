//! Hellos that must not lead anywhere.

use std::{io, net::SocketAddr};

use assay_core::egress::port;

use super::{
    Probe, Verdict,
    hello::{self, Hello},
    talk::{self, NOBODY, local},
};

pub(super) const PROBES: &[Probe] = &[
    probe("A1", "TLS for a name nobody allowed", || one(Ok)),
    probe("A4", "the same in an encrypted hello", || {
        one(|hello| Ok(hello.with(hello::ENCRYPTED, hello::hidden())))
    }),
    probe("A5", "TLS without a name", || one(|hello| Ok(hello.named(&[])))),
    probe("A6", "TLS for an address", || {
        one(|hello| Ok(hello.named(&[b"192.0.2.1"])))
    }),
    probe("A7", "a hello cut into single bytes", segments),
    probe("A8", "a hello cut into records", || {
        sent(Hello::honest(NAME).map(|hello| hello.records(7)))
    }),
    probe("A9", "a hello of 70 KB", || sent(Ok(hello::huge()))),
    probe("A10", "two names in one hello", || {
        one(|hello| Ok(hello.named(&[NAME.as_bytes(), b"other.assay.invalid"])))
    }),
    probe("A11", "names that are no host names", || {
        Verdict::all(ODD.iter().map(|name| one(|hello| Ok(hello.named(&[name])))))
    }),
    probe("A12", "a name with a dot at its end", || {
        one(|hello| Ok(hello.named(&[b"selftest.assay.invalid."])))
    }),
    probe("A14", "no TLS on port 443", || {
        sent(Ok(b"SSH-2.0-selftest\r\n".to_vec()))
    }),
    probe("A15", "a record before the hello", || {
        sent(Hello::honest(NAME).map(|hello| [hello::OTHER_RECORD, &hello.whole()].concat()))
    }),
    probe("A18", "the proxy's own ports, straight", straight),
];

const fn probe(row: &'static str, what: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { row, what, run }
}

/// A changed hello, to where nobody lives.
fn one(change: impl FnOnce(Hello) -> io::Result<Hello>) -> Verdict {
    sent(Hello::honest(NAME).and_then(change).map(|hello| hello.whole()))
}

/// Somebody who answers it was reached, or would open a connection for it.
fn sent(bytes: io::Result<Vec<u8>>) -> Verdict {
    match bytes {
        Ok(bytes) => talk::unanswered(TARGET, talk::first(TARGET, &[&bytes])),
        Err(error) => Verdict::Untried(error.to_string()),
    }
}

fn segments() -> Verdict {
    match Hello::honest(NAME) {
        Ok(hello) => {
            let hello = hello.whole();
            let bytes: Vec<&[u8]> = hello.chunks(1).collect();
            talk::unanswered(TARGET, talk::first(TARGET, &bytes))
        }
        Err(error) => Verdict::Untried(error.to_string()),
    }
}

/// What was redirected nowhere must lead nowhere: least of all back to the proxy itself.
fn straight() -> Verdict {
    let hello = match Hello::honest(NAME) {
        Ok(hello) => hello.whole(),
        Err(error) => return Verdict::Untried(error.to_string()),
    };
    let request = b"GET / HTTP/1.1\r\nhost: 127.0.0.1:15090\r\nconnection: close\r\n\r\n";
    Verdict::all([
        talk::refused_by_ours(port::TLS, talk::first(local(port::TLS), &[&hello])),
        talk::refused_by_ours(port::HTTP, talk::first(local(port::HTTP), &[request])),
        talk::refused_by_ours(port::OTHER_TCP, talk::first(local(port::OTHER_TCP), &[request])),
    ])
}

const NAME: &str = "selftest.assay.invalid";
const ODD: &[&[u8]] = &[
    b"",
    b"_a.assay.invalid",
    b"selftest\0.assay.invalid",
    b"s\xc3\xa4.assay.invalid",
];
const TARGET: SocketAddr = SocketAddr::new(NOBODY, 443);
