//! Signed requests. A sandbox holds the public key only, so there is nothing in it that could sign.
//!
//! Signed are version, sandbox, fence, nonce, deadline, boot id, method, path and content digest. The receiver
//! refuses a fence below the highest that it has seen, a nonce that it has seen, and a deadline that has passed on
//! its own monotonic clock. The deadline counts from the boot id that `/healthz` tells, so no clocks are compared.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    digest::{Digest, hex, unhex},
    id::{Fence, SandboxId},
};

/// The request header with the signature.
pub const AUTH_HEADER: &str = "assay-auth";
/// The request trailer that signs the content of a stream.
pub const AUTH_TRAILER: &str = "assay-auth-trailer";
/// The response header with the proxy's MAC.
pub const MAC_HEADER: &str = "assay-mac";
/// Longest life of a signature, milliseconds.
pub const MAX_LIFE_MS: u64 = 120_000;

/// What is signed about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which sandbox is meant.
    pub sandbox: SandboxId,
    /// The sender's fence.
    pub fence: Fence,
    /// Sixteen random bytes in hexadecimal, never used twice.
    pub nonce: String,
    /// On the receiver's monotonic clock, milliseconds since its boot.
    pub deadline_ms: u64,
    /// Which boot of the receiver is meant.
    pub boot: String,
    /// The content's digest; `None` for a stream, whose digest comes as a signed trailer.
    pub content: Option<Digest>,
}

/// The private half, held by the control plane: 32 random bytes made at claim, sealed in the attempt's row.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// From the sandbox's seed.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(seed),
        }
    }

    /// The public half, hexadecimal, for the sandbox.
    pub fn public_key(&self) -> String {
        hex(self.key.verifying_key().as_bytes())
    }

    /// The key of the proxy's MAC. Only the proxy and the holder of the seed have it.
    pub fn mac_key(&self) -> [u8; 32] {
        mac(&self.key.to_bytes(), &[b"assay proxy mac v1"])
    }

    /// The value of [`AUTH_HEADER`] for a request.
    pub fn authorize(&self, claim: &Claim, method: &str, path: &str) -> String {
        let payload = serde_json::to_vec(claim).unwrap_or_default();
        let signature = self.key.sign(&signed_text(&payload, method, path));
        format!(
            "v1.{}.{}",
            URL_SAFE_NO_PAD.encode(payload),
            URL_SAFE_NO_PAD.encode(signature.to_bytes())
        )
    }

    /// The value of [`AUTH_TRAILER`] for a stream whose header carried `nonce`.
    pub fn authorize_content(&self, nonce: &str, content: &Digest) -> String {
        let signature = self.key.sign(trailer_text(nonce, content).as_bytes());
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No header, or not of this form.
    #[error("missing or malformed authorization")]
    Malformed,
    /// Signed by another key, or for another request.
    #[error("the signature does not fit the request")]
    BadSignature,
    /// Another sandbox or another boot is meant.
    #[error("meant for another sandbox or boot")]
    WrongReceiver,
    /// The deadline has passed or lies too far ahead.
    #[error("expired, or valid for too long")]
    Expired,
    /// A newer holder of the lease has spoken.
    #[error("a newer fence has been seen")]
    StaleFence,
    /// The nonce was used before.
    #[error("seen before")]
    Replayed,
    /// The content is not what was signed.
    #[error("the content is not what was signed")]
    WrongContent,
}

/// The receiver's side: pure state, no clock of its own.
#[derive(Debug)]
pub struct Gate {
    key: VerifyingKey,
    sandbox: SandboxId,
    boot: String,
    fence: Fence,
    seen: BTreeMap<String, u64>,
}

impl Gate {
    /// For the public key that the sandbox was given; `None` when it is no key.
    pub fn new(public_key: &str, sandbox: SandboxId, boot: String, fence: Fence) -> Option<Self> {
        let bytes: [u8; 32] = unhex(public_key)?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&bytes).ok()?;
        Some(Self {
            key,
            sandbox,
            boot,
            fence,
            seen: BTreeMap::new(),
        })
    }

    /// Checks a request and remembers its nonce and fence. `now_ms` is monotonic since this boot.
    ///
    /// The content itself is checked by the caller against [`Claim::content`] or by [`Self::admit_content`].
    pub fn admit(&mut self, now_ms: u64, header: &str, method: &str, path: &str) -> Result<Claim, Refusal> {
        let (payload, signature) = decode(header).ok_or(Refusal::Malformed)?;
        self.key
            .verify(&signed_text(&payload, method, path), &signature)
            .map_err(|_| Refusal::BadSignature)?;
        let claim: Claim = serde_json::from_slice(&payload).map_err(|_| Refusal::Malformed)?;
        if claim.sandbox != self.sandbox || claim.boot != self.boot {
            return Err(Refusal::WrongReceiver);
        }
        if claim.deadline_ms < now_ms || claim.deadline_ms > now_ms.saturating_add(MAX_LIFE_MS) {
            return Err(Refusal::Expired);
        }
        if claim.fence < self.fence {
            return Err(Refusal::StaleFence);
        }
        self.seen.retain(|_, deadline_ms| *deadline_ms >= now_ms);
        if self.seen.insert(claim.nonce.clone(), claim.deadline_ms).is_some() {
            return Err(Refusal::Replayed);
        }
        self.fence = claim.fence;
        Ok(claim)
    }

    /// Checks the signed trailer of a stream against the digest of what arrived.
    pub fn admit_content(&self, nonce: &str, trailer: &str, arrived: &Digest) -> Result<(), Refusal> {
        let (digest, signature) = trailer.split_once('.').ok_or(Refusal::Malformed)?;
        let signature = decode_signature(signature).ok_or(Refusal::Malformed)?;
        let signed: Digest = digest.parse().map_err(|_| Refusal::Malformed)?;
        self.key
            .verify(trailer_text(nonce, &signed).as_bytes(), &signature)
            .map_err(|_| Refusal::BadSignature)?;
        if signed == *arrived {
            Ok(())
        } else {
            Err(Refusal::WrongContent)
        }
    }

    /// The highest fence seen.
    pub fn fence(&self) -> Fence {
        self.fence
    }
}

