//! The rules through iptables-legacy, for kernels without `nf_tables`: the plan as `iptables-restore` text, one table in
//! one step per family, read back by `iptables-save` and compared. All other rules of the two tables are replaced.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::{Command, Output, Stdio},
};

use assay_core::digest::Digest;

use crate::ruleset::{Action, Chain, Direction, Hook, Kind, Match, Policy, Rule, Ruleset, State};

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error("{0} is not installed")]
    Missing(String),
    /// The program could not be run.
    #[error("running {program}: {source}")]
    Run {
        /// Which program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program refused the rules.
    #[error("{0}")]
    Refused(String),
    /// What is in force is not what was planned.
    #[error("the rules in force are not the planned ones: {0}")]
    Differs(String),
}

/// An address family as iptables knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    Ipv4,
    /// `ip6tables`.
    Ipv6,
}

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Puts the rules in force for both families.
pub fn load(ruleset: &Ruleset) -> Result<(), Error> {
    for family in FAMILIES {
        let program = format!("{}-legacy-restore", family.program());
        run(&program, &render(ruleset, family))?;
    }
    Ok(())
}

/// Reads both families back; fails where they are other than planned.
pub fn read_back(ruleset: &Ruleset) -> Result<Digest, Error> {
    let mut all = String::new();
    for family in FAMILIES {
        let program = format!("{}-legacy-save", family.program());
        let saved = run(&program, "")?;
        for chain in &ruleset.chains {
            let planned: Vec<String> = rules(chain, family);
            let from = format!("-A {} ", hook(chain.hook));
            let found: Vec<&str> = section(&saved, table(chain.kind))
                .filter(|line| line.starts_with(&from))
                .collect();
            let policy = format!(":{} {} ", hook(chain.hook), word(chain.policy));
            let policed = section(&saved, table(chain.kind)).any(|line| line.starts_with(&policy));
            if planned != found || !policed {
                return Err(Error::Differs(format!("{program}, {}", chain.name)));
            }
        }
        let kept = saved.lines().filter(|line| !line.starts_with('#'));
        for line in kept {
            // A chain's line ends with its counters.
            let line = line.split(" [").next().unwrap_or(line);
            all.push_str(line);
            all.push('\n');
        }
    }
    Ok(Digest::of(all))
}

/// The plan as `iptables-restore` reads it, in the spelling that `iptables-save` prints.
pub fn render(ruleset: &Ruleset, family: Family) -> String {
    let mut text = String::new();
    for kind in [Kind::Nat, Kind::Filter] {
        let chains: Vec<&Chain> = ruleset.chains.iter().filter(|chain| chain.kind == kind).collect();
        text.extend(["*", table(kind), "\n"]);
        for name in builtin(kind) {
            let planned = chains.iter().find(|chain| hook(chain.hook) == *name);
            let policy = planned.map_or("ACCEPT", |chain| word(chain.policy));
            text.extend([":", name, " ", policy, " [0:0]\n"]);
        }
        for line in chains.iter().flat_map(|chain| rules(chain, family)) {
            text.push_str(&line);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
    }
    text
}

impl Family {
    fn program(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables",
            Self::Ipv6 => "ip6tables",
        }
    }
}

fn rules(chain: &Chain, family: Family) -> Vec<String> {
    let icmpv6 = |rule: &Rule| rule.matches.iter().any(|item| matches!(item, Match::Icmpv6(_)));
    chain
        .rules
        .iter()
        .filter(|rule| family == Family::Ipv6 || !icmpv6(rule))
        .flat_map(|rule| lines(chain, rule, family))
        .collect()
}

