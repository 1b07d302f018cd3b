//! The internal port: pending work, metrics, health.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header, request::Parts};
use serde::Deserialize;

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{self, Json, Query},
    pending::{PendingWork, Scale},
    refusal::Refusal,
    store,
};

/// Which work.
#[derive(Debug, Clone, Deserialize)]
pub struct About {
    /// Of this class alone, which then is there with zeros too; of all when absent.
    class: Option<String>,
}

/// `GET /pending-work`: 200 with zeros when there is nothing.
pub async fn pending_work(
    State(app): State<Shared>,
    Query(about): Query<About>,
    parts: Parts,
) -> Result<Json<PendingWork>, Refusal> {
    if let Some(token) = &app.config.pending_work_token {
        let shown = extract::bearer(&parts).ok_or_else(extract::unauthorized)?;
        if !extract::same_secret(shown, token) {
            return Err(extract::unauthorized());
        }
    }
    let work = app.pending.read(&app.pool, scale(&app)).await?;
    Ok(Json(match about.class {
        Some(class) => work.of(&class),
        None => work,
    }))
}

fn scale(app: &App) -> Scale {
    Scale {
        slots: app.config.slots_per_worker,
        workers: app.config.max_workers,
    }
}

/// `GET /metrics`.
pub async fn metrics(State(app): State<Shared>) -> Result<Response, Refusal> {
    let scale = scale(&app);
    app.metrics.note_queue(&app.pending.read(&app.pool, scale).await?);
    app.metrics.database_connections.set(app.pool.size().into());
    let text = app.metrics.render().map_err(|_| Refusal::internal())?;
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// `GET /healthz`: the process lives.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: database and object store answer.
pub async fn readyz(State(app): State<Shared>) -> Result<&'static str, Refusal> {
    let not_ready = |what: &str| {
        let detail = format!("{what} does not answer");
        Refusal::new(Code::NotReady, detail)
    };
    store::ping(&app.pool)
        .await
        .map_err(|_| not_ready("the database"))?;
    app.objects
        .ping()
        .await
        .map_err(|_| not_ready("the object store"))?;
    Ok("ready\n")
}
