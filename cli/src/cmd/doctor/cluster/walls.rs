//! The walls: admission by dry runs, the rest from inside of a sandbox that serves no run.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use assay_core::phase::EgressPhase;
use assay_engine::{
    Beacon, Error,
    kubernetes::{BeaconAt, Inspector, Kubernetes, PodOptions, Settings},
};
use assay_screener::{
    guard::{self, Enforced},
    trial::{SMALL, Trial},
};

use super::{Seen, Verdict, of, seen};
use crate::cmd::doctor::{
    failed,
    selftest::{self, Found},
};

/// Every row about walls.
pub(super) async fn look(inspector: &Inspector, settings: &Settings) -> Vec<Seen> {
    // Whatever happens to this program, the cluster ends what it has started.
    let settings = Settings {
        pods: PodOptions {
            lifetime: LIFETIME,
            ..settings.pods.clone()
        },
        ..settings.clone()
    };
    let found = Kubernetes::connect(settings.clone()).await;
    let (engine, beacon) = match found {
        Ok(engine) => (engine, None),
        // Without a beacon much can still be seen.
        Err(error) => {
            let without = Settings {
                beacon: BeaconAt::Nowhere,
                ..settings.clone()
            };
            match Kubernetes::connect(without).await {
                Ok(engine) => (engine, Some(error)),
                Err(error) => return vec![seen("sandboxes", Verdict::Missing, error.to_string())],
            }
        }
    };
    let mut rows = vec![admission(&engine).await];
    match Trial::start(&engine, &settings.images.proxy, EgressPhase::Agent, SMALL).await {
        Err(error) => rows.push(seen("a sandbox", Verdict::Missing, error.to_string())),
        Ok(trial) => {
            rows.push(seen("a sandbox", Verdict::Ok, "started; nodes pull our images"));
            rows.extend(inside(inspector, &engine, &trial, beacon).await);
            rows.push(of(
                "its removal",
                trial.end().await.map(|()| "nothing is left of it"),
            ));
        }
    }
    rows
}

async fn admission(engine: &Kubernetes) -> Seen {
    const WHAT: &str = "admission";
    match engine.gate().await {
        Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(gate) if !gate.let_in.is_empty() => seen(
            WHAT,
            Verdict::Missing,
            format!(
                "NOT ACTIVE: a pod with {} would be let in; apply manifests/base and label the namespace assay.dev/sandboxes=true",
                gate.let_in.join(", with ")
            ),
        ),
        Ok(gate) => of(
            WHAT,
            gate.ours
                .map(|()| {
                    format!(
                        "active: {} pods that have more than a sandbox were refused",
                        gate.tried
                    )
                })
                .map_err(|words| format!("it refuses our own sandboxes: {words}")),
        ),
    }
}

async fn inside(
    inspector: &Inspector,
    engine: &Kubernetes,
    trial: &Trial<'_, Kubernetes>,
    no_beacon: Option<Error>,
) -> Vec<Seen> {
    let mut rows = Vec::new();
    if let Some(error) = no_beacon {
        rows.push(seen("network policies", Verdict::Missing, error.to_string()));
    } else {
        rows.push(policies(trial, "network policies", EgressPhase::Agent).await);
        rows.push(policies(trial, "they follow the phase", EgressPhase::Verify).await);
    }
    rows.push(api_server(inspector, trial).await);
    rows.push(metadata(trial).await);
    rows.push(ipv6(engine, trial).await);
    rows.extend(ways_out(trial).await);
    rows
}

async fn policies(trial: &Trial<'_, Kubernetes>, what: &'static str, phase: EgressPhase) -> Seen {
    match guard::enforced(trial, phase).await {
        Err(error) => seen(what, Verdict::Untried, error.to_string()),
        Ok(None) => seen(
            what,
            Verdict::Untried,
            "without a beacon nothing shows it (--beacon)",
        ),
        Ok(Some(Enforced::Yes(after))) => seen(
            what,
            Verdict::Ok,
            format!("enforced: in phase {phase} after {} ms", after.as_millis()),
        ),
        Ok(Some(Enforced::No(Beacon { closed, .. }))) => seen(
            what,
            Verdict::Missing,
            format!(
                "NOT ENFORCED: in phase {phase} a sandbox reaches {closed}, which they close. Use a network that enforces \
                 NetworkPolicies and apply manifests/base"
            ),
        ),
        Ok(Some(Enforced::Unknown(Beacon { open, .. }))) => seen(
            what,
            Verdict::Missing,
            format!("not shown: in phase {phase} the beacon does not answer at {open}"),
        ),
    }
}

