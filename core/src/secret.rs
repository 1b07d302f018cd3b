//! Secret values of an evaluation. They never enter a sandbox: the workload holds a placeholder, and the proxy replaces it
//! in one header of the requests to one host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, egress::HostName, id::RunId, upstream::Secret};

/// A value that a `${NAME}` template may name, without the workload ever getting it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// The value: 8 to 8192 printable ASCII characters, no space at either end.
    pub value: Secret,
    /// The only host that gets it. A phase must be allowed to reach it by itself; this widens nothing.
    pub host: HostName,
    /// The only header that it is put into, in lower case.
    #[serde(default = "authorization")]
    pub header: String,
}

/// What the proxy of one sandbox is told about a [`SecretValue`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injection {
    /// What the workload holds.
    pub placeholder: String,
    /// What the host gets in its place.
    pub value: Secret,
    /// The host.
    pub host: HostName,
    /// The header, in lower case.
    pub header: String,
}

/// Why a secret value cannot be taken. None of these repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Too short to be told from chance in an answer, too long for a header, or not sendable.
    #[error(
        "value: want {LEAST_LENGTH} to {MOST_LENGTH} printable ASCII characters without a space at either end"
    )]
    Value,
    /// Not a header name, or one that decides where a request ends or goes.
    #[error("header: `{0}` is no header that a value can be put into")]
    Header(String),
}

impl SecretValue {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The value or the header cannot be used.
    pub fn check(&self) -> Result<(), InvalidSecret> {
        let value = self.value.expose();
        let is_printable = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        if !(LEAST_LENGTH..=MOST_LENGTH).contains(&value.len()) || !is_printable || value.trim() != value {
            return Err(InvalidSecret::Value);
        }
        let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let header = self.header.as_str();
        let is_name = (1..=64).contains(&header.len()) && header.bytes().all(is_token);
        if !is_name || FRAMING.contains(&header) || header.starts_with("proxy-") {
            return Err(InvalidSecret::Header(self.header.clone()));
        }
        Ok(())
    }

    /// What the proxy is told.
    pub fn injection(&self, run: RunId, name: &str) -> Injection {
        Injection {
            placeholder: placeholder(run, name),
            value: self.value.clone(),
            host: self.host.clone(),
            header: self.header.clone(),
        }
    }
}

/// What the workload of a run holds in place of the value `name`: the same in every attempt, unlike anything else.
pub fn placeholder(run: RunId, name: &str) -> String {
    let digest = Digest::of(format!("assay placeholder\n{run}\n{name}")).hex();
    format!("assay-placeholder-{}", &digest[..32])
}

/// The values that the templates of a run are resolved from: those that may be seen, and placeholders for the others.
pub fn visible(
    run: RunId,
    values: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, SecretValue>,
) -> BTreeMap<String, String> {
    let placeholders = secrets.keys().map(|name| (name.clone(), placeholder(run, name)));
    values
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .chain(placeholders)
        .collect()
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// Shorter ones would be found in answers by chance, and blanked.
const LEAST_LENGTH: usize = 8;
const MOST_LENGTH: usize = 8_192;
/// Headers that the proxy writes itself, or that belong to one connection.
const FRAMING: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "range",
    "accept-encoding",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str, header: &str) -> SecretValue {
        SecretValue {
            value: Secret::new(value),
            host: "api.example.com".parse().unwrap(),
            header: header.to_owned(),
        }
    }

    #[test]
    fn only_what_can_be_sent_and_recognised_is_taken() {
        assert_eq!(secret("0123456789", "x-api-key").check(), Ok(()));
        for value in [
            "short",
            "with\nnewline!",
            " padded-value",
            "padded-value ",
            "ümlaut-value",
            &"x".repeat(9_000),
        ] {
            assert_eq!(
                secret(value, "authorization").check(),
                Err(InvalidSecret::Value),
                "{value}"
            );
        }
        for header in [
            "",
            "Authorization",
            "host",
            "content-length",
            "proxy-authorization",
            "a b",
            "a:b",
        ] {
            let refused = secret("0123456789", header).check();
            assert_eq!(refused, Err(InvalidSecret::Header(header.to_owned())));
        }
    }

    #[test]
    fn a_placeholder_is_the_runs_own_and_says_nothing_of_the_value() {
        let run = |number| RunId(uuid::Uuid::from_u128(number));
        let secrets = BTreeMap::from([("TOKEN".to_owned(), secret("the-value-itself", "authorization"))]);
        let values = BTreeMap::from([("OPEN".to_owned(), "seen".to_owned())]);
        let visible = visible(run(1), &values, &secrets);
        assert_eq!(visible["OPEN"], "seen");
        assert_eq!(
            visible["TOKEN"],
            secrets["TOKEN"].injection(run(1), "TOKEN").placeholder
        );
        assert_ne!(placeholder(run(1), "TOKEN"), placeholder(run(2), "TOKEN"));
        assert_ne!(placeholder(run(1), "TOKEN"), placeholder(run(1), "OTHER"));
        assert!(!format!("{secrets:?}").contains("the-value"));
    }

    #[test]
    fn the_header_is_authorization_where_none_is_named() {
        let json = r#"{"value": "0123456789", "host": "api.example.com"}"#;
        let read: SecretValue = serde_json::from_str(json).unwrap();
        assert_eq!(read.header, "authorization");
        assert!(
            serde_json::from_str::<SecretValue>(r#"{"value": "0123456789", "host": "*.example.com"}"#)
                .is_err()
        );
    }
}
