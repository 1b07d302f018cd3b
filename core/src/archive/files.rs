//! What a folder or an archive holds: names, kinds, sizes, digests, and the text of small files that get read.

use std::collections::BTreeMap;

use super::Error;
use crate::digest::{Digest, Hasher};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Permission bits, at most `0o777`.
        mode: u32,
        /// Of its content.
        digest: Digest,
    },
    /// A folder.
    Directory {
        /// Permission bits, at most `0o777`.
        mode: u32,
    },
    /// A symbolic link that stays inside.
    Link {
        /// Where it leads, as written.
        target: String,
    },
}

/// A listing. Names are relative, with `/` between parts, and are never empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    entries: BTreeMap<String, Entry>,
    texts: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Every entry by name, sorted.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Is there a file of that name, also behind links?
    pub fn is_file(&self, path: &str) -> bool {
        matches!(self.follow(path), Some(Entry::File { .. }))
    }

    /// Is there a folder of that name, also behind links, also one that only its content names?
    pub fn is_directory(&self, path: &str) -> bool {
        let Some(path) = self.resolve(path) else {
            return false;
        };
        matches!(self.entries.get(&path), Some(Entry::Directory { .. }))
            || self.beneath(&path).next().is_some()
    }

    /// The content of a small file that is read as text; `None` when there is none of that name.
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        self.texts.get(&self.resolve(path)?).map(Vec::as_slice)
    }

    /// That as text, what is no UTF-8 replaced.
    pub fn text(&self, path: &str) -> Option<String> {
        self.bytes(path)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Every entry beneath a folder, by full name, sorted.
    pub fn beneath<'s>(&'s self, directory: &str) -> impl Iterator<Item = (&'s str, &'s Entry)> {
        let prefix = format!("{directory}/");
        self.entries
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Names the content: sha256 over `name NUL sha256(content) LF` of the files beneath `directory`, sorted
    /// (the whole listing for `""`). Links count as files that hold their target; folders and modes do not count.
    pub fn content_digest(&self, directory: &str) -> Digest {
        let mut hasher = Hasher::default();
        for (path, entry) in self.relative(directory) {
            let content = match entry {
                Entry::File { digest, .. } => *digest,
                Entry::Link { target } => Digest::of(target),
                Entry::Directory { .. } => continue,
            };
            hasher.update(format!("{path}\0{}\n", content.hex()).as_bytes());
        }
        hasher.finish()
    }

    /// Names what an image is built from: like [`Self::content_digest`], and modes and folders count too.
    pub fn build_digest(&self, directory: &str) -> Digest {
        let mut hasher = Hasher::default();
        for (path, entry) in self.relative(directory) {
            let line = match entry {
                Entry::File { mode, digest, .. } => {
                    format!("{}:{path} {mode:o} {}\n", path.len(), digest.hex())
                }
                Entry::Link { target } => format!("{}:{path} -> {}:{target}\n", path.len(), target.len()),
                Entry::Directory { mode } => format!("{}:{path} {mode:o}/\n", path.len()),
            };
            hasher.update(line.as_bytes());
        }
        hasher.finish()
    }

    fn relative<'s>(&'s self, directory: &str) -> Vec<(&'s str, &'s Entry)> {
        if directory.is_empty() {
            return self
                .entries
                .iter()
                .map(|(path, entry)| (path.as_str(), entry))
                .collect();
        }
        let skipped = directory.len() + 1;
        self.beneath(directory)
            .map(|(path, entry)| (&path[skipped..], entry))
            .collect()
    }

    /// Adds an entry. A parent that is a file or a link, or the same name again, is refused.
    pub(super) fn insert(&mut self, path: String, entry: Entry) -> Result<(), Error> {
        for (at, _) in path.match_indices('/') {
            match self.entries.get(&path[..at]) {
                None | Some(Entry::Directory { .. }) => {}
                Some(Entry::File { .. } | Entry::Link { .. }) => {
                    return Err(Error::Path {
                        path,
                        fault: "lies beneath something that is no folder",
                    });
                }
            }
        }
        let is_folder = matches!(entry, Entry::Directory { .. });
        if self.entries.contains_key(&path) || (!is_folder && self.beneath(&path).next().is_some()) {
            return Err(Error::Duplicate(path));
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Tells what an entry turned out to be.
    pub(super) fn replace(&mut self, path: String, entry: Entry) {
        self.entries.insert(path, entry);
    }

    pub(super) fn keep(&mut self, path: String, content: Vec<u8>) {
        self.texts.insert(path, content);
    }

    /// Is the content of such a file worth keeping? Only what gets read: configuration, instructions, scripts.
    pub(super) fn is_kept(path: &str, size: u64) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let has_extension = |extension: &str| name.rsplit_once('.').is_some_and(|(_, end)| end == extension);
        let is_code = ["sh", "toml", "py"]
            .iter()
            .any(|extension| has_extension(extension));
        let is_named = KEPT_NAMES.contains(&name);
        size <= MAX_KEPT_BYTES && (is_named || (is_code && path.matches('/').count() <= 3))
    }

    /// Is there room to keep that much more?
    pub(super) fn has_room(&self, size: u64) -> bool {
        let kept: usize = self.texts.values().map(Vec::len).sum();
        u64::try_from(kept).unwrap_or(u64::MAX).saturating_add(size) <= MAX_KEPT_TOTAL_BYTES
    }

    /// Checks every link: it must lead somewhere inside, through whatever other links.
    pub(super) fn check_links(&self) -> Result<(), Error> {
        for (path, entry) in &self.entries {
            let Entry::Link { target } = entry else { continue };
            let refused = |fault| {
                Err(Error::Link {
                    path: path.clone(),
                    target: target.clone(),
                    fault,
                })
            };
            match self.walk(path) {
                Walk::Inside(_) => {}
                Walk::Outside => return refused("leaves the archive"),
                Walk::Endless => return refused("leads in a circle"),
            }
        }
        self.check_cycles()
    }

    /// A link to one of the folders above it makes an endless tree.
    fn check_cycles(&self) -> Result<(), Error> {
        for (path, entry) in &self.entries {
            let Entry::Link { target } = entry else { continue };
            let Some(real) = self.resolve(path) else { continue };
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            if real.is_empty() || parent == real || parent.starts_with(&format!("{real}/")) {
                let (path, target) = (path.clone(), target.clone());
                return Err(Error::Link {
                    path,
                    target,
                    fault: "leads to a folder that it lies in",
                });
            }
        }
        Ok(())
    }

    fn follow(&self, path: &str) -> Option<&Entry> {
        self.entries.get(&self.resolve(path)?)
    }

    /// The real name behind links; `None` where it would leave the listing.
    pub fn resolve(&self, path: &str) -> Option<String> {
        match self.walk(path) {
            Walk::Inside(path) => Some(path),
            Walk::Outside | Walk::Endless => None,
        }
    }

    fn walk(&self, path: &str) -> Walk {
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut hops = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    if at.pop().is_none() {
                        return Walk::Outside;
                    }
                    continue;
                }
                _ => at.push(part),
            }
            let here = at.join("/");
            if let Some(Entry::Link { target }) = self.entries.get(&here) {
                hops += 1;
                if target.starts_with('/') {
                    return Walk::Outside;
                }
                if hops > MAX_HOPS {
                    return Walk::Endless;
                }
                at.pop();
                todo.extend(target.rsplit('/').map(str::to_owned));
            }
        }
        Walk::Inside(at.join("/"))
    }
}

/// Where a name leads.
enum Walk {
    Inside(String),
    Outside,
    Endless,
}

const KEPT_NAMES: &[&str] = &[
    "task.toml",
    "agent.toml",
    "instruction.md",
    "Dockerfile",
    "docker-compose.yaml",
    ".gitignore",
    ".harborignore",
    "test.sh",
    "solve.sh",
];
const MAX_KEPT_BYTES: u64 = 1 << 20;
const MAX_KEPT_TOTAL_BYTES: u64 = 16 << 20;
const MAX_HOPS: u32 = 40;
