//! Files in and out.

use std::{collections::BTreeMap, fs, io::Read as _, os::unix::fs::PermissionsExt as _};

use assay_core::control::runner::{Collect, EntryKind, Manifest, Stored};
use assay_runtime::control::Error;

use crate::sandbox::{Sandbox, Setup, code};

fn collect(path: &str) -> Collect {
    Collect {
        paths: vec![path.to_owned()],
        exclude: BTreeMap::from([(path.to_owned(), vec!["*.pyc".to_owned()])]),
        max_bytes: 10_000_000,
        max_entries: 100,
    }
}

impl Sandbox {
    async fn put(&self, root: &str, owner: Option<&str>, tar: &[u8]) -> Result<Stored, Error> {
        let file = self.path("upload.tar");
        fs::write(&file, tar).unwrap();
        self.client.put_files(root, owner, &file).await
    }

    async fn take(&self, wanted: &Collect) -> Result<(Manifest, Vec<u8>), Error> {
        let mut collection = self.client.collect(wanted).await?;
        let mut tar = Vec::new();
        while let Some(bytes) = collection.next().await? {
            tar.extend_from_slice(&bytes);
        }
        let mut archive = tar::Archive::new(&tar[..]);
        let first = archive.entries().unwrap().next().unwrap().unwrap();
        let manifest = serde_json::from_reader(first).unwrap();
        Ok((manifest, tar))
    }
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o750);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn what_is_put_comes_back() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let big = vec![42; 3_000_000];
    let tar = tar_of(&[("a/run.sh", b"#!/bin/sh\n"), ("a/big", &big), ("a/x.pyc", b"no")]);
    let root = sandbox.path("in here");
    let root = root.to_str().unwrap();
    let stored = sandbox.put(root, Some("12:34"), &tar).await.unwrap();
    assert_eq!(
        stored,
        Stored {
            files: 3,
            bytes: 3_000_012
        }
    );
    let metadata = fs::metadata(sandbox.path("in here/a/run.sh")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o750);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 12);
    std::os::unix::fs::symlink("/etc/passwd", sandbox.path("in here/link")).unwrap();
    nix::unistd::mkfifo(&sandbox.path("in here/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();

    let mut wanted = collect(root);
    wanted.paths.push("/no/such".to_owned());
    let (manifest, tar) = sandbox.take(&wanted).await.unwrap();
    assert_eq!(manifest.missing, ["/no/such"]);
    let found: Vec<(&str, EntryKind)> = manifest
        .entries
        .iter()
        .map(|entry| (entry.path.strip_prefix(root).unwrap(), entry.kind))
        .collect();
    assert_eq!(
        found,
        [
            ("", EntryKind::Directory),
            ("/a", EntryKind::Directory),
            ("/link", EntryKind::Symlink),
            ("/pipe", EntryKind::Skipped),
            ("/a/big", EntryKind::File),
            ("/a/run.sh", EntryKind::File),
        ]
    );
    let mut archive = tar::Archive::new(&tar[..]);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        if name.ends_with("big") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert!(content == big);
        }
        names.push(name);
    }
    assert_eq!((names[0].as_str(), names.len()), ("manifest.json", 6));
}

#[tokio::test]
async fn what_is_left_out_below_one_path_stays_below_another() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    for folder in ["a", "b"] {
        fs::create_dir(sandbox.path(folder)).unwrap();
        for name in ["x.pyc", "y"] {
            fs::write(sandbox.path(folder).join(name), "").unwrap();
        }
    }
    let [a, b] = ["a", "b"].map(|folder| sandbox.path(folder).to_str().unwrap().to_owned());
    let mut wanted = collect(&a);
    wanted.paths.push(b.clone());
    let (manifest, _) = sandbox.take(&wanted).await.unwrap();
    let found: Vec<&str> = manifest.entries.iter().map(|entry| entry.path.as_str()).collect();
    let expected = [
        a.clone(),
        format!("{a}/y"),
        b.clone(),
        format!("{b}/x.pyc"),
        format!("{b}/y"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_collection_stops_at_its_caps() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let root = sandbox.path("many");
    fs::create_dir(&root).unwrap();
    for name in 0..20 {
        fs::write(root.join(name.to_string()), "0123456789").unwrap();
    }
    let root = root.to_str().unwrap();
    for (max_bytes, max_entries) in [(100, 100), (1000, 10)] {
        let wanted = Collect {
            max_bytes,
            max_entries,
            ..collect(root)
        };
        assert_eq!(code(sandbox.take(&wanted).await), "too_large");
    }
}

#[tokio::test]
async fn hostile_and_broken_archives_leave_nothing() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.as_gnu_mut().unwrap().name[..7].copy_from_slice(b"../evil");
    header.set_cksum();
    let mut hostile = header.as_bytes().to_vec();
    hostile.extend([0; 1024]);
    let root = sandbox.path("root");
    for tar in [hostile, vec![b'x'; 5000]] {
        let put = sandbox.put(root.to_str().unwrap(), None, &tar);
        assert_eq!(code(put.await), "bad_archive");
    }
    assert!(!root.exists() && !sandbox.path("evil").exists());
}
