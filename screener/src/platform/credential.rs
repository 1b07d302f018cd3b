//! What a worker shows to the API.

use std::path::PathBuf;

use assay_core::upstream::Secret;

use super::Error;

/// A key, or a file that holds one or the token of a pod.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A key that never changes.
    Key(Secret),
    /// Read for each call, because a kubelet renews tokens and an operator may renew keys.
    File(PathBuf),
}

impl From<Secret> for Credential {
    fn from(key: Secret) -> Self {
        Self::Key(key)
    }
}

impl Credential {
    /// What it is now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn read(&self) -> Result<Secret, Error> {
        match self {
            Self::Key(key) => Ok(key.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| Error::File {
                    path: path.display().to_string(),
                    message: error.to_string(),
                })?;
                Ok(Secret::new(text.trim()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_was_renewed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let credential = Credential::File(path.clone());
        assert!(credential.read().await.is_err());
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(credential.read().await.unwrap().expose(), token);
        }
    }
}
