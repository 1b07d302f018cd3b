//! Takes the service's credential out of what the workload gets, wherever the service may have repeated it: as it is,
//! percent-encoded, and in base64. A piece of the credential at the end of a chunk is held back until it is known.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What must never be passed on.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<Finder<'static>>);

/// Scrubs one stream.
#[derive(Debug)]
pub struct Scrubber<'a> {
    secrets: &'a Secrets,
    held: BytesMut,
}

impl Secrets {
    /// Every form of a credential; none of an empty one.
    pub fn of(credential: &str) -> Self {
        Self::of_all([credential])
    }

    /// Every form of several.
    pub fn of_all<'c>(credentials: impl IntoIterator<Item = &'c str>) -> Self {
        let mut forms: Vec<Vec<u8>> = credentials.into_iter().flat_map(forms).collect();
        forms.sort();
        forms.dedup();
        Self(forms.iter().map(|form| Finder::new(form).into_owned()).collect())
    }

    /// Does a text contain one of the forms?
    pub fn are_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|form| form.find(text).is_some())
    }

    /// The same text with every form blanked out. Its length stays what it was.
    pub fn blank(&self, text: Bytes) -> Bytes {
        if !self.are_in(&text) {
            return text;
        }
        let mut clean = text.to_vec();
        for form in &self.0 {
            let found: Vec<usize> = form.find_iter(&clean).collect();
            for at in found {
                clean[at..at + form.needle().len()].fill(b'*');
            }
        }
        clean.into()
    }

    /// How many bytes at the end may be the begin of a secret.
    fn unsure(&self, text: &[u8]) -> usize {
        let most = |form: &Finder<'_>| {
            let needle = form.needle();
            let longest = text.len().min(needle.len() - 1);
            (1..=longest)
                .rev()
                .find(|length| needle.starts_with(&text[text.len() - length..]))
        };
        self.0.iter().filter_map(most).max().unwrap_or(0)
    }
}

impl<'a> Scrubber<'a> {
    /// With nothing seen.
    pub fn new(secrets: &'a Secrets) -> Self {
        Self {
            secrets,
            held: BytesMut::new(),
        }
    }

    /// What can be passed on after this chunk. The length of everything stays what it was.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let joined = if self.held.is_empty() {
            chunk
        } else {
            let mut held = self.held.split();
            held.extend_from_slice(&chunk);
            held.freeze()
        };
        let clean = self.secrets.blank(joined);
        let sure = clean.len() - self.secrets.unsure(&clean);
        self.held.extend_from_slice(&clean[sure..]);
        clean.slice(..sure)
    }

    /// What was held back, when nothing more comes.
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

fn forms(credential: &str) -> Vec<Vec<u8>> {
    let escaped = utf8_percent_encode(credential, UNRESERVED).to_string();
    let mut forms = vec![credential.as_bytes().to_vec(), escaped.into_bytes()];
    if credential.len() >= LEAST_FOR_BASE64 {
        forms.extend((0..3).flat_map(|skipped| base64(credential, skipped)));
    }
    forms.retain(|form| !form.is_empty());
    forms
}

/// The base64 of a text that follows `skipped` unknown bytes, in both alphabets, without the characters that depend on
/// its neighbours.
fn base64(text: &str, skipped: usize) -> [Vec<u8>; 2] {
    let mut bytes = vec![0; skipped];
    bytes.extend_from_slice(text.as_bytes());
    bytes.truncate(bytes.len() / 3 * 3);
    // Four characters for three bytes; those of the first group know the unknown bytes.
    let from = usize::from(skipped > 0) * 4;
    [STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|engine| engine.encode(&bytes).split_off(from).into_bytes())
}

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Shorter ones leave too few characters to be told from chance.
const LEAST_FOR_BASE64: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-or-v1-0123456789abcdef/+";

    fn scrub(text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let secrets = Secrets::of(KEY);
        let mut scrubber = Scrubber::new(&secrets);
        let (mut rest, mut out) = (text, Vec::new());
        for cut in cuts {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            out.extend(scrubber.push(Bytes::copy_from_slice(chunk)));
            rest = tail;
        }
        out.extend(scrubber.push(Bytes::copy_from_slice(rest)));
        out.extend(scrubber.finish());
        out
    }

    #[test]
    fn what_holds_no_secret_passes_without_being_copied() {
        let secrets = Secrets::of(KEY);
        let chunk = Bytes::from_static(b"data: {}\n\n");
        let passed = Scrubber::new(&secrets).push(chunk.clone());
        assert_eq!(passed.as_ptr(), chunk.as_ptr());
        assert!(Secrets::of("").0.is_empty());
    }

    #[test]
    fn every_form_is_blanked_in_its_length() {
        // What `printf 'x%s' KEY | base64` and its like print.
        let forms = [
            KEY.to_owned(),
            "sk-or-v1-0123456789abcdef%2F%2B".to_owned(),
            "QmVhcmVyIHNrLW9yLXYxLTAxMjM0NTY3ODlhYmNkZWYvKw==".to_owned(),
            "c2stb3ItdjEtMDEyMzQ1Njc4OWFiY2RlZi8r".to_owned(),
            "eHNrLW9yLXYxLTAxMjM0NTY3ODlhYmNkZWYvKw==".to_owned(),
            "eHhzay1vci12MS0wMTIzNDU2Nzg5YWJjZGVmLys=".to_owned(),
        ];
        for form in forms {
            let text = format!("before {form} after");
            let clean = String::from_utf8(scrub(text.as_bytes(), &[])).unwrap();
            assert_eq!(clean.len(), text.len());
            assert!(
                clean.contains("********************") && clean.starts_with("before "),
                "{clean}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_way_of_cutting_lets_a_secret_through(cuts in prop::collection::vec(1..30_usize, 0..20)) {
            let text = format!("sk-or-{KEY} and sk-{KEY}{KEY} s");
            let clean = scrub(text.as_bytes(), &cuts);
            prop_assert_eq!(&clean, &scrub(text.as_bytes(), &[]));
            prop_assert!(!String::from_utf8(clean).unwrap().contains(KEY));
        }
    }
}
