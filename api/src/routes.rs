//! The routes of both ports. One file per resource; a handler reads the request, calls the store, answers.

pub mod agents;
pub mod attempts;
pub mod clock;
pub mod evaluations;
pub mod internal;
pub mod keys;
pub mod limits;
pub mod openapi;
pub mod output;
pub mod query;
pub mod runs;
pub mod task_sets;
pub mod tasks;
pub mod uploads;
pub mod version;
pub mod worker;

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::Shared, observe};

/// The routes of people and workers, and in the same breath their document.
pub fn described() -> OpenApiRouter<Shared> {
    people().merge(attempts()).merge(workers())
}

fn people() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(version::version))
        .routes(routes!(openapi::show))
        .routes(routes!(limits::show))
        .routes(routes!(clock::show))
        .routes(routes!(uploads::create))
        .routes(routes!(tasks::create, tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(agents::create, agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(task_sets::create, task_sets::list))
        .routes(routes!(task_sets::show))
        .routes(routes!(evaluations::submit::submit, evaluations::list))
        .routes(routes!(evaluations::show))
        .routes(routes!(evaluations::cancel))
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::keep_recording))
        .routes(routes!(keys::create))
        .routes(routes!(keys::revoke))
}

fn attempts() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(attempts::of_run))
        .routes(routes!(attempts::show))
        .routes(routes!(attempts::events, worker::events::append))
        .routes(routes!(output::read, worker::output::append))
        .routes(routes!(output::list))
        .routes(routes!(worker::accounts::read))
        .routes(routes!(worker::task::read))
        .routes(routes!(attempts::artifacts, worker::artifacts::announce))
        .routes(routes!(worker::report::report))
}

fn workers() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(worker::register::register))
        .routes(routes!(worker::claim::claim))
        .routes(routes!(worker::lease::beat))
        .routes(routes!(worker::lease::hand_off))
        .routes(routes!(worker::lease::orphans))
}

/// The port for people and workers.
pub fn public(app: Shared) -> Router {
    let (routes, _) = described().split_for_parts();
    finish(routes, app)
}

/// The internal port.
pub fn internal(app: Shared) -> Router {
    let routes = Router::new()
        .route("/pending-work", get(internal::pending_work))
        .route("/metrics", get(internal::metrics))
        .route("/healthz", get(internal::healthz))
        .route("/readyz", get(internal::readyz));
    finish(routes, app)
}

fn finish(routes: Router<Shared>, app: Shared) -> Router {
    routes
        .fallback(observe::no_route)
        .method_not_allowed_fallback(observe::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(
            std::sync::Arc::clone(&app),
            observe::request,
        ))
        .with_state(app)
}

/// Enough for 20,000 task digests.
const MAX_BODY_BYTES: usize = 2 << 20;

/// A class is a word.
fn check_class(class: &str) -> Result<(), crate::refusal::Refusal> {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=32).contains(&class.len()) && class.bytes().all(word) {
        return Ok(());
    }
    Err(crate::refusal::Refusal::invalid(
        "class: want 1 to 32 of a-z, 0-9 and -",
    ))
}

/// Names are for people: not empty, at most 128 bytes, no control characters.
fn check_name(name: &str) -> Result<(), crate::refusal::Refusal> {
    let sane = (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
    if sane {
        return Ok(());
    }
    Err(crate::refusal::Refusal::invalid(
        "name: want 1 to 128 bytes without control characters",
    ))
}
