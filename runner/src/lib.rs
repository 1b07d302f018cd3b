//! PID 1 of a task container.
