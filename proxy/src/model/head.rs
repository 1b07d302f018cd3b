//! Checks everything of a request but its body.

use assay_core::egress::HostName;
use http::{HeaderMap, HeaderName, Method, StatusCode, header, request::Parts};

use super::{refusal::Refusal, spec::Api};

/// Origin form without a query.
pub fn check_form(parts: &Parts) -> Result<(), Refusal> {
    check_origin_form(parts)?;
    if parts.uri.query().is_some_and(|query| !is_needless(parts, query)) {
        let message = "No query is allowed in the path.";
        return Err(Refusal::policy("query_not_allowed", message));
    }
    Ok(())
}

/// A path, and no host in it.
pub fn check_origin_form(parts: &Parts) -> Result<(), Refusal> {
    if parts.uri.authority().is_some() || parts.method == Method::CONNECT {
        let message = "Only requests with a plain path are allowed.";
        return Err(Refusal::policy("form_not_allowed", message));
    }
    Ok(())
}

/// No change of protocol. Without TLS some libraries offer HTTP/2 with every request and take HTTP/1.1 as the answer: such
/// an offer is passed over.
pub fn check_upgrade(parts: &Parts, plain: bool) -> Result<(), Refusal> {
    if !parts.headers.contains_key(header::UPGRADE) || (plain && offers_http_2(&parts.headers)) {
        return Ok(());
    }
    Err(Refusal::policy(
        "upgrade_not_allowed",
        "No change of protocol is allowed.",
    ))
}

/// Is HTTP/2 without TLS the only other protocol that is offered?
pub fn offers_http_2(headers: &HeaderMap) -> bool {
    let mut offers = headers.get_all(header::UPGRADE).iter();
    offers.next().is_some_and(|offer| offer == "h2c") && offers.next().is_none()
}

/// Anthropic's software adds this to every call of messages. It is not forwarded: fields decide what may be used.
fn is_needless(parts: &Parts, query: &str) -> bool {
    let of_messages = [Api::Messages, Api::CountTokens]
        .iter()
        .any(|api| parts.uri.path().ends_with(api.spec().path));
    query == "beta=true" && of_messages
}

/// The name in the request must be the one that the connection was opened for.
pub fn check_host(parts: &Parts, host: &HostName) -> Result<(), Refusal> {
    let (named, single) = one(parts, header::HOST);
    let named = named.map(|value| value.strip_suffix(":443").unwrap_or(value));
    let same = named
        .and_then(|named| named.parse::<HostName>().ok())
        .is_some_and(|named| named == *host);
    if same && single {
        return Ok(());
    }
    Err(Refusal::policy(
        "host_mismatch",
        "The Host header names another host than the connection.",
    )
    .with_status(StatusCode::MISDIRECTED_REQUEST))
}

/// Plain JSON, not compressed.
pub fn check_content(parts: &Parts) -> Result<(), Refusal> {
    let (kind, single) = one(parts, header::CONTENT_TYPE);
    let essence = kind.map(|kind| kind.to_ascii_lowercase().replace(' ', ""));
    let is_json = matches!(
        essence.as_deref(),
        Some("application/json" | "application/json;charset=utf-8")
    );
    if !single || !is_json {
        return Err(Refusal::policy(
            "content_type_not_allowed",
            "The content type must be application/json.",
        ));
    }
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        let (coding, single) = one(parts, header::CONTENT_ENCODING);
        if !single || coding != Some("identity") {
            return Err(Refusal::policy(
                "content_encoding_not_allowed",
                "The body must not be compressed.",
            ));
        }
    }
    Ok(())
}

/// The first value of a header, and whether it is the only one.
fn one(parts: &Parts, name: HeaderName) -> (Option<&str>, bool) {
    let mut values = parts.headers.get_all(name).iter();
    let first = values.next().and_then(|value| value.to_str().ok());
    (first, values.next().is_none())
}
