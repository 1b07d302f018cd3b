//! The assay command.
