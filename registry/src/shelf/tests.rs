use std::{net::SocketAddr, process::Command};

use super::*;
use crate::{Caps, Client, Error, Reference, Registries, architecture};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CAPS: Caps = Caps {
    layers: 8,
    bytes: 1 << 20,
};

/// A layout with one image behind an index, and a shelf that offers it.
struct Stage {
    folder: tempfile::TempDir,
    image: Descriptor,
    index: Descriptor,
    address: SocketAddr,
}

impl Stage {
    /// The server lives as long as the test's runtime.
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let (image, index) = fill(&layout);
        let mut shelf = Shelf::new(layout);
        shelf.put("h0/library/base", "12", image.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(shelf.serve(listener));
        Self {
            folder,
            image,
            index,
            address,
        }
    }

    fn client(&self) -> Client {
        let host = self.address.to_string();
        Client::new(Registries {
            mirrors: [(host.clone(), format!("http://{host}"))].into(),
            ..Registries::default()
        })
    }

    fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }

    async fn raw(&self, method: &str, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

fn put(layout: &Layout, kind: &str, bytes: &[u8]) -> Descriptor {
    let digest = Digest::of(bytes);
    std::fs::write(layout.blob(&digest), bytes).unwrap();
    Descriptor {
        media_type: kind.to_owned(),
        digest: digest.to_string(),
        size: bytes.len() as u64,
        platform: None,
        annotations: None,
    }
}

fn fill(layout: &Layout) -> (Descriptor, Descriptor) {
    let layer = tar();
    let diff = Digest::of(&layer).to_string();
    let layer = put(layout, "application/vnd.oci.image.layer.v1.tar", &layer);
    let config = serde_json::json!({
        "os": "linux", "architecture": architecture(), "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff] },
    });
    let config = put(
        layout,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
    });
    let image = put(layout, MANIFEST, manifest.to_string().as_bytes());
    let mut listed = image.clone();
    listed.platform = Some(crate::Platform {
        architecture: architecture().to_owned(),
        os: "linux".to_owned(),
    });
    // Without a type of its own, as the format allows.
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [listed] });
    (image, put(layout, INDEX, index.to_string().as_bytes()))
}

/// An archive with one empty file, as `tar` writes it.
fn tar() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let packed = Command::new("tar")
        .args(["--create", "--directory"])
        .arg(folder.path())
        .args(["--file=-", "file"])
        .output()
        .unwrap();
    assert!(packed.status.success());
    packed.stdout
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_by_its_digest_and_by_its_indexs_digest() {
    let stage = Stage::set().await;
    let client = stage.client();
    for version in [
        ":12".to_owned(),
        format!("@{}", stage.image.digest),
        format!("@{}", stage.index.digest),
    ] {
        let reference = stage.reference(&format!("h0/library/base{version}"));
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let pulled = client.repository(&reference).pull(&layout, CAPS).await.unwrap();
        assert_eq!(pulled.digest, stage.image.digest, "{version}");
        // What was asked for by digest can be offered again under that digest.
        let asked: Option<Digest> = reference.version.parse().ok();
        assert!(
            asked.is_none_or(|digest| layout.blob(&digest).exists()),
            "{version}"
        );
        layout
            .write_index(&[("base-0".to_owned(), pulled.clone())])
            .unwrap();
        let [(name, same)] = layout.images().unwrap().try_into().unwrap();
        assert_eq!((name.as_str(), same.digest), ("base-0", pulled.digest));
        crate::check(&layout, CAPS).unwrap();
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart_and_nothing_is_taken() {
    let stage = Stage::set().await;
    let client = stage.client();
    for rest in ["h0/library/base:13", "h0/library/other:12", "h1/library/base:12"] {
        let reference = stage.reference(rest);
        let answer = client.repository(&reference).manifest(&reference.version).await;
        assert!(matches!(answer, Err(Error::NotThere(_))), "{rest}: {answer:?}");
    }
    let reference = stage.reference("h0/library/base:12");
    assert!(client.repository(&reference).may_push().await.is_err());
    let tag = stage.raw("GET", "/v2/h0/library/base/manifests/13").await;
    assert!(
        tag.starts_with("HTTP/1.1 404") && tag.contains("MANIFEST_UNKNOWN"),
        "{tag}"
    );
    let name = stage.raw("GET", "/v2/h0/library/other/manifests/12").await;
    assert!(name.contains("NAME_UNKNOWN"), "{name}");
    for path in [
        "/v2/h0/library/base/blobs/sha256:../../../../etc/passwd",
        "/v2/h0/library/base/blobs/../../index.json",
        "/index.json",
        "/v2x",
    ] {
        let answer = stage.raw("GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_head_has_type_size_and_digest_and_no_body() {
    let stage = Stage::set().await;
    for (version, kind) in [("12", MANIFEST), (stage.index.digest.as_str(), INDEX)] {
        let text = stage
            .raw("HEAD", &format!("/v2/h0/library/base/manifests/{version}"))
            .await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(
            head.contains("content-length: ") && !head.contains("content-length: 0"),
            "{head}"
        );
        assert_eq!(body, "");
    }
    let version = stage.raw("GET", "/v2/").await;
    assert!(
        version.contains("registry/2.0") && version.ends_with("{}"),
        "{version}"
    );
}

/// A client that others wrote: its own pings, types and order of questions.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "it says that it was skipped")]
async fn podman_pulls_from_it() {
    if Command::new("podman").arg("--version").output().is_err() {
        eprintln!("skipped: podman is missing");
        return;
    }
    let stage = Stage::set().await;
    let storage = tempfile::tempdir().unwrap();
    for version in [":12".to_owned(), format!("@{}", stage.index.digest)] {
        let name = format!("docker://{}/h0/library/base{version}", stage.address);
        let mut command = Command::new("podman");
        for folder in ["root", "runroot", "tmpdir"] {
            command
                .arg(format!("--{folder}"))
                .arg(storage.path().join(folder));
        }
        command.args(["--storage-driver", "vfs", "pull", "--tls-verify=false", &name]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {told}");
    }
    drop(stage.folder);
}

#[test]
fn the_last_word_of_a_path_counts() {
    assert_eq!(asked("/v2/"), Some(Asked::Version));
    assert_eq!(asked("/v2"), Some(Asked::Version));
    assert_eq!(asked("/v2x"), None);
    assert_eq!(
        asked("/v2/a/blobs/b/manifests/c"),
        Some(Asked::Manifest("a/blobs/b", "c"))
    );
    assert_eq!(asked("/v2/a/b/blobs/c"), Some(Asked::Blob("a/b", "c")));
    assert_eq!(asked("/v2/a/tags/list"), None);
}
