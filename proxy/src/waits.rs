//! How long things took, for the metrics. The labels are the names below and no others.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use assay_core::control::proxy::Histogram;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The workload's first bytes: a TLS hello.
    Hello,
    /// A look-up and a connection to a host that is passed through.
    Dial,
    /// The handshake with the workload on an opened host.
    Handshake,
    /// A new connection to a model service, its handshake included.
    ModelConnect,
    /// The begin of a model service's answer, from the moment of the request.
    FirstByte,
    /// A whole model call, from its reservation to its bill, tries included.
    ModelCall,
}

impl Wait {
    fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Dial => "dial",
            Self::Handshake => "handshake",
            Self::ModelConnect => "model_connect",
            Self::FirstByte => "first_byte",
            Self::ModelCall => "model_call",
        }
    }
}

/// All histograms.
#[derive(Debug, Default)]
pub struct Waits(Mutex<BTreeMap<Wait, Histogram>>);

impl Waits {
    /// Waits for `wanted`, and counts how long that took.
    pub async fn measure<T>(&self, wait: Wait, wanted: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = wanted.await;
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.entry(wait).or_default().observe(ms);
        result
    }

    /// By name.
    pub fn read(&self) -> BTreeMap<String, Histogram> {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits
            .iter()
            .map(|(wait, histogram)| (wait.name().to_owned(), histogram.clone()))
            .collect()
    }
}
