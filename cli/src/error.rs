//! Why a command failed, as one sentence with what to do, and the exit code that follows from it.

use assay_runtime::{client, exit};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It ran, and the answer is no. The words were printed already.
    #[error("{0}")]
    Failed(String),
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// The input is wrong.
    #[error("{0}")]
    Data(String),
    /// An input does not exist or cannot be read.
    #[error("{0}")]
    NoInput(String),
    /// A service that is needed does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// Something cannot be written.
    #[error("{0}")]
    CannotWrite(String),
    /// A fault of ours.
    #[error("{0}; this is a fault of Assay")]
    Software(String),
    /// The configuration is wrong or missing.
    #[error("{0}")]
    Config(String),
    /// The API could not be asked, or it refused.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A call of the API that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{}", advice(.0))]
pub struct ApiError(#[from] pub client::Error);

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Api(ApiError(error))
    }
}

impl Error {
    /// The exit code of `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => exit::FAILED,
            Self::Usage(_) => exit::USAGE,
            Self::Data(_) => exit::DATA,
            Self::NoInput(_) => exit::NO_INPUT,
            Self::Unavailable(_) => exit::UNAVAILABLE,
            Self::CannotWrite(_) => CANNOT_CREATE,
            Self::Software(_) => exit::SOFTWARE,
            Self::Config(_) => exit::CONFIG,
            Self::Api(ApiError(error)) => api_code(error),
        }
    }

    /// A file or folder that cannot be read.
    pub fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::NoInput(format!("cannot read {}: {error}", path.display()))
    }

    /// A file or folder that cannot be written.
    pub fn unwritable(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::CannotWrite(format!("cannot write {}: {error}", path.display()))
    }
}

fn api_code(error: &client::Error) -> u8 {
    match error {
        client::Error::Invalid(_) => exit::USAGE,
        client::Error::Connection { .. } | client::Error::Timeout { .. } => exit::UNAVAILABLE,
        client::Error::Answer { .. } => exit::SOFTWARE,
        client::Error::Problem { status, .. } => match status.as_u16() {
            401 | 403 => exit::NO_PERMISSION,
            404 => exit::NO_INPUT,
            429 | 503 => exit::TEMPORARY,
            400..=499 => exit::DATA,
            _ => exit::UNAVAILABLE,
        },
    }
}

fn advice(error: &client::Error) -> String {
    match error {
        client::Error::Invalid(message) => format!("{message}; check --api"),
        client::Error::Connection { url, message } => {
            format!(
                "no connection to {url} ({message}); start it with `assay up`, or check --api and --profile"
            )
        }
        client::Error::Timeout { url, seconds } => {
            format!("{url} did not answer within {seconds} s; look at its log, or try again")
        }
        client::Error::Answer { url, message } => {
            format!("cannot read the answer of {url}: {message}; is it an Assay API of this version?")
        }
        client::Error::Problem { status, problem } => match status.as_u16() {
            401 => format!(
                "{}; check the key, or make one with `assay key create`",
                problem.detail
            ),
            403 => format!("{}; ask for a key with a wider scope", problem.detail),
            500..=599 => match &problem.request_id {
                Some(id) => format!("{}; tell the operator the request {id}", problem.detail),
                None => format!("{} ({status})", problem.detail),
            },
            _ => problem.detail.clone(),
        },
    }
}

const CANNOT_CREATE: u8 = 73;

#[cfg(test)]
mod tests {
    use super::*;
    use assay_core::problem::Problem;

    fn problem(status: u16) -> Error {
        client::Error::Problem {
            status: http::StatusCode::from_u16(status).unwrap(),
            problem: Box::new(Problem::new(status, "some_code", "What happened.")),
        }
        .into()
    }

    #[test]
    fn statuses_lead_to_exit_codes() {
        for (status, code) in [
            (401, 77),
            (403, 77),
            (404, 66),
            (409, 65),
            (422, 65),
            (429, 75),
            (500, 69),
            (503, 75),
        ] {
            assert_eq!(problem(status).exit_code(), code, "{status}");
        }
    }

    #[test]
    fn a_refused_connection_says_how_to_start_the_api() {
        let error = Error::from(client::Error::Connection {
            url: "http://127.0.0.1:8000/version".to_owned(),
            message: "refused".to_owned(),
        });
        assert_eq!(error.exit_code(), 69);
        assert!(error.to_string().contains("assay up"), "{error}");
    }
}
