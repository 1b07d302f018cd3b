//! What happens to a name: opened, spliced or refused. The policy of the sandbox, without any I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use assay_core::{
    control::proxy::{ProxyAssignment, Purse},
    egress::{Egress, HostName, HostPattern},
    id::RunId,
    phase::EgressPhase,
    price::{ModelPrice, ModelSlug},
    secret::Injection,
    upstream::Upstream,
};

use crate::phase::Stage;

/// What each phase may reach and call.
#[derive(Debug)]
pub struct Policy {
    egress: BTreeMap<EgressPhase, Egress>,
    steps: BTreeMap<u32, BTreeMap<EgressPhase, Egress>>,
    purses: BTreeMap<EgressPhase, Purse>,
    upstreams: Vec<Arc<Upstream>>,
    prices: BTreeMap<ModelSlug, ModelPrice>,
    deny_ech: BTreeSet<HostPattern>,
    injections: BTreeMap<HostName, Arc<[Injection]>>,
    /// Sent upstream as the user's name.
    pub run: RunId,
}

/// What happens to a TLS connection to an allowed name.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// Opened: a model host.
    Open(Arc<Upstream>),
    /// Opened: a host that gets values which the workload holds placeholders for.
    Inject(Arc<[Injection]>),
    /// Passed through unopened.
    Splice,
}

/// Why a name is refused: a stable code for the audit.
pub type Reason = &'static str;

impl Policy {
    /// Takes the rules out of an assignment.
    pub fn new(assignment: &ProxyAssignment) -> Self {
        Self {
            egress: assignment.egress.clone(),
            steps: assignment.steps.clone(),
            purses: assignment.purses.clone(),
            upstreams: assignment.upstreams.iter().cloned().map(Arc::new).collect(),
            prices: assignment.prices.clone(),
            deny_ech: assignment.deny_ech.clone(),
            injections: by_host(&assignment.injections),
            run: assignment.run,
        }
    }

    /// The purse of a phase that may call models.
    pub fn purse(&self, phase: EgressPhase) -> Option<&Purse> {
        self.purses.get(&phase).filter(|purse| !purse.models.is_empty())
    }

    /// The price of a model, if it is known.
    pub fn price(&self, model: &ModelSlug) -> Option<&ModelPrice> {
        self.prices.get(model).filter(|price| price.is_known())
    }

    /// Every model service of every phase.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Every host that gets values which the workload holds placeholders for.
    pub fn injected(&self) -> impl Iterator<Item = (&HostName, &Arc<[Injection]>)> {
        self.injections.iter()
    }

    /// The model hosts that a phase may call.
    pub fn model_hosts(&self, phase: EgressPhase) -> impl Iterator<Item = &Arc<Upstream>> {
        let models = self.purse(phase).map(|purse| &purse.models);
        self.upstreams
            .iter()
            .filter(move |upstream| models.is_some_and(|models| serves_any(upstream, models)))
    }

    /// Where a TLS connection to `host` goes. A model host is opened or refused, never passed through.
    pub fn tls(&self, stage: impl Into<Stage>, host: &HostName) -> Result<Route, Reason> {
        let stage = stage.into();
        if let Some(upstream) = self
            .model_hosts(stage.phase)
            .find(|upstream| upstream.host == *host)
        {
            return Ok(Route::Open(Arc::clone(upstream)));
        }
        self.http(stage, host)?;
        Ok(match self.injections.get(host) {
            Some(injections) => Route::Inject(Arc::clone(injections)),
            None => Route::Splice,
        })
    }

    /// Is a connection to `host` refused that hides the name it means? The stricter of two patterns holds.
    pub fn denies_ech(&self, host: &HostName) -> bool {
        self.deny_ech.iter().any(|pattern| pattern.matches(host))
    }

    /// May `host` be reached on port 80? A model host never.
    pub fn http(&self, stage: impl Into<Stage>, host: &HostName) -> Result<(), Reason> {
        if self.upstreams.iter().any(|upstream| upstream.host == *host) {
            return Err("model_host_closed");
        }
        match self.egress(stage.into()) {
            Some(egress) if egress.allows(host) => Ok(()),
            _ => Err("host_not_allowed"),
        }
    }

    /// The wildcard by which alone `host` is allowed, where it is.
    pub fn wildcard(&self, stage: Stage, host: &HostName) -> Option<&HostPattern> {
        let Some(Egress::Hosts { hosts }) = self.egress(stage) else {
            return None;
        };
        let mut fitting = hosts.iter().filter(|pattern| pattern.matches(host));
        // By name is first in their order.
        fitting
            .next()
            .filter(|first| !matches!(first, HostPattern::Exact(_)))
    }

    fn egress(&self, stage: Stage) -> Option<&Egress> {
        let Stage { step, phase } = stage;
        let of_step = self.steps.get(&step).and_then(|phases| phases.get(&phase));
        of_step.or_else(|| self.egress.get(&phase))
    }

