//! What stands around the sandboxes: kubelets, registry, scaler, object store, clocks.

use assay_core::{
    clock::{Clock as _, SystemClock},
    digest::Digest,
    wire::people::NewUpload,
};
use assay_engine::kubernetes::{self, Inspector, NodeClock, Settings};
use jiff::{SignedDuration, Timestamp};

use super::{Seen, Verdict, of, seen};
use crate::{api::Api, cmd::Context, error::Error};

/// Without this limit of its kubelet one pod can take all processes of a node.
pub(super) async fn pod_pids(inspector: &Inspector, settings: &Settings) -> Seen {
    const WHAT: &str = "podPidsLimit";
    let nodes = match inspector.pod_pids(&settings.pods.node_selector).await {
        Err(error) => return seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(nodes) if nodes.is_empty() => {
            return seen(
                WHAT,
                Verdict::Missing,
                "no node carries the labels of the node selector",
            );
        }
        Ok(nodes) => nodes,
    };
    let told: Vec<String> = nodes
        .iter()
        .map(|node| match &node.pod_pids {
            Ok(Some(limit)) => format!("{}: {limit}", node.node),
            Ok(None) => format!("{}: NONE, set podPidsLimit of its kubelet, e.g. 4096", node.node),
            Err(error) => format!("{}: not told ({error})", node.node),
        })
        .collect();
    let told = told.join("; ");
    if nodes.iter().any(|node| node.pod_pids == Ok(None)) {
        seen(WHAT, Verdict::Missing, told)
    } else if nodes.iter().any(|node| node.pod_pids.is_err()) {
        seen(WHAT, Verdict::Untried, told)
    } else {
        seen(WHAT, Verdict::Ok, told)
    }
}

/// Our images can be found, and built ones could be put there.
pub(super) async fn registry(inspector: &Inspector, settings: &Settings) -> [Seen; 2] {
    let pull = kubernetes::pinned(&settings.registries, &settings.images.proxy).await;
    let pull = pull.map(|pinned| format!("it has {pinned}"));
    [of("registry: pull", pull), push(inspector, settings).await]
}

async fn push(inspector: &Inspector, settings: &Settings) -> Seen {
    const WHAT: &str = "registry: push";
    let Some(builds) = &settings.builds else {
        return seen(
            WHAT,
            Verdict::Untried,
            "images are not built here (--image-repository)",
        );
    };
    let pushed = async {
        let mut registries = settings.registries.clone();
        if let Some(name) = &builds.push_secret {
            let logins = inspector.logins(&builds.namespace, name).await?;
            registries.credentials.extend(logins);
        }
        kubernetes::may_push(registries, &builds.push_repository).await?;
        let with = builds.push_secret.as_deref().unwrap_or("no credential");
        Ok::<_, assay_engine::Error>(format!("{} takes uploads with {with}", builds.push_repository))
    };
    of(WHAT, pushed.await)
}

/// The endpoint by the word of who asks it: a scaler that is ready has its numbers.
pub(super) async fn scaler(inspector: &Inspector, system: &str) -> Seen {
    const WHAT: &str = "scaler's endpoint";
    match inspector.scalers(system).await {
        Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(None) => seen(
            WHAT,
            Verdict::Untried,
            "this cluster has no KEDA; screeners are not scaled",
        ),
        Ok(Some(scalers)) if scalers.is_empty() => seen(
            WHAT,
            Verdict::Untried,
            format!("there is no ScaledObject in {system}; screeners are not scaled"),
        ),
        Ok(Some(scalers)) => {
            let told: Vec<String> = scalers
                .iter()
                .map(|one| match &one.ready {
                    Ok(()) => format!("{} ready", one.name),
                    Err(why) => format!("{} NOT READY: {why}", one.name),
                })
                .collect();
            let all = scalers.iter().all(|one| one.ready.is_ok());
            seen(
                WHAT,
                if all { Verdict::Ok } else { Verdict::Missing },
                told.join("; "),
            )
        }
    }
}

