//! The packet rules of a sandbox as a value, and `plan`, which makes them. How they reach the kernel is elsewhere:
//! `nft` (netlink) and `legacy` (iptables-restore text) render the same value.
//!
//! Every rule has one alternative only (two ports are two rules), because that is what both renderings can say alike.

use std::fmt;

use assay_core::egress::{PROXY_UID, port};

/// All rules of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The chains in the order in which they are written.
    pub chains: Vec<Chain>,
}

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the `nf_tables` table.
    pub name: &'static str,
    /// What it may do.
    pub kind: Kind,
    /// Which packets it sees.
    pub hook: Hook,
    /// What happens to a packet that no rule decides.
    pub policy: Policy,
    /// The rules, first match wins.
    pub rules: Vec<Rule>,
}

/// What a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Change addresses.
    Nat,
    /// Let through or not.
    Filter,
}

/// Which packets a chain sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Arriving.
    Input,
    /// Made here.
    Output,
}

/// What happens to a packet that no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Goes on.
    Accept,
    /// Is lost.
    Drop,
}

/// All of `matches` → `action`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Conditions, all needed.
    pub matches: Vec<Match>,
    /// What is done.
    pub action: Action,
}

/// A condition on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The socket's owner is this user.
    User(u32),
    /// The socket's owner is somebody else.
    OtherUser(u32),
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// The source port; follows `Tcp`.
    SourcePort(u16),
    /// The destination port; follows `Tcp` or `Udp`.
    DestinationPort(u16),
    /// SYN and ACK are both set; follows `Tcp`.
    SynAck,
    /// Goes to an address of this namespace.
    LocalDestination,
    /// Leaves by lo.
    OutLoopback,
    /// Came by lo.
    InLoopback,
    /// From the side that opened the connection, or an answer.
    Direction(Direction),
    /// The connection's mark.
    Mark(u32),
    /// The packet's relation to its connection.
    State(State),
    /// An `ICMPv6` message of this type.
    Icmpv6(u8),
}

/// From which side of a connection a packet comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the side that opened it.
    Original,
    /// From the other side.
    Reply,
}

/// A packet's relation to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The first of it.
    New,
    /// An error message about it.
    Related,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Lets the packet through.
    Accept,
    /// Marks the connection and lets the packet through.
    MarkAndAccept(u32),
    /// Loses the packet.
    Drop,
    /// Leaves the chain.
    Return,
    /// Sends the connection to this port of this namespace.
    Redirect(u16),
    /// Answers with a TCP reset.
    Reset,
    /// Answers with an ICMP error.
    Reject,
}

/// The mark of connections that the proxy opened.
pub const MARK_PROXY: u32 = 0x1337;
/// The mark of connections that came in on a control port.
pub const MARK_CONTROL: u32 = 0x15020;

/// `ICMPv6` types without which no neighbour is found.
const ROUTER_SOLICIT: u8 = 133;
const ROUTER_ADVERT: u8 = 134;
const NEIGHBOUR_SOLICIT: u8 = 135;
const NEIGHBOUR_ADVERT: u8 = 136;

/// The rules of a sandbox. They depend on nothing: the same for every sandbox, both address families.
pub fn plan() -> Ruleset {
    Ruleset {
        chains: vec![nat_output(), filter_output(), filter_input()],
    }
}

fn nat_output() -> Chain {
    use Match::{DestinationPort, LocalDestination, Tcp, Udp, User};
    Chain {
        name: "nat_output",
        kind: Kind::Nat,
        hook: Hook::Output,
        policy: Policy::Accept,
        rules: vec![
            rule([User(PROXY_UID)], Action::Return),
            // Before the rule for own addresses: the workload's resolver is 127.0.0.1.
            rule([Tcp, DestinationPort(53)], Action::Redirect(port::DNS)),
            rule([Udp, DestinationPort(53)], Action::Redirect(port::DNS)),
            rule([LocalDestination], Action::Return),
            rule([Tcp, DestinationPort(443)], Action::Redirect(port::TLS)),
            rule([Tcp, DestinationPort(80)], Action::Redirect(port::HTTP)),
            rule([Tcp], Action::Redirect(port::OTHER_TCP)),
        ],
    }
}

