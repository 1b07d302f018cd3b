//! Bodies of model requests, through the parser, the judge, the bound and the account, for every API, dialect and purse.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    sync::Arc,
};

use assay_core::{
    clock::SystemClock,
    control::proxy::Purse,
    ledger::{Bill, Fault},
    phase::EgressPhase,
    price::ModelSlug,
    upstream::{Dialect, Upstream},
};
use assay_proxy::{
    account::Account,
    log::Log,
    model::{
        json::Json,
        refusal::Refusal,
        request::{Judged, Sent},
        spec::Api,
    },
    route::Policy,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    Random, fixture, floor, fuzz_with,
    paths::{Fate, paths},
    seeds, trees, values,
};

/// One world in which a body is judged.
struct Case {
    api: Api,
    upstream: Upstream,
    purse: Purse,
    account: Account,
    allowed: BTreeMap<String, Fate>,
}

#[test]
fn a_body_that_is_taken_holds_what_is_allowed_and_is_paid_for() {
    let policy = policy();
    let cases = cases();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let files = seeds("body");
    let trees: Vec<Json> = files.iter().map(|seed| Json::parse(seed).unwrap()).collect();
    let fits = |case: &Case, tree: &Json| case.judge(&policy, &tree.to_bytes()).is_ok();
    // What each case takes as it is.
    let good: Vec<Vec<Json>> = cases
        .iter()
        .map(|case| trees.iter().filter(|tree| fits(case, tree)).cloned().collect())
        .collect();
    let keys = keys();
    let every: Vec<Vec<u8>> = (0..cases.len())
        .flat_map(|case| files.iter().map(move |seed| with_case(case, seed)))
        .collect();
    let make = |random: &mut Random| {
        let case = random.below(cases.len());
        let seeds = if good[case].is_empty() {
            &trees
        } else {
            &good[case]
        };
        let body = made(cases[case].api, (seeds, &trees), &keys, random).to_bytes();
        if random.below(8) > 0 {
            return with_case(case, &body);
        }
        with_case(case, &random.mutated(&[body]))
    };
    let (mut taken, mut refused) = (BTreeMap::new(), BTreeSet::new());
    fuzz_with("body", &every, make, |input| {
        let case = &cases[usize::from(input[0]) % cases.len()];
        match case.judge(&policy, &input[1..]) {
            Ok(judged) => {
                *taken.entry(case.api.name()).or_insert(0_u64) += 1;
                case.check(&judged, &policy, &runtime);
            }
            Err(refusal) => {
                assert!(
                    CODES.contains(&refusal.code) && refusal.status == 403,
                    "{refusal:?}"
                );
                refused.insert(refusal.code);
            }
        }
    });
    println!("body: taken {taken:?}, refused {refused:?}");
    assert_eq!(taken.len(), Api::ALL.len(), "no body of some API gets deep");
    assert!(refused.len() > 5, "{refused:?}");
}

/// A body of an API, most often one that would be taken.
fn made(api: Api, (seeds, others): (&[Json], &[Json]), keys: &[&str], random: &mut Random) -> Json {
    let mut body = if random.below(2) == 0 {
        seeds[random.below(seeds.len())].clone()
    } else {
        values::object(api.spec().fields, &mut |end| random.below(end))
    };
    if let Json::Object(members) = &mut body {
        members.retain(|(key, _)| key != "model" && key != "models");
        members.insert(0, ("model".to_owned(), MODELS[random.below(2)].into()));
        if random.below(8) == 0 {
            let others = MODELS[..=random.below(2)].iter().map(|model| Json::from(*model));
            members.push(("models".to_owned(), Json::List(others.collect())));
        }
    }
    for _ in 0..random.below(3) {
        trees::mutate(&mut body, others, keys, random);
    }
    body
}

impl Case {
    fn judge(&self, policy: &Policy, body: &[u8]) -> Result<Judged, Refusal> {
        Sent::read(self.api, body)?.judge(policy, &self.purse, &self.upstream)
    }

