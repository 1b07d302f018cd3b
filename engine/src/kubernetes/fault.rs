//! What an error of the cluster means to us.

use kube::Error as ClientError;

use super::room;
use crate::Error;

/// Sorts an error of the client into ours: did the cluster refuse, or is it not up to the task now?
pub(super) fn fault(operation: &'static str, error: &ClientError) -> Error {
    let message = sentence(error);
    match code(error) {
        // Quota: there is room again when something else has ended, unless it is too small even alone.
        Some(403) if message.contains("exceeded quota") && !room::never_fits(&message) => {
            Error::NoRoom(message)
        }
        Some(401) => Error::Refused {
            operation,
            message: format!(
                "the API server does not know us ({message}): the kubeconfig's certificate or token has expired, or is of \
                 another cluster"
            ),
        },
        Some(400..=407 | 410..=428 | 430..=499) => Error::Refused { operation, message },
        _ => Error::Unavailable { operation, message },
    }
}

/// The status code that the cluster answered with, if it did.
pub(super) fn code(error: &ClientError) -> Option<u16> {
    if let ClientError::Api(status) = error {
        Some(status.code)
    } else {
        None
    }
}

/// The thing that was asked for does not exist.
pub(super) fn is_missing(error: &ClientError) -> bool {
    code(error) == Some(404)
}

/// Something of that name exists, and it is not the one that was meant.
pub(super) fn is_another(error: &ClientError) -> bool {
    code(error) == Some(409)
}

/// Something of that name exists already.
pub(super) fn is_taken(error: &ClientError) -> bool {
    if let ClientError::Api(status) = error {
        status.reason == "AlreadyExists"
    } else {
        false
    }
}

fn sentence(error: &ClientError) -> String {
    if let ClientError::Api(status) = error {
        return status.message.clone();
    }
    // The outer words of the client say little; the cause is inside.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, reason: &str, message: &str) -> ClientError {
        ClientError::Api(Box::new(Status::failure(message, reason).with_code(code)))
    }

    #[test]
    fn a_refusal_is_final_and_a_fault_is_not() {
        assert!(!fault("create", &answered(403, "Forbidden", "no")).is_transient());
        assert!(!fault("create", &answered(422, "Invalid", "no")).is_transient());
        let unknown = fault("create", &answered(401, "Unauthorized", "Unauthorized"));
        assert!(unknown.to_string().contains("expired") && !unknown.is_transient());
        assert!(fault("create", &answered(429, "TooManyRequests", "later")).is_transient());
        assert!(fault("create", &answered(500, "InternalError", "etcd")).is_transient());
        let quota = answered(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q");
        assert!(matches!(fault("create", &quota), Error::NoRoom(_)));
        assert!(is_taken(&answered(409, "AlreadyExists", "there")));
        assert!(!is_taken(&answered(409, "Conflict", "changed")));
    }
}
