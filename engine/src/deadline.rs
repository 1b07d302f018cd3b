//! How long an engine may take.

use std::time::Duration;

use crate::Error;

/// Bounds an operation in time.
pub(crate) async fn within<T>(
    operation: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(Error::Timeout {
            operation,
            seconds: limit.as_secs(),
        }))
}
