//! Model services that the operator has set up: where they are, how they speak, which key opens them.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{egress::HostName, price::ModelSlug};

/// One model service. The operator's word, never the policy's or the task's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The name that agents call and that the certificate carries.
    pub host: HostName,
    /// What the paths of its API begin with, e.g. `/api/v1` (OpenRouter) or `/v1`.
    pub base_path: String,
    /// How it speaks.
    pub dialect: Dialect,
    /// The models that it serves.
    pub models: BTreeSet<ModelSlug>,
    /// The key, put into `authorization` (Anthropic: `x-api-key`) by the proxy alone.
    pub credential: Secret,
    /// The providers that a router may choose from, e.g. `["azure", "openai"]`; any that keeps to the other rules when
    /// empty. OpenRouter only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub providers: BTreeSet<String>,
    /// Whether only providers that keep nothing may answer (zero data retention). OpenRouter only.
    #[serde(default = "yes")]
    pub zdr: bool,
    /// The workspace whose privacy settings are checked before work is handed out. OpenRouter only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// A fixed address instead of a lookup. It is exempt from the check that addresses are global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub address: Option<SocketAddr>,
    /// An extra root (PEM) for this host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// A workspace of a router, as seen by its management key. Stays with the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Its identifier.
    pub id: String,
    /// Reads the workspace's settings. Never leaves the control plane.
    pub management_key: Secret,
}

fn yes() -> bool {
    true
}

/// Which API a model service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Every API; usage with `cost` always sent; provider policy is forced.
    OpenRouter,
    /// Every API but messages; usage in a stream only when asked for; no cost.
    OpenAi,
    /// Messages only; no cost, cached tokens counted apart.
    Anthropic,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("host", &self.host)
            .field("dialect", &self.dialect)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}
