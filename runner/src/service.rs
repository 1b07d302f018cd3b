//! The first process of a container beside main: one command, confined as the agent is, its healthcheck, and word about
//! both on the sandbox's loopback.
//!
//! It stays when the command has ended, so that there is somebody to say so.

mod check;
mod tell;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use assay_core::control::{
    runner::Outcome,
    service::{ServiceConfig, ServiceState},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, unix::pipe},
    sync::oneshot,
    time::timeout,
};

use self::tell::Told;
use crate::{
    exec::spawn::{Child, spawn},
    isolation::Confinement,
    kill::Exit,
    process, proxy_link,
    serve::Options,
    services,
    stage::Order,
    state::{Readiness, Runner},
};

/// How long the last words may take when the command has ended and everybody was killed.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What is told of what it printed, with its end.
const TOLD: usize = 2 << 10;

/// Runs until it is told to end.
pub(crate) fn run(options: Options) -> Result<(), String> {
    let config: ServiceConfig = process::read(&options.config)?;
    process::run(|confinement| serve(config, confinement, options))
}

async fn serve(config: ServiceConfig, confinement: Confinement, options: Options) -> Result<(), String> {
    let terminate = process::termination()?;
    let runner = Runner::new(config.runner.clone(), confinement).map_err(|error| error.to_string())?;
    let runner = Arc::new(runner);
    process::collect_the_dead(&runner)?;
    let port = config.place.port;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let told = Arc::new(Told::new());
    tokio::spawn(tell::answer(listener, Arc::clone(&told)));
    if config.runner.proxy {
        tokio::spawn(proxy_link::keep(
            Arc::clone(&runner),
            options.proxy,
            options.trust,
        ));
    }
    let work = async {
        if let Some(state) = live(&runner, &config, &told).await {
            told.set(state);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        Ok(()) = terminate => {}
        () = work => {}
    }
    runner.kill_everything(Outcome::Killed, None).await;
    Ok(())
}

/// The whole life of the service; how it ended. `None` where the proxy or the packet rules went first: others tell that.
async fn live(runner: &Arc<Runner>, config: &ServiceConfig, told: &Arc<Told>) -> Option<ServiceState> {
    runner.guarded().await;
    for other in &config.after {
        told.set(ServiceState::Waiting {
            reason: format!("waits for service {}", other.place.name),
        });
        if let Err(reason) = services::wait_for(&other.place, other.healthy).await {
            return Some(ServiceState::Failed { reason });
        }
    }
    let order = order(runner, config, &config.argv);
    let (child, mut exit) = match start(runner, &order).await {
        Ok(started) => started,
        Err(reason) => return Some(ServiceState::Failed { reason }),
    };
    let refusal = tokio::spawn(word(child.status));
    let outputs = [child.stdout, child.stderr].map(|from| tokio::spawn(pump(from, Arc::clone(told))));
    told.set(ServiceState::Started);
    let end = tokio::select! {
        biased;
        exit = &mut exit => Ok(exit.ok()),
        failure = check::watch(runner, config, told) => Err(failure),
    };
    // As in any container: what it left behind ends with it.
    runner.kill_everything(Outcome::Killed, None).await;
    // What it printed has left it, and may not have been read yet.
    for output in outputs {
        drop(timeout(LAST_WORDS, output).await);
    }
    let exit = match end {
        Ok(exit) => exit,
        Err(failure) => {
            return Some(ServiceState::Failed {
                reason: with_tail(&failure, told),
            });
        }
    };
    if matches!(runner.readiness(), Readiness::ProxyLost(_)) {
        return None;
    }
    let refusal = timeout(LAST_WORDS, refusal).await.ok().and_then(Result::ok);
    let mut state = ended(exit, refusal.unwrap_or_default(), told);
    if let ServiceState::Failed { reason } = &mut state
        && runner.cgroup.counters().oom_kills > 0
    {
        reason.insert_str(0, "it met its memory limit: ");
    }
    Some(state)
}

fn ended(exit: Option<Exit>, refusal: String, told: &Told) -> ServiceState {
    let words = match exit {
        _ if !refusal.is_empty() => return ServiceState::Failed { reason: refusal },
        Some(Exit::Code(0)) => return ServiceState::Done,
        Some(Exit::Code(code)) => format!("it ended with code {code}"),
        Some(Exit::Signal(signal)) => format!("it was ended by signal {signal}"),
        None => "it ended".to_owned(),
    };
    ServiceState::Failed {
        reason: with_tail(&words, told),
    }
}

fn with_tail(words: &str, told: &Told) -> String {
    let tail = told.tail(TOLD);
    let tail = String::from_utf8_lossy(&tail);
    if tail.trim().is_empty() {
        format!("{words} and printed nothing")
    } else {
        format!("{words}; it printed last:\n{}", tail.trim_end())
    }
}

fn order(runner: &Runner, config: &ServiceConfig, argv: &[String]) -> Order {
    let mut env = runner.trust_variables();
    env.extend(config.env.clone());
    Order {
        argv: argv.to_vec(),
        cwd: config.cwd.clone(),
        env,
        user: config.user.clone(),
    }
}

/// Nobody is started while everybody is being killed.
async fn start(runner: &Runner, order: &Order) -> Result<(Child, oneshot::Receiver<Exit>), String> {
    let killing = runner.killing.lock().await;
    let child = spawn(&runner.confinement, order, false)
        .map_err(|error| format!("cannot start a process: {error}"))?;
    let exit = runner.reaper.watch(child.pid);
    drop(killing);
    Ok((child, exit))
}

/// Why a command was not started; empty when it was.
async fn word(status: pipe::Receiver) -> String {
    let mut text = Vec::new();
    // What was read before an error counts.
    drop(status.take(4096).read_to_end(&mut text).await);
    String::from_utf8_lossy(&text).into_owned()
}

async fn pump(mut from: pipe::Receiver, told: Arc<Told>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        told.print(&buffer[..count]);
    }
}
