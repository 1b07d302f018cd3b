//! `push`: the only part of a build that may write into the registry. It runs nothing, and believes nothing.

use std::{collections::BTreeMap, fs, io};

use assay_core::{
    control::build::{PushOrder, Verdict, path},
    upstream::Secret,
};
use assay_registry::{Caps, Client, Fault, Layout, Reference, Registries, check, logins};

use crate::{block_on, platform};

/// What runtimes take.
const LAYERS: usize = 127;

/// Checks what the builder left and pushes it.
pub(crate) fn image(order: &str) -> Verdict {
    match work(order) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

fn work(order: &str) -> Result<Verdict, Verdict> {
    let order: PushOrder = serde_json::from_str(order).map_err(|error| platform(&error))?;
    let reference = Reference::parse(&order.image)
        .ok_or_else(|| platform(&format!("{} is no name of an image", order.image)))?;
    let layout = Layout::open(path::LAYOUT);
    let caps = Caps {
        layers: LAYERS,
        bytes: order.most_bytes,
    };
    let checked = check(&layout, caps).map_err(|fault| match fault {
        Fault::TooBig(_) => Verdict::Task {
            reason: fault.to_string(),
        },
        Fault::Broken(_) => platform(&fault),
    })?;
    let client = Client::new(Registries {
        mirrors: order.mirrors,
        credentials: credentials()?,
    });
    block_on(async {
        let pushed = client.repository(&reference).push(&layout, &checked).await;
        pushed.map_err(|error| platform(&format!("push: {error}")))
    })?;
    Ok(Verdict::Pushed {
        digest: checked.digest,
    })
}

/// What this container was given to prove who it is; nothing where registries ask for nothing.
pub(crate) fn credentials() -> Result<BTreeMap<String, (String, Secret)>, Verdict> {
    match fs::read_to_string(format!("{}/.dockerconfigjson", path::LOGIN)) {
        Ok(text) => logins(&text).map_err(|error| platform(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(platform(&error)),
    }
}
