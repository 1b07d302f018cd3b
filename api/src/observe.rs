//! Around every request: its id, its span, its count, and a problem body whatever happens.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use assay_core::{
    id::{AttemptId, Fence, RunId},
    problem::Problem,
};
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue};
use tracing::{Instrument as _, field::Empty};

use crate::{
    app::{Shared, fresh_id},
    code::Code,
    metrics::Answer,
    refusal::Refusal,
};

/// Names the request, gives it a deadline, counts the answer.
pub async fn request(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id = fresh_id().map(|id| id.to_string()).unwrap_or_default();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request", request.id = %id, http.method = %request.method(), http.route = %route,
        run.id = Empty, attempt.id = Empty, fence = Empty,
    );
    let began = Instant::now();
    let answer = AssertUnwindSafe(tokio::time::timeout(DEADLINE, next.run(request))).catch_unwind();
    let response = async {
        let response = match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => timed_out().into_response(),
            Err(_) => {
                tracing::error!("a handler panicked");
                Refusal::internal().into_response()
            }
        };
        let status = response.status().as_u16();
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(http.status = status, elapsed_ms, "answered");
        response
    }
    .instrument(span)
    .await;
    let status = response.status().as_u16();
    app.metrics.answers.get_or_create(&Answer { route, status }).inc();
    with_id(response, &id)
}

/// Puts the attempt that a worker writes about into the request's span.
pub fn about_attempt(attempt: AttemptId, fence: Fence) {
    let span = tracing::Span::current();
    span.record("attempt.id", tracing::field::display(attempt));
    span.record("fence", fence.0);
}

/// Puts its run there, once it is known.
pub fn about_run(run: RunId) {
    tracing::Span::current().record("run.id", tracing::field::display(run));
}

fn timed_out() -> Refusal {
    let detail = "the request took too long; try again";
    Refusal::new(Code::Timeout, detail)
}

fn with_id(mut response: Response, id: &str) -> Response {
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.request_id = Some(id.to_owned());
        response = Refusal(Box::new(problem)).into_response();
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

/// 404 for a path that is no route.
pub async fn no_route() -> Refusal {
    Refusal::not_found("route")
}

/// 405.
pub async fn no_method() -> Refusal {
    let detail = "this route does not take this method";
    Refusal::new(Code::MethodNotAllowed, detail)
}

/// Longest time until the head of an answer.
const DEADLINE: Duration = Duration::from_mins(2);
