//! The OpenAPI document of the public port. Routes and document come from one registration ([`routes::described`]); here
//! is added what follows from it: who may call, and which problems each route can answer.

use std::{collections::BTreeMap, sync::LazyLock};

use assay_core::problem::Problem;
use http::StatusCode;
use utoipa::{
    PartialSchema as _,
    openapi::{
        AllOfBuilder, ContentBuilder, Info, License, ObjectBuilder, OpenApi, Ref, RefOr, Response,
        ResponseBuilder, Type,
        path::{Operation, ParameterIn, PathItem},
        schema::Components,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{code::Code, routes};

/// The document as JSON text, always in the same order.
pub fn text() -> &'static str {
    &TEXT
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    // Through a `Value`, whose maps are sorted: the same text from every build.
    let document = serde_json::to_value(document()).unwrap_or_default();
    format!("{document:#}\n")
});

/// The document.
pub fn document() -> OpenApi {
    let (_, mut document) = routes::described().split_for_parts();
    document.info = Info::new("Assay", env!("CARGO_PKG_VERSION"));
    document.info.description = Some(ABOUT.to_owned());
    document.info.license = Some(License::new("Apache-2.0"));
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    components.add_security_scheme(KEY, key());
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            complete(operation);
        }
    }
    document
}

fn key() -> SecurityScheme {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let about = "An API key `assay_…`. The names beside it are the scopes that may do it.";
    SecurityScheme::Http(bearer.description(Some(about)).build())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
    methods.into_iter().filter_map(Option::as_mut)
}

fn complete(operation: &mut Operation) {
    let mut notes = operation.extensions.take().unwrap_or_default();
    let mut words = |name: &str| -> Vec<String> {
        let listed = notes.remove(name).unwrap_or_default();
        serde_json::from_value(listed).unwrap_or_default()
    };
    let (scopes, codes) = (words("x-scopes"), words("x-codes"));
    let mut codes: Vec<Code> = codes.iter().filter_map(|word| Code::from_name(word)).collect();
    codes.extend(implied(operation, !scopes.is_empty()));
    operation.security = Some(if scopes.is_empty() {
        Vec::new()
    } else {
        vec![SecurityRequirement::new(KEY, scopes)]
    });
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            "Done.".clone_into(&mut response.description);
        }
    }
    for (status, codes) in by_status(codes) {
        let refused = RefOr::T(refusal(&codes));
        operation
            .responses
            .responses
            .insert(status.as_str().to_owned(), refused);
    }
}

/// What every route of this shape can answer.
fn implied(operation: &Operation, secured: bool) -> Vec<Code> {
    let mut codes = vec![Code::Internal, Code::Timeout];
    if secured {
        codes.extend([Code::Unauthorized, Code::Forbidden, Code::DatabaseUnavailable]);
    }
    if operation.request_body.is_some() {
        codes.extend([Code::InvalidRequest, Code::BodyTooLarge]);
    }
    for parameter in operation.parameters.iter().flatten() {
        if let RefOr::T(parameter) = parameter {
            let in_path = parameter.parameter_in == ParameterIn::Path;
            codes.push(if in_path {
                Code::NotFound
            } else {
                Code::InvalidRequest
            });
        }
    }
    codes
}

fn by_status(mut codes: Vec<Code>) -> BTreeMap<StatusCode, Vec<Code>> {
    codes.sort_unstable();
    codes.dedup();
    let mut statuses: BTreeMap<StatusCode, Vec<Code>> = BTreeMap::new();
    for code in codes {
        statuses.entry(code.status()).or_default().push(code);
    }
    statuses
}

fn refusal(codes: &[Code]) -> Response {
    let meanings: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}", code.name(), code.meaning()))
        .collect();
    let code = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(codes.iter().map(|code| code.name())));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(ObjectBuilder::new().property("code", code));
    ResponseBuilder::new()
        .description(meanings.join("\n\n"))
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .build()
}

/// The name of the security scheme.
const KEY: &str = "key";

const ABOUT: &str = "\
Assay evaluates untrusted programs. People submit evaluations and read what became of them; workers claim runs and report.

Every request but those without a key carries `authorization: Bearer assay_…`. Ids are UUIDs, amounts of money decimal \
strings in USD, times RFC 3339. Listings answer pages: give `next` as `cursor` to get the one that follows. What belongs \
to another tenant answers 404. Every problem is an RFC 9457 body whose `code` is stable; every answer names its request \
in `x-request-id`.";
