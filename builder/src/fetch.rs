//! `fetch`: archive and base images, each checked against its digest, before anything else runs in the pod.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use assay_core::{
    archive::{self, Caps as ArchiveCaps},
    control::build::{Base, FetchOrder, Verdict, path},
};
use assay_registry::{Caps, Client, Error, Http, Layout, Reference, Registries};

use crate::{block_on, platform};

/// Layers of a base image; only the bytes matter here.
const LAYERS: usize = 512;

/// Does all of it.
pub(crate) fn all() -> Verdict {
    match work() {
        Ok(()) => Verdict::Done,
        Err(verdict) => verdict,
    }
}

fn work() -> Result<(), Verdict> {
    leave_program().map_err(|error| platform(&format!("copy this program: {error}")))?;
    let text = fs::read_to_string(format!("{}/order.json", path::ORDER)).map_err(|error| platform(&error))?;
    let order: FetchOrder = serde_json::from_str(&text).map_err(|error| platform(&error))?;
    let registries = Registries {
        mirrors: order.mirrors.clone(),
        credentials: crate::push::credentials()?,
    };
    block_on(async {
        let archive = PathBuf::from(format!("{}/archive.tar.gz", path::BASES));
        download(&order, &archive).await?;
        unpack(&archive)?;
        bases(&order, registries).await
    })
}

/// The builder's image has everything but us.
fn leave_program() -> io::Result<()> {
    let to = format!("{}/assay-builder", path::PROGRAM);
    fs::copy("/proc/self/exe", &to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o555))
}

async fn download(order: &FetchOrder, into: &Path) -> Result<(), Verdict> {
    let got = Http::default().download(&order.url, order.size_bytes, into).await;
    let (size, digest) = got.map_err(|error| platform(&format!("fetch the archive: {error}")))?;
    if digest != order.digest {
        return Err(platform(&format!(
            "the archive came with digest {digest} and {size} bytes instead of {} and {}",
            order.digest, order.size_bytes
        )));
    }
    Ok(())
}

/// The same caps as wherever else an archive is unpacked, so what is refused was refused before.
fn unpack(archive: &Path) -> Result<(), Verdict> {
    let file = fs::File::open(archive).map_err(|error| platform(&error))?;
    let unpacked = archive::unpack(
        io::BufReader::new(file),
        ArchiveCaps::default(),
        Path::new(path::CONTEXT),
    );
    unpacked.map_err(|error| {
        if error.is_io() {
            platform(&error)
        } else {
            Verdict::Task {
                reason: error.to_string(),
            }
        }
    })?;
    fs::remove_file(archive).map_err(|error| platform(&error))
}

async fn bases(order: &FetchOrder, registries: Registries) -> Result<(), Verdict> {
    let layout = Layout::create(path::BASES).map_err(|error| platform(&error))?;
    let client = Client::new(registries);
    let mut images = Vec::new();
    for (number, base) in order.bases.iter().enumerate() {
        let descriptor = base_image(&client, &layout, base, order.bases_bytes).await?;
        images.push((name(number), descriptor));
    }
    layout.write_index(&images).map_err(|error| platform(&error))
}

/// How a base image is named in the layout.
pub(crate) fn name(number: usize) -> String {
    format!("base-{number}")
}

async fn base_image(
    client: &Client,
    layout: &Layout,
    base: &Base,
    bytes: u64,
) -> Result<assay_registry::Descriptor, Verdict> {
    let reference = Reference::parse(&base.pinned)
        .ok_or_else(|| platform(&format!("{} is no name of an image", base.pinned)))?;
    let caps = Caps {
        layers: LAYERS,
        bytes,
    };
    let pulled = client.repository(&reference).pull(layout, caps).await;
    pulled.map_err(|error| match error {
        Error::Wrong(reason) => Verdict::Task { reason },
        Error::NotThere(_) | Error::Refused(_) | Error::Away(_) | Error::File { .. } => {
            platform(&format!("fetch the base image {}: {error}", base.name))
        }
    })
}
