use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn header(kind: EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o755);
    header
}

/// A tar with one entry whose name and target are written as they are, however wrong.
fn hostile(kind: EntryType, name: &str, target: &str) -> File {
    let mut header = header(kind, 0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&[0; 1024]).unwrap();
    file.rewind().unwrap();
    file
}

fn owner() -> Owner {
    Owner {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    }
}

#[test]
fn files_folders_and_links_arrive_with_their_modes() {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(tempfile::tempfile().unwrap());
    tar.append_data(&mut header(EntryType::Directory, 0), "a", io::empty())
        .unwrap();
    tar.append_data(&mut header(EntryType::Regular, 5), "a/run.sh", &b"hello"[..])
        .unwrap();
    tar.append_link(&mut header(EntryType::Symlink, 0), "a/link", "run.sh")
        .unwrap();
    tar.append_link(&mut header(EntryType::Link, 0), "hard", "a/run.sh")
        .unwrap();
    let mut file = tar.into_inner().unwrap();
    file.rewind().unwrap();
    let root = folder.path().join("deep/root");
    let stored = unpack(&file, &root, owner()).unwrap();
    assert_eq!(stored, Stored { files: 1, bytes: 5 });
    assert_eq!(fs::read(root.join("a/link")).unwrap(), b"hello");
    assert_eq!(fs::read(root.join("hard")).unwrap(), b"hello");
    let mode = fs::metadata(root.join("a/run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn hostile_entries_are_refused_before_anything_is_written() {
    for (kind, name, target) in [
        (EntryType::Regular, "../x", ""),
        (EntryType::Regular, "/x", ""),
        (EntryType::Regular, "a/../../x", ""),
        (EntryType::Symlink, "x", "/etc/passwd"),
        (EntryType::Symlink, "x", "../../etc"),
        (EntryType::Link, "x", "../etc/passwd"),
        (EntryType::Char, "x", ""),
        (EntryType::Block, "x", ""),
        (EntryType::Fifo, "x", ""),
        (EntryType::GNUSparse, "x", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let result = unpack(&hostile(kind, name, target), &root, owner());
        assert!(result.is_err(), "{kind:?} {name} {target}");
        assert!(!root.exists(), "{kind:?} {name}");
    }
}

#[test]
fn a_planted_link_is_replaced_and_never_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    std::os::unix::fs::symlink(&victim, root.join("x")).unwrap();
    std::os::unix::fs::symlink(folder.path(), root.join("out")).unwrap();
    unpack(&hostile(EntryType::Regular, "x", ""), &root, owner()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(unpack(&hostile(EntryType::Regular, "out/new", ""), &root, owner()).is_err());
    assert!(!folder.path().join("new").exists());
}
