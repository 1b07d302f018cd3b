//! What builds have left in their namespace.
//!
//! A Job whose build is over stays for five minutes with its pod and its Secret (docs/OPERATIONS.md), so that whoever asks
//! for the same image gets the same answer. Everything else has to go.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubectl::Kubectl;

/// The namespace of the builders, as the manifests have it.
pub const NAMESPACE: &str = "assay-builds";
/// For so long the cluster keeps a Job that is over, seconds.
const KEPT: u64 = 300;
/// A build that nobody waits for any more goes on to its end, and the cluster collects what belonged to a Job later.
const SWEEP: Duration = Duration::from_mins(3);

/// Waits until the builds of an installation have left nothing but Jobs that are over. Others' builds do not count.
pub async fn swept(admin: &Kubectl, owner: &str) -> anyhow::Result<()> {
    gone("builds", || Ok(unwanted(&objects(admin, owner)?)), SWEEP).await
}

/// Waits until nothing at all is left of them.
pub async fn forgotten(admin: &Kubectl, owner: &str) -> anyhow::Result<()> {
    let all = || Ok(objects(admin, owner)?.iter().map(name).collect());
    gone("builds", all, SWEEP + Duration::from_secs(KEPT)).await
}

/// Looks until nothing is left `of` something.
pub(crate) async fn gone(
    of: impl std::fmt::Display,
    left: impl Fn() -> anyhow::Result<Vec<String>>,
    patience: Duration,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let left = left()?;
        if left.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < patience, "left of {of}: {left:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All that carries the installation's label. Builds make neither ConfigMaps nor anything else.
fn objects(admin: &Kubectl, owner: &str) -> anyhow::Result<Vec<Value>> {
    let label = format!("assay.dev/owner={owner}");
    let kinds = "jobs,pods,secrets,configmaps";
    let words = ["get", kinds, "-n", NAMESPACE, "-l", &label, "-o", "json"];
    let found: Value = serde_json::from_str(&admin.ok(&words, None)?)?;
    Ok(found["items"].as_array().cloned().unwrap_or_default())
}

/// What neither is a Job that may stay nor belongs to one.
fn unwanted(objects: &[Value]) -> Vec<String> {
    let kept: Vec<&Value> = objects
        .iter()
        .filter(|object| may_stay(object))
        .map(|job| &job["metadata"]["uid"])
        .collect();
    objects
        .iter()
        .filter(|object| !may_stay(object) && !goes_with(object, &kept))
        .map(name)
        .collect()
}

/// Is it a Job that is over, and that the cluster removes by itself?
fn may_stay(object: &Value) -> bool {
    let ends =
        |one: &Value| (one["type"] == "Complete" || one["type"] == "Failed") && one["status"] == "True";
    let conditions = object["status"]["conditions"].as_array();
    let is_over = conditions.is_some_and(|all| all.iter().any(ends));
    let ttl = object["spec"]["ttlSecondsAfterFinished"].as_u64();
    let is_deleted = !object["metadata"]["deletionTimestamp"].is_null();
    object["kind"] == "Job" && is_over && !is_deleted && ttl.is_some_and(|seconds| seconds <= KEPT)
}

/// Does it belong to one of these Jobs, and does nothing run in it?
fn goes_with(object: &Value, jobs: &[&Value]) -> bool {
    let runs = object["kind"] == "Pod"
        && object["status"]["phase"] != "Succeeded"
        && object["status"]["phase"] != "Failed";
    let owners = object["metadata"]["ownerReferences"].as_array();
    !runs && owners.is_some_and(|all| all.iter().any(|owner| jobs.contains(&&owner["uid"])))
}

/// `kind name`.
fn name(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(name: &str, condition: &str, ttl: Option<u64>) -> Value {
        json!({
            "kind": "Job", "metadata": {"name": name, "uid": format!("uid-of-{name}")},
            "spec": {"ttlSecondsAfterFinished": ttl},
            "status": {"conditions": [{"type": condition, "status": "True"}]},
        })
    }

    fn part(kind: &str, of: &str, phase: &str) -> Value {
        json!({
            "kind": kind, "metadata": {"name": format!("part-of-{of}"), "ownerReferences": [{"uid": format!("uid-of-{of}")}]},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn a_job_that_is_over_stays_with_what_belongs_to_it() {
        let objects = [
            job("good", "Complete", Some(300)),
            job("bad", "Failed", Some(300)),
            part("Pod", "good", "Succeeded"),
            part("Pod", "bad", "Failed"),
            part("Secret", "bad", ""),
        ];
        assert_eq!(unwanted(&objects), Vec::<String>::new());
    }

    #[test]
    fn what_runs_is_removed_or_belongs_to_nobody_is_left() {
        let mut deleted = job("deleted", "Complete", Some(300));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
        let objects = [
            job("good", "Complete", Some(300)),
            part("Pod", "good", "Running"),
            job("waits", "Suspended", Some(300)),
            job("for-ever", "Complete", None),
            job("for-long", "Complete", Some(301)),
            deleted,
            part("Secret", "deleted", ""),
            part("Secret", "nobody", ""),
            json!({"kind": "ConfigMap", "metadata": {"name": "loose"}}),
        ];
        let want = [
            "Pod part-of-good",
            "Job waits",
            "Job for-ever",
            "Job for-long",
            "Job deleted",
            "Secret part-of-deleted",
            "Secret part-of-nobody",
            "ConfigMap loose",
        ];
        assert_eq!(unwanted(&objects), want);
    }
}
