//! `allowed_hosts`: names, `*.suffix`, addresses and ranges, written in one way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{InvalidTask, Value};

/// Said where hosts are listed that nothing would look at.
pub(super) const ONLY_WITH_ALLOWLIST: &str = "only with network_mode = \"allowlist\"";

/// Reads a list of hosts.
pub(super) fn read(value: &Value<'_, '_>) -> Result<Vec<String>, InvalidTask> {
    value.list(|item| {
        let host = item.text()?;
        normal(&host).ok_or_else(|| {
            item.fault(format!(
                "{host:?} is no host (want a name, `*.suffix`, an address or a range; no scheme, port or path)"
            ))
        })
    })
}

/// The one way to write a host; `None` for what is none.
fn normal(host: &str) -> Option<String> {
    let host = host.trim().to_lowercase();
    let host = host.trim_end_matches('.');
    if let Some((address, prefix)) = host.split_once('/') {
        return range(address, prefix);
    }
    if host.contains(':') {
        return host.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let name = match host.strip_prefix("*.") {
        Some(suffix) if suffix.parse::<IpAddr>().is_ok() => return None,
        Some(suffix) => suffix,
        None => host,
    };
    name.split('.').all(is_label).then(|| host.to_owned())
}

/// A range whose address has no bit set beyond its prefix. The prefix may be written as a mask.
fn range(address: &str, prefix: &str) -> Option<String> {
    if prefix.starts_with('+') {
        return None;
    }
    let address: IpAddr = address.parse().ok()?;
    let net = match (address, prefix.parse::<Ipv4Addr>()) {
        (IpAddr::V4(_), Ok(mask)) => IpNet::with_netmask(address, mask.into())
            .or_else(|_| IpNet::with_netmask(address, (!mask).into()))
            .ok()?,
        _ => IpNet::new(address, prefix.parse().ok()?).ok()?,
    };
    (net.network() == address).then(|| net.to_string())
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}
