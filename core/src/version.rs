//! Which build this is. The commit is baked in; only a baked `unknown` is looked up at start.

use std::path::Path;

pub mod git;

/// The commit that this program was built from: 40 hexadecimal digits, or `unknown`.
pub const BAKED_COMMIT: &str = env!("ASSAY_COMMIT");

/// The package version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The baked commit; where that is unknown, the one checked out in `source` (`ASSAY_SOURCE_DIR`). Never looks into
/// the current directory: a server started inside of somebody's repository would report that one's commit.
pub fn commit(source: Option<&Path>) -> String {
    if BAKED_COMMIT != "unknown" {
        return BAKED_COMMIT.to_owned();
    }
    source
        .and_then(git::commit)
        .unwrap_or_else(|| BAKED_COMMIT.to_owned())
}