    fn check(&self, judged: &Judged, policy: &Policy, runtime: &Runtime) {
        let model = &judged.models[0];
        let reserved = runtime.block_on(self.account.admit(EgressPhase::Agent, model, &judged.ask));
        let Ok(reservation) = reserved else {
            return;
        };
        let output = reservation.output_tokens();
        let bytes = judged.to_bytes(output);
        Json::parse(&bytes).unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        check_models(&body, judged);
        self.check_own(&body, judged, policy);
        self.check_limit(&body, judged, output);
        self.check_allowed(&body, "");
        if self.api.spec().billed {
            let content = floor::content(&body);
            for model in &judged.models {
                let cost = content.cost(self.api, &body, policy.price(model).unwrap(), output);
                let held = reservation.amount();
                assert!(held >= cost, "{held} is held for what costs {cost}: {body}");
            }
        }
        assert!(reservation.amount() <= self.purse.budget);
        reservation.settle(Bill::default(), Fault::Nobody);
        assert!(self.account.ledger().reserved.is_zero());
    }

    /// What the proxy has its own word on, written down once more.
    fn check_own(&self, body: &Value, judged: &Judged, policy: &Policy) {
        let dialect = self.upstream.dialect;
        let run = Value::String(policy.run.to_string());
        let is = |key: &str, wanted: Option<Value>| {
            assert_eq!(body.get(key), wanted.as_ref(), "{key} of {body}");
        };
        let (messages, counted) = (self.api == Api::Messages, self.api == Api::CountTokens);
        is("user", (!messages && !counted).then(|| run.clone()));
        is("metadata", messages.then(|| json!({"user_id": run})));
        is(
            "store",
            (self.api == Api::Responses).then_some(Value::Bool(false)),
        );
        let streams = !matches!(self.api, Api::Embeddings | Api::CountTokens);
        is("stream", streams.then_some(Value::Bool(judged.stream)));
        let at_openai = dialect == Dialect::OpenAi && matches!(self.api, Api::Chat | Api::Responses);
        is("prompt_cache_key", at_openai.then(|| run.clone()));
        let tier = if at_openai { "default" } else { "standard_only" };
        let tiered = at_openai || (dialect == Dialect::Anthropic && messages);
        is("service_tier", tiered.then(|| tier.into()));
        let tells = dialect == Dialect::OpenAi && judged.stream && self.api != Api::Responses;
        is("stream_options", tells.then(|| json!({"include_usage": true})));
        if let Some(seed) = self.purse.seed
            && matches!(self.api, Api::Chat | Api::Completions)
        {
            is("seed", Some(seed.into()));
        }
        for key in &self.purse.deny_fields {
            is(key, None);
        }
        if dialect != Dialect::OpenRouter {
            return is("provider", None);
        }
        let large = judged.models.iter().any(|model| model.as_str() == MODELS[1]);
        let (prompt, completion) = if large { ("40", "60") } else { ("1", "2") };
        let provider = &body["provider"];
        assert_eq!(provider["max_price"]["prompt"], prompt);
        assert_eq!(provider["max_price"]["completion"], completion);
        for (key, wanted) in [
            ("data_collection", json!("deny")),
            ("allow_fallbacks", json!(true)),
            ("require_parameters", json!(true)),
            ("zdr", json!(true)),
            ("only", json!(["azure", "openai"])),
        ] {
            assert_eq!(provider[key], wanted, "{key}");
        }
        assert_eq!(provider.as_object().unwrap().len(), 6);
    }

    fn check_limit(&self, body: &Value, judged: &Judged, output: u64) {
        let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let told: Vec<_> = limits.iter().filter_map(|key| body.get(key)).collect();
        match self.api {
            Api::CountTokens | Api::Embeddings => assert!(told.is_empty() && output == 0, "{body}"),
            Api::Chat | Api::Responses | Api::Messages | Api::Completions => {
                assert_eq!(told, [&Value::from(output)], "{body}");
                assert!(output > 0 && output <= judged.ask.output_tokens && output <= 8_000);
            }
        }
    }

