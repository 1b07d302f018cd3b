//! An OCI image layout: a folder with an index and blobs named by their digests.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use assay_core::digest::Digest;
use serde::{Deserialize, Serialize};

/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The annotation by which an image of a layout is named.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// A manifest or configuration of more bytes is none.
pub(crate) const MOST_JSON: u64 = 4 << 20;

/// What names some content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its type.
    #[serde(default)]
    pub media_type: String,
    /// Its digest, as it came.
    pub digest: String,
    /// Its size.
    #[serde(default)]
    pub size: u64,
    /// For which machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

/// For which machine an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

/// A manifest, or an index of manifests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The type; not every builder writes it.
    #[serde(default)]
    pub media_type: String,
    /// The image's configuration.
    pub config: Option<Descriptor>,
    /// Its layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Of an index: its manifests.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// An image's configuration, as far as anybody here reads it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Image {
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// How its programs want to run.
    pub config: Option<ImageConfig>,
    /// Its layers, unpacked.
    #[serde(default)]
    pub rootfs: RootFs,
    /// What made it, step by step; not every builder writes it.
    #[serde(default)]
    pub history: Vec<Step>,
}

/// A step that made an image.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Step {
    /// It left no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// How an image's programs want to run.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ImageConfig {
    /// The working directory.
    #[serde(rename = "WorkingDir")]
    pub workdir: Option<String>,
    /// The user; empty for root.
    #[serde(rename = "User")]
    pub user: Option<String>,
    /// `NAME=value`.
    #[serde(rename = "Env")]
    pub env: Option<Vec<String>>,
    /// What is run, before the command.
    #[serde(rename = "Entrypoint")]
    pub entrypoint: Option<Vec<String>>,
    /// What is run, or its arguments.
    #[serde(rename = "Cmd")]
    pub command: Option<Vec<String>>,
}

/// The layers of an image, by the digests of what they unpack to.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RootFs {
    /// The lowest first.
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// A layout on this machine.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(crate) folder: PathBuf,
}

impl Layout {
    /// A layout that is there.
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// An empty one.
    pub fn create(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let layout = Self::open(folder);
        fs::create_dir_all(layout.folder.join("blobs/sha256"))?;
        fs::write(
            layout.folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(layout)
    }

    /// Where a blob lies.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// Where the index lies.
    pub fn index(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    /// Writes the index: images with their names.
    pub fn write_index(&self, images: &[(String, Descriptor)]) -> io::Result<()> {
        let named = images.iter().map(|(name, descriptor)| Descriptor {
            annotations: Some([(REF_NAME.to_owned(), name.clone().into())].into_iter().collect()),
            ..descriptor.clone()
        });
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": named.collect::<Vec<_>>(),
        });
        fs::write(self.index(), index.to_string())
    }

    /// An image of it: manifest and configuration.
    pub fn image(&self, image: &Descriptor) -> io::Result<(Manifest, Image)> {
        let manifest: Manifest = self.json(image)?;
        let config = manifest.config.clone().unwrap_or_else(|| image.clone());
        Ok((manifest, self.json(&config)?))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, blob: &Descriptor) -> io::Result<T> {
        let digest = blob.digest.parse().map_err(io::Error::other)?;
        let bytes = read_plain(&self.blob(&digest), MOST_JSON)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The images that the index names.
    pub fn images(&self) -> io::Result<Vec<(String, Descriptor)>> {
        let index: Manifest = serde_json::from_slice(&read_plain(&self.index(), MOST_JSON)?)?;
        let name = |image: &Descriptor| {
            let name = image.annotations.as_ref()?.get(REF_NAME)?.as_str()?;
            Some(name.to_owned())
        };
        let images = index.manifests.into_iter();
        Ok(images.filter_map(|image| Some((name(&image)?, image))).collect())
    }
}

impl Manifest {
    /// The type to say when it is sent: its own, or what it was announced as.
    pub fn kind<'a>(&'a self, announced: &'a str) -> &'a str {
        [self.media_type.as_str(), announced, MANIFEST]
            .into_iter()
            .find(|kind| !kind.is_empty())
            .unwrap_or(MANIFEST)
    }
}

/// This program's own architecture in the words of images. Nodes and builders have the same.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Reads a file that must be a plain one of at most `most` bytes: a link could lead to what is not the layout's.
pub(crate) fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > most {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is no plain file of at most {most} bytes", path.display()),
        ));
    }
    fs::read(path)
}
