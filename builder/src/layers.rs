//! Layers of base images stay what they are in their registry.
//!
//! Buildah keeps images unpacked and would pack each layer anew: seconds for every build, and other bytes under other
//! digests, which registries and nodes then keep beside the base's own. What its result's layout holds already by the
//! digest of the unpacked layer it leaves out. So empty files of those names are laid there first, and the manifest that
//! it leaves is led to the base's blobs.

use std::{collections::BTreeMap, fs, io};

use assay_core::digest::Digest;
use assay_registry::{Descriptor, Layout};
use serde_json::{Value, json};

/// The packed layers of base images, by the digests of what they unpack to.
#[derive(Debug)]
pub(crate) struct Known(BTreeMap<Digest, Descriptor>);

impl Known {
    /// Those of all images of a layout. Whoever made a base may say a wrong digest: no node takes such an image.
    pub(crate) fn of(bases: &Layout) -> io::Result<Self> {
        let mut known = BTreeMap::new();
        for (_, image) in bases.images()? {
            let (manifest, config) = bases.image(&image)?;
            for (layer, unpacked) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
                if let (Ok(unpacked), Some(layer)) = (unpacked.parse(), standard(layer)) {
                    known.insert(unpacked, layer);
                }
            }
        }
        Ok(Self(known))
    }

    /// A layout for a result, in which these are there already.
    pub(crate) fn lay(&self, folder: &str) -> io::Result<Layout> {
        let layout = Layout::create(folder)?;
        for unpacked in self.0.keys() {
            fs::write(layout.blob(unpacked), b"")?;
        }
        Ok(layout)
    }

    /// Puts the bases' blobs into the layout of a result, and their names into its manifest.
    pub(crate) fn settle(&self, bases: &Layout, result: &Layout) -> io::Result<()> {
        for unpacked in self.0.keys() {
            fs::remove_file(result.blob(unpacked))?;
        }
        let mut images = result.images()?;
        for (_, image) in &mut images {
            *image = self.settled(bases, result, image)?;
        }
        result.write_index(&images)
    }

    fn settled(&self, bases: &Layout, result: &Layout, image: &Descriptor) -> io::Result<Descriptor> {
        let before = result.blob(&image.digest.parse().map_err(io::Error::other)?);
        let mut manifest: Value = serde_json::from_slice(&fs::read(&before)?)?;
        for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
            let digest = layer["digest"].as_str().and_then(|text| text.parse().ok());
            let Some(base) = digest.and_then(|digest: Digest| self.0.get(&digest)) else {
                continue;
            };
            let blob = base.digest.parse().map_err(io::Error::other)?;
            fs::copy(bases.blob(&blob), result.blob(&blob))?;
            *layer = json!({ "mediaType": base.media_type, "digest": base.digest, "size": base.size });
        }
        let bytes = manifest.to_string();
        let digest = Digest::of(&bytes);
        fs::remove_file(before)?;
        fs::write(result.blob(&digest), &bytes)?;
        Ok(Descriptor {
            digest: digest.to_string(),
            size: bytes.len() as u64,
            ..image.clone()
        })
    }
}

/// A layer as manifests of the OCI name it, whatever its own named it; none of those that registries do not keep.
fn standard(layer: &Descriptor) -> Option<Descriptor> {
    let kind = layer.media_type.as_str();
    // Some registries have layers as they are unpacked.
    let (_, packed) = [("gzip", "+gzip"), ("zstd", "+zstd"), (".tar", "")]
        .into_iter()
        .find(|(end, _)| kind.ends_with(end))?;
    if kind.contains("foreign") || kind.contains("nondistributable") {
        return None;
    }
    Some(Descriptor {
        media_type: format!("application/vnd.oci.image.layer.v1.tar{packed}"),
        digest: layer.digest.clone(),
        size: layer.size,
        platform: None,
        annotations: None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use assay_registry::Manifest;

    use super::*;

    const OCI: &str = "application/vnd.oci.image.layer.v1.tar";
    const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    fn digest(of: &str) -> String {
        Digest::of(of).to_string()
    }

    /// Stores some content and says what names it.
    fn put(layout: &Layout, kind: &str, content: &str) -> Value {
        fs::write(layout.blob(&Digest::of(content)), content).unwrap();
        json!({ "mediaType": kind, "digest": digest(content), "size": content.len() })
    }

    /// An image of these layers, each packed and unpacked.
    fn image(folder: &Path, name: &str, layers: &[(&str, &str, &str)]) -> Layout {
        let layout = Layout::create(folder).unwrap();
        let unpacked: Vec<_> = layers.iter().map(|(_, _, unpacked)| digest(unpacked)).collect();
        let config = put(
            &layout,
            "",
            &json!({ "rootfs": { "diff_ids": unpacked } }).to_string(),
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|(kind, packed, _)| put(&layout, kind, packed))
            .collect();
        let manifest =
            json!({ "schemaVersion": 2, "config": config, "layers": layers, "annotations": {"a": "b"} });
        let descriptor = put(
            &layout,
            "application/vnd.oci.image.manifest.v1+json",
            &manifest.to_string(),
        );
        let descriptor = serde_json::from_value(descriptor).unwrap();
        layout.write_index(&[(name.to_owned(), descriptor)]).unwrap();
        layout
    }

    #[test]
    fn the_bases_layers_keep_their_digests_and_the_others_what_buildah_made() {
        let folder = tempfile::tempdir().unwrap();
        let base = [
            (DOCKER, "packed", "unpacked"),
            (FOREIGN, "away", "foreign"),
            (OCI, "plain", "plain"),
        ];
        let bases = image(&folder.path().join("bases"), "base-0", &base);
        let known = Known::of(&bases).unwrap();
        assert_eq!(known.0.len(), 2, "{known:?}");

        let result = folder.path().join("result");
        let laid = known.lay(result.to_str().unwrap()).unwrap();
        let placeholder = laid.blob(&Digest::of("unpacked"));
        assert_eq!(fs::metadata(&placeholder).unwrap().len(), 0);
        // As Buildah leaves it: it names what was there, and packs the rest.
        let own = [
            (OCI, "", "unpacked"),
            (OCI, "plain", "plain"),
            ("own+gzip", "step", "step unpacked"),
        ];
        let result = image(&result, "result", &own);
        let (_, left) = result.images().unwrap().remove(0);
        let manifest = fs::read_to_string(result.blob(&left.digest.parse().unwrap())).unwrap();
        let manifest = manifest.replace(&digest(""), &digest("unpacked"));
        let left = serde_json::from_value(put(&result, "m", &manifest)).unwrap();
        result.write_index(&[("result".to_owned(), left)]).unwrap();

        known.settle(&bases, &result).unwrap();
        let (name, settled) = result.images().unwrap().remove(0);
        assert_eq!(name, "result");
        let (manifest, _): (Manifest, _) = result.image(&settled).unwrap();
        let layers: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| (layer.media_type.clone(), layer.digest.clone(), layer.size))
            .collect();
        assert_eq!(
            layers,
            [
                (format!("{OCI}+gzip"), digest("packed"), 6),
                (OCI.to_owned(), digest("plain"), 5),
                ("own+gzip".to_owned(), digest("step"), 4)
            ]
        );
        assert_eq!(
            fs::read_to_string(result.blob(&Digest::of("packed"))).unwrap(),
            "packed"
        );
        assert!(!placeholder.exists());
        let text = fs::read_to_string(result.blob(&settled.digest.parse().unwrap())).unwrap();
        assert!(
            text.contains(r#""annotations":{"a":"b"}"#) && text.contains(r#""schemaVersion":2"#),
            "{text}"
        );
    }
}
