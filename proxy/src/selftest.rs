//! `assay-proxy selftest`: the threat list, tried from inside of a live sandbox, for an operator who trusts nobody.
//!
//! Run as the workload (`assay doctor --sandbox` does that), it tries what a hostile program would try, and says for each
//! row of docs/SECURITY.md whether the way is closed; of the rows that nothing inside can show it says why. It uses only
//! addresses where nobody lives (RFC 5737, RFC 3849) and names that do not exist (RFC 2606): whatever gets out reaches
//! nobody. Outside of a sandbox most rows are open.

mod bodies;
mod destinations;
mod hello;
mod left_out;
mod names;
mod packets;
mod ports;
pub mod process;
mod streams;
mod talk;

use std::{
    collections::BTreeSet,
    fmt, io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

pub use self::left_out::{CLUSTER, LEFT_OUT, LIMIT, LeftOut};

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

/// What was tried, and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One line for each probe.
    pub tried: Vec<Finding>,
    /// Every row without a probe.
    pub not_tried: &'static [LeftOut],
}

/// Tries every row that can be tried from inside.
pub fn run() -> Report {
    let mut tried = at_once(&REACHING.concat());
    // What a process does to itself and to its neighbours it does alone.
    tried.extend(process::PROBES.iter().map(|probe| probe.find((probe.run)())));
    Report {
        tried,
        not_tried: LEFT_OUT,
    }
}

/// The rows that are tried.
pub fn rows() -> BTreeSet<&'static str> {
    let reaching = REACHING.iter().copied().flatten();
    reaching.chain(process::PROBES).map(|probe| probe.row).collect()
}

/// Silence takes its time, so nobody waits for another.
fn at_once(probes: &[Probe]) -> Vec<Finding> {
    thread::scope(|scope| {
        let started: Vec<_> = probes
            .iter()
            .map(|probe| (probe, thread::Builder::new().spawn_scoped(scope, probe.run)))
            .collect();
        let ended = started.into_iter().map(|(probe, thread)| {
            let verdict = match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(verdict)) => verdict,
                Ok(Err(_)) => Verdict::Untried("the probe itself broke".to_owned()),
                Err(error) => Verdict::Untried(error.to_string()),
            };
            probe.find(verdict)
        });
        ended.collect()
    })
}

/// What goes to a socket.
const REACHING: &[&[Probe]] = &[
    destinations::PROBES,
    packets::PROBES,
    names::PROBES,
    streams::PROBES,
    ports::PROBES,
    bodies::PROBES,
];

impl Probe {
    fn find(&self, verdict: Verdict) -> Finding {
        Finding {
            row: self.row,
            what: self.what,
            verdict,
        }
    }
}

impl Report {
    /// Is no way open?
    pub fn holds(&self) -> bool {
        let is_open = |finding: &Finding| matches!(finding.verdict, Verdict::Open(_));
        !self.tried.iter().any(is_open)
    }
}

/// The probes as a table, then the rows that have none.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.tried {
            writeln!(f, "{finding}")?;
        }
        writeln!(f, "\nnot tried:")?;
        for left in self.not_tried {
            writeln!(f, "{left}")?;
        }
        let rows = |tried: bool| {
            let fits = |finding: &&Finding| !(tried && matches!(finding.verdict, Verdict::Untried(_)));
            let rows = self.tried.iter().filter(fits).map(|finding| finding.row);
            rows.collect::<BTreeSet<_>>().len()
        };
        let left: usize = self.not_tried.iter().map(|left| left.rows().count()).sum();
        write!(
            f,
            "\n{} of {} rows of docs/SECURITY.md were tried",
            rows(true),
            rows(false) + left
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, detail) = match &self.verdict {
            Verdict::Closed(detail) => ("closed", detail),
            Verdict::Open(detail) => ("OPEN", detail),
            Verdict::Untried(detail) => ("untried", detail),
        };
        write!(f, "{:<4} {word:<8} {:<42} {detail}", self.row, self.what)
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
    fn a_row_that_could_not_be_tried_is_not_counted_as_tried() {
        let finding = |row, verdict| Finding {
            row,
            what: "x",
            verdict,
        };
        let report = Report {
            tried: vec![
                finding("A1", Verdict::Closed(String::new())),
                finding("B1", Verdict::Closed(String::new())),
                finding("B1", Verdict::Untried(String::new())),
                finding("E1", Verdict::Untried(String::new())),
            ],
            not_tried: &LEFT_OUT[..1],
        };
        let last = report.to_string().lines().last().map(str::to_owned);
        assert_eq!(
            last.as_deref(),
            Some("2 of 7 rows of docs/SECURITY.md were tried")
        );
    }

    #[test]
    fn one_open_way_is_enough_to_fail() {
        let finding = |verdict| Finding {
            row: "B1",
            what: "x",
            verdict,
        };
        let closed = || Verdict::Closed(String::new());
        let holds = |second| {
            let tried = vec![finding(closed()), finding(second)];
            Report {
                tried,
                not_tried: &[],
            }
            .holds()
        };
        assert!(holds(Verdict::Untried(String::new())));
        assert!(!holds(Verdict::Open(String::new())));
        assert_eq!(
            Verdict::all([closed(), Verdict::Open("o".to_owned()), closed()]),
            Verdict::Open("o".to_owned())
        );
    }
}
