//! A container engine as somebody beside Assay sees it: what is there, asked over its socket.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// An engine that speaks Docker's API on a unix socket.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// The engine behind a socket.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// The names of all containers of a run, running or not.
    pub async fn containers_of(&self, run: impl std::fmt::Display) -> anyhow::Result<Vec<String>> {
        let filters = format!(r#"{{"label":["assay.dev/run={run}"]}}"#);
        let found = self
            .get(&format!("/containers/json?all=1&filters={}", escape(&filters)))
            .await?;
        let found = found.as_array().context("a list of containers")?;
        Ok(found
            .iter()
            .map(|container| container["Names"][0].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// The names of volumes that no container uses, and of all networks.
    pub async fn loose_things(&self) -> anyhow::Result<Vec<String>> {
        let filters = escape(r#"{"dangling":["true"]}"#);
        let volumes = self.get(&format!("/volumes?filters={filters}")).await?;
        let networks = self.get("/networks").await?;
        let names = |list: &Value, kind: &str| {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default().iter();
            list.map(|thing| format!("{kind} {}", thing["Name"].as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        let mut all = names(&volumes["Volumes"], "volume");
        all.extend(names(&networks, "network"));
        Ok(all)
    }

    /// The address at which containers of the default bridge reach this machine.
    pub async fn gateway(&self) -> anyhow::Result<Ipv4Addr> {
        for name in ["bridge", "podman"] {
            let Ok(network) = self.get(&format!("/networks/{name}")).await else {
                continue;
            };
            let told = network["IPAM"]["Config"][0]["Gateway"].as_str();
            let told = told.and_then(|text| text.parse().ok());
            // A daemon on a bridge that it did not make does not write its address down.
            let bridge = network["Options"]["com.docker.network.bridge.name"].as_str();
            if let Some(address) = told.or_else(|| address_of(bridge?)) {
                return Ok(address);
            }
        }
        bail!("{} tells no gateway of its bridge", self.socket.display())
    }

    /// `GET` of the engine's API.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("/v1.41{path}")).header("host", "engine");
        let response = sender
            .send_request(request.body(Full::new(Bytes::new()))?)
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        if !status.is_success() {
            bail!("GET {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// The first IPv4 address of an interface.
fn address_of(interface: &str) -> Option<Ipv4Addr> {
    let shown = std::process::Command::new("ip")
        .args(["-4", "-o", "address", "show", interface])
        .output()
        .ok()?;
    let text = String::from_utf8(shown.stdout).ok()?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet");
    words.nth(1)?.split('/').next()?.parse().ok()
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