/// The MAC of an answer of the proxy: over the request's nonce, the status and the body. Hexadecimal.
pub fn response_mac(key: &[u8; 32], nonce: &str, status: u16, body: &[u8]) -> String {
    hex(&mac(
        key,
        &[
            nonce.as_bytes(),
            b"\n",
            status.to_string().as_bytes(),
            b"\n",
            Digest::of(body).hex().as_bytes(),
        ],
    ))
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable_key()
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[expect(clippy::unreachable, reason = "HMAC takes keys of every length")]
fn unreachable_key() -> ! {
    unreachable!("HMAC takes keys of every length")
}

fn signed_text(payload: &[u8], method: &str, path: &str) -> Vec<u8> {
    [
        b"assay request v1\n",
        method.as_bytes(),
        b"\n",
        path.as_bytes(),
        b"\n",
        payload,
    ]
    .concat()
}

fn trailer_text(nonce: &str, content: &Digest) -> String {
    format!("assay content v1\n{nonce}\n{content}")
}

fn decode(header: &str) -> Option<(Vec<u8>, Signature)> {
    let (payload, signature) = header.strip_prefix("v1.")?.split_once('.')?;
    Some((
        URL_SAFE_NO_PAD.decode(payload).ok()?,
        decode_signature(signature)?,
    ))
}

fn decode_signature(text: &str) -> Option<Signature> {
    Some(Signature::from_bytes(
        &URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const BOOT: &str = "b1";

    fn claim(fence: u64, nonce: &str) -> Claim {
        let sandbox = SandboxId(Uuid::from_u128(7));
        Claim {
            sandbox,
            fence: Fence(fence),
            nonce: nonce.to_owned(),
            deadline_ms: 5_000,
            boot: BOOT.to_owned(),
            content: None,
        }
    }

    fn gate(signer: &Signer) -> Gate {
        Gate::new(
            &signer.public_key(),
            SandboxId(Uuid::from_u128(7)),
            BOOT.to_owned(),
            Fence(3),
        )
        .unwrap()
    }

    #[test]
    fn a_signed_request_passes_once() {
        let signer = Signer::new(&[1; 32]);
        let mut gate = gate(&signer);
        let header = signer.authorize(&claim(3, "n1"), "POST", "/v1/execute");
        assert_eq!(
            gate.admit(1_000, &header, "POST", "/v1/execute").unwrap().nonce,
            "n1"
        );
        assert_eq!(
            gate.admit(1_000, &header, "POST", "/v1/execute"),
            Err(Refusal::Replayed)
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let signer = Signer::new(&[1; 32]);
        let mut gate = gate(&signer);
        let sign = |claim: &Claim| signer.authorize(claim, "POST", "/v1/execute");
        let mut admit = |header: &str, now: u64| gate.admit(now, header, "POST", "/v1/execute").map(|_| ());
        assert_eq!(admit("", 0), Err(Refusal::Malformed));
        assert_eq!(
            admit(
                &Signer::new(&[2; 32]).authorize(&claim(3, "a"), "POST", "/v1/execute"),
                0
            ),
            Err(Refusal::BadSignature)
        );
        assert_eq!(
            admit(&signer.authorize(&claim(3, "a"), "POST", "/v1/shutdown"), 0),
            Err(Refusal::BadSignature)
        );
        assert_eq!(
            admit(
                &sign(&Claim {
                    boot: "b0".to_owned(),
                    ..claim(3, "a")
                }),
                0
            ),
            Err(Refusal::WrongReceiver)
        );
        assert_eq!(admit(&sign(&claim(3, "a")), 5_001), Err(Refusal::Expired));
        assert_eq!(
            admit(
                &sign(&Claim {
                    deadline_ms: MAX_LIFE_MS + 2,
                    ..claim(3, "a")
                }),
                1
            ),
            Err(Refusal::Expired)
        );
        assert_eq!(admit(&sign(&claim(2, "a")), 0), Err(Refusal::StaleFence));
        assert_eq!(admit(&sign(&claim(4, "a")), 0), Ok(()));
        assert_eq!(admit(&sign(&claim(3, "b")), 0), Err(Refusal::StaleFence));
    }

    #[test]
    fn a_stream_is_bound_to_its_trailer() {
        let signer = Signer::new(&[1; 32]);
        let gate = gate(&signer);
        let content = Digest::of("tar");
        let trailer = signer.authorize_content("n1", &content);
        assert_eq!(gate.admit_content("n1", &trailer, &content), Ok(()));
        assert_eq!(
            gate.admit_content("n2", &trailer, &content),
            Err(Refusal::BadSignature)
        );
        assert_eq!(
            gate.admit_content("n1", &trailer, &Digest::of("other")),
            Err(Refusal::WrongContent)
        );
    }

    #[test]
    fn the_mac_depends_on_nonce_status_and_body() {
        let key = Signer::new(&[1; 32]).mac_key();
        let mac = response_mac(&key, "n", 200, b"body");
        assert_eq!(mac, response_mac(&key, "n", 200, b"body"));
        for other in [
            response_mac(&key, "m", 200, b"body"),
            response_mac(&key, "n", 201, b"body"),
            response_mac(&key, "n", 200, b"bodY"),
        ] {
            assert_ne!(mac, other);
        }
    }
}
