//! Who lives where on the stage. The addresses look public, because the proxy dials no others; the namespaces have no way
//! out, so nobody real is ever meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The sandbox.
pub const SANDBOX: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The sandbox.
pub const SANDBOX_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The other end of the cable, where the control plane lives too.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The other end of the cable.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The resolver that the proxy may ask.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);
/// `allowed.example`, `*.wild.example`: what the policy allows.
pub const ALLOWED: Ipv4Addr = Ipv4Addr::new(11, 1, 0, 1);
/// `allowed.example` too.
pub const ALLOWED_V6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x77, 0, 0, 0, 0, 0, 1);
/// `packages.example`: what the policy allows too, with a package index and repositories.
pub const PACKAGES: Ipv4Addr = Ipv4Addr::new(11, 1, 0, 2);
/// `evil.example`: what the attacker wants to reach.
pub const EVIL: Ipv4Addr = Ipv4Addr::new(11, 66, 0, 1);
/// `evil.example` too.
pub const EVIL_V6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x66, 0, 0, 0, 0, 0, 1);
/// `models.example.com`: the model service.
pub const MODEL: Ipv4Addr = Ipv4Addr::new(11, 3, 0, 1);
/// `broken.example.com`: a model host that shows a wrong certificate.
pub const IMPOSTOR: Ipv4Addr = Ipv4Addr::new(11, 3, 0, 2);
/// Cloud metadata.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Cloud metadata over IPv6.
pub const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Somebody in the operator's own network.
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// `models.example.com` at its port.
pub const MODEL_SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(MODEL), 443);

/// Every address of the internet's side.
pub fn all() -> Vec<IpAddr> {
    let v4 = [
        GATEWAY, RESOLVER, ALLOWED, PACKAGES, EVIL, MODEL, IMPOSTOR, METADATA, PRIVATE,
    ];
    let v6 = [GATEWAY_V6, ALLOWED_V6, EVIL_V6, METADATA_V6];
    v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
}
