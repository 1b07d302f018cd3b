//! `key create` and `login`.

use std::io::{BufRead as _, IsTerminal as _};

use assay_core::wire::people::{NewKey, Scope};

use super::Context;
use crate::{
    api::Api,
    args::{KeyCreateArgs, KeyRevokeArgs, LoginArgs, ScopeName},
    error::Error,
    profile::Profile,
};

/// Makes a key.
pub(super) async fn create(context: &Context, args: &KeyCreateArgs) -> Result<(), Error> {
    let scope = match args.scope {
        ScopeName::Validator => Scope::Validator,
        ScopeName::Viewer => Scope::Viewer,
        ScopeName::Admin => Scope::Admin,
        ScopeName::Worker => Scope::Worker,
    };
    let new = NewKey {
        name: args.name.clone(),
        scope,
        worker_class: args.worker_class.clone(),
    };
    let key = context.api()?.create_key(&new).await?;
    if context.screen.json {
        return context.screen.document(&key);
    }
    context.screen.note(format!(
        "key {:?} with scope {}; this is the only time that its secret is shown",
        key.name,
        key.scope.name()
    ));
    context.screen.line(&key.secret)
}

/// Revokes keys by name.
pub(super) async fn revoke(context: &Context, args: &KeyRevokeArgs) -> Result<(), Error> {
    let revoked = context.api()?.revoke_key(&args.name).await?;
    if context.screen.json {
        return context.screen.document(&revoked);
    }
    context.screen.line(format!(
        "{} keys of the name {:?} open nothing any more; {} leases go to other workers",
        revoked.keys, args.name, revoked.leases
    ))
}

/// Stores a profile. The key comes from standard input or `--key`, so that it stays out of shell histories.
pub(super) async fn login(context: &Context, args: &LoginArgs) -> Result<(), Error> {
    let key = match &context.global.key {
        Some(key) => key.clone(),
        None => read_key(context)?,
    };
    let profile = Profile::new(&args.url, &key)?;
    let api = Api::new(profile.clone());
    let version = api.version().await?;
    // Any call that needs the key shows whether it opens this API.
    api.evaluations(1).await?;
    let path = context.places.profile(&context.global.profile);
    profile.store(&path)?;
    if context.screen.json {
        return context
            .screen
            .document(&serde_json::json!({ "profile": path, "version": version }));
    }
    context.screen.line(format!(
        "logged in to {} (version {}, commit {}); profile {} is in {}",
        api.address(),
        version.version,
        version.commit,
        context.global.profile,
        path.display()
    ))
}

fn read_key(context: &Context) -> Result<String, Error> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        context.screen.note("paste the key and press enter:");
    }
    let mut key = String::new();
    stdin
        .lock()
        .read_line(&mut key)
        .map_err(|error| Error::NoInput(format!("cannot read the key from standard input: {error}")))?;
    match key.trim() {
        "" => Err(Error::Usage(
            "no key on standard input; give it there or by --key".to_owned(),
        )),
        key => Ok(key.to_owned()),
    }
}
