//! `objects`: the object store of `assay up` alone, until a signal.

use assay_runtime::lifecycle::Signals;

use crate::{
    args::ObjectsArgs,
    error::Error,
    up::objects::{Door, Objects},
};

/// Serves until SIGTERM.
pub(super) async fn serve(args: &ObjectsArgs) -> Result<(), Error> {
    let mut signals =
        Signals::new().map_err(|error| Error::Software(format!("cannot listen to signals: {error}")))?;
    let door = Door {
        address: args.listen,
        access_key: args.access_key.clone(),
        secret_key: args.secret_key.clone(),
    };
    let objects = Objects::start_at(&args.folder, &args.bucket, door).await?;
    tracing::info!(address = %objects.address, folder = %args.folder.display(), "serving");
    signals.next().await;
    objects.stop().await;
    Ok(())
}
