//! Credentials as Kubernetes and Docker keep them: `.dockerconfigjson`.

use std::collections::BTreeMap;

use assay_core::upstream::Secret;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

/// A file of credentials that is none.
#[derive(Debug, thiserror::Error)]
#[error("no .dockerconfigjson: {0}")]
pub struct Unreadable(String);

#[derive(Deserialize)]
struct File {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// From a registry's host to user and password.
pub fn logins(text: &str) -> Result<BTreeMap<String, (String, Secret)>, Unreadable> {
    let file: File = serde_json::from_str(text).map_err(|error| Unreadable(error.to_string()))?;
    let each = file.auths.into_iter().map(|(host, entry)| {
        let pair = entry
            .pair()
            .ok_or_else(|| Unreadable(format!("the entry of {host} has no user and password")))?;
        Ok((plain(&host), pair))
    });
    each.collect()
}

impl Entry {
    fn pair(self) -> Option<(String, Secret)> {
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let decoded = String::from_utf8(BASE64_STANDARD.decode(auth).ok()?).ok()?;
            let (user, password) = decoded.split_once(':')?;
            return Some((user.to_owned(), Secret::new(password)));
        }
        Some((self.username?, Secret::new(self.password?)))
    }
}

/// Docker Hub's entry has the address of its old index.
fn plain(host: &str) -> String {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6YTpi"},
            "r:5000": {"username": "you", "password": "c"}}}"#;
        let found = logins(text).unwrap();
        let pair = |host: &str| {
            let (user, password) = &found[host];
            format!("{user} {}", password.expose())
        };
        assert_eq!(pair("docker.io"), "me a:b");
        assert_eq!(pair("r:5000"), "you c");
        assert!(logins(r#"{"auths": {"r": {}}}"#).is_err());
        assert!(logins("{}").is_err());
    }
}
