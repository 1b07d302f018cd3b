//! Asks a model router about its own records: what an answer cost, and what a workspace keeps.
//!
//! The proxy of a sandbox asks for its own bills as long as it lives. What it could not ask for any more the control plane
//! asks for, from the write-ahead log that the proxy left.

use std::time::Duration;

use assay_core::{
    ledger::{Bill, Book, generation},
    upstream::{Dialect, Secret, Upstream, Workspace},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::Deserialize;

use crate::client::{Client, Error, full, problem};

/// Speaks to one router with the operator's keys.
#[derive(Debug, Clone)]
pub struct Router {
    client: Client,
    /// What its paths begin with, with scheme and address.
    base: String,
    host: String,
    credential: Secret,
}

/// What a workspace keeps of requests. Every part must be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privacy {
    /// Inputs and outputs are logged.
    pub logs_content: bool,
    /// Requests are sent on to somebody's observability.
    pub broadcasts: bool,
    /// Prompts are given away for a discount.
    pub sells_data: bool,
}

impl Privacy {
    /// Nothing is kept or passed on.
    pub fn is_private(self) -> bool {
        !(self.logs_content || self.broadcasts || self.sells_data)
    }
}

impl Router {
    /// For a service that has records; `None` for the others.
    pub fn new(upstream: &Upstream) -> Option<Self> {
        if upstream.dialect != Dialect::OpenRouter {
            return None;
        }
        let address = match upstream.address {
            Some(address) => address.to_string(),
            None => upstream.host.to_string(),
        };
        Some(Self {
            client: Client::of_service(PATIENCE, upstream.host.as_str(), upstream.ca_pem.as_deref()),
            base: format!("https://{address}{}", upstream.base_path),
            host: upstream.host.to_string(),
            credential: upstream.credential.clone(),
        })
    }

    /// What an answer cost; `None` when the router does not know it, or not yet.
    ///
    /// # Errors
    /// No connection, no answer in time, or a refusal.
    pub async fn bill(&self, generation: &str) -> Result<Option<Bill>, Error> {
        if !generation::is_name(generation) {
            return Ok(None);
        }
        match self.get(&generation::path(generation), &self.credential).await {
            Ok(answer) => Ok(generation::bill(&answer)),
            Err(Error::Problem {
                status: StatusCode::NOT_FOUND,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a workspace keeps.
    ///
    /// # Errors
    /// No connection, no answer in time, a refusal, or an answer without the settings.
    pub async fn privacy(&self, workspace: &Workspace) -> Result<Privacy, Error> {
        let path = format!("/workspaces/{}", workspace.id);
        let answer = self.get(&path, &workspace.management_key).await?;
        let told: Told = serde_json::from_slice(&answer).map_err(|error| Error::Answer {
            url: format!("{}{path}", self.base),
            message: error.to_string(),
        })?;
        Ok(Privacy {
            logs_content: told.data.is_observability_io_logging_enabled,
            broadcasts: told.data.is_observability_broadcast_enabled,
            sells_data: told.data.is_data_discount_logging_enabled,
        })
    }

    async fn get(&self, path: &str, key: &Secret) -> Result<Bytes, Error> {
        let url = format!("{}{path}", self.base);
        let request = Request::builder()
            .method(Method::GET)
            .uri(&url)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {}", key.expose()))
            .body(full(Bytes::new()))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let response = self.client.send(request).await?;
        let status = response.status();
        let body = self.client.read(response, &url).await?;
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(problem(status, &body))
        }
    }
}

/// Asks for every bill that is unresolved in a book and can still be told, and books what is told. What stays unresolved
/// counts at the most that it can be.
pub async fn reconcile(upstreams: &[Upstream], book: &mut Book) {
    let pending: Vec<_> = book.pending().map(|(id, answer)| (id, answer.clone())).collect();
    for (id, answer) in pending {
        let upstream = upstreams
            .iter()
            .find(|upstream| upstream.host.as_str() == answer.service);
        let Some(router) = upstream.and_then(Router::new) else {
            continue;
        };
        match router.bill(&answer.generation).await {
            Ok(Some(bill)) => {
                book.reconcile(id, bill);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, service = answer.service, "a bill could not be asked for"),
        }
    }
}

#[derive(Deserialize)]
struct Told {
    data: Settings,
}

/// A setting that is not told is no setting that is off.
#[derive(Deserialize)]
struct Settings {
    is_observability_io_logging_enabled: bool,
    is_observability_broadcast_enabled: bool,
    is_data_discount_logging_enabled: bool,
}

const PATIENCE: Duration = Duration::from_secs(15);
