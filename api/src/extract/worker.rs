//! Who calls as a worker. One that is known by a name does nothing in the name of another.

use assay_core::{
    id::{AttemptId, TenantId, WorkerId},
    wire::people::Scope,
};
use axum::extract::FromRequestParts;
use http::request::Parts;
use uuid::Uuid;

use super::{Caller, bearer, unauthorized};
use crate::{
    app::{App, Shared},
    code::Code,
    identity::{self, Identity},
    objects::Side,
    refusal::Refusal,
    store::{self, audit::Actor},
};

/// A worker.
#[derive(Debug, Clone)]
pub struct WorkerKey(pub WorkerCaller);

/// What is known of a worker.
#[derive(Debug, Clone)]
pub struct WorkerCaller {
    /// Its name and class, where it cannot choose them.
    pub identity: Option<Identity>,
    /// Which of the object store's names it reaches.
    pub side: Side,
    actor: Actor,
}

impl WorkerCaller {
    /// For the audit.
    pub fn actor(&self) -> Actor {
        self.actor
    }

    async fn of(parts: &Parts, app: &App) -> Result<Self, Refusal> {
        let shown = bearer(parts).ok_or_else(unauthorized)?;
        match &app.doorkeeper {
            // A key of ours has no dot, a token has two.
            Some(doorkeeper) if shown.contains('.') => {
                let identity = doorkeeper.admit(shown).await.map_err(|error| refusal(&error))?;
                Ok(Self {
                    identity: Some(identity),
                    side: Side::Inside,
                    actor: Actor {
                        tenant: OPERATOR,
                        key: None,
                    },
                })
            }
            _ => {
                let (caller, identity) = Caller::of(parts, app).await?;
                let caller = caller.allowed(WorkerKey::SCOPES)?;
                Ok(Self {
                    identity,
                    side: Side::Outside,
                    actor: caller.actor(),
                })
            }
        }
    }
}

impl WorkerKey {
    /// The scopes that may do it. The token of a worker's pod may too.
    pub const SCOPES: &'static [Scope] = &[Scope::Worker];
}

impl FromRequestParts<Shared> for WorkerKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refusal> {
        let caller = WorkerCaller::of(parts, app).await?;
        if let Some(identity) = &caller.identity {
            own(app, identity, parts.uri.path()).await?;
        }
        Ok(Self(caller))
    }
}

/// Is what the path names this worker's own? What does not exist is the handler's business.
async fn own(app: &App, identity: &Identity, path: &str) -> Result<(), Refusal> {
    let mut parts = path.trim_start_matches('/').split('/').skip(1);
    let (what, id) = (parts.next(), parts.next().and_then(|id| Uuid::parse_str(id).ok()));
    match (what, id) {
        (Some("workers"), Some(id)) => {
            let worker = store::workers::find(&app.pool, WorkerId(id)).await?;
            if worker.is_some_and(|worker| worker.name != identity.name) {
                return Err(Refusal::not_found("worker"));
            }
        }
        (Some("attempts"), Some(id)) => {
            let holder = store::attempts::holder(&app.pool, AttemptId(id)).await?;
            if holder.is_some_and(|holder| holder != identity.name) {
                return Err(Refusal::stale_fence());
            }
        }
        _ => {}
    }
    Ok(())
}

fn refusal(error: &identity::Error) -> Refusal {
    match error {
        identity::Error::Token(_) | identity::Error::Stranger { .. } => {
            tracing::warn!(%error, "a worker is refused");
            Refusal::new(Code::Unauthorized, error.to_string())
        }
        identity::Error::Keys(_) => {
            tracing::error!(%error, "no worker's token can be checked");
            Refusal::new(
                Code::NotReady,
                "the keys of the token's issuer cannot be had; try again",
            )
        }
    }
}

/// Workers of the cluster itself belong to no tenant.
const OPERATOR: TenantId = TenantId(Uuid::nil());
