//! The rules as one batch of netlink messages: the kernel takes all of it or nothing, so that there is no moment with
//! half of the rules, and a second run leaves the same rules.

use super::expression::expressions;
use crate::{
    netlink::{ACK, APPEND, Attributes, CREATE, Message, netfilter_header},
    ruleset::{Chain, Hook, Kind, Policy, Rule, Ruleset},
};

/// One message and what it is for, to name the culprit when the kernel refuses it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: String,
    pub(super) message: Message,
}

/// The whole batch: begin, add and delete the table (so that it is there to delete), add it anew with chains and
/// rules, end. The last step before the end asks for an acknowledgement.
pub(super) fn batch(ruleset: &Ruleset) -> Vec<Step> {
    let mut steps = vec![
        edge("begin of the batch", BATCH_BEGIN),
        step("table".to_owned(), NEW_TABLE, CREATE, table()),
        step("old table".to_owned(), DELETE_TABLE, 0, table()),
        step("table".to_owned(), NEW_TABLE, CREATE, table()),
    ];
    for chain in &ruleset.chains {
        let what = format!("chain {}", chain.name);
        steps.push(step(what, NEW_CHAIN, CREATE, chain_attributes(chain)));
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            let what = format!("rule of {}: {rule}", chain.name);
            let attributes = rule_attributes(chain, rule);
            steps.push(step(what, NEW_RULE, CREATE | APPEND, attributes));
        }
    }
    if let Some(last) = steps.last_mut() {
        last.message.flags |= ACK;
    }
    steps.push(edge("end of the batch", BATCH_END));
    steps
}

/// What is sent, and so must be found again, of a chain.
pub(super) fn chain_attributes(chain: &Chain) -> Attributes {
    let hook = match chain.hook {
        Hook::Input => HOOK_INPUT,
        Hook::Output => HOOK_OUTPUT,
    };
    let (kind, priority) = match chain.kind {
        Kind::Nat => ("nat", PRIORITY_NAT),
        Kind::Filter => ("filter", PRIORITY_FILTER),
    };
    let policy = match chain.policy {
        Policy::Accept => 1,
        Policy::Drop => 0,
    };
    let place = Attributes::new().be32(1, hook).bytes(2, &priority.to_be_bytes());
    Attributes::new()
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, chain.name)
        .text(CHAIN_TYPE, kind)
        .be32(CHAIN_POLICY, policy)
        .nested(CHAIN_HOOK, &place)
}

/// What is sent, and so must be found again, of a rule.
pub(super) fn rule_attributes(chain: &Chain, rule: &Rule) -> Attributes {
    Attributes::new()
        .text(RULE_TABLE, TABLE)
        .text(RULE_CHAIN, chain.name)
        .nested(RULE_EXPRESSIONS, &expressions(rule))
}

fn table() -> Attributes {
    Attributes::new().text(1, TABLE)
}

fn step(what: String, operation: u16, flags: u16, attributes: Attributes) -> Step {
    let message = Message {
        kind: SUBSYSTEM | operation,
        flags,
        header: netfilter_header(FAMILY_INET, 0),
        attributes,
    };
    Step { what, message }
}

fn edge(what: &str, kind: u16) -> Step {
    let message = Message {
        kind,
        flags: 0,
        header: netfilter_header(0, SUBSYSTEM >> 8),
        attributes: Attributes::new(),
    };
    Step {
        what: what.to_owned(),
        message,
    }
}

/// The name of our table.
pub(super) const TABLE: &str = "assay";
/// IPv4 and IPv6 in one table.
pub(super) const FAMILY_INET: u8 = 1;
/// `nf_tables` among the parts of netfilter.
pub(super) const SUBSYSTEM: u16 = 10 << 8;
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const HOOK_OUTPUT: u32 = 3;
pub(super) const PRIORITY_NAT: i32 = -100;
const HOOK_INPUT: u32 = 1;
const PRIORITY_FILTER: i32 = 0;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