/// What is asked through the API of the profile: the object store and the database's clock.
pub(super) async fn of_api(context: &Context, inspector: &Inspector) -> Vec<Seen> {
    let api = match context.api() {
        Ok(api) => api,
        Err(error) => {
            let why = error.to_string();
            return ["object store", "clocks"]
                .map(|what| seen(what, Verdict::Untried, why.clone()))
                .into();
        }
    };
    vec![
        of("object store", upload(&api).await),
        clocks(&api, inspector).await,
    ]
}

/// A few bytes by a presigned URL, as archives come. Who never registers what he uploads leaves nothing.
async fn upload(api: &Api) -> Result<String, Error> {
    let bytes = format!("assay doctor {}\n", SystemClock.now());
    let announced = NewUpload {
        digest: Digest::of(&bytes),
        size_bytes: bytes.len() as u64,
    };
    let told = api.announce(&announced).await?;
    let url = told
        .url
        .ok_or_else(|| Error::Failed("the API gave no URL for new bytes".to_owned()))?;
    let unwritable =
        |error: std::io::Error| Error::CannotWrite(format!("cannot write a temporary file: {error}"));
    let mut file = tempfile::NamedTempFile::new().map_err(unwritable)?;
    std::io::Write::write_all(&mut file, bytes.as_bytes()).map_err(unwritable)?;
    api.put_file(&url, file.path(), announced.size_bytes).await?;
    let host = url.split('/').nth(2).unwrap_or_default();
    Ok(format!("{host} takes what the API presigns"))
}

async fn clocks(api: &Api, inspector: &Inspector) -> Seen {
    const WHAT: &str = "clocks";
    // The nodes first: what they wrote down is then older than what the database says.
    let nodes = match inspector.node_clocks().await {
        Err(error) => return seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(nodes) => nodes,
    };
    match api.clock().await {
        Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(clock) => judge_clocks(WHAT, &nodes, clock.database),
    }
}

/// A kubelet renews its lease every ten seconds and writes its own time into it.
fn judge_clocks(what: &'static str, nodes: &[NodeClock], database: Timestamp) -> Seen {
    let mut verdict = Verdict::Ok;
    let told: Vec<String> = nodes
        .iter()
        .map(|node| {
            let Some(renewed) = node.renewed else {
                verdict = Verdict::Missing;
                return format!("{} has no lease", node.node);
            };
            let ago = database.duration_since(renewed);
            if ago < -AHEAD {
                verdict = Verdict::Missing;
                return format!(
                    "{} is {} s ahead of the database; mend NTP",
                    node.node,
                    -ago.as_secs()
                );
            }
            if ago > RENEWAL + AHEAD {
                verdict = Verdict::Missing;
                let seconds = (ago - RENEWAL).as_secs();
                return format!(
                    "{} is at least {seconds} s behind the database, or its kubelet has stopped; mend NTP",
                    node.node
                );
            }
            format!(
                "{} wrote its time {} s ago by the database",
                node.node,
                ago.as_secs()
            )
        })
        .collect();
    seen(what, verdict, told.join("; "))
}

/// More is refused by those who check tokens and signatures of requests.
const AHEAD: SignedDuration = SignedDuration::from_secs(30);
const RENEWAL: SignedDuration = SignedDuration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_what_tokens_bear() {
        let database: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let verdict = |renewed: &str| {
            let node = NodeClock {
                node: "n".to_owned(),
                renewed: Some(renewed.parse().unwrap()),
            };
            judge_clocks("clocks", &[node], database)
        };
        assert_eq!(verdict("2026-01-01T00:09:52Z").verdict, Verdict::Ok);
        assert_eq!(verdict("2026-01-01T00:10:20Z").verdict, Verdict::Ok);
        let ahead = verdict("2026-01-01T00:20:00Z");
        assert!(ahead.detail.contains("600 s ahead"), "{ahead:?}");
        let behind = verdict("2025-12-31T23:59:55Z");
        assert!(
            behind.verdict == Verdict::Missing && behind.detail.contains("behind"),
            "{behind:?}"
        );
    }
}
