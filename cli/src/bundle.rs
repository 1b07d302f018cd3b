//! Folders become archives (`tar.gz`) that are named by their digest, and reach the object store by a presigned URL.
//!
//! The same files always give the same bytes: entries are sorted, times and owners are zero.

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Seek as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use assay_core::{
    digest::{Digest, Hasher},
    wire::people::NewUpload,
};
use flate2::{Compression, GzBuilder};
use tempfile::NamedTempFile;

use crate::{api::Api, error::Error};

/// An archive on this machine's disk; removed when dropped.
#[derive(Debug)]
pub struct Archive {
    file: NamedTempFile,
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
}

/// Packs a folder.
///
/// # Errors
/// A file that cannot be read, or is neither file, folder nor link.
pub fn pack(folder: &Path) -> Result<Archive, Error> {
    let unreadable = |error: io::Error| Error::unreadable(folder, &error);
    let mut entries = Vec::new();
    collect(folder, Path::new(""), &mut entries)?;
    let file = NamedTempFile::new().map_err(|error| Error::unwritable(&std::env::temp_dir(), &error))?;
    let out = BufWriter::new(file.reopen().map_err(unreadable)?);
    let mut tar = tar::Builder::new(GzBuilder::new().mtime(0).write(out, Compression::fast()));
    for entry in &entries {
        append(&mut tar, folder, entry).map_err(|error| Error::unreadable(&folder.join(entry), &error))?;
    }
    let out = tar
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .map_err(unreadable)?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .map_err(unreadable)?;
    let (digest, size_bytes) = measure(&file).map_err(unreadable)?;
    Ok(Archive {
        file,
        digest,
        size_bytes,
    })
}

/// Brings an archive into the object store, unless it is there already.
///
/// # Errors
/// The API or the object store refused, or did not answer.
pub async fn upload(api: &Api, archive: &Archive) -> Result<(), Error> {
    let (digest, size_bytes) = (archive.digest, archive.size_bytes);
    match api.announce(&NewUpload { digest, size_bytes }).await?.url {
        Some(url) => api.put_file(&url, archive.file.path(), size_bytes).await,
        None => Ok(()),
    }
}

/// The name of a folder: its last part, `.` resolved.
///
/// # Errors
/// The folder does not exist.
pub fn folder_name(folder: &Path) -> Result<String, Error> {
    let whole = folder
        .canonicalize()
        .map_err(|error| Error::unreadable(folder, &error))?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(name.unwrap_or_else(|| "task".to_owned()))
}

fn collect(root: &Path, inner: &Path, entries: &mut Vec<PathBuf>) -> Result<(), Error> {
    let folder = root.join(inner);
    let listing = std::fs::read_dir(&folder).map_err(|error| Error::unreadable(&folder, &error))?;
    let mut names = Vec::new();
    for entry in listing {
        names.push(
            entry
                .map_err(|error| Error::unreadable(&folder, &error))?
                .file_name(),
        );
    }
    names.sort();
    for name in names {
        let path = inner.join(&name);
        // The author's own history is no part of what is judged.
        if path == Path::new(".git") {
            continue;
        }
        if entries.len() >= MOST_ENTRIES {
            return Err(Error::Data(format!(
                "{} has more than {MOST_ENTRIES} files; is it the right folder?",
                root.display()
            )));
        }
        let full = root.join(&path);
        let kind = full
            .symlink_metadata()
            .map_err(|error| Error::unreadable(&full, &error))?
            .file_type();
        entries.push(path.clone());
        if kind.is_dir() {
            collect(root, &path, entries)?;
        } else if !kind.is_file() && !kind.is_symlink() {
            return Err(Error::Data(format!(
                "{} is neither file, folder nor link; remove it",
                full.display()
            )));
        }
    }
    Ok(())
}

fn append<W: Write>(tar: &mut tar::Builder<W>, root: &Path, entry: &Path) -> io::Result<()> {
    let full = root.join(entry);
    let metadata = full.symlink_metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if metadata.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        return tar.append_link(&mut header, entry, std::fs::read_link(&full)?);
    }
    let runnable = metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0;
    header.set_mode(if runnable { 0o755 } else { 0o644 });
    if metadata.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return tar.append_data(&mut header, entry, io::empty());
    }
    header.set_size(metadata.len());
    // A file that grows meanwhile must not break the archive's frame.
    tar.append_data(&mut header, entry, File::open(&full)?.take(metadata.len()))
}

fn measure(file: &NamedTempFile) -> io::Result<(Digest, u64)> {
    let mut reader = file.reopen()?;
    reader.rewind()?;
    let (mut hasher, mut size) = (Hasher::default(), 0_u64);
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..count]);
        size += u64::try_from(count).unwrap_or(0);
    }
}

const MOST_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &Archive) -> Vec<String> {
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive.file.reopen().unwrap()));
        let entries = tar.entries().unwrap();
        entries
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn the_same_files_give_the_same_digest_whenever_they_were_written() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, order) in [(&one, ["a", "b"]), (&two, ["b", "a"])] {
            std::fs::create_dir(folder.path().join("tests")).unwrap();
            for name in order {
                std::fs::write(folder.path().join("tests").join(name), name).unwrap();
            }
        }
        let (one, two) = (pack(one.path()).unwrap(), pack(two.path()).unwrap());
        assert_eq!(one.digest, two.digest);
        assert_eq!(names(&one), ["tests", "tests/a", "tests/b"]);
    }

    #[test]
    fn history_is_left_out_and_links_are_kept_as_links() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        std::fs::write(folder.path().join(".git/HEAD"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let archive = pack(folder.path()).unwrap();
        assert_eq!(names(&archive), ["link"]);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_a_missing_input() {
        assert_eq!(pack(Path::new("/does/not/exist")).unwrap_err().exit_code(), 66);
    }
}
