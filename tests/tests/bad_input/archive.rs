//! Archives that no honest packer makes, uploaded as they are.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use assay_core::{agent::Contract, cause::Cause, digest::Digest};
use assay_tests::installation::{Installation, Order, files::task};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};

use crate::home::{expect, refused};

pub async fn names_that_leave(home: &Installation) {
    for (path, word) in [
        ("../evil", "leaves the archive by `..`"),
        ("/etc/evil", "is absolute"),
    ] {
        let bytes = gzip(&entry(EntryType::Regular, path, ""));
        refuses(home, &bytes, &[path, word]).await;
    }
}

pub async fn links_that_leave(home: &Installation) {
    for target in ["/etc/passwd", "../../outside"] {
        let bytes = gzip(&entry(EntryType::Symlink, "link", target));
        refuses(home, &bytes, &["link", target]).await;
    }
}

pub async fn devices(home: &Installation) {
    let bytes = gzip(&entry(EntryType::Char, "null", ""));
    refuses(home, &bytes, &["null", "character device"]).await;
}

/// All of them are sent, packed to a few megabytes; the header's word is enough to refuse.
pub async fn ten_gigabytes_of_zeros(home: &Installation) {
    let mut header = header(EntryType::Regular, "zeros", "");
    header.set_size(10 << 30);
    header.set_cksum();
    let mut bytes = gzip(header.as_bytes());
    let megabytes = 4;
    let member = gzip(&vec![0; megabytes << 20]);
    for _ in 0..(10 << 10) / megabytes {
        bytes.extend_from_slice(&member);
    }
    refuses(home, &bytes, &["more than 4294967296 bytes unpacked"]).await;
}

pub async fn two_hundred_thousand_entries(home: &Installation) {
    let mut tar = Vec::new();
    for number in 0..200_000 {
        tar.extend_from_slice(&entry(EntryType::Regular, &format!("f{number}"), ""));
    }
    refuses(home, &gzip(&tar), &["more than 100000 entries"]).await;
}

pub async fn another_digest(home: &Installation) {
    let digest = Digest::of("what was promised");
    home.upload(digest, b"what was sent").await.unwrap();
    let sent = Digest::of("what was sent").to_string();
    let words = [digest.to_string(), sent];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refused(home.register_archive(digest).await, "digest_mismatch", &words);
}

/// The store's own disk rots, or somebody writes to it: never run, never a score.
pub async fn is_changed_in_the_store(home: &Installation) {
    let files = task().with("instruction.md", "Meant to be changed in the store");
    let task = home.register_task(&files).await.unwrap().digest;
    let kept = find(&home.objects_folder(), &task.hex()).expect("the archive in the store");
    let mut bytes = std::fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&kept, bytes).unwrap();
    let agent = home.built_in(Contract::Oracle).await.unwrap();
    let order = Order {
        task,
        agent,
        policy: assay_core::policy::Policy::default(),
    };
    let evaluation = home.submit(&order).await.unwrap();
    let ended = home.ended(&evaluation).await.unwrap();
    expect(&ended, Cause::DigestMismatch, None, &["task", "digest"]);
}

async fn refuses(home: &Installation, bytes: &[u8], words: &[&str]) {
    let digest = Digest::of(bytes);
    home.upload(digest, bytes).await.unwrap();
    refused(home.register_archive(digest).await, "archive_invalid", words);
}

/// An entry made by hand: the library refuses to write most of these.
fn entry(kind: EntryType, path: &str, link: &str) -> Vec<u8> {
    header(kind, path, link).as_bytes().to_vec()
}

fn header(kind: EntryType, path: &str, link: &str) -> Header {
    let mut header = Header::new_gnu();
    let bytes = header.as_mut_bytes();
    bytes[..path.len()].copy_from_slice(path.as_bytes());
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    header
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The file beneath a folder whose name holds a text.
fn find(folder: &Path, text: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return find(&path, text);
        }
        let name = entry.file_name();
        (name.to_string_lossy().contains(text) && !name.to_string_lossy().starts_with('.')).then_some(path)
    })
}
