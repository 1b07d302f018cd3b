//! Captured port 80: one request head at a time. The host of each request is judged, looked up and dialled anew; the
//! request is written again from what was understood. No credential is ever added here.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use assay_core::egress::HostName;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper::{body::Incoming, client, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    audit::{Event, Kind},
    connection, dial,
    model::{answer::Answer, head::offers_http_2, refusal::Refusal},
    orig_dst,
    phase::{Flow, Stage},
    serving::Serving,
    waits::Wait,
};

/// Handles one connection until it ends or its phase does.
pub async fn handle(serving: Arc<Serving>, flow: Arc<Flow>, stream: TcpStream) {
    let original = orig_dst::read(&stream).map(|original| original.to_string());
    let service = {
        let stage = flow.stage();
        service_fn(move |request| {
            let event = Event::deny(Kind::Http, stage.phase, "").original(original.as_ref());
            let serving = Arc::clone(&serving);
            async move { Ok::<_, Infallible>(answer(&serving, stage, request, event).await) }
        })
    };
    connection::serve(stream, &flow, service).await;
}

async fn answer(serving: &Serving, stage: Stage, request: Request<Incoming>, event: Event) -> Answer {
    let event = event.request(request.method(), request.uri().path());
    let refuse = |event: Event, refusal: &Refusal| {
        let event = event.denied(refusal.code).status(refusal.status);
        serving.audit.write(event);
        refusal.answer()
    };
    let host = match host(&request) {
        Ok(host) => host,
        Err(refusal) => return refuse(event, &refusal),
    };
    let event = event.host(&host);
    let allowed = serving.policy.http(stage, &host);
    if let Err(reason) = allowed.and_then(|()| serving.count_name(stage, &host)) {
        let message = format!("{host} is not allowed in this phase. Trying again is of no use.");
        return refuse(event, &Refusal::policy(reason, message));
    }
    if serving.audit.begin(&event).is_err() {
        return refuse(event, &Refusal::unwritable());
    }
    let (stream, event) = match serving
        .waits
        .measure(Wait::Dial, dial::host(&serving.resolver, &host, 80))
        .await
    {
        Ok(stream) => {
            let event = event.dialled(stream.peer_addr().ok());
            (stream, event)
        }
        Err(error) => {
            let refusal = Refusal::provider(error.reason(), format!("{host} cannot be reached."));
            return refuse(event, &refusal);
        }
    };
    match forward(stream, request, &host).await {
        Ok(response) => {
            let event = event.allowed("forwarded").status(response.status());
            serving.audit.write(event);
            response
        }
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a request on port 80 failed"
            );
            refuse(
                event,
                &Refusal::provider("upstream_broken", format!("{host} broke the connection.")),
            )
        }
    }
}

/// The one host that the request names.
fn host(request: &Request<Incoming>) -> Result<HostName, Refusal> {
    let odd = |code, message: &str| Refusal::policy(code, message);
    if request.uri().authority().is_some() || request.method() == Method::CONNECT {
        return Err(odd(
            "form_not_allowed",
            "Only requests with a plain path are allowed.",
        ));
    }
    if request.headers().contains_key(header::UPGRADE) && !offers_http_2(request.headers()) {
        return Err(odd("upgrade_not_allowed", "No change of protocol is allowed."));
    }
    let mut values = request.headers().get_all(header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    let named = first
        .filter(|_| second.is_none())
        .and_then(|value| value.to_str().ok());
    let named = named.ok_or_else(|| odd("no_host", "The request must name one host."))?;
    named
        .strip_suffix(":80")
        .unwrap_or(named)
        .parse()
        .map_err(|_| odd("host_malformed", "The host is no name that can be reached."))
}

#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("the request cannot be written again")]
    Request(#[from] http::Error),
}

async fn forward(
    stream: TcpStream,
    request: Request<Incoming>,
    host: &HostName,
) -> Result<Answer, ForwardError> {
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a host on port 80 ended");
        }
    });
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut again = Request::builder().method(parts.method).uri(path).body(body)?;
    *again.headers_mut() = end_to_end(&parts.headers);
    if let Ok(host) = HeaderValue::from_str(host.as_str()) {
        again.headers_mut().insert(header::HOST, host);
    }
    let response = timeout(ANSWER, sender.send_request(again)).await??;
    let (parts, body) = response.into_parts();
    let mut answer: Response<BoxBody<Bytes, io::Error>> =
        Response::new(body.map_err(io::Error::other).boxed());
    *answer.status_mut() = match parts.status {
        StatusCode::SWITCHING_PROTOCOLS => StatusCode::BAD_GATEWAY,
        status => status,
    };
    *answer.headers_mut() = end_to_end(&parts.headers);
    Ok(answer)
}

/// Without what concerns one connection only. Headers that `Connection` names are dropped too.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let kept = headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const ANSWER: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_are_dropped_with_those_that_connection_names() {
        let headers: HeaderMap = [
            ("accept", "*/*"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
        ]
        .into_iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_static(value))
        })
        .collect();
        let kept = end_to_end(&headers);
        let names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["accept", "content-length"]);
    }
}
