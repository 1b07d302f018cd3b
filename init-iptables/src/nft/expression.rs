//! A rule as `nf_tables` expressions: small register programs. The numbers are those of `linux/netfilter/nf_tables.h`;
//! the shape is what `nft --debug=netlink` shows for the same rule.

use crate::{
    netlink::Attributes,
    ruleset::{Action, Direction, Match, Rule, State},
};

/// The expressions of `rule`, as the value of `NFTA_RULE_EXPRESSIONS`.
pub(super) fn expressions(rule: &Rule) -> Attributes {
    let matches = rule.matches.iter().copied().flat_map(condition);
    matches
        .chain(action(rule.action))
        .fold(Attributes::new(), |list, expression| {
            list.nested(LIST_ELEM, &expression)
        })
}

fn condition(condition: Match) -> Vec<Attributes> {
    match condition {
        Match::User(user) => vec![meta(META_SKUID), compare(EQUAL, &user.to_ne_bytes())],
        Match::OtherUser(user) => vec![meta(META_SKUID), compare(NOT_EQUAL, &user.to_ne_bytes())],
        Match::Tcp => vec![meta(META_L4PROTO), compare(EQUAL, &[TCP])],
        Match::Udp => vec![meta(META_L4PROTO), compare(EQUAL, &[UDP])],
        Match::SourcePort(port) => vec![transport(0, 2), compare(EQUAL, &port.to_be_bytes())],
        Match::DestinationPort(port) => vec![transport(2, 2), compare(EQUAL, &port.to_be_bytes())],
        Match::SynAck => vec![
            transport(TCP_FLAGS_OFFSET, 1),
            mask(&[SYN_ACK]),
            compare(EQUAL, &[SYN_ACK]),
        ],
        Match::LocalDestination => vec![fib_address_type(), compare(EQUAL, &ADDRESS_LOCAL.to_ne_bytes())],
        Match::OutLoopback => vec![meta(META_OIFNAME), compare(EQUAL, &LOOPBACK_NAME)],
        Match::InLoopback => vec![meta(META_IIFNAME), compare(EQUAL, &LOOPBACK_NAME)],
        Match::Direction(direction) => vec![conntrack(CT_DIRECTION), compare(EQUAL, &[side(direction)])],
        Match::Mark(mark) => vec![conntrack(CT_MARK), compare(EQUAL, &mark.to_ne_bytes())],
        Match::State(state) => vec![
            conntrack(CT_STATE),
            mask(&bit(state).to_ne_bytes()),
            compare(NOT_EQUAL, &[0; 4]),
        ],
        Match::Icmpv6(kind) => vec![
            meta(META_NFPROTO),
            compare(EQUAL, &[FAMILY_IPV6]),
            meta(META_L4PROTO),
            compare(EQUAL, &[ICMPV6]),
            transport(0, 1),
            compare(EQUAL, &[kind]),
        ],
    }
}

fn action(action: Action) -> Vec<Attributes> {
    match action {
        Action::Accept => vec![verdict(ACCEPT)],
        Action::Drop => vec![verdict(DROP)],
        Action::Return => vec![verdict(RETURN)],
        Action::MarkAndAccept(mark) => vec![value(&mark.to_ne_bytes()), set_mark(), verdict(ACCEPT)],
        Action::Redirect(port) => vec![value(&port.to_be_bytes()), redirect()],
        Action::Reset => vec![reject(&Attributes::new().be32(1, REJECT_TCP_RESET))],
        Action::Reject => vec![reject(
            &Attributes::new()
                .be32(1, REJECT_ICMPX)
                .bytes(2, &[ICMPX_PORT_UNREACHABLE]),
        )],
    }
}

fn side(direction: Direction) -> u8 {
    match direction {
        Direction::Original => 0,
        Direction::Reply => 1,
    }
}

fn bit(state: State) -> u32 {
    match state {
        State::Related => 1 << 2,
        State::New => 1 << 3,
    }
}

fn expression(name: &str, body: &Attributes) -> Attributes {
    Attributes::new().text(1, name).nested(2, body)
}

/// Loads a property of the packet or its socket into register 1.
fn meta(key: u32) -> Attributes {
    expression("meta", &Attributes::new().be32(2, key).be32(1, REGISTER))
}

/// Loads a property of the connection into register 1.
fn conntrack(key: u32) -> Attributes {
    expression("ct", &Attributes::new().be32(2, key).be32(1, REGISTER))
}

/// Writes register 1 to the connection's mark.
fn set_mark() -> Attributes {
    expression("ct", &Attributes::new().be32(2, CT_MARK).be32(4, REGISTER))
}

/// Loads bytes of the transport header into register 1.
fn transport(offset: u32, length: u32) -> Attributes {
    let body = Attributes::new()
        .be32(1, REGISTER)
        .be32(2, TRANSPORT_HEADER)
        .be32(3, offset)
        .be32(4, length);
    expression("payload", &body)
}

/// Loads the kind of the destination address (local, unicast, …) into register 1.
fn fib_address_type() -> Attributes {
    let body = Attributes::new()
        .be32(3, FIB_DESTINATION)
        .be32(2, FIB_ADDRESS_TYPE)
        .be32(1, REGISTER);
    expression("fib", &body)
}

/// Goes on only when register 1 compares so with `value`.
fn compare(operation: u32, value: &[u8]) -> Attributes {
    let body = Attributes::new()
        .be32(1, REGISTER)
        .be32(2, operation)
        .nested(3, &Attributes::new().bytes(1, value));
    expression("cmp", &body)
}

/// Keeps these bits of register 1.
fn mask(bits: &[u8]) -> Attributes {
    let zero = vec![0; bits.len()];
    let length = u32::try_from(bits.len()).unwrap_or(u32::MAX);
    let body = Attributes::new()
        .be32(1, REGISTER)
        .be32(2, REGISTER)
        .be32(3, length)
        .nested(4, &Attributes::new().bytes(1, bits))
        .nested(5, &Attributes::new().bytes(1, &zero));
    expression("bitwise", &body)
}

/// Puts `value` into register 1.
fn value(value: &[u8]) -> Attributes {
    let data = Attributes::new().bytes(1, value);
    expression("immediate", &Attributes::new().be32(1, REGISTER).nested(2, &data))
}

fn verdict(code: i32) -> Attributes {
    let code = Attributes::new().bytes(1, &code.to_be_bytes());
    let data = Attributes::new().nested(2, &code);
    expression(
        "immediate",
        &Attributes::new().be32(1, REGISTER_VERDICT).nested(2, &data),
    )
}

/// Redirects to the port in register 1.
fn redirect() -> Attributes {
    expression(
        "redir",
        &Attributes::new().be32(1, REGISTER).be32(3, NAT_PORT_SPECIFIED),
    )
}

fn reject(how: &Attributes) -> Attributes {
    expression("reject", how)
}

const LIST_ELEM: u16 = 1;
const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_SKUID: u32 = 10;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_MARK: u32 = 3;
const TRANSPORT_HEADER: u32 = 2;
const TCP_FLAGS_OFFSET: u32 = 13;
const SYN_ACK: u8 = 0x12;
const FIB_DESTINATION: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const ADDRESS_LOCAL: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const RETURN: i32 = -5;
const NAT_PORT_SPECIFIED: u32 = 2;
const REJECT_TCP_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
const ICMPX_PORT_UNREACHABLE: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const FAMILY_IPV6: u8 = 10;
/// An interface name fills 16 bytes.
const LOOPBACK_NAME: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
