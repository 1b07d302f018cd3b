//! The screener of `up`: its settings, its engine, its resolvers.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use assay_core::upstream::Secret;
use assay_engine::containers::{Binaries, Containers, Settings};
use assay_screener::Config;
use tokio_util::sync::CancellationToken;

use crate::{args::UpArgs, error::Error};

/// What the screener is told.
///
/// # Errors
/// A resolver that is no address.
pub(super) fn config(args: &UpArgs, api: String, key: Secret, folder: &Path) -> Result<Config, Error> {
    let given: Result<Vec<SocketAddr>, Error> = args.resolvers.iter().map(|text| resolver(text)).collect();
    let resolvers = match given? {
        none if none.is_empty() => {
            machine_resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
        }
        some => some,
    };
    if resolvers.is_empty() {
        tracing::warn!(
            "no resolver that a sandbox could ask; only hosts with a fixed address are reachable (--resolver)"
        );
    }
    Ok(Config {
        name: "assay-up".to_owned(),
        class: args.class.clone(),
        slots: args.slots,
        resolvers,
        // One worker on one machine: nobody is spared by asking seldom.
        longest_poll: Duration::from_millis(250),
        ..Config::new(api, key, folder.join("work"))
    })
}

/// Works until `stop`.
pub(super) async fn serve(
    config: Config,
    stop: CancellationToken,
    socket: PathBuf,
    binaries: PathBuf,
) -> Result<(), String> {
    let connect = |owner: String| connect(socket, owner, binaries);
    let worked = assay_screener::run(config, stop, connect).await;
    worked.map_err(|error| error.to_string())
}

/// The engine, for an installation.
pub(crate) async fn connect(
    socket: PathBuf,
    owner: String,
    binaries: PathBuf,
) -> Result<Containers, assay_engine::Error> {
    let binaries = Binaries::in_folder(&binaries);
    Containers::connect(&Settings {
        socket,
        owner,
        binaries,
    })
    .await
}

fn resolver(text: &str) -> Result<SocketAddr, Error> {
    let address = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::from((address, DNS)));
    address.or_else(|_| text.parse()).map_err(|_| {
        Error::Usage(format!(
            "{text:?} is no address of a resolver; want e.g. 192.0.2.53 or 192.0.2.53:5353"
        ))
    })
}

/// The resolvers of this machine. One on its loopback cannot be asked from a sandbox.
fn machine_resolvers(file: &str) -> Vec<SocketAddr> {
    let servers = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses
        .filter(|address| !address.is_loopback())
        .map(|address| SocketAddr::from((address, DNS)))
        .collect()
}

const DNS: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_have_a_port_or_get_the_usual_one() {
        assert_eq!(resolver("192.0.2.1").unwrap().port(), 53);
        assert_eq!(resolver("[2001:db8::1]:5353").unwrap().port(), 5353);
        assert_eq!(resolver("dns.example").unwrap_err().exit_code(), 64);
    }

    #[test]
    fn resolvers_on_the_loopback_are_left_out() {
        let file = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\n";
        assert_eq!(machine_resolvers(file), ["192.0.2.1:53".parse().unwrap()]);
    }
}
