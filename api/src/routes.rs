//! The routes of both ports. One file per resource; a handler reads the request, calls the store, answers.

pub mod agents;
pub mod attempts;
pub mod evaluations;
pub mod internal;
pub mod keys;
pub mod output;
pub mod runs;
pub mod task_sets;
pub mod tasks;
pub mod uploads;
pub mod version;
pub mod worker;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

use crate::{app::Shared, observe};

/// The port for people and workers.
pub fn public(app: Shared) -> Router {
    let people = Router::new()
        .route("/version", get(version::version))
        .route("/v1/uploads", post(uploads::create))
        .route("/v1/tasks", post(tasks::create).get(tasks::list))
        .route("/v1/tasks/{digest}", get(tasks::show))
        .route("/v1/agents", post(agents::create).get(agents::list))
        .route("/v1/agents/{id}", get(agents::show))
        .route("/v1/task-sets", post(task_sets::create).get(task_sets::list))
        .route("/v1/task-sets/{id}", get(task_sets::show))
        .route(
            "/v1/evaluations",
            post(evaluations::submit::submit).get(evaluations::list),
        )
        .route("/v1/evaluations/{id}", get(evaluations::show))
        .route("/v1/evaluations/{id}/cancel", post(evaluations::cancel))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{id}", get(runs::show))
        .route("/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/v1/runs/{id}/attempts", get(attempts::of_run))
        .route("/v1/attempts/{id}", get(attempts::show))
        .route(
            "/v1/attempts/{id}/events",
            get(attempts::events).post(worker::events::append),
        )
        .route(
            "/v1/attempts/{id}/output",
            get(output::read).put(worker::output::append),
        )
        .route("/v1/attempts/{id}/outputs", get(output::list))
        .route(
            "/v1/attempts/{id}/artifacts",
            get(attempts::artifacts).post(worker::artifacts::announce),
        )
        .route("/v1/attempts/{id}/report", post(worker::report::report))
        .route("/v1/keys", post(keys::create))
        .route("/v1/workers", post(worker::register::register))
        .route("/v1/workers/{id}/claim", post(worker::claim::claim))
        .route("/v1/workers/{id}/beat", post(worker::lease::beat))
        .route("/v1/workers/{id}/handoff", post(worker::lease::hand_off))
        .route("/v1/workers/{id}/orphans", post(worker::lease::orphans));
    finish(people, app)
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
