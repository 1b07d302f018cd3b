//! Brings `lo` up in a new network namespace, as steps without a network expect it.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `lo` is always the first link.
const LO: i32 = 1;
const RTM_NEWLINK: u16 = 16;
const REQUEST_AND_ACK: u16 = 1 | 4;
const IFF_UP: u32 = 1;
const NLMSG_ERROR: u16 = 2;
/// Header (16), `ifinfomsg` (16).
const LENGTH: u32 = 32;

/// Sets the flag that says so.
pub(crate) fn up() -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    sendto(
        socket.as_raw_fd(),
        &message(),
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 1024];
    let count = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match refusal(&answer[..count]) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's answer is none")),
    }
}

fn message() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(RTM_NEWLINK.to_ne_bytes());
    bytes.extend(REQUEST_AND_ACK.to_ne_bytes());
    // Sequence number, sender; family and padding, kind of link.
    bytes.extend([0; 8]);
    bytes.extend([0; 4]);
    bytes.extend(LO.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes
}

/// The error number in an acknowledgement; 0 is success.
fn refusal(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(code)
}