    /// May `host` be looked up?
    pub fn name(&self, stage: impl Into<Stage>, host: &HostName) -> Result<(), Reason> {
        self.tls(stage, host).map(|_| ())
    }
}

fn by_host(injections: &[Injection]) -> BTreeMap<HostName, Arc<[Injection]>> {
    let mut hosts: BTreeMap<HostName, Vec<Injection>> = BTreeMap::new();
    for injection in injections {
        let of_host = hosts.entry(injection.host.clone()).or_default();
        of_host.push(injection.clone());
    }
    hosts
        .into_iter()
        .map(|(host, injections)| (host, injections.into()))
        .collect()
}

fn serves_any(upstream: &Upstream, models: &BTreeSet<ModelSlug>) -> bool {
    models.iter().any(|model| upstream.models.contains(model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, inject};

    fn host(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn only_model_hosts_of_the_phase_are_opened() {
        let policy = Policy::new(&fixture::assignment());
        let agent = |name: &str| policy.tls(EgressPhase::Agent, &host(name));
        assert!(matches!(agent("models.example.com"), Ok(Route::Open(_))));
        assert_eq!(agent("pypi.org"), Err("host_not_allowed"));
        let setup = |name: &str| policy.tls(EgressPhase::Setup, &host(name));
        assert_eq!(setup("pypi.org"), Ok(Route::Splice));
        assert_eq!(setup("models.example.com"), Err("model_host_closed"));
    }

    #[test]
    fn a_model_host_is_never_spliced_even_where_everything_public_is_allowed() {
        let policy = Policy::new(&fixture::assignment());
        let verify = |name: &str| policy.tls(EgressPhase::Verify, &host(name));
        assert_eq!(verify("example.org"), Ok(Route::Splice));
        assert_eq!(verify("models.example.com"), Err("model_host_closed"));
    }

    #[test]
    fn no_model_host_on_port_80_and_no_host_in_an_absent_phase() {
        let policy = Policy::new(&fixture::assignment());
        assert_eq!(
            policy.http(EgressPhase::Agent, &host("models.example.com")),
            Err("model_host_closed")
        );
        assert_eq!(
            policy.name(EgressPhase::Build, &host("pypi.org")),
            Err("host_not_allowed")
        );
    }

    #[test]
    fn a_host_with_a_secret_is_opened_where_it_may_be_reached_and_only_there() {
        let mut assignment = fixture::assignment();
        assignment.injections = vec![inject::example("pypi.org")];
        let policy = Policy::new(&assignment);
        let setup = policy.tls(EgressPhase::Setup, &host("pypi.org"));
        assert!(matches!(setup, Ok(Route::Inject(injections)) if injections.len() == 1));
        assert_eq!(
            policy.tls(EgressPhase::Agent, &host("pypi.org")),
            Err("host_not_allowed")
        );
    }

    #[test]
    fn a_wildcard_counts_where_no_name_allows_the_host() {
        let mut assignment = fixture::assignment();
        let hosts = serde_json::json!({ "mode": "hosts", "hosts": ["*.example.org", "known.example.org"] });
        assignment
            .egress
            .insert(EgressPhase::Agent, serde_json::from_value(hosts).unwrap());
        let policy = Policy::new(&assignment);
        let wildcard = |phase: EgressPhase, name: &str| policy.wildcard(phase.into(), &host(name)).cloned();
        let agent = EgressPhase::Agent;
        assert_eq!(
            wildcard(agent, "x.example.org"),
            Some("*.example.org".parse().unwrap())
        );
        assert_eq!(wildcard(agent, "known.example.org"), None);
        // Where everything is allowed, names say nothing that a connection could not.
        assert_eq!(wildcard(EgressPhase::Verify, "x.example.org"), None);
    }

    #[test]
    fn a_step_may_reach_something_else_in_the_same_phase() {
        let mut assignment = fixture::assignment();
        let hosts = serde_json::json!({ "agent": { "mode": "hosts", "hosts": ["only.example.org"] } });
        assignment.steps = [(1, serde_json::from_value(hosts).unwrap())].into();
        let policy = Policy::new(&assignment);
        let phase = EgressPhase::Agent;
        let ask = |step, name: &str| policy.tls(Stage { step, phase }, &host(name));
        assert_eq!(ask(0, "only.example.org"), Err("host_not_allowed"));
        assert_eq!(ask(1, "only.example.org"), Ok(Route::Splice));
        assert_eq!(ask(2, "only.example.org"), Err("host_not_allowed"));
        let phase = EgressPhase::Verify;
        assert_eq!(
            policy.tls(Stage { step: 1, phase }, &host("example.org")),
            Ok(Route::Splice)
        );
    }
}
