//! Everything outside of the sandbox, and its record of who came.

pub mod dns;
mod registry;
pub mod web;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use assay_core::egress::port;

use super::{Packet, Place, Transport, packets::Packets};
use crate::model::Model;

/// The internet's side of the stage.
#[derive(Debug)]
pub struct Internet {
    /// Its thread.
    pub place: Place,
    /// Its model service.
    pub model: Arc<Model>,
    /// The root that vouches for its sites, PEM.
    pub root_pem: String,
    config: Arc<rustls::ServerConfig>,
    packets: Packets,
    record: Record,
}

/// A connection that arrived at a server.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The server's address.
    pub site: IpAddr,
    /// Its port.
    pub port: u16,
    /// The server name of TLS; `None` without TLS or name.
    pub name: Option<String>,
    /// The first request or line, as far as there was one.
    pub text: String,
}

/// What arrived since a moment.
#[derive(Debug)]
pub struct Seen {
    /// Connections that spoke.
    pub visits: Vec<Visit>,
    /// Names that a DNS server was asked for, lower case, with the record type.
    pub questions: Vec<(String, String)>,
    /// Packets.
    pub packets: Vec<Packet>,
}

/// A moment in the record.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    visits: usize,
    questions: usize,
    packets: usize,
}

/// Shared by all servers.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Kept>>);

/// Visits and questions.
type Kept = (Vec<Visit>, Vec<(String, String)>);

impl Record {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visit(&self, visit: Visit) {
        self.lock().0.push(visit);
    }

    fn question(&self, name: String, kind: String) {
        self.lock().1.push((name, kind));
    }
}

impl Internet {
    /// Starts every service at `place`, which must have its addresses.
    pub fn start(place: Place) -> anyhow::Result<Self> {
        let record = Record::default();
        let packets = Packets::record(&place)?;
        let servers = record.clone();
        let served = place.run(async move {
            dns::serve(&servers).await?;
            web::serve(&servers).await
        })?;
        Ok(Self {
            place,
            model: Arc::new(served.model),
            root_pem: served.root_pem,
            config: served.config,
            packets,
            record,
        })
    }

    /// Lets `packages.example` offer a folder: a package index, and git repositories under `git`.
    pub fn publish(&self, folder: PathBuf) -> anyhow::Result<()> {
        let (config, record) = (Arc::clone(&self.config), self.record.clone());
        self.place
            .run(async move { registry::serve(folder, config, record).await })
    }

    /// Now.
    pub fn mark(&self) -> anyhow::Result<Mark> {
        let packets = self.packets.count(&self.place)?;
        let record = self.record.lock();
        Ok(Mark {
            visits: record.0.len(),
            questions: record.1.len(),
            packets,
        })
    }

    /// Everything that arrived since `mark`.
    pub fn since(&self, mark: Mark) -> anyhow::Result<Seen> {
        let packets = self.packets.since(&self.place, mark.packets)?;
        let record = self.record.lock();
        Ok(Seen {
            visits: record.0.get(mark.visits..).unwrap_or_default().to_vec(),
            questions: record.1.get(mark.questions..).unwrap_or_default().to_vec(),
            packets,
        })
    }
}

impl Seen {
    /// Did any packet go to this address?
    pub fn reached(&self, site: impl Into<IpAddr>) -> bool {
        let site = site.into();
        self.packets.iter().any(|packet| packet.to == site)
    }

    /// Did any packet go to this address and port?
    pub fn reached_port(&self, site: impl Into<IpAddr>, transport: Transport, port: u16) -> bool {
        let site = site.into();
        let fits =
            |packet: &&Packet| (packet.to, packet.transport, packet.to_port) == (site, transport, port);
        self.packets.iter().any(|packet| fits(&packet))
    }

    /// Do any of these packets carry `text`? Not counted is what the control plane and the sandbox say to each other.
    pub fn carries(&self, text: &str) -> bool {
        let control = |packet: &Packet| {
            [port::RUNNER, port::PROXY]
                .iter()
                .any(|port| [packet.from_port, packet.to_port].contains(port))
        };
        let holds = |packet: &&Packet| {
            packet
                .payload
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        self.packets
            .iter()
            .filter(|packet| !control(packet))
            .any(|packet| holds(&packet))
    }

    /// Did a request come to the server at this address?
    pub fn visited(&self, site: impl Into<IpAddr>) -> bool {
        let site = site.into();
        self.visits.iter().any(|visit| visit.site == site)
    }

    /// Was a name with this text in it asked for?
    pub fn asked(&self, text: &str) -> bool {
        self.questions.iter().any(|(name, _)| name.contains(text))
    }
}
