//! The file that tells an installation about a scripted service: where it is, what opens it, what it costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use assay_core::{
    price::PriceTable,
    upstream::{Dialect, Secret, Upstream},
};
use serde::Serialize;

use super::{Model, Script, Settings};

/// The file of `assay up --upstreams`.
#[derive(Debug, Serialize)]
pub struct Catalogue {
    prices: PriceTable,
    upstreams: Vec<Upstream>,
}

/// A service of one model.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The name that agents call it by.
    pub host: String,
    /// The model that it serves.
    pub model: String,
    /// How it speaks.
    pub dialect: Dialect,
    /// The key that opens it.
    pub key: String,
}

impl Offer {
    /// What the service is started from.
    pub fn settings(&self, listen: SocketAddr, script: Script) -> anyhow::Result<Settings> {
        Ok(Settings {
            listen,
            names: vec![self.host.clone()],
            dialect: self.dialect,
            dialects: BTreeMap::new(),
            key: self.key.clone(),
            prices: self.prices()?,
            script,
            pace: std::time::Duration::from_millis(5),
        })
    }

    /// What an installation is told about the running service, which its callers reach at `address`.
    pub fn catalogue(&self, model: &Model, address: SocketAddr) -> anyhow::Result<Catalogue> {
        let upstream = Upstream {
            host: self.host.parse()?,
            base_path: "/v1".to_owned(),
            dialect: self.dialect,
            models: [self.model.parse()?].into(),
            credential: Secret::new(self.key.clone()),
            address: Some(address),
            providers: BTreeSet::new(),
            zdr: true,
            workspace: None,
            ca_pem: Some(model.root_pem.clone()),
        };
        Ok(Catalogue {
            prices: self.prices()?,
            upstreams: vec![upstream],
        })
    }

    /// Prices like those of a small commercial model.
    fn prices(&self) -> anyhow::Result<PriceTable> {
        let text = format!(
            "version = \"scripted-1\"\n[models.\"{}\"]\ninput = \"0.000001\"\noutput = \"0.000004\"\n\
             context_tokens = 128000\nmax_output_tokens = 16384\n",
            self.model
        );
        Ok(toml::from_str(&text)?)
    }
}

impl Catalogue {
    /// Writes the file. It carries the key: its owner alone may read it, and nobody meets half of it.
    pub fn store(&self, path: &Path) -> anyhow::Result<()> {
        let staged = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged);
        let text = toml::to_string(self)?;
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| staged.display().to_string())?;
        std::fs::rename(&staged, path).with_context(|| path.display().to_string())
    }
}
