use std::fs;

use super::*;

/// A folder with what a process may find of clusters. Each server is named after what leads to it.
struct Scene(tempfile::TempDir);

impl Scene {
    /// A home with a file in it, and two more files. The first file's current context is `one`, and it knows `two`.
    fn set() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(scene.path("home/.kube")).unwrap();
        scene.write("home/.kube/config", &["home", "spare"]);
        scene.write("first", &["one", "two"]);
        scene.write("second", &["two", "three"]);
        fs::write(scene.path("token"), "secret").unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file whose current context is the first of these.
    fn write(&self, file: &str, contexts: &[&str]) {
        let list = |line: fn(&str, &str) -> String| {
            let lines: Vec<_> = contexts.iter().map(|context| line(context, file)).collect();
            lines.concat()
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {}\nclusters:\n{}contexts:\n{}users:\n- {{name: me, user: {{token: t}}}}\n",
            contexts[0],
            list(|context, file| {
                let file = file.replace(['/', '.'], "");
                format!(
                    "- {{name: {context}, cluster: {{server: 'https://{context}.{file}.example:6443'}}}}\n"
                )
            }),
            list(|context, _| format!("- {{name: {context}, context: {{cluster: {context}, user: me}}}}\n")),
        );
        fs::write(self.path(file), text).unwrap();
    }

    /// What a process finds there: as a container of a cluster, or not, with or without `KUBECONFIG`.
    fn found(&self, in_container: bool, token: &str, kubeconfig: &[&str]) -> Surroundings {
        let files = std::env::join_paths(kubeconfig.iter().map(|name| self.path(name))).unwrap();
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => in_container.then(|| "10.96.0.1".into()),
            "KUBECONFIG" => (!kubeconfig.is_empty()).then(|| files.clone()),
            other => panic!("{other} is nobody's business"),
        };
        Surroundings::of(variable, &self.path(token), Some(self.path("home")))
    }
}

fn access(kubeconfig: Option<PathBuf>, context: Option<&str>) -> Access {
    Access {
        kubeconfig,
        context: context.map(str::to_owned),
    }
}

/// The host of the API server, or why there is none.
async fn host(access: &Access, found: Surroundings) -> Result<String, String> {
    let files = match way(access, found).map_err(|error| error.to_string())? {
        Way::Inside => return Ok("inside".to_owned()),
        Way::Files(files) => files,
    };
    let config = by_files(&files, access.context.clone()).await;
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.cluster_url.host().unwrap().to_owned())
}

#[tokio::test]
async fn a_pod_comes_before_the_variable_and_the_variable_before_the_home() {
    let scene = Scene::set();
    let nothing_said = access(None, None);
    for (found, want) in [
        (scene.found(true, "token", &["first"]), "inside"),
        (scene.found(true, "token", &[]), "inside"),
        // A container of a cluster that was given no token.
        (scene.found(true, "none", &["first"]), "one.first.example"),
        // A token that lies about on a machine that is no container of a cluster.
        (scene.found(false, "token", &["first"]), "one.first.example"),
        (scene.found(false, "none", &[]), "home.homekubeconfig.example"),
        (scene.found(true, "none", &[]), "home.homekubeconfig.example"),
    ] {
        let told = format!("{found:?}");
        assert_eq!(host(&nothing_said, found).await.as_deref(), Ok(want), "{told}");
    }
}

#[tokio::test]
async fn a_named_file_comes_before_everything() {
    let scene = Scene::set();
    let named = access(Some(scene.path("second")), None);
    let found = scene.found(true, "token", &["first"]);
    assert_eq!(host(&named, found.clone()).await.unwrap(), "two.second.example");
    // It is not looked for elsewhere.
    let named = access(Some(scene.path("none")), None);
    let error = host(&named, found).await.unwrap_err();
    assert!(error.contains("none"), "{error}");
}

#[tokio::test]
async fn a_named_context_is_a_files_and_never_the_pods() {
    let scene = Scene::set();
    let inside = || scene.found(true, "token", &["first"]);
    let two = access(None, Some("two"));
    assert_eq!(host(&two, inside()).await.unwrap(), "two.first.example");
    let two = access(Some(scene.path("second")), Some("three"));
    assert_eq!(host(&two, inside()).await.unwrap(), "three.second.example");
    let spare = access(None, Some("spare"));
    let found = scene.found(true, "token", &[]);
    assert_eq!(host(&spare, found).await.unwrap(), "spare.homekubeconfig.example");
    let missing = access(None, Some("nowhere"));
    let error = host(&missing, inside()).await.unwrap_err();
    assert!(error.contains("nowhere"), "{error}");
}

#[tokio::test]
async fn of_several_files_the_first_one_counts_where_they_differ() {
    let scene = Scene::set();
    for (context, want) in [
        (None, "one.first.example"),
        (Some("two"), "two.first.example"),
        (Some("three"), "three.second.example"),
    ] {
        let found = scene.found(false, "none", &["first", "second"]);
        assert_eq!(host(&access(None, context), found).await.unwrap(), want);
    }
}

#[test]
fn what_leads_nowhere_is_told() {
    let empty = Surroundings {
        kubeconfig: Some(OsString::new()),
        ..Surroundings::default()
    };
    let error = way(&access(None, None), empty).unwrap_err();
    assert!(error.to_string().contains("home folder"), "{error}");
}
