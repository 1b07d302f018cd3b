//! What handlers take from a request, each with a problem body when it is wrong.

mod worker;

use std::str::FromStr;

pub use self::worker::{WorkerCaller, WorkerKey};

use assay_core::{
    id::{KeyId, TenantId},
    wire::people::Scope,
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use subtle::ConstantTimeEq as _;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    app::{App, Shared},
    code::Code,
    identity::Identity,
    refusal::Refusal,
    seal::key_hash,
    store::{self, audit::Actor},
};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The key.
    pub key: KeyId,
    /// Its tenant.
    pub tenant: TenantId,
    scope: Scope,
}

impl Caller {
    /// The holder of the key that is shown, and which worker the key is bound to.
    async fn of(parts: &Parts, app: &App) -> Result<(Self, Option<Identity>), Refusal> {
        let secret = bearer(parts).ok_or_else(unauthorized)?;
        let hash = key_hash(secret);
        let found = store::keys::find(&app.pool, &hash).await?;
        let (holder, worker) = found.ok_or_else(unauthorized)?;
        let caller = Self {
            key: holder.key,
            tenant: holder.tenant,
            scope: holder.scope,
        };
        Ok((caller, worker))
    }

    fn allowed(self, scopes: &[Scope]) -> Result<Self, Refusal> {
        if scopes.contains(&self.scope) {
            return Ok(self);
        }
        let detail = format!("a key of scope {} may not do this", self.scope.name());
        Err(Refusal::new(Code::Forbidden, detail))
    }

    /// For the audit.
    pub fn actor(&self) -> Actor {
        Actor {
            tenant: self.tenant,
            key: Some(self.key),
        }
    }
}

/// Somebody who may read.
#[derive(Debug, Clone, Copy)]
pub struct Reader(pub Caller);

/// Somebody who may submit and cancel.
#[derive(Debug, Clone, Copy)]
pub struct Submitter(pub Caller);

/// Somebody who may make keys.
#[derive(Debug, Clone, Copy)]
pub struct Administrator(pub Caller);

macro_rules! callers {
    ($($name:ident: $($scope:ident)|+;)*) => {$(
        impl $name {
            /// The scopes that may do it.
            pub const SCOPES: &'static [Scope] = &[$(Scope::$scope),+];
        }

        impl FromRequestParts<Shared> for $name {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refusal> {
                let (caller, _) = Caller::of(parts, app).await?;
                Ok(Self(caller.allowed(Self::SCOPES)?))
            }
        }
    )*};
}

callers! {
    Reader: Viewer | Validator | Admin;
    Submitter: Validator | Admin;
    Administrator: Admin;
}

/// The token of an `authorization: Bearer` header.
pub fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Equal, in a time that tells nothing.
pub fn same_secret(a: &str, b: &str) -> bool {
    key_hash(a).ct_eq(&key_hash(b)).into()
}

/// 401.
pub fn unauthorized() -> Refusal {
    let detail = "send a valid API key as `authorization: Bearer assay_…`";
    Refusal::new(Code::Unauthorized, detail)
}

/// A JSON body, in and out.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Refusal::new(Code::BodyTooLarge, "the body is larger than this route takes")
            } else {
                Refusal::invalid("the body broke off")
            }
        })?;
        parse(&bytes).map(Self)
    }
}

/// Reads JSON and says where it is wrong.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        Refusal::invalid(format!("{path}: {}", error.into_inner()))
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query string.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refusal> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| Refusal::invalid(error.body_text()))
    }
}

/// The one parameter of a path: an id or a digest. What is none names nothing, so it answers 404.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

impl<T: FromStr> FromRequestParts<Shared> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refusal> {
        let text = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = text.map_err(|_| Refusal::not_found("thing"))?;
        text.0.parse().map(Self).map_err(|_| Refusal::not_found("thing"))
    }
}

/// Which page of a listing.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<Uuid>,
    /// Rows per page, 1 to 500; 100 when absent.
    #[serde(default)]
    pub limit: Option<u16>,
}

impl Paging {
    /// Rows per page.
    pub fn size(&self) -> usize {
        usize::from(self.limit.unwrap_or(100).clamp(1, 500))
    }

    /// One row more than the page has, to know whether another page follows.
    pub fn probe(&self) -> i64 {
        i64::try_from(self.size()).unwrap_or(500) + 1
    }

    /// The page out of up to [`Self::probe`] rows.
    pub fn page<T>(
        &self,
        mut items: Vec<T>,
        cursor: impl Fn(&T) -> Uuid,
    ) -> assay_core::wire::people::Page<T> {
        let more = items.len() > self.size();
        items.truncate(self.size());
        let next = items.last().filter(|_| more).map(|last| cursor(last).to_string());
        assay_core::wire::people::Page { items, next }
    }
}
