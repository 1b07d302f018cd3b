use std::{io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;
use crate::digest::Digest;

/// An archive made by hand: the library refuses to write most of what is tried here.
#[derive(Default)]
struct Forged(Vec<u8>);

impl Forged {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let bytes = header.as_mut_bytes();
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(u64::try_from(content.len()).unwrap());
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", content)
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, b"")
    }

    fn gzip(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        gzip(&self.0)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(root: &Path, path: &str, content: &str) {
    let full = root.join(path);
    std::fs::create_dir_all(full.parent().unwrap()).unwrap();
    std::fs::write(full, content).unwrap();
}

fn refused(archive: Forged) -> Error {
    let bytes = archive.gzip();
    let unpacked = folder();
    let error = unpack(&*bytes, Caps::default(), unpacked.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        list(&*bytes, Caps::default()).unwrap_err().to_string()
    );
    error
}

#[test]
fn a_folder_packs_to_the_same_digest_whenever_it_is_touched() {
    let (first, second) = (folder(), folder());
    for root in [first.path(), second.path()] {
        write(root, "task.toml", "x = 1");
        write(root, "tests/test.sh", "true");
        std::fs::set_permissions(root.join("tests/test.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("test.sh", root.join("tests/again.sh")).unwrap();
        std::fs::create_dir(root.join("environment")).unwrap();
    }
    write(second.path(), "environment/__pycache__/x.pyc", "ignored");
    write(second.path(), ".git/config", "ignored");
    write(second.path(), "tests/.harborignore", "secret*\n");
    write(second.path(), "tests/secret.txt", "ignored");
    let old = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::open(second.path().join("task.toml"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    let packed: Vec<(Vec<u8>, Digest, Files)> = [first.path(), second.path()]
        .into_iter()
        .map(|root| {
            let files = scan(root, Caps::default()).unwrap();
            let mut bytes = Vec::new();
            let digest = pack(root, &files, &mut bytes).unwrap();
            (bytes, digest, files)
        })
        .collect();
    assert_eq!(packed[0].0, packed[1].0);
    assert_eq!(packed[0].1, Digest::of(&packed[0].0));
    let unpacked = folder();
    let files = unpack(&*packed[0].0, Caps::default(), unpacked.path()).unwrap();
    assert_eq!(files, packed[0].2);
    assert_eq!(scan(unpacked.path(), Caps::default()).unwrap(), files);
    assert_eq!(files.text("tests/again.sh").as_deref(), Some("true"));
    assert!(files.is_directory("environment") && files.is_file("tests/again.sh"));
}

#[test]
fn the_digest_of_a_task_is_harbors() {
    let root = folder();
    write(root.path(), "b", "2");
    write(root.path(), "a/c", "1");
    let files = scan(root.path(), Caps::default()).unwrap();
    let lines = format!("a/c\0{}\nb\0{}\n", Digest::of("1").hex(), Digest::of("2").hex());
    assert_eq!(files.content_digest(""), Digest::of(lines));
    assert_ne!(files.build_digest(""), files.content_digest(""));
}

#[test]
fn names_that_leave_the_archive_are_refused() {
    for path in ["../x", "/etc/passwd", "a/../../x", "a/.."] {
        assert!(
            matches!(refused(Forged::default().file(path, b"")), Error::Path { .. }),
            "{path}"
        );
    }
}

#[test]
fn links_that_leave_are_refused_through_whatever_other_links() {
    for archive in [
        Forged::default().link("x", "/etc"),
        Forged::default().link("x", ".."),
        Forged::default().link("a/x", "../../y"),
        // One by one they stay inside, together they do not.
        Forged::default()
            .link("d1/d2/b", "../../r")
            .file("r/f", b"")
            .link("d1/d2/l", "b/../../x"),
        Forged::default().link("a", "b").link("b", "a"),
        Forged::default().link("a/b", "."),
    ] {
        assert!(matches!(refused(archive), Error::Link { .. }));
    }
    assert!(list(&*Forged::default().link("a/x", "../y").gzip(), Caps::default()).is_ok());
}

#[test]
fn nothing_is_written_through_a_link() {
    let archive = Forged::default().link("a", "b").file("a/x", b"");
    assert!(matches!(refused(archive), Error::Path { .. }));
    let archive = Forged::default().file("a", b"").file("a/x", b"");
    assert!(matches!(refused(archive), Error::Path { .. }));
}

#[test]
fn only_files_folders_and_symbolic_links_are_taken() {
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Link,
    ] {
        assert!(
            matches!(
                refused(Forged::default().entry(kind, "x", "y", b"")),
                Error::Kind { .. }
            ),
            "{kind:?}"
        );
    }
    for again in ["x", "./x", "x//"] {
        let archive = Forged::default().file("x", b"1").file(again, b"2");
        assert!(matches!(refused(archive), Error::Duplicate(_)), "{again}");
    }
}

#[test]
fn two_hundred_thousand_entries_are_refused() {
    let mut archive = Forged::default();
    for index in 0..200_000 {
        archive = archive.file(&format!("f{index}"), b"");
    }
    let bytes = archive.gzip();
    assert!(matches!(
        list(&*bytes, Caps::default()),
        Err(Error::TooManyEntries(100_000))
    ));
}

#[test]
fn ten_gigabytes_of_zeros_are_refused_before_they_are_written() {
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(10 << 30);
    header.set_cksum();
    let bytes = gzip(header.as_bytes());
    assert!(matches!(list(&*bytes, Caps::default()), Err(Error::TooBig(_))));
    let caps = Caps {
        ratio: 10,
        ratio_from_bytes: 1 << 20,
        ..Caps::default()
    };
    let bytes = Forged::default().file("zeros", &vec![0; 4 << 20]).gzip();
    assert!(matches!(list(&*bytes, caps), Err(Error::Ratio(10))));
}

#[test]
fn an_endless_extension_header_is_refused() {
    for kind in [
        EntryType::XHeader,
        EntryType::GNULongName,
        EntryType::XGlobalHeader,
    ] {
        let archive = Forged::default().entry(kind, "x", "", &vec![b'a'; 1 << 20]);
        assert!(matches!(refused(archive), Error::Malformed(_)), "{kind:?}");
    }
}

#[test]
fn half_an_archive_is_malformed() {
    let bytes = Forged::default().file("x", &vec![1; 100_000]).gzip();
    for length in [0, 5, bytes.len() / 2, bytes.len() - 4] {
        let result = list(&bytes[..length], Caps::default());
        assert!(matches!(result, Err(Error::Malformed(_))), "{length}: {result:?}");
    }
    assert!(matches!(
        list(&b"no gzip"[..], Caps::default()),
        Err(Error::Malformed(_))
    ));
}

#[test]
fn set_user_id_bits_are_not_taken() {
    let bytes = Forged::default().file("x", b"").gzip();
    let unpacked = folder();
    unpack(&*bytes, Caps::default(), unpacked.path()).unwrap();
    let mode = std::fs::metadata(unpacked.path().join("x"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

fn any_part() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        "[ab]{1,2}"
    ]
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(any_part(), 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_ever_written_outside(entries in prop::collection::vec((0..3, any_path(), any_path()), 1..8)) {
        let outer = folder();
        let inner = outer.path().join("deep/inner");
        std::fs::create_dir_all(&inner).unwrap();
        let archive = entries.iter().fold(Forged::default(), |archive, (kind, path, target)| match kind {
            0 => archive.file(path, b"x"),
            1 => archive.link(path, target),
            _ => archive.entry(EntryType::Directory, path, "", b""),
        });
        let unpacked = unpack(&*archive.gzip(), Caps::default(), &inner);
        let names = |path: &Path| -> Vec<_> { path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        prop_assert_eq!(names(outer.path()), ["deep"]);
        prop_assert_eq!(names(&outer.path().join("deep")), ["inner"]);
        if let Ok(files) = unpacked {
            let root = inner.canonicalize().unwrap();
            for path in files.entries().keys() {
                if let Ok(real) = inner.join(path).canonicalize() {
                    prop_assert!(real.starts_with(&root), "{}", path);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(list(&*bytes, Caps::default()).is_err() || bytes.is_empty());
        drop(list(&*gzip(&bytes), Caps::default()));
    }
}
