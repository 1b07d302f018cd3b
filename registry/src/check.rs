//! Whether what a builder left as an OCI layout is one whole image for our nodes, within caps.
//!
//! The builder ran what strangers wrote. Nothing that it says is believed: digests are computed, links are not followed,
//! and what no manifest names is not looked at.

use std::{fs, io, io::Read as _, path::Path};

use assay_core::digest::{Digest, Hasher};

use crate::layout::{Descriptor, Image, Layout, MOST_JSON, Manifest, architecture, read_plain};

/// What an image may not exceed.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Layers.
    pub layers: usize,
    /// Bytes of all blobs together, as they are stored.
    pub bytes: u64,
}

/// Why a layout is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It breaks the format, or its own digests.
    #[error("the builder left no whole image: {0}")]
    Broken(String),
    /// It is larger than an image may be.
    #[error("the image {0}")]
    TooBig(String),
}

/// An image whose every blob was read.
#[derive(Debug)]
pub struct Checked {
    /// The manifest's digest: the image's name.
    pub digest: Digest,
    /// The manifest's type.
    pub kind: String,
    /// Its bytes.
    pub manifest: Vec<u8>,
    /// Configuration and layers, each once.
    pub blobs: Vec<(Digest, u64)>,
}

/// Reads a layout with one image to its last byte.
pub fn check(layout: &Layout, caps: Caps) -> Result<Checked, Fault> {
    for folder in [layout.folder.join("blobs"), layout.folder.join("blobs/sha256")] {
        let is_folder = fs::symlink_metadata(&folder).is_ok_and(|meta| meta.is_dir());
        if !is_folder {
            return Err(Fault::Broken(format!("{} is no folder", folder.display())));
        }
    }
    let index: Manifest = json(&read_plain(&layout.index(), MOST_JSON).map_err(|error| broken(&error))?)?;
    let [image] = index.manifests.as_slice() else {
        return Err(Fault::Broken(format!(
            "{} images instead of one",
            index.manifests.len()
        )));
    };
    let (digest, bytes) = small(layout, image)?;
    let manifest: Manifest = json(&bytes)?;
    if manifest.layers.len() > caps.layers {
        return Err(Fault::TooBig(format!("has more than {} layers", caps.layers)));
    }
    let config = manifest
        .config
        .as_ref()
        .ok_or_else(|| Fault::Broken("no configuration".to_owned()))?;
    let (config_digest, config_bytes) = small(layout, config)?;
    fits(&json(&config_bytes)?, manifest.layers.len())?;
    let mut blobs = vec![(config_digest, config_bytes.len() as u64)];
    let mut left = caps.bytes;
    for layer in &manifest.layers {
        let blob = (parse(layer)?, layer.size);
        if blobs.contains(&blob) {
            continue;
        }
        left = left
            .checked_sub(layer.size)
            .ok_or_else(|| Fault::TooBig(format!("has more than {} bytes", caps.bytes)))?;
        read(&layout.blob(&blob.0), blob)?;
        blobs.push(blob);
    }
    Ok(Checked {
        digest,
        kind: manifest.kind(&image.media_type).to_owned(),
        manifest: bytes,
        blobs,
    })
}

fn fits(image: &Image, layers: usize) -> Result<(), Fault> {
    let own = architecture();
    if image.os != "linux" || image.architecture != own {
        return Err(Fault::Broken(format!(
            "it is for {}/{}, and nodes are linux/{own}",
            image.os, image.architecture
        )));
    }
    if image.rootfs.diff_ids.len() != layers {
        return Err(Fault::Broken(
            "layers and their digests are not as many".to_owned(),
        ));
    }
    Ok(())
}

/// A blob of JSON that is what its digest says.
fn small(layout: &Layout, descriptor: &Descriptor) -> Result<(Digest, Vec<u8>), Fault> {
    let digest = parse(descriptor)?;
    let bytes = read_plain(&layout.blob(&digest), MOST_JSON).map_err(|error| broken(&error))?;
    if Digest::of(&bytes) != digest || bytes.len() as u64 != descriptor.size {
        return Err(Fault::Broken(format!("blob {digest} has other bytes")));
    }
    Ok((digest, bytes))
}

fn read(path: &Path, (digest, size): (Digest, u64)) -> Result<(), Fault> {
    let meta = fs::symlink_metadata(path).map_err(|error| broken(&error))?;
    if !meta.is_file() || meta.len() != size {
        return Err(Fault::Broken(format!("blob {digest} is not of its size")));
    }
    let mut file = fs::File::open(path).map_err(|error| broken(&error))?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 16]);
    loop {
        let count = file.read(&mut buffer).map_err(|error| broken(&error))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    if hasher.finish() == digest {
        Ok(())
    } else {
        Err(Fault::Broken(format!("blob {digest} has other bytes")))
    }
}

fn parse(descriptor: &Descriptor) -> Result<Digest, Fault> {
    let parsed = descriptor.digest.parse();
    parsed.map_err(|_| Fault::Broken(format!("{:?} is no digest", descriptor.digest)))
}

fn json<T: for<'de> serde::Deserialize<'de>>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault::Broken(error.to_string()))
}

fn broken(error: &io::Error) -> Fault {
    Fault::Broken(error.to_string())
}

#[cfg(test)]
mod tests;