/// By the network alone: the proxy is whom the packet rules let pass.
async fn api_server(inspector: &Inspector, trial: &Trial<'_, Kubernetes>) -> Seen {
    const WHAT: &str = "API server from a sandbox";
    let answers = async {
        let address = inspector.api_server().await?;
        // One connection may fail for another reason than a policy.
        let answers = trial.reaches([address], ONE_DIAL).await? == [true]
            || trial.reaches([address], ONE_DIAL).await? == [true];
        Ok::<_, Error>((address, answers))
    };
    match answers.await {
        Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
        Ok((address, true)) => seen(WHAT, Verdict::Missing, format!("it answers at {address}")),
        Ok((address, false)) => seen(WHAT, Verdict::Ok, format!("policies close {address}")),
    }
}

async fn metadata(trial: &Trial<'_, Kubernetes>) -> Seen {
    const WHAT: &str = "cloud metadata by address";
    match trial.reaches(METADATA, ONE_DIAL).await {
        Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(reached) => match METADATA.iter().zip(reached).find(|(_, reached)| *reached) {
            Some((address, _)) => seen(WHAT, Verdict::Missing, format!("somebody answers at {address}")),
            None => seen(WHAT, Verdict::Ok, "nobody answers, even to the proxy"),
        },
    }
}

async fn ipv6(engine: &Kubernetes, trial: &Trial<'_, Kubernetes>) -> Seen {
    const WHAT: &str = "IPv6 past the policies";
    let addresses = match engine.pod_addresses(trial.name()).await {
        Err(error) => return seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(addresses) => addresses,
    };
    if !addresses.iter().any(IpAddr::is_ipv6) {
        return seen(WHAT, Verdict::Ok, "pods have no IPv6 address");
    }
    match engine.beacon_v6().await {
        Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
        Ok(None) => seen(
            WHAT,
            Verdict::Untried,
            "pods have IPv6 and the beacon's Service has none; give it `ipFamilyPolicy: PreferDualStack`",
        ),
        // The phase is the verifier's by now.
        Ok(Some(address)) => {
            let closed = SocketAddr::new(address, assay_core::egress::port::BEACON_AGENT);
            match trial.reaches([closed], ONE_DIAL).await {
                Err(error) => seen(WHAT, Verdict::Untried, error.to_string()),
                Ok([true]) => seen(
                    WHAT,
                    Verdict::Missing,
                    format!("{closed} answers, which policies close"),
                ),
                Ok([false]) => seen(WHAT, Verdict::Ok, format!("policies close {closed}")),
            }
        }
    }
}

/// The self-test as root of the workload: the first wall. Its rows about metadata, IPv6 and tokens stand alone, because people
/// ask for them.
async fn ways_out(trial: &Trial<'_, Kubernetes>) -> Vec<Seen> {
    let tried = async {
        // The image has no folder for what programs leave.
        let tar = empty_tmp().map_err(failed)?;
        trial
            .runner
            .put_files("/", None, tar.path())
            .await
            .map_err(failed)?;
        selftest::run(trial, "/assay-proxy").await
    };
    let found = match tried.await {
        Ok(report) => report.tried,
        Err(error) => return vec![seen("ways out", Verdict::Untried, error.to_string())],
    };
    let some = |what, rows: &[&str]| {
        let found: Vec<_> = found
            .iter()
            .filter(|one| rows.contains(&one.row.as_str()))
            .collect();
        judged(what, &found)
    };
    vec![
        some("cloud metadata from the workload", &["C10"]),
        some("IPv6 from the workload", &["B9"]),
        some("service-account token", &["B26"]),
        judged("every known way out", &found.iter().collect::<Vec<_>>()),
    ]
}

fn judged(what: &'static str, found: &[&Found]) -> Seen {
    let open: Vec<_> = found.iter().filter(|one| one.verdict == "open").collect();
    let closed = found.iter().filter(|one| one.verdict == "closed").count();
    if let Some(first) = open.first() {
        let rows: Vec<_> = open.iter().map(|one| one.row.as_str()).collect();
        let detail = format!("OPEN: {}: {}: {}", rows.join(", "), first.what, first.detail);
        return seen(what, Verdict::Missing, detail);
    }
    if closed == 0 {
        return seen(what, Verdict::Untried, "the self-test tried none");
    }
    seen(
        what,
        Verdict::Ok,
        format!("{closed} of {} probes found them closed, none open", found.len()),
    )
}

fn empty_tmp() -> std::io::Result<tempfile::NamedTempFile> {
    let mut tar = tar::Builder::new(tempfile::NamedTempFile::new()?);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_size(0);
    tar.append_data(&mut header, "tmp/", std::io::empty())?;
    tar.into_inner()
}

const METADATA: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 80),
];
const ONE_DIAL: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_mins(5);