    /// Every key of the body is one of the allow-list, or one of ours.
    fn check_allowed(&self, value: &Value, at: &str) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    if at.is_empty() && OWN.contains(&key.as_str()) {
                        continue;
                    }
                    let dot = if at.is_empty() { "" } else { "." };
                    let path = format!("{at}{dot}{key}");
                    let free = || self.allowed.get(&format!("{at}.*"));
                    let fate = self.allowed.get(&path).or_else(free);
                    assert!(fate > Some(&Fate::Kept), "{path} goes on, and is {fate:?}");
                    if fate == Some(&Fate::Sent) {
                        self.check_allowed(value, &path);
                    }
                }
            }
            Value::Array(items) => {
                let path = format!("{at}[]");
                if self.allowed.get(&path) != Some(&Fate::SentWhole) {
                    for item in items {
                        self.check_allowed(item, &path);
                    }
                }
            }
            Value::String(text) if at.ends_with("image_url") || at.ends_with("url") => {
                assert!(text.to_lowercase().starts_with("data:image/"), "{at}: {text}");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn check_models(body: &Value, judged: &Judged) {
    let others = body.get("models").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<&str> = std::iter::once(&body["model"])
        .chain(others)
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(named.iter().all(|name| MODELS.contains(name)), "{named:?}");
    let judged: BTreeSet<&str> = judged.models.iter().map(ModelSlug::as_str).collect();
    assert_eq!(judged, named.into_iter().collect());
}

/// The number of the world stands before the body, so that an input that is printed says all.
fn with_case(case: usize, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(case).unwrap()], body].concat()
}

fn policy() -> Policy {
    let mut assignment = fixture::assignment();
    let large = json!({
        "input": "0.00001", "output": "0.00002", "request": "0.0001", "image_tokens": 1_000,
        "context_tokens": 200_000, "max_output_tokens": 8_000,
        "long_context": { "above_tokens": 300, "input": "0.00004", "output": "0.00006" },
    });
    let price = serde_json::from_value(large).unwrap();
    assignment.prices.insert(MODELS[1].parse().unwrap(), price);
    Policy::new(&assignment)
}

fn cases() -> Vec<Case> {
    let assignment = fixture::assignment();
    let mut cases = Vec::new();
    for api in Api::ALL {
        for dialect in [Dialect::OpenRouter, Dialect::OpenAi, Dialect::Anthropic] {
            let mut upstream = assignment.upstreams[0].clone();
            upstream.dialect = dialect;
            upstream.providers = ["azure", "openai"].map(str::to_owned).into();
            for budget in ["1000", "0.05"] {
                for seed in [None, Some(7)] {
                    let mut purse = assignment.purses[&EgressPhase::Agent].clone();
                    purse.budget = budget.parse().unwrap();
                    purse.seed = seed;
                    purse.models.insert("test/unpriced".parse().unwrap());
                    (purse.max_requests, purse.max_tokens) = (u64::MAX, u64::MAX);
                    if seed.is_some() {
                        purse.deny_fields = ["logprobs", "top_logprobs"].map(str::to_owned).into();
                    }
                    cases.push(case(api, upstream.clone(), purse));
                }
            }
        }
    }
    cases
}

fn case(api: Api, upstream: Upstream, purse: Purse) -> Case {
    let nowhere = File::options().write(true).open("/dev/null").unwrap();
    let log = Log::new(nowhere, Arc::new(SystemClock));
    let purses = [(EgressPhase::Agent, purse.clone())].into();
    Case {
        api,
        upstream,
        purse,
        account: Account::open(&purses, "t", log).unwrap(),
        allowed: paths(api.spec().fields),
    }
}

/// The keys of every API at any depth, and some that no API may have.
fn keys() -> Vec<&'static str> {
    let mut keys = BTreeSet::from(["plugins", "route", "file_id", "mcp_servers", "container", "*", ""]);
    for api in Api::ALL {
        for path in paths(api.spec().fields).into_keys() {
            let key = path.rsplit('.').next().unwrap().replace("[]", "");
            keys.insert(key.leak());
        }
    }
    keys.into_iter().collect()
}

/// Both have prices.
const MODELS: [&str; 2] = ["test/small", "test/large"];

/// Written by the proxy, each checked by its value.
const OWN: &[&str] = &[
    "model",
    "models",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "seed",
    "store",
    "service_tier",
    "prompt_cache_key",
    "provider",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

const CODES: &[&str] = &[
    "api_not_allowed",
    "body_malformed",
    "duplicate_key",
    "field_invalid",
    "field_missing",
    "field_not_allowed",
    "model_missing",
    "model_not_allowed",
    "price_unknown",
    "tool_not_allowed",
    "url_not_allowed",
];
