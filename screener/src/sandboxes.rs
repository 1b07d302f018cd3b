//! What the proxies of this worker's sandboxes counted, summed up for the worker's own metrics: sandboxes live for
//! minutes and are not scraped. Labels are words of the proxy, under a cap; none names a sandbox, a host or a model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use assay_core::{
    control::proxy::{Counted, Decision, Histogram, Ledger, Metrics},
    money::PicoUsd,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// The sums over all sandboxes, those that are gone included. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sandboxes(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    decisions: BTreeMap<(String, Decision, String), u64>,
    waits: BTreeMap<String, Histogram>,
    /// What was spent and counted.
    ledger: Ledger,
    /// What is the case now, by meter.
    live: BTreeMap<u64, Now>,
    meters: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Now {
    connections: u64,
    granted: PicoUsd,
    reserved: PicoUsd,
    unresolved: PicoUsd,
}

/// Reads one sandbox. Dropped, it takes out what was the case now and leaves what was counted.
#[derive(Debug)]
pub struct Meter {
    sandboxes: Sandboxes,
    number: u64,
    /// The last reading; `None` where a worker before has counted up to here.
    last: Option<Metrics>,
}

/// Who has read a sandbox before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nobody: everything counts.
    Nobody,
    /// Another worker: what the first reading shows was counted there.
    AnotherWorker,
}

impl Sandboxes {
    /// A meter for one sandbox.
    pub fn meter(&self, before: Before) -> Meter {
        let mut sums = self.lock();
        sums.meters += 1;
        Meter {
            number: sums.meters,
            sandboxes: self.clone(),
            last: (before == Before::Nobody).then(Metrics::default),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    /// Adds what happened since the last reading.
    pub fn read(&mut self, now: Metrics) {
        let mut sums = self.sandboxes.lock();
        sums.live.insert(self.number, Now::of(&now));
        if let Some(last) = &self.last {
            sums.add(&now, last);
        }
        drop(sums);
        self.last = Some(now);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.sandboxes.lock().live.remove(&self.number);
    }
}

impl Now {
    fn of(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.connections,
            granted: metrics.ledger.budget,
            reserved: metrics.ledger.reserved,
            unresolved: metrics.ledger.unresolved,
        }
    }
}

impl Sums {
    fn add(&mut self, now: &Metrics, last: &Metrics) {
        for counted in &now.decisions {
            let before = last.decisions.iter().find(|before| is_same(before, counted));
            let more = counted
                .count
                .saturating_sub(before.map_or(0, |before| before.count));
            if more > 0 {
                *self.decision(counted) += more;
            }
        }
        for (wait, histogram) in &now.waits {
            if self.waits.len() < MOST_WAITS || self.waits.contains_key(wait) {
                let sum = self.waits.entry(wait.clone()).or_default();
                add(sum, histogram, last.waits.get(wait));
            }
        }
        self.ledger.add(&now.ledger.since(&last.ledger));
    }

    /// The count of a decision; beyond the cap one that stands for all others.
    fn decision(&mut self, counted: &Counted) -> &mut u64 {
        let mut key = (counted.kind.clone(), counted.decision, counted.reason.clone());
        if self.decisions.len() >= MOST_DECISIONS && !self.decisions.contains_key(&key) {
            key = ("other".to_owned(), counted.decision, "other".to_owned());
        }
        self.decisions.entry(key).or_default()
    }
}

fn is_same(one: &Counted, other: &Counted) -> bool {
    (&one.kind, one.decision, &one.reason) == (&other.kind, other.decision, &other.reason)
}

fn add(sum: &mut Histogram, now: &Histogram, last: Option<&Histogram>) {
    let zero = Histogram::default();
    let last = last.unwrap_or(&zero);
    for ((sum, now), last) in sum.counts.iter_mut().zip(&now.counts).zip(&last.counts) {
        *sum += now.saturating_sub(*last);
    }
    sum.sum_ms += now.sum_ms.saturating_sub(last.sum_ms);
}

impl Collector for Sandboxes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let sums = self.lock();
        encode_decisions(&sums, &mut encoder)?;
        encode_waits(&sums, &mut encoder)?;
        encode_now(&sums, &mut encoder)?;
        encode_ledger(&sums.ledger, &mut encoder)
    }
}

fn encode_decisions(sums: &Sums, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "Decisions of the proxies, as in their audits";
    let mut metric = encoder.encode_descriptor("sandbox_decisions", help, None, MetricType::Counter)?;
    for ((kind, decision, reason), count) in &sums.decisions {
        let decision = match decision {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        };
        let labels = [
            ("kind", kind.as_str()),
            ("decision", decision),
            ("reason", reason.as_str()),
        ];
        counter(&mut metric.encode_family(&labels)?, *count)?;
    }
    Ok(())
}

fn encode_waits(sums: &Sums, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "How long things took in the proxies";
    let unit = Some(&Unit::Seconds);
    let mut metric = encoder.encode_descriptor("sandbox_wait", help, unit, MetricType::Histogram)?;
    for (wait, histogram) in &sums.waits {
        let bounds = Histogram::BOUNDS_MS.iter().map(|ms| seconds(*ms));
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts.iter().copied()).collect();
        metric
            .encode_family(&[("wait", wait.as_str())])?
            .encode_histogram::<NoLabelSet>(
                seconds(histogram.sum_ms),
                histogram.counts.iter().sum(),
                &buckets,
                None,
            )?;
    }
    Ok(())
}

