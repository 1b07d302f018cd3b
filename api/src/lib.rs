//! The API server: queue, store of record, objects.
