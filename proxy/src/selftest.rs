//! `assay-proxy selftest`: the threat list, tried from inside of a live sandbox, for an operator who trusts nobody.
//!
//! Run as the workload (`assay doctor --sandbox` does that), it tries what a hostile program would try, and says for each
//! row of docs/SECURITY.md whether the way is closed. It uses only addresses where nobody lives (RFC 5737, RFC 3849) and
//! names that do not exist (RFC 2606): whatever gets out reaches nobody. Outside of a sandbox most rows are open.

mod names;
mod packets;
pub mod process;
mod streams;

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use serde::Serialize;

/// One row that is tried.
#[derive(Debug, Clone, Copy)]
struct Probe {
    /// The row of docs/SECURITY.md.
    row: &'static str,
    /// What is tried, in a few words.
    what: &'static str,
    /// Tries it.
    run: fn() -> Verdict,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "snake_case")]
pub enum Verdict {
    /// The way is closed; how it showed.
    Closed(String),
    /// The way is open.
    Open(String),
    /// It cannot be tried here; why.
    Untried(String),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The row of docs/SECURITY.md.
    pub row: &'static str,
    /// What was tried.
    pub what: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Tries every row.
pub fn run() -> Vec<Finding> {
    let probes = [packets::PROBES, names::PROBES, streams::PROBES, process::PROBES].concat();
    let find = |probe: Probe| Finding {
        row: probe.row,
        what: probe.what,
        verdict: (probe.run)(),
    };
    probes.into_iter().map(find).collect()
}

/// Is no way open?
pub fn holds(findings: &[Finding]) -> bool {
    !findings
        .iter()
        .any(|finding| matches!(finding.verdict, Verdict::Open(_)))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, detail) = match &self.verdict {
            Verdict::Closed(detail) => ("closed", detail),
            Verdict::Open(detail) => ("OPEN", detail),
            Verdict::Untried(detail) => ("untried", detail),
        };
        write!(f, "{:<4} {word:<8} {:<48} {detail}", self.row, self.what)
    }
}

impl Verdict {
    /// Closed when the attempt failed, whatever the reason.
    fn fails<T>(attempt: io::Result<T>) -> Self {
        match attempt {
            Ok(_) => Self::Open("it worked".to_owned()),
            Err(error) => Self::Closed(error.to_string()),
        }
    }

    /// Of a connection that failed. Silence, and word from outside that there is no way on, both mean that packets left.
    fn of_failure(target: SocketAddr, error: &io::Error) -> Self {
        let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        if is(&[io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock]) {
            return Self::Open("it was sent, and nobody answered".to_owned());
        }
        if is(&[io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable]) && has_route(target) {
            return Self::Open(format!("somebody outside answered: {error}"));
        }
        Self::Closed(error.to_string())
    }

    /// Closed when all of these are; else the first that is not.
    fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let mut last = Self::Untried("nothing to try".to_owned());
        for verdict in verdicts {
            match verdict {
                Self::Open(_) => return verdict,
                Self::Closed(_) => last = verdict,
                Self::Untried(_) if matches!(last, Self::Untried(_)) => last = verdict,
                Self::Untried(_) => {}
            }
        }
        last
    }
}

/// Connecting a datagram socket asks the routing table and sends nothing.
fn has_route(target: SocketAddr) -> bool {
    let any: SocketAddr = if target.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(target).is_ok())
}

/// A redirect answers at once, a drop never.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_open_way_is_enough_to_fail() {
        let finding = |verdict| Finding {
            row: "B1",
            what: "x",
            verdict,
        };
        let closed = || Verdict::Closed(String::new());
        assert!(holds(&[
            finding(closed()),
            finding(Verdict::Untried(String::new()))
        ]));
        assert!(!holds(&[
            finding(closed()),
            finding(Verdict::Open(String::new()))
        ]));
        assert_eq!(
            Verdict::all([closed(), Verdict::Open("o".to_owned()), closed()]),
            Verdict::Open("o".to_owned())
        );
    }
}
