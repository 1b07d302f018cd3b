//! Does a hello carry an encrypted one (ECH, extension 0xfe0d)? Browsers always send such an extension, real or not, so
//! only hosts that say so refuse it.

/// The bytes are a hello that was understood already; what cannot be followed here counts as encrypted.
pub(super) fn is_sent(bytes: &[u8]) -> bool {
    find(&handshake(bytes)).unwrap_or(true)
}

/// What the records carry, joined.
fn handshake(mut records: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    while let [HANDSHAKE, _, _, high, low, rest @ ..] = records {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (fragment, after) = rest.split_at(length);
        joined.extend_from_slice(fragment);
        records = after;
    }
    joined
}

fn find(message: &[u8]) -> Option<bool> {
    let (_kind, rest) = message.split_first()?;
    let (_length, rest) = rest.split_at_checked(3)?;
    let (_version_and_random, rest) = rest.split_at_checked(2 + 32)?;
    let (_session, rest) = vector::<1>(rest)?;
    let (_suites, rest) = vector::<2>(rest)?;
    let (_compressions, rest) = vector::<1>(rest)?;
    if rest.is_empty() {
        return Some(false);
    }
    let (mut extensions, _) = vector::<2>(rest)?;
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_at_checked(2)?;
        if kind == ENCRYPTED {
            return Some(true);
        }
        (_, extensions) = vector::<2>(rest)?;
    }
    Some(false)
}

/// Bytes after a length of `N` bytes, and what follows them.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(N)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

const HANDSHAKE: u8 = 22;
const ENCRYPTED: &[u8] = &[0xfe, 0x0d];

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with these extensions, in records of at most `piece` bytes.
    fn hello(extensions: &[(u16, &[u8])], piece: usize) -> Vec<u8> {
        let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        let mut listed = Vec::new();
        for (kind, body) in extensions {
            listed.extend(kind.to_be_bytes());
            listed.extend(length(body.len()));
            listed.extend_from_slice(body);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(length(listed.len()));
        body.extend(listed);
        let mut message = vec![1, 0];
        message.extend(length(body.len()));
        message.extend(body);
        let mut records = Vec::new();
        for fragment in message.chunks(piece) {
            records.extend([22, 3, 1]);
            records.extend(length(fragment.len()));
            records.extend_from_slice(fragment);
        }
        records
    }

    #[test]
    fn the_extension_is_found_wherever_it_is() {
        let name: (u16, &[u8]) = (0, b"name");
        let ech: (u16, &[u8]) = (0xfe0d, b"inner");
        for piece in [1, 5, 16_000] {
            assert!(is_sent(&hello(&[name, ech], piece)));
            assert!(is_sent(&hello(&[ech, name], piece)));
            assert!(!is_sent(&hello(&[name, (0x000d, b"\xfe\x0d")], piece)));
        }
    }

    #[test]
    fn what_cannot_be_followed_counts_as_encrypted() {
        let whole = hello(&[(0, b"name")], 16_000);
        assert!(is_sent(&whole[..whole.len() - 3]));
        assert!(is_sent(b""));
    }
}
