//! What the kernel really has: read back, compared with the plan attribute by attribute, and hashed.

use assay_core::digest::{Digest, Hasher};
use nix::errno::Errno;

use super::{
    Error,
    batch::{
        CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, FAMILY_INET, HOOK_OUTPUT,
        PRIORITY_NAT, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE, SUBSYSTEM, TABLE, chain_attributes,
        rule_attributes,
    },
    open,
};
use crate::{
    netlink::{self, Attribute, Attributes, DUMP, Message, attributes, netfilter_header},
    ruleset::Ruleset,
};

/// Reads our table back. Fails where a chain or rule is missing, foreign or other than planned; the digest covers what
/// the kernel said, without its counters and handles.
pub fn read_back(ruleset: &Ruleset) -> Result<Digest, Error> {
    let chains = ours(dump(GET_CHAIN)?, CHAIN_TABLE)?;
    let rules = ours(dump(GET_RULE)?, RULE_TABLE)?;
    let mut hasher = Hasher::default();
    let planned_chains: Vec<Attributes> = ruleset.chains.iter().map(chain_attributes).collect();
    compare(&planned_chains, &chains, "chains")?;
    for chain in &chains {
        hash(
            &mut hasher,
            chain,
            &[CHAIN_NAME, CHAIN_TYPE, CHAIN_HOOK, CHAIN_POLICY],
        )?;
    }
    for chain in &ruleset.chains {
        let planned: Vec<Attributes> = chain
            .rules
            .iter()
            .map(|rule| rule_attributes(chain, rule))
            .collect();
        let found: Vec<Vec<u8>> = rules
            .iter()
            .filter(|rule| text_of(rule, RULE_CHAIN).as_deref() == Some(chain.name))
            .cloned()
            .collect();
        compare(&planned, &found, chain.name)?;
        for rule in &found {
            hash(&mut hasher, rule, &[RULE_CHAIN, RULE_EXPRESSIONS])?;
        }
    }
    Ok(hasher.finish())
}

/// Is a table of ours there?
pub fn is_loaded() -> Result<bool, Error> {
    Ok(!ours(dump(GET_CHAIN)?, CHAIN_TABLE)?.is_empty())
}

/// Fails when another table translates addresses of outgoing packets before ours would see them.
pub fn refuse_foreign() -> Result<(), Error> {
    for (family, chain) in dump(GET_CHAIN)? {
        let table = text_of(&chain, CHAIN_TABLE).unwrap_or_default();
        if (family == FAMILY_INET && table == TABLE) || text_of(&chain, CHAIN_TYPE).as_deref() != Some("nat")
        {
            continue;
        }
        let name = text_of(&chain, CHAIN_NAME).unwrap_or_default();
        if precedes(&chain)? {
            return Err(Error::Foreign(format!("chain {name} of table {table}")));
        }
    }
    Ok(())
}

fn precedes(chain: &[u8]) -> Result<bool, Error> {
    let Some(hook) = find(chain, CHAIN_HOOK) else {
        return Ok(false);
    };
    let number = |kind| find(hook, kind).and_then(|value| value.first_chunk::<4>().copied());
    let (Some(point), Some(priority)) = (number(1), number(2)) else {
        return Err(netlink::Error::Malformed.into());
    };
    Ok(u32::from_be_bytes(point) == HOOK_OUTPUT && i32::from_be_bytes(priority) <= PRIORITY_NAT)
}

/// All objects of a kind in the namespace: netfilter family and attributes.
fn dump(operation: u16) -> Result<Vec<(u8, Vec<u8>)>, Error> {
    let question = Message {
        kind: SUBSYSTEM | operation,
        flags: DUMP,
        header: netfilter_header(0, 0),
        attributes: Attributes::new(),
    };
    let replies = match open()?.ask(&question) {
        Err(netlink::Error::Refused {
            errno: Errno::EPERM, ..
        }) => return Err(Error::Permission),
        other => other?,
    };
    replies
        .into_iter()
        .map(|reply| {
            let (header, rest) = reply
                .body
                .split_at_checked(NETFILTER_HEADER)
                .ok_or(netlink::Error::Malformed)?;
            Ok((header[0], rest.to_vec()))
        })
        .collect()
}

fn ours(objects: Vec<(u8, Vec<u8>)>, table: u16) -> Result<Vec<Vec<u8>>, Error> {
    objects
        .into_iter()
        .filter(|(family, _)| *family == FAMILY_INET)
        .map(|(_, object)| attributes(&object).map(drop).map(|()| object.clone()))
        .filter(|object| {
            object
                .as_ref()
                .map_or(true, |object| text_of(object, table).as_deref() == Some(TABLE))
        })
        .map(|object| object.map_err(Error::from))
        .collect()
}

fn compare(planned: &[Attributes], found: &[Vec<u8>], what: &str) -> Result<(), Error> {
    if planned.len() != found.len() {
        let counts = format!("{what}: {} planned, {} found", planned.len(), found.len());
        return Err(Error::Differs(counts));
    }
    for (index, (planned, found)) in planned.iter().zip(found).enumerate() {
        if !covers(found, planned.as_bytes())? {
            return Err(Error::Differs(format!("{what}, entry {}", index + 1)));
        }
    }
    Ok(())
}

/// Does `found` say at least what `planned` says? The kernel adds counters, handles and defaults to what was sent.
/// Attributes of one type (list elements) are compared in order, and their number must agree.
fn covers(found: &[u8], planned: &[u8]) -> Result<bool, netlink::Error> {
    let found = attributes(found)?;
    let planned = attributes(planned)?;
    let of_kind = |list: &[Attribute<'_>], kind| list.iter().filter(|item| item.kind == kind).count();
    for (index, attribute) in planned.iter().enumerate() {
        if of_kind(&found, attribute.kind) != of_kind(&planned, attribute.kind) {
            return Ok(false);
        }
        let nth = of_kind(&planned[..index], attribute.kind);
        let Some(peer) = found.iter().filter(|item| item.kind == attribute.kind).nth(nth) else {
            return Ok(false);
        };
        let equal = if attribute.nested {
            covers(peer.value, attribute.value)?
        } else {
            peer.value == attribute.value
        };
        if !equal {
            return Ok(false);
        }
    }
    Ok(true)
}

fn hash(hasher: &mut Hasher, object: &[u8], kinds: &[u16]) -> Result<(), Error> {
    for attribute in attributes(object)? {
        if kinds.contains(&attribute.kind) {
            let length = u32::try_from(attribute.value.len()).unwrap_or(u32::MAX);
            hasher.update(&attribute.kind.to_be_bytes());
            hasher.update(&length.to_be_bytes());
            hasher.update(attribute.value);
        }
    }
    Ok(())
}

fn find(object: &[u8], kind: u16) -> Option<&[u8]> {
    let found = attributes(object).ok()?;
    found
        .into_iter()
        .find(|attribute| attribute.kind == kind)
        .map(|attribute| attribute.value)
}

fn text_of(object: &[u8], kind: u16) -> Option<String> {
    let value = find(object, kind)?;
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    Some(String::from_utf8_lossy(text).into_owned())
}

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const NETFILTER_HEADER: usize = 4;
