//! What the proxy has its own word on: these fields of a request are never the workload's.

use assay_core::{
    control::proxy::Purse,
    id::RunId,
    money::PicoUsd,
    price::ModelSlug,
    upstream::{Dialect, Upstream},
};

use super::{
    bound::Prices,
    json::Json,
    spec::{Api, Seeded},
};

/// All that our own fields depend on.
pub struct Own<'a> {
    /// Sent as the user's name, so that caches of runs stay apart.
    pub run: RunId,
    /// The rules of the phase.
    pub purse: &'a Purse,
    /// Where the request goes.
    pub upstream: &'a Upstream,
    /// The API.
    pub api: Api,
    /// The models that may answer.
    pub models: &'a [ModelSlug],
    /// What they cost at most.
    pub prices: &'a Prices,
    /// Whether the answer comes as a stream.
    pub stream: bool,
    /// Images in the request.
    pub images: u64,
}

impl Own<'_> {
    /// Writes our fields into a body that has none of them.
    pub fn write(&self, body: &mut Vec<(String, Json)>) {
        let dialect = self.upstream.dialect;
        let mut set = |key: &str, value: Json| {
            body.retain(|(name, _)| name != key);
            body.push((key.to_owned(), value));
        };
        if self.api.spec().streams {
            set("stream", Json::Bool(self.stream));
        }
        let run = || Json::Text(self.run.to_string());
        match self.api {
            Api::Messages => set("metadata", object(vec![("user_id", run())])),
            Api::CountTokens => {}
            Api::Chat | Api::Responses | Api::Completions | Api::Embeddings => set("user", run()),
        }
        if let Some(seed) = self.purse.seed
            && self.api.spec().seeded == Seeded::Yes
        {
            set("seed", Json::Number(seed.into()));
        }
        // Kept by default otherwise.
        if self.api == Api::Responses {
            set("store", Json::Bool(false));
        }
        match (dialect, self.api) {
            (Dialect::OpenAi, Api::Chat | Api::Responses) => {
                set("service_tier", "default".into());
                set("prompt_cache_key", run());
            }
            (Dialect::Anthropic, Api::Messages) => set("service_tier", "standard_only".into()),
            _ => {}
        }
        if dialect == Dialect::OpenAi && self.stream && matches!(self.api, Api::Chat | Api::Completions) {
            set(
                "stream_options",
                object(vec![("include_usage", Json::Bool(true))]),
            );
        }
        if dialect == Dialect::OpenRouter {
            if self.models.len() > 1 {
                let slugs = self.models.iter().map(|model| Json::from(model.as_str()));
                set("models", Json::List(slugs.collect()));
            }
            set("provider", self.provider());
        }
    }

    /// The router may take no endpoint that keeps prompts, ignores a field, is dearer than what was reserved for, or is
    /// not among the operator's.
    fn provider(&self) -> Json {
        let per_million = |price: PicoUsd| Json::Text(price.times(1_000_000).to_string());
        let mut max_price = vec![
            ("prompt", per_million(self.prices.prompt())),
            ("completion", per_million(self.prices.completion())),
            ("request", Json::Text(self.prices.request().to_string())),
        ];
        if self.images > 0 {
            max_price.push(("image", Json::Text(self.prices.image().to_string())));
        }
        let mut provider = vec![
            ("data_collection", "deny".into()),
            ("allow_fallbacks", Json::Bool(true)),
            ("require_parameters", Json::Bool(true)),
            ("max_price", object(max_price)),
        ];
        if self.upstream.zdr {
            provider.push(("zdr", Json::Bool(true)));
        }
        if !self.upstream.providers.is_empty() {
            let names = self.upstream.providers.iter();
            // With `only`, a fallback is one of these too.
            provider.push((
                "only",
                Json::List(names.map(|name| name.as_str().into()).collect()),
            ));
        }
        object(provider)
    }
}

fn object(members: Vec<(&str, Json)>) -> Json {
    let owned = members.into_iter().map(|(key, value)| (key.to_owned(), value));
    Json::Object(owned.collect())
}
