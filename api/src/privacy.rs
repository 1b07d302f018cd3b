//! Workspaces of model routers: nothing new is handed out while one keeps what agents send. Checked here, once for all
//! sandboxes, with a key that never leaves the control plane; a result is kept for a while.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use assay_core::{egress::HostName, upstream::Upstream};
use assay_runtime::router::{Privacy, Router};
use tokio::sync::Mutex;

use crate::{code::Code, refusal::Refusal};

/// The results so far, by service.
#[derive(Debug, Default)]
pub struct Watch(Mutex<BTreeMap<HostName, Seen>>);

#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    result: Result<(), Unsafe>,
}

/// Why a workspace cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// It keeps or passes on what is sent.
    #[error("the workspace of {host} {what}; switch that off")]
    Kept {
        /// The service.
        host: HostName,
        /// What it does.
        what: &'static str,
    },
    /// Its settings could not be read.
    #[error("the workspace settings of {host} could not be read: {why}")]
    Unknown {
        /// The service.
        host: HostName,
        /// Why not.
        why: String,
    },
}

impl Watch {
    /// Checks the workspaces of these services; those without one are not checked.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub async fn check(&self, upstreams: &[Upstream]) -> Result<(), Unsafe> {
        // One question at a time: who waits finds the answer of the one before.
        let mut seen = self.0.lock().await;
        for upstream in upstreams {
            let known = seen.get(&upstream.host).filter(|known| known.is_fresh());
            if let Some(known) = known {
                known.result.clone()?;
                continue;
            }
            let result = ask(upstream).await;
            let (at, kept) = (Instant::now(), result.clone());
            seen.insert(upstream.host.clone(), Seen { at, result: kept });
            result?;
        }
        Ok(())
    }
}

impl Seen {
    fn is_fresh(&self) -> bool {
        let most = if self.result.is_ok() { GOOD_FOR } else { BAD_FOR };
        self.at.elapsed() < most
    }
}

async fn ask(upstream: &Upstream) -> Result<(), Unsafe> {
    let (Some(workspace), Some(router)) = (&upstream.workspace, Router::new(upstream)) else {
        return Ok(());
    };
    match router.privacy(workspace).await {
        Ok(privacy) => judge(&upstream.host, privacy),
        Err(error) => Err(Unsafe::Unknown {
            host: upstream.host.clone(),
            why: error.to_string(),
        }),
    }
}

fn judge(host: &HostName, privacy: Privacy) -> Result<(), Unsafe> {
    let faults = [
        (privacy.logs_content, "logs inputs and outputs"),
        (privacy.broadcasts, "sends requests on"),
        (privacy.sells_data, "gives prompts away for a discount"),
    ];
    match faults.into_iter().find(|(is_on, _)| *is_on) {
        None => Ok(()),
        Some((_, what)) => Err(Unsafe::Kept {
            host: host.clone(),
            what,
        }),
    }
}

impl From<Unsafe> for Refusal {
    fn from(error: Unsafe) -> Self {
        let code = match error {
            Unsafe::Kept { .. } => Code::WorkspaceNotPrivate,
            Unsafe::Unknown { .. } => Code::WorkspaceUnknown,
        };
        Self::new(code, error.to_string())
    }
}

const GOOD_FOR: Duration = Duration::from_mins(1);
const BAD_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(workspace: bool) -> Upstream {
        let mut upstream = serde_json::json!({
            "host": "router.example.com", "base_path": "/api/v1", "dialect": "open_router", "models": [],
            // Nobody listens on the discard port.
            "credential": "sk", "address": "127.0.0.1:9",
        });
        if workspace {
            upstream["workspace"] = serde_json::json!({"id": "w", "management_key": "mk"});
        }
        serde_json::from_value(upstream).unwrap()
    }

    #[test]
    fn anything_that_is_kept_is_refused_by_its_name() {
        let host: HostName = "router.example.com".parse().unwrap();
        let private = Privacy {
            logs_content: false,
            broadcasts: false,
            sells_data: false,
        };
        assert_eq!(judge(&host, private), Ok(()));
        for (privacy, word) in [
            (
                Privacy {
                    logs_content: true,
                    ..private
                },
                "logs",
            ),
            (
                Privacy {
                    broadcasts: true,
                    ..private
                },
                "sends",
            ),
            (
                Privacy {
                    sells_data: true,
                    ..private
                },
                "gives",
            ),
        ] {
            let error = judge(&host, privacy).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_private_and_a_service_without_a_workspace_is_not_asked() {
        let watch = Watch::default();
        assert_eq!(watch.check(&[upstream(false)]).await, Ok(()));
        let watch = Watch::default();
        let error = watch.check(&[upstream(true)]).await.unwrap_err();
        assert!(matches!(error, Unsafe::Unknown { .. }), "{error}");
    }
}
