//! Copies of collections whose entries are left out or named otherwise.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write as _},
    path::Path,
};

use assay_core::task::config::Artifact;

use super::collect::absolute;

/// Copies a tar without its first `skip` entries. `rename` says what an entry is called in the copy.
pub(super) async fn copy(
    from: &Path,
    into: &Path,
    skip: usize,
    rename: impl Fn(&str) -> String + Send + 'static,
) -> io::Result<()> {
    let (from, into) = (from.to_owned(), into.to_owned());
    tokio::task::spawn_blocking(move || copy_entries(&from, &into, skip, &rename))
        .await
        .map_err(io::Error::other)?
}

fn copy_entries(from: &Path, into: &Path, skip: usize, rename: &dyn Fn(&str) -> String) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::new(File::open(from)?));
    let mut copy = tar::Builder::new(BufWriter::new(File::create(into)?));
    for entry in archive.entries()?.skip(skip) {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        // A name that is no text is nobody's: it stays.
        let path = path.to_str().map(|path| rename(path).into()).unwrap_or(path);
        let mut header = entry.header().clone();
        if let Some(target) = entry.link_name()?.filter(|_| header.entry_type().is_symlink()) {
            copy.append_link(&mut header, path, target)?;
        } else {
            copy.append_data(&mut header, path, &mut entry)?;
        }
    }
    copy.into_inner()?.flush()
}

/// Where collected artifacts stand in the archive that is kept: at their `destination`, else where they were.
#[derive(Debug, Clone)]
pub(super) struct Destinations(Vec<(String, String)>);

impl Destinations {
    /// Of the artifacts that name one; `None` where none does.
    pub(super) fn of(artifacts: &[Artifact], workdir: &str) -> Option<Self> {
        let named = artifacts.iter().filter_map(|artifact| {
            let destination = artifact.destination.as_deref()?;
            let source = absolute(workdir, &artifact.source);
            Some((trimmed(&source), trimmed(destination)))
        });
        let mut named: Vec<_> = named.collect();
        // The innermost source that holds a file decides where it goes.
        named.sort_by_key(|(source, _)| std::cmp::Reverse(source.len()));
        (!named.is_empty()).then_some(Self(named))
    }

    /// The name of an entry in the copy.
    pub(super) fn of_entry(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        let moved = self.0.iter().find_map(|(source, destination)| {
            let rest = path.strip_prefix(source.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{destination}{rest}"))
        });
        moved.unwrap_or_else(|| path.to_owned())
    }
}

fn trimmed(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(source: &str, destination: Option<&str>) -> Artifact {
        Artifact {
            source: source.to_owned(),
            destination: destination.map(str::to_owned),
            exclude: Vec::new(),
            service: None,
        }
    }

    #[test]
    fn an_artifact_goes_where_its_destination_says() {
        let artifacts = [
            artifact("/logs/artifacts", None),
            artifact("out", Some("./results/")),
            artifact("/app/out/deep.txt", Some("first.txt")),
        ];
        let destinations = Destinations::of(&artifacts, "/app").unwrap();
        for (path, expected) in [
            ("app/out", "results"),
            ("app/out/a/b.txt", "results/a/b.txt"),
            ("app/out/deep.txt", "first.txt"),
            ("app/outside.txt", "app/outside.txt"),
            ("logs/artifacts/x", "logs/artifacts/x"),
            ("manifest.json", "manifest.json"),
        ] {
            assert_eq!(destinations.of_entry(path), expected);
        }
        assert!(Destinations::of(&artifacts[..1], "/app").is_none());
    }

    #[tokio::test]
    async fn a_copy_keeps_content_links_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, into) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
        let mut builder = tar::Builder::new(File::create(&from).unwrap());
        let mut dropped = tar::Header::new_gnu();
        dropped.set_size(0);
        builder
            .append_data(&mut dropped, "manifest.json", io::empty())
            .unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o751);
        header.set_size(2);
        builder.append_data(&mut header, "app/out/x", &b"hi"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        builder.append_link(&mut link, "app/out/y", "x").unwrap();
        builder.finish().unwrap();
        copy(&from, &into, 1, |path| path.replace("app/", ""))
            .await
            .unwrap();
        let mut copied = tar::Archive::new(File::open(&into).unwrap());
        let told: Vec<_> = copied
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let target = entry
                    .link_name()
                    .unwrap()
                    .map(|target| target.display().to_string());
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().mode().unwrap(), target)
            })
            .collect();
        assert_eq!(told[0], ("out/x".to_owned(), 0o751, None));
        assert_eq!((told[1].0.as_str(), told[1].2.as_deref()), ("out/y", Some("x")));
        assert_eq!(told.len(), 2);
    }
}
