//! Writes and proves the packet rules of a sandbox.
