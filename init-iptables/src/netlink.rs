//! Netlink by hand: attributes, messages, and a socket that sends them and reads the answers. It knows neither packet
//! rules nor routes.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
            sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// Why the kernel was not told, or did not agree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such socket: the kernel lacks the protocol.
    #[error("netlink socket: {0}")]
    Open(Errno),
    /// Sending failed.
    #[error("sending to netlink: {0}")]
    Send(Errno),
    /// No answer, or none in time.
    #[error("reading from netlink: {0}")]
    Receive(Errno),
    /// The kernel's answer cannot be read.
    #[error("malformed netlink answer")]
    Malformed,
    /// The kernel refused the message with this number.
    #[error("the kernel refused message {sequence}: {errno}")]
    Refused {
        /// Which message.
        sequence: u32,
        /// The reason.
        errno: Errno,
    },
}

/// Attributes (type, length, value), each padded to four bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds raw bytes.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number in network order, as `nf_tables` wants.
    #[must_use]
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text with its closing zero.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds attributes inside an attribute.
    #[must_use]
    pub fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// As sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One attribute that was read.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its type, without flags.
    pub kind: u16,
    /// Says of itself that it holds attributes (the kernel does not always say so).
    pub nested: bool,
    /// Its value.
    pub value: &'a [u8],
}

/// Splits a value into its attributes.
pub fn attributes(mut bytes: &[u8]) -> Result<Vec<Attribute<'_>>, Error> {
    let mut found = Vec::new();
    while bytes.len() >= HEADER {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]);
        let value = bytes.get(HEADER..length).ok_or(Error::Malformed)?;
        found.push(Attribute {
            kind: kind & !(NESTED | NETWORK_ORDER),
            nested: kind & NESTED != 0,
            value,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// A message: type, flags, the protocol's own header, attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags` beside `NLM_F_REQUEST`.
    pub flags: u16,
    /// The fixed header of the protocol.
    pub header: Vec<u8>,
    /// What follows it.
    pub attributes: Attributes,
}

impl Message {
    /// As sent, with its number in the conversation.
    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let body = [self.header.as_slice(), self.attributes.as_bytes()].concat();
        let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(MESSAGE_HEADER + body.len());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(body);
        bytes
    }
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `nlmsg_type`.
    pub kind: u16,
    /// Which request it answers.
    pub sequence: u32,
    /// Everything after the netlink header.
    pub body: Vec<u8>,
}

/// A netlink socket with a read deadline.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket of `protocol`.
    pub fn open(protocol: SockProtocol) -> Result<Self, Error> {
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .map_err(Error::Open)?;
        socket::setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS)).map_err(Error::Open)?;
        Ok(Self { fd })
    }

    /// Sends `messages` as one datagram, numbered from 0, and waits until the message `awaited` is acknowledged or one
    /// is refused.
    pub fn transact(&self, messages: &[Message], awaited: u32) -> Result<(), Error> {
        let bytes: Vec<u8> = (0_u32..)
            .zip(messages)
            .flat_map(|(sequence, message)| message.encode(sequence))
            .collect();
        self.send(&bytes)?;
        loop {
            for reply in self.receive()? {
                if reply.kind == ERROR {
                    acknowledged(&reply)?;
                    if reply.sequence == awaited {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends one question and gives all parts of the answer up to the closing message.
    pub fn ask(&self, message: &Message) -> Result<Vec<Reply>, Error> {
        self.send(&message.encode(0))?;
        let mut parts = Vec::new();
        loop {
            for reply in self.receive()? {
                match reply.kind {
                    DONE => return Ok(parts),
                    ERROR => {
                        acknowledged(&reply)?;
                        return Ok(parts);
                    }
                    _ => parts.push(reply),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let kernel = NetlinkAddr::new(0, 0);
        socket::sendto(self.fd.as_raw_fd(), bytes, &kernel, MsgFlags::empty())
            .map(drop)
            .map_err(Error::Send)
    }

    fn receive(&self) -> Result<Vec<Reply>, Error> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let length =
            socket::recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(Error::Receive)?;
        replies(&buffer[..length])
    }
}

fn replies(mut bytes: &[u8]) -> Result<Vec<Reply>, Error> {
    let mut found = Vec::new();
    while bytes.len() >= MESSAGE_HEADER {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let length = usize::try_from(word(0)).map_err(|_| Error::Malformed)?;
        let body = bytes.get(MESSAGE_HEADER..length).ok_or(Error::Malformed)?;
        found.push(Reply {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            sequence: word(8),
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

fn acknowledged(reply: &Reply) -> Result<(), Error> {
    let code = reply.body.first_chunk::<4>().ok_or(Error::Malformed)?;
    match i32::from_ne_bytes(*code) {
        0 => Ok(()),
        code => Err(Error::Refused {
            sequence: reply.sequence,
            errno: Errno::from_raw(code.saturating_neg()),
        }),
    }
}

const NETFILTER_VERSION: u8 = 0;
const HEADER: usize = 4;
const MESSAGE_HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const NETWORK_ORDER: u16 = 0x4000;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Asks for an answer also when all went well.
pub const ACK: u16 = 4;
/// Asks for everything there is.
pub const DUMP: u16 = 0x300;
/// Makes what is not there.
pub const CREATE: u16 = 0x400;
/// Puts it behind what is there.
pub const APPEND: u16 = 0x800;
/// Replaces what is there.
pub const REPLACE: u16 = 0x100;
/// A dump's datagram is 32 KiB at most.
const RECEIVE_BYTES: usize = 64 * 1024;
/// The kernel answers in milliseconds; this only keeps a broken one from hanging a sandbox.
const ANSWER_SECONDS: i64 = 5;

/// `nfgenmsg`, the header of every netfilter message.
pub fn netfilter_header(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, NETFILTER_VERSION, high, low]
}
