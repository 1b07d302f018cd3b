//! The containers beside main, as main's runner knows them: one connection to the runner of each, from before any agent
//! is there until the end. What they print is kept here, for whoever can sign.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use assay_core::control::service::{
    ASK_ALL, ASK_STATE, ServiceHealth, ServiceNews, ServicePlace, ServiceState,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::sleep,
};

use crate::{exec::ring::Ring, state::Runner};

/// How much of what a service printed is kept.
pub(crate) const KEPT: usize = 256 << 10;
const RETRY: Duration = Duration::from_millis(25);
const LONGEST_LINE: u64 = 1 << 20;

/// What is known about them.
#[derive(Debug)]
pub(crate) struct Services {
    known: Mutex<Vec<Known>>,
    /// All have been up once: what becomes of them later does not stop work that is under way.
    up: AtomicBool,
}

#[derive(Debug)]
struct Known {
    place: ServicePlace,
    state: ServiceState,
    output: Ring,
}

impl Services {
    pub(crate) fn new(places: &[ServicePlace]) -> Self {
        let known = |place: &ServicePlace| Known {
            place: place.clone(),
            state: ServiceState::Waiting {
                reason: "its container does not answer yet".to_owned(),
            },
            output: Ring::of(KEPT),
        };
        Self {
            known: Mutex::new(places.iter().map(known).collect()),
            up: AtomicBool::new(places.is_empty()),
        }
    }

    /// Why no work is taken yet.
    pub(crate) fn missing(&self) -> Option<String> {
        if self.up.load(Ordering::Relaxed) {
            return None;
        }
        let known = self.lock();
        let missing = known.iter().find(|one| !one.state.is_up());
        if missing.is_none() {
            self.up.store(true, Ordering::Relaxed);
        }
        missing.map(|one| {
            let words = match &one.state {
                ServiceState::Waiting { reason } | ServiceState::Failed { reason } => reason,
                ServiceState::Started => "its healthcheck has not passed yet",
                ServiceState::Ready | ServiceState::Done => "",
            };
            format!("service {}: {words}", one.place.name)
        })
    }

    /// How each is.
    pub(crate) fn health(&self) -> Vec<ServiceHealth> {
        let known = self.lock();
        let health = |one: &Known| ServiceHealth {
            name: one.place.name.clone(),
            state: one.state.clone(),
        };
        known.iter().map(health).collect()
    }

    /// The end of what a service printed.
    pub(crate) fn output(&self, name: &str) -> Option<Vec<u8>> {
        let known = self.lock();
        let one = known.iter().find(|one| one.place.name == name)?;
        Some(one.output.tail(KEPT))
    }

    fn take(&self, name: &str, news: ServiceNews) {
        let mut known = self.lock();
        let Some(one) = known.iter_mut().find(|one| one.place.name == name) else {
            return;
        };
        match news {
            ServiceNews::State(state) => one.state = state,
            ServiceNews::Output(text) => {
                if let Ok(bytes) = STANDARD.decode(text) {
                    one.output.push(&bytes);
                }
            }
        }
    }

    fn lost(&self, name: &str) {
        let mut known = self.lock();
        if let Some(one) = known.iter_mut().find(|one| one.place.name == name)
            && !matches!(one.state, ServiceState::Failed { .. } | ServiceState::Done)
        {
            one.state = ServiceState::Failed {
                reason: "its container ended".to_owned(),
            };
        }
    }

    fn places(&self) -> Vec<ServicePlace> {
        self.lock().iter().map(|one| one.place.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows each of them in a task of its own.
pub(crate) fn follow(runner: &Arc<Runner>) {
    for place in runner.services.places() {
        let runner = Arc::clone(runner);
        tokio::spawn(async move {
            let mut lines = ask(place.port, ASK_ALL).await;
            while let Some(news) = lines.next().await {
                runner.services.take(&place.name, news);
            }
            runner.services.lost(&place.name);
        });
    }
}

/// Waits until another service is up, or at least runs. The error is for people.
pub(crate) async fn wait_for(place: &ServicePlace, healthy: bool) -> Result<(), String> {
    let mut lines = ask(place.port, ASK_STATE).await;
    while let Some(news) = lines.next().await {
        match news {
            ServiceNews::State(ServiceState::Failed { .. }) => break,
            ServiceNews::State(state) if state.is_up() => return Ok(()),
            ServiceNews::State(ServiceState::Started) if !healthy => return Ok(()),
            ServiceNews::State(_) | ServiceNews::Output(_) => {}
        }
    }
    Err(format!("service {}, which it waits for, has failed", place.name))
}

/// News of one service.
struct Lines(Option<BufReader<TcpStream>>);

/// Connects as soon as its runner is there, and says what is wanted.
async fn ask(port: u16, wanted: &str) -> Lines {
    loop {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            let asked = stream.write_all(format!("{wanted}\n").as_bytes()).await;
            return Lines(asked.is_ok().then(|| BufReader::new(stream)));
        }
        sleep(RETRY).await;
    }
}

impl Lines {
    /// The next; `None` when there will be none.
    async fn next(&mut self) -> Option<ServiceNews> {
        let mut line = Vec::new();
        let reader = self.0.as_mut()?;
        reader
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await
            .ok()?;
        serde_json::from_slice(&line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Services {
        Services::new(&[ServicePlace {
            name: "db".to_owned(),
            port: 1,
        }])
    }

    #[test]
    fn work_waits_for_all_of_them_once() {
        let services = one();
        assert!(services.missing().unwrap().contains("service db"));
        services.take("db", ServiceNews::State(ServiceState::Started));
        assert!(services.missing().unwrap().contains("healthcheck"));
        services.take("db", ServiceNews::State(ServiceState::Ready));
        assert_eq!(services.missing(), None);
        services.lost("db");
        assert_eq!(services.missing(), None, "what is under way goes on");
        assert!(matches!(&services.health()[0].state, ServiceState::Failed { .. }));
        assert_eq!(Services::new(&[]).missing(), None);
    }

    #[test]
    fn the_end_of_what_was_printed_is_kept() {
        let services = one();
        for byte in [b'a', b'b'] {
            services.take("db", ServiceNews::Output(STANDARD.encode(vec![byte; KEPT])));
        }
        assert_eq!(services.output("db").unwrap(), vec![b'b'; KEPT]);
        assert_eq!(services.output("web"), None);
    }
}