fn encode_now(sums: &Sums, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let live = || sums.live.values();
    let gauges = [
        (
            "sandboxes_read",
            "Proxies that are read now",
            sums.live.len() as u64,
        ),
        (
            "sandbox_connections",
            "Connections of workloads that are open now",
            live().map(|now| now.connections).sum(),
        ),
    ];
    for (name, help, value) in gauges {
        encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)?;
    }
    let help = "Money of the sandboxes that live now";
    let unit = Unit::Other("usd".to_owned());
    let mut metric = encoder.encode_descriptor("sandbox_purse", help, Some(&unit), MetricType::Gauge)?;
    for (part, sum) in [
        ("granted", live().map(|now| now.granted).sum::<PicoUsd>()),
        ("reserved", live().map(|now| now.reserved).sum()),
        ("unresolved", live().map(|now| now.unresolved).sum()),
    ] {
        metric
            .encode_family(&[("part", part)])?
            .encode_gauge(&dollars(sum))?;
    }
    Ok(())
}

fn encode_ledger(ledger: &Ledger, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let unit = Unit::Other("usd".to_owned());
    let help = "Money that was spent for certain";
    encoder
        .encode_descriptor("sandbox_settled", help, Some(&unit), MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&dollars(ledger.settled), None)?;
    let help = "Model requests and tries of them, by outcome";
    let mut metric = encoder.encode_descriptor("sandbox_model_requests", help, None, MetricType::Counter)?;
    for (outcome, count) in [
        ("forwarded", ledger.requests),
        ("refused", ledger.refused_requests),
        ("refused_by_budget", ledger.budget_refusals),
        ("answered", ledger.answers),
        ("provider_error", ledger.provider_errors),
        ("provider_failure", ledger.provider_failures),
    ] {
        counter(&mut metric.encode_family(&[("outcome", outcome)])?, count)?;
    }
    let help = "Tokens that were billed";
    let mut metric = encoder.encode_descriptor("sandbox_tokens", help, None, MetricType::Counter)?;
    for (kind, count) in [
        ("input", ledger.input_tokens),
        ("cached_input", ledger.cached_tokens),
        ("output", ledger.output_tokens),
    ] {
        counter(&mut metric.encode_family(&[("kind", kind)])?, count)?;
    }
    Ok(())
}

fn counter(metric: &mut MetricEncoder<'_>, count: u64) -> std::fmt::Result {
    metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people; money is counted in integers"
)]
fn dollars(money: PicoUsd) -> f64 {
    money.pico() as f64 / 1e12
}

/// Above all reasons of the proxy together.
const MOST_DECISIONS: usize = 512;
const MOST_WAITS: usize = 16;

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn reading(count: u64, settled: u64, connections: u64) -> Metrics {
        let mut hello = Histogram::default();
        (0..count).for_each(|_| hello.observe(3));
        Metrics {
            decisions: vec![Counted {
                kind: "tls".to_owned(),
                decision: Decision::Deny,
                reason: "host_not_allowed".to_owned(),
                count,
            }],
            connections,
            waits: [("hello".to_owned(), hello)].into(),
            ledger: Ledger {
                settled: PicoUsd::from_pico(settled * 1_000_000_000_000),
                requests: count,
                ..Ledger::default()
            },
        }
    }

    fn text(sandboxes: &Sandboxes) -> String {
        let mut registry = Registry::with_prefix("assay");
        registry.register_collector(Box::new(sandboxes.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn counts_of_all_sandboxes_add_up_and_outlive_them() {
        let sandboxes = Sandboxes::default();
        let (mut one, mut other) = (sandboxes.meter(Before::Nobody), sandboxes.meter(Before::Nobody));
        one.read(reading(1, 1, 4));
        other.read(reading(5, 2, 1));
        one.read(reading(3, 2, 2));
        let now = text(&sandboxes);
        for line in [
            "assay_sandbox_decisions_total{kind=\"tls\",decision=\"deny\",reason=\"host_not_allowed\"} 8",
            "assay_sandbox_connections 3",
            "assay_sandboxes_read 2",
            "assay_sandbox_settled_usd_total 4.0",
            "assay_sandbox_model_requests_total{outcome=\"forwarded\"} 8",
            "assay_sandbox_wait_seconds_bucket{le=\"0.005\",wait=\"hello\"} 8",
            "assay_sandbox_wait_seconds_bucket{le=\"+Inf\",wait=\"hello\"} 8",
            "assay_sandbox_wait_seconds_count{wait=\"hello\"} 8",
        ] {
            assert!(now.lines().any(|told| told == line), "{line} is not in\n{now}");
        }
        drop((one, other));
        let after = text(&sandboxes);
        assert!(after.contains("assay_sandbox_connections 0\n") && after.contains("_usd_total 4.0\n"));
    }

    #[test]
    fn what_another_worker_has_counted_is_not_counted_again() {
        let sandboxes = Sandboxes::default();
        let mut adopted = sandboxes.meter(Before::AnotherWorker);
        adopted.read(reading(7, 3, 1));
        adopted.read(reading(9, 4, 1));
        let now = text(&sandboxes);
        assert!(
            now.contains("outcome=\"forwarded\"} 2\n") && now.contains("_usd_total 1.0\n"),
            "{now}"
        );
    }

    #[test]
    fn words_beyond_the_cap_share_one_count() {
        let sandboxes = Sandboxes::default();
        let mut meter = sandboxes.meter(Before::Nobody);
        let denied = |number| Counted {
            reason: format!("r{number}"),
            ..reading(1, 0, 0).decisions[0].clone()
        };
        let many = Metrics {
            decisions: (0..MOST_DECISIONS + 10).map(denied).collect(),
            ..Metrics::default()
        };
        meter.read(many);
        assert!(text(&sandboxes).contains("{kind=\"other\",decision=\"deny\",reason=\"other\"} 10\n"));
    }
}
