//! A request on its way to a host that gets secret values.

use assay_core::{egress::HostName, secret::Injection};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts};

use crate::model::{
    head::{check_host, check_origin_form, check_upgrade},
    refusal::Refusal,
};

/// Is it one that can be passed on?
pub(super) fn check(parts: &Parts, host: &HostName) -> Result<(), Refusal> {
    check_origin_form(parts)?;
    // Its answer would be the request, in whatever form the host likes.
    if parts.method == Method::TRACE {
        return Err(Refusal::policy(
            "method_not_allowed",
            "TRACE is not allowed here.",
        ));
    }
    check_upgrade(parts, false)?;
    check_host(parts, host)
}

/// Replaces the placeholders, and takes out what belongs to the connection or would hide a value in the answer. True when
/// a value was put in.
pub(super) fn rewrite(parts: &mut Parts, host: &HostName, injections: &[Injection]) -> Result<bool, Refusal> {
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    drop_hops(headers);
    // Ranges could ask for a value in halves.
    for name in [header::EXPECT, header::RANGE, header::IF_RANGE] {
        headers.remove(name);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let unsendable = || {
        Refusal::policy(
            "secret_unsendable",
            "The secret value cannot be sent in a header.",
        )
    };
    let name = HeaderValue::try_from(host.as_str()).map_err(|_| unsendable())?;
    headers.insert(header::HOST, name);
    let mut is_injected = false;
    for injection in injections {
        let Some(value) = headers.get(injection.header.as_str()) else {
            continue;
        };
        let Some(text) = value.to_str().ok().and_then(|text| replaced(text, injection)) else {
            continue;
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| unsendable())?;
        value.set_sensitive(true);
        let name = HeaderName::try_from(&injection.header).map_err(|_| unsendable())?;
        headers.insert(name, value);
        is_injected = true;
    }
    Ok(is_injected)
}

/// Takes out the headers that belong to one connection, and those that `Connection` names.
pub(super) fn drop_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // The framing of the body is the library's business, whatever the peer says about it.
        .filter(|name| *name != header::CONTENT_LENGTH)
        .collect();
    for name in named.into_iter().chain(HOPS) {
        headers.remove(name);
    }
}

/// The text with the value in place of the placeholder, also within basic authentication. `None` where there is none.
fn replaced(text: &str, injection: &Injection) -> Option<String> {
    let put = |text: &str| {
        text.contains(&injection.placeholder)
            .then(|| text.replace(&injection.placeholder, injection.value.expose()))
    };
    if let Some(whole) = put(text) {
        return Some(whole);
    }
    let (scheme, encoded) = text.split_once(' ')?;
    let decoded = STANDARD
        .decode(encoded.trim())
        .ok()
        .filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = put(std::str::from_utf8(&decoded).ok()?)?;
    Some(format!("{scheme} {}", STANDARD.encode(pair)))
}

const HOPS: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::inject;

    fn rewritten(headers: &[(&str, &str)]) -> (HeaderMap, bool) {
        let mut request = Request::builder().uri("/path?a=b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let host = "api.example.com".parse().unwrap();
        let injections = [inject::example("api.example.com")];
        let is_injected = rewrite(&mut parts, &host, &injections).unwrap();
        (parts.headers, is_injected)
    }

    #[test]
    fn only_the_named_header_gets_the_value() {
        let (headers, is_injected) = rewritten(&[
            ("authorization", "Bearer assay-placeholder-0123"),
            ("x-other", "assay-placeholder-0123"),
        ]);
        assert!(is_injected);
        assert_eq!(headers["authorization"], "Bearer the-real-value");
        assert_eq!(headers["x-other"], "assay-placeholder-0123");
        let (headers, is_injected) = rewritten(&[("authorization", "Bearer something-else")]);
        assert!(!is_injected);
        assert_eq!(headers["authorization"], "Bearer something-else");
    }

    #[test]
    fn basic_authentication_gets_it_inside() {
        let encoded = STANDARD.encode("user:assay-placeholder-0123");
        let (headers, is_injected) = rewritten(&[("authorization", &format!("Basic {encoded}"))]);
        assert!(is_injected);
        let want = format!("Basic {}", STANDARD.encode("user:the-real-value"));
        assert_eq!(headers["authorization"], want.as_str());
    }

    #[test]
    fn what_would_hide_a_value_or_belongs_to_the_connection_is_taken_out() {
        let (headers, _) = rewritten(&[
            ("connection", "keep-alive, x-hop, content-length"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("range", "bytes=0-10"),
            ("accept-encoding", "gzip, br"),
        ]);
        for gone in ["connection", "x-hop", "transfer-encoding", "range"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(
            (&headers["content-length"], &headers["accept-encoding"]),
            (
                &HeaderValue::from_static("3"),
                &HeaderValue::from_static("identity")
            )
        );
    }
}
