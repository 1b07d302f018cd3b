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
    /// When the settings were last read and found private, unless they were found otherwise since.
    private_at: Option<Instant>,
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
            let before = seen.get(&upstream.host);
            if let Some(known) = before.filter(|known| known.is_fresh(Instant::now())) {
                known.result.clone()?;
                continue;
            }
            let answer = ask(upstream).await;
            let now = Seen::after(before, Instant::now(), answer);
            let result = now.result.clone();
            seen.insert(upstream.host.clone(), now);
            result?;
        }
        Ok(())
    }
}

impl Seen {
    /// What holds after an answer. Settings that were private a moment ago are taken to be so while they cannot be read:
    /// a service's hiccup stops no evaluation.
    fn after(before: Option<&Self>, at: Instant, answer: Result<(), Unsafe>) -> Self {
        let was_private = before.and_then(|before| before.private_at);
        let (result, private_at) = match answer {
            Ok(()) => (Ok(()), Some(at)),
            Err(error @ Unsafe::Kept { .. }) => (Err(error), None),
            Err(error @ Unsafe::Unknown { .. }) => match was_private {
                Some(since) if at.duration_since(since) < BELIEVED_FOR => {
                    tracing::warn!(%error, "the workspace is believed to be as private as it was");
                    (Ok(()), was_private)
                }
                _ => (Err(error), None),
            },
        };
        Self {
            at,
            result,
            private_at,
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let most = if self.private_at == Some(self.at) {
            GOOD_FOR
        } else {
            BAD_FOR
        };
        now.duration_since(self.at) < most
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
/// As long as this nobody needs to be asked successfully.
const BELIEVED_FOR: Duration = Duration::from_mins(10);

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

    fn unknown() -> Unsafe {
        Unsafe::Unknown {
            host: "router.example.com".parse().unwrap(),
            why: "it does not answer".to_owned(),
        }
    }

    #[test]
    fn what_was_private_is_believed_for_a_while_and_asked_again_soon() {
        let start = Instant::now();
        let good = Seen::after(None, start, Ok(()));
        assert!(good.is_fresh(start + GOOD_FOR.mul_f64(0.9)) && !good.is_fresh(start + GOOD_FOR));
        let hiccup = Seen::after(Some(&good), start + GOOD_FOR, Err(unknown()));
        assert_eq!(hiccup.result, Ok(()));
        assert!(!hiccup.is_fresh(hiccup.at + BAD_FOR));
        let too_long = Seen::after(Some(&hiccup), start + BELIEVED_FOR, Err(unknown()));
        assert_eq!(too_long.result, Err(unknown()));
        // What was read and found wrong is believed at once, and what comes after it has to be read.
        let host = "router.example.com".parse().unwrap();
        let kept = Err(Unsafe::Kept { host, what: "logs" });
        let kept = Seen::after(Some(&good), start + GOOD_FOR, kept);
        assert!(kept.result.is_err());
        let after = Seen::after(Some(&kept), kept.at + BAD_FOR, Err(unknown()));
        assert_eq!(after.result, Err(unknown()));
    }

    #[tokio::test]
    async fn a_service_is_asked_once_for_all_who_ask_within_a_moment() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = std::sync::Arc::clone(&asked);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let upstream = Upstream {
            address: Some(address),
            ..upstream(true)
        };
        let (watch, upstreams) = (Watch::default(), [upstream]);
        let (first, second) = tokio::join!(watch.check(&upstreams), watch.check(&upstreams));
        assert!(first.is_err() && first == second);
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
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
