use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use super::*;

const CAPS: Caps = Caps {
    layers: 3,
    bytes: 1_000,
};

/// A layout with one image of these layers.
struct Stage {
    folder: tempfile::TempDir,
    layout: Layout,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        Self { folder, layout }
    }

    fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.layout.blob(&digest), bytes).unwrap();
        json!({"mediaType": "t", "digest": digest.to_string(), "size": bytes.len()})
    }

    fn image(&self, layers: &[&[u8]], architecture: &str) -> Value {
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(layer)).collect();
        let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config =
            json!({"architecture": architecture, "os": "linux", "rootfs": {"diff_ids": ids}}).to_string();
        json!({"schemaVersion": 2, "config": self.blob(config.as_bytes()), "layers": layers})
    }

    fn index(&self, manifests: &[Value]) {
        let all: Vec<Value> = manifests
            .iter()
            .map(|manifest| self.blob(manifest.to_string().as_bytes()))
            .collect();
        fs::write(self.layout.index(), json!({"manifests": all}).to_string()).unwrap();
    }

    fn refusal(&self) -> String {
        check(&self.layout, CAPS).unwrap_err().to_string()
    }
}

#[test]
fn a_whole_image_is_taken_and_each_blob_named_once() {
    let stage = Stage::new();
    let manifest = stage.image(&[b"one", b"two", b"one"], architecture());
    stage.index(std::slice::from_ref(&manifest));
    let checked = check(&stage.layout, CAPS).unwrap();
    assert_eq!(checked.digest, Digest::of(manifest.to_string()));
    assert_eq!(checked.blobs.len(), 3);
}

#[test]
fn a_blob_with_other_bytes_is_found() {
    let stage = Stage::new();
    stage.index(&[stage.image(&[b"one"], architecture())]);
    fs::write(stage.layout.blob(&Digest::of("one")), "eno").unwrap();
    assert!(stage.refusal().contains("other bytes"));
    fs::remove_file(stage.layout.blob(&Digest::of("one"))).unwrap();
    assert!(stage.refusal().contains("no whole image"));
}

#[test]
fn a_link_leads_nowhere() {
    let stage = Stage::new();
    stage.index(&[stage.image(&[b"one"], architecture())]);
    let (blob, outside) = (
        stage.layout.blob(&Digest::of("one")),
        stage.folder.path().join("outside"),
    );
    fs::rename(&blob, &outside).unwrap();
    symlink(&outside, &blob).unwrap();
    assert!(stage.refusal().contains("not of its size"), "{}", stage.refusal());
    fs::remove_file(&blob).unwrap();
    fs::rename(&outside, &blob).unwrap();
    let folder = stage.folder.path().join("blobs/sha256");
    fs::rename(&folder, stage.folder.path().join("elsewhere")).unwrap();
    symlink(stage.folder.path().join("elsewhere"), &folder).unwrap();
    assert!(stage.refusal().contains("no folder"));
}

#[test]
fn an_image_for_another_machine_is_none() {
    let stage = Stage::new();
    stage.index(&[stage.image(&[b"one"], "s390x")]);
    assert!(stage.refusal().contains("linux/s390x"), "{}", stage.refusal());
}

#[test]
fn caps_are_held() {
    let stage = Stage::new();
    stage.index(&[stage.image(&[b"1", b"2", b"3", b"4"], architecture())]);
    assert!(stage.refusal().contains("3 layers"));
    let big = vec![0; 999];
    stage.index(&[stage.image(&[&big, b"22"], architecture())]);
    assert!(stage.refusal().contains("1000 bytes"));
}

#[test]
fn two_images_are_none() {
    let stage = Stage::new();
    let image = stage.image(&[b"one"], architecture());
    stage.index(&[image.clone(), image]);
    assert!(stage.refusal().contains("2 images"));
    fs::write(
        stage.layout.index(),
        r#"{"manifests": [{"digest": "sha256:../../x", "size": 1}]}"#,
    )
    .unwrap();
    assert!(stage.refusal().contains("no digest"));
}
