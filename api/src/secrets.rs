//! Secret values of an evaluation: checked at submit, kept sealed, opened for the worker that leases one of its runs.

use std::collections::BTreeMap;

use assay_core::{id::EvaluationId, secret::SecretValue, wire::people::NewEvaluation};

use crate::{app::App, refusal::Refusal};

/// Checks the secret values of a submission and seals them; nothing where there are none.
///
/// # Errors
/// A value, header or host that cannot be used, or a name that is given twice. No answer repeats a value.
pub fn sealed(app: &App, id: EvaluationId, new: &NewEvaluation) -> Result<Option<Vec<u8>>, Refusal> {
    if new.secrets.is_empty() {
        return Ok(None);
    }
    if new.secrets.len() > MOST {
        return Err(Refusal::invalid(format!("secrets: at most {MOST} may be given")));
    }
    let models = app.catalogue.serving(&new.policy);
    for (name, secret) in &new.secrets {
        let invalid = |why: &dyn std::fmt::Display| Refusal::invalid(format!("secrets.{name}: {why}"));
        secret.check().map_err(|error| invalid(&error))?;
        if new.values.contains_key(name) {
            return Err(invalid(&"the same name is given in `values`"));
        }
        if models.iter().any(|upstream| upstream.host == secret.host) {
            return Err(invalid(
                &"this host is a model service, which the proxy has a credential for",
            ));
        }
    }
    let plain = serde_json::to_vec(&new.secrets).map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(Some(app.seal.seal(id.0, &plain)?))
}

/// What [`sealed`] has sealed.
///
/// # Errors
/// Another seal key, or damage.
pub fn open(app: &App, id: EvaluationId, sealed: &[u8]) -> Result<BTreeMap<String, SecretValue>, Refusal> {
    let plain = app.seal.open(id.0, sealed)?;
    serde_json::from_slice(&plain).map_err(|_| crate::seal::Error::Broken(id.0).into())
}

/// Secret values of one evaluation.
const MOST: usize = 32;
