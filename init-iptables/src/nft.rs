//! The rules by netlink to `nf_tables`: put in force in one batch, read back and compared with what was sent.

mod batch;
mod expression;
mod readback;

use nix::{errno::Errno, sys::socket::SockProtocol};

use self::batch::SUBSYSTEM;
use crate::{
    netlink::{self, ACK, Attributes, Message, Socket, netfilter_header},
    ruleset::Ruleset,
};

pub use self::readback::{is_loaded, read_back, refuse_foreign};

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no such feature.
    #[error("this kernel cannot do: {0}")]
    Missing(String),
    /// We may not.
    #[error("no permission to change the packet rules of this network namespace (CAP_NET_ADMIN is missing)")]
    Permission,
    /// The kernel took no offence at the feature but refused the step.
    #[error("the kernel refused the {what}: {errno}")]
    Refused {
        /// Which step of the batch.
        what: String,
        /// The reason.
        errno: Errno,
    },
    /// What the kernel has is not what was planned.
    #[error("the rules in force are not the planned ones: {0}")]
    Differs(String),
    /// Somebody else redirects before our rules see a packet.
    #[error("a foreign address translation comes before ours: {0}")]
    Foreign(String),
    /// The conversation with the kernel failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// Has this kernel `nf_tables` (loading its module if it can)? `Error::Missing` when not.
pub fn probe() -> Result<(), Error> {
    let ask_generation = Message {
        kind: SUBSYSTEM | GET_GENERATION,
        flags: ACK,
        header: netfilter_header(0, 0),
        attributes: Attributes::new(),
    };
    match open()?.transact(&[ask_generation], 0) {
        Ok(()) => Ok(()),
        Err(netlink::Error::Refused {
            errno: Errno::EINVAL, ..
        }) => Err(Error::Missing("nf_tables".to_owned())),
        Err(netlink::Error::Refused { errno, .. }) => Err(verdict("nf_tables".to_owned(), errno)),
        Err(error) => Err(error.into()),
    }
}

/// Puts the rules in force, all or nothing; rules of an earlier run are replaced.
pub fn load(ruleset: &Ruleset) -> Result<(), Error> {
    let steps = batch::batch(ruleset);
    let messages: Vec<Message> = steps.iter().map(|step| step.message.clone()).collect();
    // The last but one asks for the acknowledgement: nothing answers the end of a batch.
    let awaited = u32::try_from(messages.len().saturating_sub(2)).unwrap_or(u32::MAX);
    match open()?.transact(&messages, awaited) {
        Ok(()) => Ok(()),
        Err(netlink::Error::Refused { sequence, errno }) => {
            let step = usize::try_from(sequence).ok().and_then(|index| steps.get(index));
            let what = step.map_or_else(|| "batch".to_owned(), |step| step.what.clone());
            Err(verdict(what, errno))
        }
        Err(error) => Err(error.into()),
    }
}

fn open() -> Result<Socket, Error> {
    match Socket::open(SockProtocol::NetlinkNetFilter) {
        Err(netlink::Error::Open(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)) => {
            Err(Error::Missing("netlink for netfilter".to_owned()))
        }
        other => Ok(other?),
    }
}

/// What an errno says about a step: a missing kernel module answers ENOENT, a missing subsystem EOPNOTSUPP.
fn verdict(what: String, errno: Errno) -> Error {
    if [Errno::EPERM, Errno::EACCES].contains(&errno) {
        return Error::Permission;
    }
    if [Errno::ENOENT, Errno::EOPNOTSUPP, Errno::EPROTONOSUPPORT].contains(&errno) {
        return Error::Missing(what);
    }
    Error::Refused { what, errno }
}

const GET_GENERATION: u16 = 16;

#[cfg(test)]
mod tests;
