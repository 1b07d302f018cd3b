//! What a screener may do in the cluster, and what it may not.

use super::kubectl::kubectl;

#[test]
fn a_screener_may_do_what_it_has_to_and_nothing_else() {
    let Some(kubectl) = kubectl() else { return };
    let (sandboxes, builds) = ("assay-sandboxes", "assay-builds");
    let may = [
        ("create", "pods", sandboxes),
        ("watch", "pods", sandboxes),
        ("patch", "pods", sandboxes),
        ("delete", "pods", sandboxes),
        ("create", "secrets", sandboxes),
        ("delete", "secrets", sandboxes),
        ("list", "events", sandboxes),
        ("watch", "resourcequotas", sandboxes),
        ("create", "jobs.batch", builds),
        ("watch", "jobs.batch", builds),
        ("patch", "jobs.batch", builds),
        ("delete", "jobs.batch", builds),
        ("watch", "pods", builds),
        ("get", "pods/log", builds),
        ("create", "secrets", builds),
    ];
    let may_not = [
        ("create", "pods", builds),
        ("create", "pods/exec", builds),
        ("get", "secrets", builds),
        ("list", "secrets", builds),
        ("delete", "networkpolicies.networking.k8s.io", builds),
        ("create", "pods/exec", sandboxes),
        ("get", "pods/exec", sandboxes),
        ("update", "pods", sandboxes),
        ("deletecollection", "pods", sandboxes),
        ("deletecollection", "secrets", sandboxes),
        ("watch", "secrets", sandboxes),
        ("patch", "secrets", sandboxes),
        ("get", "configmaps", sandboxes),
        ("patch", "configmaps", sandboxes),
        ("create", "networkpolicies.networking.k8s.io", sandboxes),
        ("patch", "networkpolicies.networking.k8s.io", sandboxes),
        ("update", "resourcequotas", sandboxes),
        ("delete", "resourcequotas", sandboxes),
        ("create", "roles.rbac.authorization.k8s.io", sandboxes),
        ("create", "jobs.batch", sandboxes),
        ("create", "deployments.apps", sandboxes),
        ("create", "daemonsets.apps", sandboxes),
        ("create", "persistentvolumeclaims", sandboxes),
        ("create", "services", sandboxes),
        ("create", "endpoints", sandboxes),
        ("patch", "namespaces", ""),
        ("update", "namespaces", ""),
        ("get", "nodes/proxy", ""),
        ("create", "nodes/proxy", ""),
        ("create", "tokenreviews.authentication.k8s.io", ""),
        ("impersonate", "users", ""),
        ("impersonate", "serviceaccounts", ""),
        ("bind", "clusterroles.rbac.authorization.k8s.io", ""),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""),
        ("create", "certificatesigningrequests.certificates.k8s.io", ""),
        (
            "create",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "",
        ),
        (
            "delete",
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            "",
        ),
        ("create", "priorityclasses.scheduling.k8s.io", ""),
        ("create", "persistentvolumes", ""),
        ("patch", "statefulsets.apps", "assay-system"),
        ("patch", "deployments.apps", "assay-system"),
        ("get", "configmaps", "assay-system"),
        ("list", "pods", "assay-system"),
        ("create", "pods/exec", "assay-system"),
        ("create", "serviceaccounts/token", "assay-system"),
        ("update", "services", "assay-system"),
        ("list", "secrets", ""),
        ("list", "pods", ""),
        ("update", "pods", builds),
        ("delete", "pods", builds),
        ("delete", "secrets", builds),
        ("create", "configmaps", builds),
        ("update", "jobs.batch", builds),
        ("deletecollection", "jobs.batch", builds),
        ("create", "cronjobs.batch", builds),
        ("create", "pods/attach", sandboxes),
        ("get", "pods/log", sandboxes),
        ("update", "pods/ephemeralcontainers", sandboxes),
        ("create", "pods/eviction", sandboxes),
        ("update", "secrets", sandboxes),
        ("create", "configmaps", sandboxes),
        ("update", "configmaps", sandboxes),
        ("create", "serviceaccounts/token", sandboxes),
        ("create", "rolebindings.rbac.authorization.k8s.io", sandboxes),
        ("delete", "networkpolicies.networking.k8s.io", sandboxes),
        ("create", "pods", "assay-system"),
        ("get", "secrets", "assay-system"),
        ("get", "secrets", "kube-system"),
        ("list", "pods", "default"),
        ("get", "nodes", ""),
        ("create", "namespaces", ""),
        (
            "update",
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            "",
        ),
    ];
    let can = |(verb, resource, namespace): (&str, &str, &str)| {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let mut words = vec!["auth", "can-i", verb, resource];
        let (sub, space) = (format!("--subresource={sub}"), format!("--namespace={namespace}"));
        if sub.len() > "--subresource=".len() {
            words.push(&sub);
        }
        if !namespace.is_empty() {
            words.push(&space);
        }
        let output = kubectl.run(&words, None);
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            ["yes", "no"].contains(&answer.as_str()),
            "{verb} {resource}: {answer} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        answer == "yes"
    };
    for row in may {
        assert!(can(row), "a screener has to: {row:?}");
    }
    for row in may_not {
        assert!(!can(row), "a screener must not: {row:?}");
    }
}