/// One rule; a mark and a verdict are two here.
fn lines(chain: &Chain, rule: &Rule, family: Family) -> Vec<String> {
    let head = format!("-A {}{}", hook(chain.hook), conditions(&rule.matches));
    let targets = match rule.action {
        Action::Accept => vec!["ACCEPT".to_owned()],
        Action::Drop => vec!["DROP".to_owned()],
        Action::Return => vec!["RETURN".to_owned()],
        Action::MarkAndAccept(mark) => vec![
            format!("CONNMARK --set-xmark {mark:#x}/0xffffffff"),
            "ACCEPT".to_owned(),
        ],
        Action::Redirect(port) => vec![format!("REDIRECT --to-ports {port}")],
        Action::Reset => vec!["REJECT --reject-with tcp-reset".to_owned()],
        Action::Reject => vec![match family {
            Family::Ipv4 => "REJECT --reject-with icmp-port-unreachable".to_owned(),
            Family::Ipv6 => "REJECT --reject-with icmp6-port-unreachable".to_owned(),
        }],
    };
    targets
        .iter()
        .map(|target| format!("{head} -j {target}"))
        .collect()
}

fn conditions(matches: &[Match]) -> String {
    let mut text = String::new();
    let mut transport = "";
    for condition in matches {
        let part = match *condition {
            Match::Tcp => {
                transport = "tcp";
                "-p tcp".to_owned()
            }
            Match::Udp => {
                transport = "udp";
                "-p udp".to_owned()
            }
            Match::SourcePort(port) => format!("-m {transport} --sport {port}"),
            Match::DestinationPort(port) => format!("-m {transport} --dport {port}"),
            Match::SynAck => "--tcp-flags SYN,ACK SYN,ACK".to_owned(),
            Match::User(user) => format!("-m owner --uid-owner {user}"),
            Match::OtherUser(user) => format!("-m owner ! --uid-owner {user}"),
            Match::LocalDestination => "-m addrtype --dst-type LOCAL".to_owned(),
            Match::OutLoopback => "-o lo".to_owned(),
            Match::InLoopback => "-i lo".to_owned(),
            Match::Direction(Direction::Original) => "-m conntrack --ctdir ORIGINAL".to_owned(),
            Match::Direction(Direction::Reply) => "-m conntrack --ctdir REPLY".to_owned(),
            Match::Mark(mark) => format!("-m connmark --mark {mark:#x}"),
            Match::State(State::New) => "-m conntrack --ctstate NEW".to_owned(),
            Match::State(State::Related) => "-m conntrack --ctstate RELATED".to_owned(),
            Match::Icmpv6(kind) => format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind}"),
        };
        text.push(' ');
        text.push_str(&part);
    }
    text
}

fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Input => "INPUT",
        Hook::Output => "OUTPUT",
    }
}

fn word(policy: Policy) -> &'static str {
    match policy {
        Policy::Accept => "ACCEPT",
        Policy::Drop => "DROP",
    }
}

fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Nat => "nat",
        Kind::Filter => "filter",
    }
}

fn builtin(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        Kind::Filter => &["INPUT", "FORWARD", "OUTPUT"],
    }
}

fn section<'a>(saved: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    saved
        .lines()
        .skip_while(move |line| line.strip_prefix('*') != Some(table))
        .take_while(|line| *line != "COMMIT")
}

fn run(program: &str, input: &str) -> Result<String, Error> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            return Error::Missing(program.to_owned());
        }
        Error::Run {
            program: program.to_owned(),
            source,
        }
    };
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses early closes its input; its own words say more than our broken pipe.
        match stdin.write_all(input.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => {}
        }
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().map_err(failed)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let mut message = format!("{program}: {status}");
    let said = String::from_utf8_lossy(&stderr);
    if let Some(line) = said.lines().find(|line| !line.trim().is_empty()) {
        write!(message, ": {line}").map_err(|_| Error::Refused(program.to_owned()))?;
    }
    Err(Error::Refused(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::plan;

    #[test]
    fn both_families_render_to_the_same_text_as_ever() {
        insta::assert_snapshot!("legacy_ipv4", render(&plan(), Family::Ipv4));
        insta::assert_snapshot!("legacy_ipv6", render(&plan(), Family::Ipv6));
    }
}
