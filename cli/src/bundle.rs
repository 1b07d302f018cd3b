//! Folders become archives (`tar.gz`) that are named by their digest, and reach the object store by a presigned URL.

use std::{io::BufWriter, path::Path};

use assay_core::{
    archive::{self, Caps, Files},
    digest::Digest,
    wire::people::NewUpload,
};
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
/// A file that cannot be read, or something that no archive may hold.
pub fn pack(folder: &Path) -> Result<Archive, Error> {
    let files = scan(folder)?;
    let unwritable =
        |error: std::io::Error| Error::CannotWrite(format!("cannot write a temporary file: {error}"));
    let file = NamedTempFile::new().map_err(unwritable)?;
    let out = BufWriter::new(file.reopen().map_err(unwritable)?);
    let digest = archive::pack(folder, &files, out).map_err(|error| refused(folder, &error))?;
    let size_bytes = file.as_file().metadata().map_err(unwritable)?.len();
    Ok(Archive {
        file,
        digest,
        size_bytes,
    })
}

/// Lists a folder as it would be packed.
///
/// # Errors
/// As [`pack`].
pub fn scan(folder: &Path) -> Result<Files, Error> {
    archive::scan(folder, Caps::default()).map_err(|error| refused(folder, &error))
}

fn refused(folder: &Path, error: &archive::Error) -> Error {
    let text = format!("{}: {error}", folder.display());
    if error.is_io() {
        Error::NoInput(text)
    } else {
        Error::Data(text)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_names_the_bytes_that_are_uploaded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let archive = pack(folder.path()).unwrap();
        let bytes = std::fs::read(archive.file.path()).unwrap();
        assert_eq!(archive.digest, Digest::of(&bytes));
        assert_eq!(archive.size_bytes, u64::try_from(bytes.len()).unwrap());
    }

    #[test]
    fn a_folder_that_does_not_exist_is_a_missing_input_and_a_bad_link_is_bad_data() {
        assert_eq!(pack(Path::new("/does/not/exist")).unwrap_err().exit_code(), 66);
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert_eq!(pack(folder.path()).unwrap_err().exit_code(), 65);
    }
}
