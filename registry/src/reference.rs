//! Names of images: which registry, which repository, which version.

/// A name in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As it was given.
    pub given: String,
    /// The registry's host; `docker.io` where none is named.
    pub host: String,
    /// Inside of the registry.
    pub repository: String,
    /// A tag or a digest.
    pub version: String,
}

impl Reference {
    /// As container engines read it; `None` for what is no name.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (first, rest) = name.split_once('/').unwrap_or(("", name));
        let is_host = first.contains(['.', ':']) || first == "localhost";
        let (host, path) = if is_host {
            (first, rest)
        } else {
            ("docker.io", name)
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
        if path.is_empty() || !path.chars().all(allowed) {
            return None;
        }
        let repository = if host == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Some(Self {
            given: text.to_owned(),
            host: host.to_owned(),
            repository,
            version: digest.or(tag).unwrap_or("latest").to_owned(),
        })
    }

    /// The same image, named by its content.
    pub fn pinned(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.host, self.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_engines_read_them() {
        let parts = |text: &str| {
            let found = Reference::parse(text).unwrap();
            format!("{} {} {}", found.host, found.repository, found.version)
        };
        assert_eq!(parts("debian"), "docker.io library/debian latest");
        assert_eq!(parts("me/tool:2"), "docker.io me/tool 2");
        assert_eq!(parts("10.0.0.1:5000/a/b@sha256:1"), "10.0.0.1:5000 a/b sha256:1");
        assert_eq!(parts("ghcr.io/a/b:x@sha256:1"), "ghcr.io a/b sha256:1");
        assert_eq!(parts("localhost/a"), "localhost a latest");
        assert!(Reference::parse("Not An Image").is_none());
        assert!(Reference::parse("").is_none());
        assert_eq!(
            Reference::parse("debian:12").unwrap().pinned("sha256:9"),
            "docker.io/library/debian@sha256:9"
        );
    }
}
