//! Who a worker is: its name and its class, from what it shows and never from what it says.
//!
//! A pod of the cluster shows the token that its kubelet keeps fresh ([`token`]); [`keys`] holds the cluster's public keys.
//! Elsewhere a worker shows an API key, which may be bound to one name and class ([`crate::store::keys`]).

pub mod keys;
pub mod token;

use std::{path::PathBuf, str::FromStr};

use assay_core::clock::{Clock, SystemClock};

use self::{keys::Keys, token::Expected};

/// Which tokens of which cluster are taken, and for whom they stand.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "worker-identity")]
pub struct Settings {
    /// Issuer of the tokens that pods show as workers: their `iss`, letter by letter. None: keys only.
    #[arg(long, env = "ASSAY_WORKER_TOKEN_ISSUER", value_name = "URL", requires_all = ["worker_token_keys", "worker_identities"])]
    pub worker_token_issuer: Option<String>,
    /// Audience of those tokens.
    #[arg(
        long,
        env = "ASSAY_WORKER_TOKEN_AUDIENCE",
        value_name = "NAME",
        default_value = "assay"
    )]
    pub worker_token_audience: String,
    /// Where the issuer's public keys are (JWKS).
    #[arg(long, env = "ASSAY_WORKER_TOKEN_KEYS", value_name = "URL")]
    pub worker_token_keys: Option<String>,
    /// File with the certificate authority of that place, PEM, beside the public ones.
    #[arg(long, env = "ASSAY_WORKER_TOKEN_KEYS_CA", value_name = "FILE")]
    pub worker_token_keys_ca: Option<PathBuf>,
    /// File with the bearer token that this place asks for.
    #[arg(long, env = "ASSAY_WORKER_TOKEN_KEYS_BEARER", value_name = "FILE")]
    pub worker_token_keys_bearer: Option<PathBuf>,
    /// Which pods are workers, and of which class.
    #[arg(
        long = "worker-identity",
        env = "ASSAY_WORKER_IDENTITIES",
        value_delimiter = ',',
        value_name = "NAMESPACE/ACCOUNT/STATEFULSET=CLASS"
    )]
    pub worker_identities: Vec<Rule>,
}

/// The pods of one `StatefulSet` under one service account are workers of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    namespace: String,
    account: String,
    set: String,
    class: String,
}

/// No rule: what was wanted.
#[derive(Debug, thiserror::Error)]
#[error("want NAMESPACE/ACCOUNT/STATEFULSET=CLASS")]
pub struct NoRule;

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        let (pods, class) = text.trim().split_once('=').ok_or(NoRule)?;
        let parts: Vec<&str> = pods.split('/').collect();
        let [namespace, account, set] = parts.as_slice() else {
            return Err(NoRule);
        };
        if [namespace, account, set, &class]
            .iter()
            .any(|part| part.is_empty())
        {
            return Err(NoRule);
        }
        Ok(Self {
            namespace: (*namespace).to_owned(),
            account: (*account).to_owned(),
            set: (*set).to_owned(),
            class: class.to_owned(),
        })
    }
}

impl Rule {
    fn fits(&self, pod: &token::Pod) -> bool {
        let ordinal = pod.name.strip_prefix(&self.set);
        let ordinal = ordinal
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or_default();
        self.namespace == pod.namespace
            && self.account == pod.account
            && !ordinal.is_empty()
            && ordinal.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// A worker that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its one name.
    pub name: String,
    /// Which runs it may take.
    pub class: String,
}

/// Why a token opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token itself.
    #[error("the worker's token: {0}")]
    Token(#[from] token::Error),
    /// It is good, but its pod is no worker.
    #[error("pod {pod} of account {account} in {namespace} is no worker here")]
    Stranger {
        /// The pod.
        pod: String,
        /// Its account.
        account: String,
        /// Its namespace.
        namespace: String,
    },
    /// The issuer's keys cannot be had.
    #[error("the keys of the token's issuer: {0}")]
    Keys(#[from] keys::Error),
}

/// Checks tokens. Without an issuer in the settings there is none.
#[derive(Debug)]
pub struct Doorkeeper {
    expected: Expected,
    keys: Keys,
    rules: Vec<Rule>,
}

impl Doorkeeper {
    /// Of these settings.
    ///
    /// # Errors
    /// A file that they name cannot be read.
    pub fn new(settings: &Settings) -> Result<Option<Self>, keys::Error> {
        let (Some(issuer), Some(url)) = (&settings.worker_token_issuer, &settings.worker_token_keys) else {
            return Ok(None);
        };
        let authority = settings.worker_token_keys_ca.as_deref();
        Ok(Some(Self {
            expected: Expected {
                issuer: issuer.clone(),
                audience: settings.worker_token_audience.clone(),
            },
            keys: Keys::new(url, authority, settings.worker_token_keys_bearer.clone())?,
            rules: settings.worker_identities.clone(),
        }))
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// It is not good, its pod is no worker, or the issuer's keys cannot be had.
    pub async fn admit(&self, text: &str) -> Result<Identity, Error> {
        let token = token::Token::read(text)?;
        let key = self.keys.find(&token.key).await?;
        let key = key.ok_or_else(|| token::Error::UnknownKey(token.key.clone()))?;
        let pod = token.check(&key, &self.expected, SystemClock.now())?;
        let rule = self.rules.iter().find(|rule| rule.fits(&pod));
        let rule = rule.ok_or_else(|| Error::Stranger {
            pod: pod.name.clone(),
            account: pod.account.clone(),
            namespace: pod.namespace.clone(),
        })?;
        Ok(Identity {
            class: rule.class.clone(),
            name: pod.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_the_pods_of_one_set() {
        let rule: Rule = "assay-system/screener/screener-1=1".parse().unwrap();
        let fits = |namespace: &str, account: &str, name: &str| {
            rule.fits(&token::Pod {
                namespace: namespace.to_owned(),
                account: account.to_owned(),
                name: name.to_owned(),
            })
        };
        assert!(fits("assay-system", "screener", "screener-1-0"));
        assert!(fits("assay-system", "screener", "screener-1-12"));
        for (namespace, account, name) in [
            ("assay-system", "screener", "screener-12-0"),
            ("assay-system", "screener", "screener-1"),
            ("assay-system", "screener", "screener-1-x"),
            ("assay-system", "screener", "screener-1-0-0"),
            ("assay-system", "api", "screener-1-0"),
            ("default", "screener", "screener-1-0"),
        ] {
            assert!(!fits(namespace, account, name), "{namespace}/{account}/{name}");
        }
        for text in ["", "a/b=1", "a/b/c", "a/b/c/d=1", "a//c=1", "a/b/c="] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
