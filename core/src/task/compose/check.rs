//! What services must be together: few, each waiting for one that exists, none in a circle, no port twice.

use std::collections::BTreeMap;

use super::{
    super::{InvalidTask, parse::MAIN},
    Compose, Dependency, MOST_SERVICES, Service,
    node::Node,
};

/// Checks all of it, and puts each service after those that it depends on.
pub(super) fn all(
    compose: &mut Compose,
    main_waits_for: &[Dependency],
    root: &Node<'_>,
) -> Result<(), InvalidTask> {
    if compose.services.len() > MOST_SERVICES {
        let reason = format!("at most {MOST_SERVICES} services beside `main` fit into a sandbox");
        return Err(root.refuse_below("services", reason));
    }
    for other in main_waits_for {
        dependency(compose, MAIN, other, root)?;
    }
    for service in &compose.services {
        for other in &service.depends_on {
            dependency(compose, &service.name, other, root)?;
        }
    }
    ports(&compose.services, root)?;
    compose.services = in_order(std::mem::take(&mut compose.services), root)?;
    Ok(())
}

fn dependency(compose: &Compose, of: &str, on: &Dependency, root: &Node<'_>) -> Result<(), InvalidTask> {
    let name = &on.service;
    let key = format!("services.{of}.depends_on.{name}");
    let Some(found) = compose.services.iter().find(|service| service.name == *name) else {
        return Err(root.refuse_below(&key, "there is no such service"));
    };
    if on.healthy && found.healthcheck.is_none() {
        let reason = format!("services.{name}.healthcheck is missing: nothing would say that it is healthy");
        return Err(root.refuse_below(&key, reason));
    }
    Ok(())
}

/// All listen in one network namespace.
fn ports(services: &[Service], root: &Node<'_>) -> Result<(), InvalidTask> {
    let mut taken: BTreeMap<u16, &str> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            if let Some(first) = taken.insert(*port, &service.name) {
                let reason =
                    format!("port {port} is `{first}`'s already: services share one network namespace");
                return Err(root.refuse_below(&format!("services.{}.expose", service.name), reason));
            }
        }
    }
    Ok(())
}

fn in_order(mut waiting: Vec<Service>, root: &Node<'_>) -> Result<Vec<Service>, InvalidTask> {
    let mut ordered: Vec<Service> = Vec::new();
    while !waiting.is_empty() {
        let is_free = |service: &Service| {
            let known = |name: &str| ordered.iter().any(|done| done.name == name);
            service.depends_on.iter().all(|other| known(&other.service))
        };
        let Some(next) = waiting.iter().position(is_free) else {
            let key = format!("services.{}.depends_on", waiting[0].name);
            return Err(root.refuse_below(&key, "waits for itself through others"));
        };
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}
