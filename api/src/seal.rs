//! Seals the seeds of sandboxes and the secret values of evaluations, so that a copy of the database opens neither.

use assay_core::digest::{Digest, unhex};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use uuid::Uuid;

/// The key of the control plane: 32 bytes, the same on every replica.
pub struct SealKey(RandomizedNonceKey);

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is not 64 hexadecimal digits.
    #[error("the seal key is not 64 hexadecimal digits")]
    InvalidKey,
    /// The cipher refused; for opening: another key, another row, or damage.
    #[error("the seal of row {0} is broken or was made with another key")]
    Broken(Uuid),
}

impl SealKey {
    /// Reads a key of 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = unhex(text.trim()).filter(|bytes| bytes.len() == 32);
        let bytes = bytes.ok_or(Error::InvalidKey)?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes)
            .map(Self)
            .map_err(|_| Error::InvalidKey)
    }

    /// Nonce and sealed bytes; bound to the row that they belong to.
    ///
    /// # Errors
    /// The cipher refused.
    pub fn seal(&self, row: Uuid, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(row.as_bytes()), &mut sealed)
            .map_err(|_| Error::Broken(row))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(bytes)
    }

    /// What was sealed.
    ///
    /// # Errors
    /// Another key, another row, or damage.
    pub fn open(&self, row: Uuid, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let broken = || Error::Broken(row);
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut sealed = sealed.to_vec();
        let secret = self
            .0
            .open_in_place(nonce, Aad::from(row.as_bytes()), &mut sealed)
            .map_err(|_| broken())?;
        Ok(secret.to_vec())
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// The hash under which a key's secret is kept.
pub fn key_hash(secret: &str) -> [u8; 32] {
    *Digest::of(secret).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_row_and_key_alone() {
        let (key, other) = (
            SealKey::parse(&"ab".repeat(32)).unwrap(),
            SealKey::parse(&"cd".repeat(32)).unwrap(),
        );
        let (mine, yours) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = key.seal(mine, &[7; 32]).unwrap();
        assert_ne!(sealed, key.seal(mine, &[7; 32]).unwrap());
        assert_eq!(key.open(mine, &sealed).unwrap(), [7; 32]);
        assert!(key.open(yours, &sealed).is_err());
        assert!(other.open(mine, &sealed).is_err());
        assert!(key.open(mine, &sealed[..20]).is_err());
    }

    #[test]
    fn short_keys_are_refused() {
        assert!(SealKey::parse("abcd").is_err());
    }
}
