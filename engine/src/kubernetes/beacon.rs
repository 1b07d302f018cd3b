//! The beacon: a service with a port for each phase, which network policies open to sandboxes whose label says so.

use std::net::{IpAddr, SocketAddr};

use assay_core::{egress::port, phase::EgressPhase};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};

use super::{fault::fault, settings::BeaconAt};
use crate::{Beacon, Error};

/// Its address. The address of a Service stays the same while the Service is there.
pub(super) async fn find(client: &Client, at: &BeaconAt) -> Result<Option<IpAddr>, Error> {
    let (namespace, name) = match at {
        BeaconAt::Nowhere => return Ok(None),
        BeaconAt::Address(address) => return Ok(Some(*address)),
        BeaconAt::Service { namespace, name } => (namespace, name),
    };
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = services.get_opt(name).await;
    let found = found.map_err(|error| fault("find the beacon", &error))?;
    let address = found.and_then(|service| service.spec?.cluster_ip?.parse().ok());
    address.map(Some).ok_or_else(|| Error::Refused {
        operation: "find the beacon",
        message: format!(
            "there is no Service {namespace}/{name} with an address, so nothing proves that network policies follow the \
             phase of a sandbox; apply manifests/base, or say --beacon none"
        ),
    })
}

/// Its IPv6 address, where its Service has one beside the first.
pub(super) async fn v6(client: &Client, at: &BeaconAt) -> Result<Option<IpAddr>, Error> {
    let BeaconAt::Service { namespace, name } = at else {
        return Ok(None);
    };
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = services.get(name).await;
    let found = found.map_err(|error| fault("find the beacon", &error))?;
    let addresses = found.spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
    let mut addresses = addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    Ok(addresses.find(IpAddr::is_ipv6))
}

/// What is open and what is closed in a phase. During setup a sandbox reaches no port of it.
pub(super) fn of(address: IpAddr, phase: EgressPhase) -> Option<Beacon> {
    let (open, closed) = match phase {
        EgressPhase::Agent => (port::BEACON_AGENT, port::BEACON_VERIFY),
        EgressPhase::Verify => (port::BEACON_VERIFY, port::BEACON_AGENT),
        EgressPhase::Build | EgressPhase::Setup => return None,
    };
    Some(Beacon {
        open: SocketAddr::new(address, open),
        closed: SocketAddr::new(address, closed),
    })
}
