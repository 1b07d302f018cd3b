//! The containers beside main: what an engine is asked for, whether one has failed, and what they printed.

use std::{collections::BTreeMap, time::Duration};

use assay_core::{
    control::{
        runner::{Outcome, RunnerConfig},
        service::{After, ServiceCheck, ServiceConfig, ServicePlace},
    },
    egress::port,
    phase::Phase,
    task::compose::{Check, Service},
};
use assay_engine::{Engine, ImageRef, Resources, ServiceSpec};

use super::{
    Driver, Halt,
    fetch::local,
    live::{Live, failed},
};
use crate::{derive::Place, evidence::Evidence, row::Mode};

impl<E: Engine> Driver<E> {
    /// Adds the service that failed under the phase. What broke the sandbox or its walls is told by others, and the task's
    /// own services do not matter any more to a verifier elsewhere.
    pub(super) async fn with_services(&self, mut seen: Vec<Evidence>) -> Vec<Evidence> {
        let apart = self.row.phase == Phase::Verify && self.row.memo.mode == Some(Mode::Separate);
        let cancelled = seen.contains(&Evidence::Cancelled);
        let walls = seen
            .iter()
            .any(|item| matches!(item, Evidence::Ended(_, end) if end.outcome == Outcome::ProxyLost));
        if self.row.memo.services.is_empty() || self.row.phase == Phase::Report || apart || walls || cancelled
        {
            return seen;
        }
        if let Some(live) = &self.live {
            let words = failed(&live.services().await);
            seen.splice(0..0, words.map(Evidence::ServiceFailed));
        }
        seen
    }

    /// Stores the end of what each service printed. What cannot be had is left out.
    pub(super) async fn keep_service_output(&mut self, live: &Live, place: Place) -> Result<(), Halt> {
        for service in live.services().await {
            let output = tokio::time::timeout(PATIENCE, live.service_output(&service.name)).await;
            let Ok(Ok(output)) = output else { continue };
            if output.is_empty() {
                continue;
            }
            let name = match place {
                Place::Main | Place::Build => format!("service-{}.log", service.name),
                Place::Verifier(_) => self.step_name(&format!("verifier-service-{}.log", service.name)),
            };
            let file = self.folder.join("service.log");
            tokio::fs::create_dir_all(&self.folder)
                .await
                .map_err(local(&self.folder))?;
            tokio::fs::write(&file, &output).await.map_err(local(&file))?;
            self.store(&name, "text/plain", &file).await?;
        }
        Ok(())
    }
}

/// What an engine is asked for. `runner` is what main's own is told.
pub(super) fn specs(
    services: &[Service],
    images: &BTreeMap<String, String>,
    runner: &RunnerConfig,
) -> Vec<ServiceSpec> {
    let places: BTreeMap<&str, ServicePlace> = (port::SERVICES..)
        .zip(services)
        .map(|(port, service)| {
            let name = service.name.clone();
            (service.name.as_str(), ServicePlace { name, port })
        })
        .collect();
    services
        .iter()
        .filter_map(|service| spec(service, images, &places, runner))
        .collect()
}

fn spec(
    service: &Service,
    images: &BTreeMap<String, String>,
    places: &BTreeMap<&str, ServicePlace>,
    runner: &RunnerConfig,
) -> Option<ServiceSpec> {
    let after = service.depends_on.iter().filter_map(|other| {
        Some(After {
            place: places.get(other.service.as_str())?.clone(),
            healthy: other.healthy,
        })
    });
    Some(ServiceSpec {
        image: ImageRef(images.get(&service.name).cloned().unwrap_or_default()),
        resources: Resources {
            cpu_milli: service.cpu_milli,
            memory_bytes: service.memory_bytes,
            // The runner's own come on top.
            pids: service.pids.saturating_add(RUNNER_PIDS),
            disk_bytes: DISK,
        },
        entrypoint: service.entrypoint.clone(),
        command: service.command.clone(),
        workdir: service.workdir.clone(),
        tmpfs: service
            .tmpfs
            .iter()
            .map(|one| (one.path.clone(), one.bytes))
            .collect(),
        config: ServiceConfig {
            runner: RunnerConfig {
                max_pids: service.pids,
                services: Vec::new(),
                ..runner.clone()
            },
            place: places.get(service.name.as_str())?.clone(),
            argv: Vec::new(),
            env: service.env.clone(),
            user: service.user.clone(),
            cwd: String::new(),
            healthcheck: service.healthcheck.as_ref().map(check),
            after: after.collect(),
        },
    })
}

fn check(check: &Check) -> ServiceCheck {
    ServiceCheck {
        argv: check.argv.clone(),
        interval_ms: millis(check.interval),
        timeout_ms: millis(check.timeout),
        retries: check.retries,
        start_period_ms: millis(check.start_period),
        start_interval_ms: millis(check.start_interval),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const PATIENCE: Duration = Duration::from_secs(5);
const RUNNER_PIDS: u64 = 16;
/// What a service may write, where the storage driver holds a limit.
const DISK: u64 = 2 << 30;
