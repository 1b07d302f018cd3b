//! The worker that leases runs and drives their attempts.
