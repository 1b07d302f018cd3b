//! Tars for a sandbox, written to a file first so that their size never matters to memory.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

/// What goes into a tar, in order; later entries replace earlier ones of the same path.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A folder of its own.
    Folder {
        /// Inside the tar.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// A file with this content.
    Text {
        /// Inside the tar.
        path: String,
        /// The content.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// All that is in a folder on disk.
    Tree {
        /// On disk.
        from: PathBuf,
        /// Inside the tar; empty for its root.
        to: String,
    },
}

/// Writes a tar owned by root. Shell scripts become executable.
pub(super) async fn pack(items: Vec<Item>, into: PathBuf) -> io::Result<()> {
    tokio::task::spawn_blocking(move || write(&items, &into))
        .await
        .map_err(io::Error::other)?
}

fn write(items: &[Item], into: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(into)?));
    tar.follow_symlinks(false);
    for item in items {
        match item {
            Item::Folder { path, mode } => append(&mut tar, path, tar::EntryType::Directory, *mode, &[])?,
            Item::Text { path, content, mode } => {
                append(&mut tar, path, tar::EntryType::Regular, *mode, content)?;
            }
            Item::Tree { from, to } => tree(&mut tar, from, to)?,
        }
    }
    tar.into_inner()?.flush()
}

type Tar = tar::Builder<BufWriter<File>>;

fn append(tar: &mut Tar, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

fn tree(tar: &mut Tar, from: &Path, to: &str) -> io::Result<()> {
    let mut names: Vec<_> = std::fs::read_dir(from)?.collect::<io::Result<_>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        let path = Path::new(to).join(&name);
        let metadata = entry.path().symlink_metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_uid(0);
        header.set_gid(0);
        if metadata.is_dir() {
            header.set_mode(0o755);
            tar.append_data(&mut header, &path, io::empty())?;
            tree(tar, &entry.path(), &path.to_string_lossy())?;
        } else if metadata.is_symlink() {
            tar.append_link(&mut header, &path, std::fs::read_link(entry.path())?)?;
        } else if metadata.is_file() {
            let script = path.extension().is_some_and(|extension| extension == "sh");
            header.set_mode(header.mode()? & 0o777 | 0o644 | if script { 0o111 } else { 0 });
            tar.append_data(&mut header, &path, File::open(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trees_are_merged_in_order_and_scripts_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let tests = folder.path().join("tests");
        std::fs::create_dir_all(tests.join("inner")).unwrap();
        std::fs::write(tests.join("test.sh"), "exit 0").unwrap();
        std::fs::write(tests.join("inner/data"), "1").unwrap();
        let items = vec![
            Item::Folder {
                path: "logs".to_owned(),
                mode: 0o777,
            },
            Item::Tree {
                from: tests,
                to: "tests".to_owned(),
            },
            Item::Text {
                path: "tests/test.sh".to_owned(),
                content: b"exit 1".to_vec(),
                mode: 0o755,
            },
        ];
        let into = folder.path().join("out.tar");
        pack(items, into.clone()).await.unwrap();
        let mut archive = tar::Archive::new(File::open(into).unwrap());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().mode().unwrap())
            })
            .collect();
        let names: Vec<_> = entries.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            names,
            [
                "logs",
                "tests/inner",
                "tests/inner/data",
                "tests/test.sh",
                "tests/test.sh"
            ]
        );
        assert_eq!(entries[0].1, 0o777);
        assert_eq!(entries[3].1 & 0o111, 0o111);
    }
}