fn filter_output() -> Chain {
    use Match::{Icmpv6, LocalDestination, Mark, OtherUser, OutLoopback, SourcePort, SynAck, Tcp, User};
    let direction = Match::Direction;
    Chain {
        name: "filter_output",
        kind: Kind::Filter,
        hook: Hook::Output,
        policy: Policy::Drop,
        rules: vec![
            rule([Icmpv6(NEIGHBOUR_SOLICIT)], Action::Accept),
            rule([Icmpv6(NEIGHBOUR_ADVERT)], Action::Accept),
            rule([Icmpv6(ROUTER_SOLICIT)], Action::Accept),
            // Only the proxy can answer on its control port, also after its death.
            rule(
                [Tcp, SourcePort(port::PROXY), SynAck, OtherUser(PROXY_UID)],
                Action::Drop,
            ),
            rule([LocalDestination], Action::Accept),
            rule([OutLoopback], Action::Accept),
            rule([direction(Direction::Reply), Mark(MARK_CONTROL)], Action::Accept),
            // By mark, not by user: what is left of a closed socket has no owner any more.
            rule(
                [User(PROXY_UID), Match::State(State::New)],
                Action::MarkAndAccept(MARK_PROXY),
            ),
            rule([direction(Direction::Original), Mark(MARK_PROXY)], Action::Accept),
            rule([Tcp], Action::Reset),
            rule([], Action::Reject),
        ],
    }
}

fn filter_input() -> Chain {
    use Match::{DestinationPort, Icmpv6, InLoopback, Mark, Tcp};
    let direction = Match::Direction;
    let new = Match::State(State::New);
    Chain {
        name: "filter_input",
        kind: Kind::Filter,
        hook: Hook::Input,
        policy: Policy::Drop,
        rules: vec![
            rule([InLoopback], Action::Accept),
            rule([Icmpv6(NEIGHBOUR_SOLICIT)], Action::Accept),
            rule([Icmpv6(NEIGHBOUR_ADVERT)], Action::Accept),
            rule([Icmpv6(ROUTER_ADVERT)], Action::Accept),
            rule([direction(Direction::Reply), Mark(MARK_PROXY)], Action::Accept),
            rule([Match::State(State::Related), Mark(MARK_PROXY)], Action::Accept),
            rule(
                [Tcp, DestinationPort(port::RUNNER), new],
                Action::MarkAndAccept(MARK_CONTROL),
            ),
            rule(
                [Tcp, DestinationPort(port::PROXY), new],
                Action::MarkAndAccept(MARK_CONTROL),
            ),
            rule(
                [direction(Direction::Original), Mark(MARK_CONTROL)],
                Action::Accept,
            ),
        ],
    }
}

fn rule<const N: usize>(matches: [Match; N], action: Action) -> Rule {
    Rule {
        matches: matches.to_vec(),
        action,
    }
}

/// Reads like the input of `nft`; for messages and golden files, never given to a program.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        self.action.fmt(f)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "meta skuid {user}"),
            Self::OtherUser(user) => write!(f, "meta skuid != {user}"),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::Udp => f.write_str("meta l4proto udp"),
            Self::SourcePort(port) => write!(f, "th sport {port}"),
            Self::DestinationPort(port) => write!(f, "th dport {port}"),
            Self::SynAck => f.write_str("tcp flags & (syn|ack) == (syn|ack)"),
            Self::LocalDestination => f.write_str("fib daddr type local"),
            Self::OutLoopback => f.write_str("oifname lo"),
            Self::InLoopback => f.write_str("iifname lo"),
            Self::Direction(Direction::Original) => f.write_str("ct direction original"),
            Self::Direction(Direction::Reply) => f.write_str("ct direction reply"),
            Self::Mark(mark) => write!(f, "ct mark {mark:#x}"),
            Self::State(State::New) => f.write_str("ct state new"),
            Self::State(State::Related) => f.write_str("ct state related"),
            Self::Icmpv6(kind) => write!(f, "icmpv6 type {kind}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::MarkAndAccept(mark) => write!(f, "ct mark set {mark:#x} accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::Reset => f.write_str("reject with tcp reset"),
            Self::Reject => f.write_str("reject"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_reads_as_the_specification() {
        let text: Vec<String> = plan()
            .chains
            .iter()
            .flat_map(|chain| {
                let head = format!("{} policy {:?}", chain.name, chain.policy);
                std::iter::once(head).chain(chain.rules.iter().map(|rule| format!("  {rule}")))
            })
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}
