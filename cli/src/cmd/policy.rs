//! `policy check`: what a policy file comes to, and what speaks against it.

use assay_core::{
    agent::Contract,
    policy::{
        Policy,
        lint::{self, Level, Lint},
    },
};
use serde::Serialize;

use super::Context;
use crate::{args::PolicyCheckArgs, error::Error, policy};

#[derive(Debug, Serialize)]
struct Checked<'a> {
    digest: assay_core::digest::Digest,
    policy: &'a Policy,
    lints: &'a [Lint],
}

/// Prints the policy with every default, and the lints. One that the API would refuse is a failure.
pub(super) fn check(context: &Context, args: &PolicyCheckArgs) -> Result<(), Error> {
    let unreadable = |error: std::io::Error| Error::unreadable(&args.file, &error);
    let text = std::fs::read_to_string(&args.file).map_err(unreadable)?;
    let read = Policy::parse(&text);
    let read = read.map_err(|error| Error::Data(format!("{}: {error}", args.file.display())))?;
    let lints = lint::lint(&read, &assay_api::suffix::is_public);
    if context.screen.json {
        context.screen.document(&Checked {
            digest: read.digest(),
            policy: &read,
            lints: &lints,
        })?;
    } else {
        context
            .screen
            .line(policy::describe(&read, Contract::Command, 1))?;
        for lint in &lints {
            let level = match lint.level {
                Level::Warning => "warning",
                Level::Error => "error",
            };
            let line = format!("{level}: {}: {} ({})", lint.path, lint.message, lint.code);
            context.screen.line(line)?;
        }
    }
    match lints.iter().filter(|lint| lint.level == Level::Error).count() {
        0 => Ok(()),
        errors => Err(Error::Failed(format!(
            "{}: {errors} of {} findings are errors; the API refuses such a policy",
            args.file.display(),
            lints.len()
        ))),
    }
}
