//! `up` and `down`: everything on this machine in one process.

pub mod detach;
pub mod engine;
pub mod objects;
pub mod parts;
pub mod postgres;
pub mod sandbox;
pub mod screener;
pub mod state;

use std::time::Duration;

use assay_runtime::lifecycle::Signals;

use self::{
    parts::Parts,
    state::{Lock, Running},
};
use crate::{
    args::{DownArgs, UpArgs},
    cmd::Context,
    error::Error,
};

/// Starts everything, then stays until a signal; with `--detach` leaves it behind.
///
/// # Errors
/// A part is missing or does not start; each says what to do.
pub async fn up(context: &Context, args: UpArgs) -> Result<(), Error> {
    let folder = context.places.installation(&context.global.profile);
    if args.detach {
        return detach::start(context, &folder).await;
    }
    if args.detached {
        // A session of its own: closing the terminal does not end it. It fails only where we lead a group already.
        nix::unistd::setsid()
            .map_err(|error| Error::Software(format!("cannot leave the terminal: {error}")))?;
    }
    state::make_folder(&folder)?;
    let lock = Lock::take(&folder)?;
    let signals = Signals::new();
    let mut signals =
        signals.map_err(|error| Error::Software(format!("cannot listen to signals: {error}")))?;
    let (mut parts, running) = Parts::start(context, &args, &folder).await?;
    running.store(&folder)?;
    announce(context, &running)?;
    let ended = parts.watch(&mut signals).await;
    Running::remove(&folder);
    context
        .screen
        .note("stopping; a second signal does not wait for it");
    tokio::select! {
        () = parts.stop() => {}
        _ = signals.next() => tracing::warn!("did not wait for everything to end"),
    }
    drop(lock);
    ended
}

/// Ends what `up --detach` started; with `--purge` removes what it kept.
///
/// # Errors
/// It does not end, or its data cannot be removed.
pub async fn down(context: &Context, args: &DownArgs) -> Result<(), Error> {
    let folder = context.places.installation(&context.global.profile);
    let running = Running::load(&folder)?;
    let was_running = detach::stop(&folder, running.as_ref()).await?;
    if args.purge {
        purge(context, &folder).await?;
    }
    if context.screen.json {
        return context
            .screen
            .document(&serde_json::json!({ "was_running": was_running, "purged": args.purge }));
    }
    let first = if was_running {
        "stopped"
    } else {
        "it was not running"
    };
    let data = if args.purge {
        "its data is removed".to_owned()
    } else {
        format!("its data stays in {}", folder.display())
    };
    context.screen.line(format!("{first}; {data}"))
}

async fn purge(context: &Context, folder: &std::path::Path) -> Result<(), Error> {
    let profile = context.places.profile(&context.global.profile);
    if let Some(installation) = state::Installation::load(folder)? {
        parts::remove_sandboxes(&installation).await?;
    }
    for (path, removed) in [
        (folder, std::fs::remove_dir_all(folder)),
        (profile.as_path(), std::fs::remove_file(&profile)),
    ] {
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::unwritable(path, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn announce(context: &Context, running: &Running) -> Result<(), Error> {
    if context.screen.json {
        return context.screen.document(running);
    }
    let parts = &running.parts;
    context.screen.line(format!(
        "ready: API at {}\n  database  {}\n  objects   {}\n  screener  {}\n  profile   {}\nnext: assay task init hello && assay run hello --agent oracle",
        running.api, parts.database, parts.objects, parts.screener, parts.profile
    ))
}

/// Longest wait for the installation to become ready or to end.
const PATIENCE: Duration = Duration::from_secs(90);
