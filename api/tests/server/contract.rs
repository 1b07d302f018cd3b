//! The API's document against what servers really answer: every answer that a test gets is checked by its schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex},
};

use http::Method;
use serde_json::{Value, json};

/// The document, as it is served.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(assay_api::openapi::text()).unwrap());

/// One route and method.
#[derive(Debug, Clone)]
pub struct Operation {
    pub method: Method,
    pub path: String,
    pub described: Value,
}

impl Operation {
    /// The scopes that may do it; none means that it needs no key.
    pub fn scopes(&self) -> BTreeSet<String> {
        let listed = self.described["security"][0]["key"].as_array();
        let word = |scope: &Value| scope.as_str().unwrap().to_owned();
        listed.into_iter().flatten().map(word).collect()
    }
}

/// Everything that the document names.
pub fn operations() -> &'static [Operation] {
    static ALL: LazyLock<Vec<Operation>> = LazyLock::new(read_operations);
    &ALL
}

fn read_operations() -> Vec<Operation> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let methods = |(path, item): (&String, &Value)| -> Vec<Operation> {
        let item = item.as_object().unwrap().iter();
        item.map(|(method, described)| Operation {
            method: method.to_uppercase().parse().unwrap(),
            path: path.clone(),
            described: described.clone(),
        })
        .collect()
    };
    paths.flat_map(methods).collect()
}

/// The operation that a call means; `None` for a path or method that is none.
pub fn operation(method: &Method, path: &str) -> Option<&'static Operation> {
    let path = path.split('?').next()?;
    let covers = |template: &str| {
        let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len()
            && wanted
                .iter()
                .zip(&given)
                .all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
    };
    operations()
        .iter()
        .find(|operation| operation.method == *method && covers(&operation.path))
}

/// Fails where an answer is not what the document promises for this call.
pub fn check_answer(method: &Method, path: &str, status: u16, kind: Option<&str>, body: &[u8]) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let place = format!("{method} {} -> {status}", operation.path);
    let promised = &operation.described["responses"][status.to_string()];
    assert!(promised.is_object(), "{place}: a status that is not described");
    let Some(content) = promised["content"].as_object() else {
        assert!(body.is_empty(), "{place}: a body that is not described");
        return;
    };
    let kind = kind.unwrap_or_else(|| panic!("{place}: no content type"));
    let content = content.get(kind);
    let content = content.unwrap_or_else(|| panic!("{place}: {kind} is not described"));
    if kind.ends_with("json") {
        validate(&place, &content["schema"], &serde_json::from_slice(body).unwrap());
    }
}

/// Fails where a body that a server took is not what the document asks for.
pub fn check_request(method: &Method, path: &str, body: &Value) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let place = format!("{method} {} <-", operation.path);
    let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{place}: a body that is not described");
    validate(&place, schema, body);
}

fn validate(place: &str, schema: &Value, instance: &Value) {
    let mut known = VALIDATORS.lock().unwrap();
    let validator = known.entry(schema.to_string()).or_insert_with(|| {
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        Arc::new(jsonschema::validator_for(&whole).unwrap())
    });
    let validator = Arc::clone(validator);
    drop(known);
    let faults: Vec<String> = validator
        .iter_errors(instance)
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{place}: {faults:#?}\n{instance:#}");
}

#[test]
fn a_wrong_answer_is_noticed() {
    let path = format!("/v1/agents/{}", uuid::Uuid::nil());
    let wrong = |status: u16, kind: &'static str, body: Value| {
        let path = path.clone();
        std::panic::catch_unwind(move || {
            check_answer(
                &Method::GET,
                &path,
                status,
                Some(kind),
                body.to_string().as_bytes(),
            );
        })
        .is_err()
    };
    let agent = json!({"id": uuid::Uuid::nil(), "name": "a", "contract": "nop", "digest": null,
        "created_at": "2026-01-01T00:00:00Z"});
    let problem = |code: &str| assay_core::problem::Problem::new(404, code, "");
    let problem = |code| serde_json::to_value(problem(code)).unwrap();
    assert!(!wrong(200, "application/json", agent.clone()));
    assert!(!wrong(404, "application/problem+json", problem("not_found")));
    let mut other = agent.clone();
    other["contract"] = json!("else");
    assert!(wrong(200, "application/json", other));
    assert!(wrong(200, "application/json", json!({})));
    assert!(wrong(200, "text/plain", agent.clone()));
    assert!(wrong(201, "application/json", agent));
    assert!(wrong(404, "application/problem+json", problem("made_up")));
}

#[test]
fn the_document_is_sound() {
    let mut ids = BTreeSet::new();
    for operation in operations() {
        let place = format!("{} {}", operation.method, operation.path);
        let id = operation.described["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "{place}: its id is taken");
        assert!(operation.described["summary"].is_string(), "{place}: no summary");
        for (status, response) in operation.described["responses"].as_object().unwrap() {
            assert!(response["description"].is_string(), "{place} {status}");
        }
        let named: BTreeSet<_> = operation
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let parameters = operation.described["parameters"].as_array();
        let described: BTreeSet<_> = parameters
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, described, "{place}");
    }
    let mut references = BTreeMap::new();
    collect("", &DOCUMENT, &mut references);
    for (place, reference) in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            DOCUMENT.pointer(pointer).is_some(),
            "{place}: {reference} is nowhere"
        );
    }
}

fn collect(place: &str, value: &Value, references: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                if let (true, Some(reference)) = (name == "$ref", inner.as_str()) {
                    references.insert(place.to_owned(), reference.to_owned());
                }
                collect(&format!("{place}/{name}"), inner, references);
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().enumerate() {
                collect(&format!("{place}/{at}"), inner, references);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// By the text of their schema; building one takes a while.
static VALIDATORS: Mutex<BTreeMap<String, Arc<jsonschema::Validator>>> = Mutex::new(BTreeMap::new());

/// `UPDATE_OPENAPI=1 cargo test -p assay-api` rewrites the file.
#[test]
fn the_document_is_as_recorded() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    let text = assay_api::openapi::text();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        recorded == text,
        "the interface changed; look at it, then run with UPDATE_OPENAPI=1"
    );
}
