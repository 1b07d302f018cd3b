//! What the operator has set up: model services, prices, defaults and maxima. Read once at start.

use std::{collections::BTreeSet, path::Path};

use assay_core::{
    limits::LimitSettings,
    policy::Policy,
    price::{ModelSlug, PriceTable},
    upstream::Upstream,
};
use serde::Deserialize;

/// The file that `--upstreams` names.
///
/// ```toml
/// [prices]
/// version = "2026-11-20"
/// [prices.models."openai/gpt-5-mini"]
/// input = "0.00000025"
/// output = "0.000002"
/// context_tokens = 400000
/// max_output_tokens = 128000
///
/// [[upstreams]]
/// host = "openrouter.ai"
/// base_path = "/api/v1"
/// dialect = "open_router"
/// models = ["openai/gpt-5-mini"]
/// credential = "…"
/// ```
///
/// `docs/MODELS.md` has an example of every field.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    /// Model services.
    pub upstreams: Vec<Upstream>,
    /// The price table.
    pub prices: PriceTable,
    /// Defaults and maxima of limits.
    pub limits: LimitSettings,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no valid TOML of this shape.
    #[error("{path}: {message}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

/// Why a policy's models cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// No price is known.
    #[error("model {0} has no price; ask the operator to add it or choose another")]
    Unpriced(ModelSlug),
    /// No model service serves it.
    #[error("model {0} is served by no model service of this installation")]
    NoUpstream(ModelSlug),
}

impl Catalogue {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = || path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: name(), source })?;
        toml::from_str(&text).map_err(|error| Error::Malformed {
            path: name(),
            message: error.to_string(),
        })
    }

    /// The prices of a policy's models, to be frozen into its evaluation.
    pub fn freeze(&self, policy: &Policy) -> Result<PriceTable, Unserved> {
        let mut frozen = PriceTable {
            version: self.prices.version.clone(),
            ..PriceTable::default()
        };
        for model in models(policy) {
            let price = self.prices.models.get(model).filter(|price| price.is_known());
            let price = price.ok_or_else(|| Unserved::Unpriced(model.clone()))?;
            if !self
                .upstreams
                .iter()
                .any(|upstream| upstream.models.contains(model))
            {
                return Err(Unserved::NoUpstream(model.clone()));
            }
            frozen.models.insert(model.clone(), price.clone());
        }
        Ok(frozen)
    }

    /// The model services of a policy's models, each with these models only, as a worker may know them.
    pub fn serving(&self, policy: &Policy) -> Vec<Upstream> {
        let mut serving = self.asked_by(policy);
        for upstream in &mut serving {
            upstream.workspace = None;
        }
        serving
    }

    /// The model services of a policy's models, each with these models only.
    pub fn asked_by(&self, policy: &Policy) -> Vec<Upstream> {
        let wanted: BTreeSet<&ModelSlug> = models(policy).collect();
        let narrow = |upstream: &Upstream| {
            let mut upstream = upstream.clone();
            upstream.models.retain(|model| wanted.contains(model));
            (!upstream.models.is_empty()).then_some(upstream)
        };
        self.upstreams.iter().filter_map(narrow).collect()
    }
}

fn models(policy: &Policy) -> impl Iterator<Item = &ModelSlug> {
    policy.models.allow.iter().chain(&policy.verifier.models)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [prices]
        version = "v1"
        [prices.models."a/priced"]
        input = "0.000001"
        output = "0.000002"
        context_tokens = 1000
        max_output_tokens = 100
        [prices.models."a/zero"]
        input = "0"
        output = "0"
        context_tokens = 1000
        max_output_tokens = 100
        [prices.models."a/nowhere"]
        input = "1"
        output = "1"
        context_tokens = 1000
        max_output_tokens = 100
        [[upstreams]]
        host = "models.example.com"
        base_path = "/v1"
        dialect = "open_ai"
        models = ["a/priced", "a/zero", "a/unlisted"]
        credential = "key"
        workspace = { id = "w", management_key = "mk" }
    "#;

    fn policy(model: &str) -> Policy {
        let mut policy = Policy::default();
        policy.models.allow.insert(model.parse().unwrap());
        policy
    }

    #[test]
    fn a_model_without_a_price_or_a_service_is_refused() {
        let catalogue: Catalogue = toml::from_str(FILE).unwrap();
        assert_eq!(catalogue.freeze(&policy("a/priced")).unwrap().models.len(), 1);
        for (model, unpriced) in [("a/zero", true), ("a/unlisted", true), ("a/nowhere", false)] {
            let refused = catalogue.freeze(&policy(model)).unwrap_err();
            assert_eq!(matches!(refused, Unserved::Unpriced(_)), unpriced, "{model}");
        }
    }

    #[test]
    fn a_run_gets_only_the_services_of_its_models() {
        let catalogue: Catalogue = toml::from_str(FILE).unwrap();
        assert!(catalogue.serving(&Policy::default()).is_empty());
        let serving = catalogue.serving(&policy("a/priced"));
        assert_eq!((serving[0].models.len(), &serving[0].workspace), (1, &None));
        assert!(catalogue.upstreams[0].workspace.is_some());
    }
}
