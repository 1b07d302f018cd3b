//! What an engine's error means to us.

use crate::Error;

/// Sorts an error of the client into ours: did the engine refuse, or is it not up to the task now?
pub(super) fn fault(operation: &'static str, error: &bollard::errors::Error) -> Error {
    let message = error.to_string();
    match status(error) {
        Some(400..=407 | 410..=428 | 430..=499) => Error::Refused { operation, message },
        _ => Error::Unavailable { operation, message },
    }
}

/// The HTTP status that the engine answered with, if it did.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    if let bollard::errors::Error::DockerResponseServerError { status_code, .. } = error {
        Some(*status_code)
    } else {
        None
    }
}

/// The thing that was asked for does not exist.
pub(super) fn is_missing(error: &bollard::errors::Error) -> bool {
    status(error) == Some(404)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16) -> bollard::errors::Error {
        bollard::errors::Error::DockerResponseServerError {
            status_code,
            message: "no".to_owned(),
        }
    }

    #[test]
    fn a_refusal_is_final_and_a_fault_is_not() {
        assert!(!fault("create", &answered(400)).is_transient());
        assert!(!fault("create", &answered(404)).is_transient());
        assert!(fault("create", &answered(409)).is_transient());
        assert!(fault("create", &answered(500)).is_transient());
        assert!(fault("create", &bollard::errors::Error::RequestTimeoutError).is_transient());
    }
}
