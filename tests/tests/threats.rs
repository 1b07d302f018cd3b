//! The threat list, row by row: each attack succeeds without the walls and fails behind them.
//!
//! The rows are those of docs/SECURITY.md; `a1_…` is row A1. What an attack reached is judged by the record of the other
//! side (connections, DNS questions, packets), the attacks themselves are in `threats/attacks`, in Python.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "threats/a_destination.rs"]
mod a_destination;
#[path = "threats/b_packets.rs"]
mod b_packets;
#[path = "threats/b_redirect.rs"]
mod b_redirect;
#[path = "threats/c_names.rs"]
mod c_names;
#[path = "threats/d_http.rs"]
mod d_http;
#[path = "threats/e_json.rs"]
mod e_json;
#[path = "threats/f_models.rs"]
mod f_models;
#[path = "threats/g_words.rs"]
mod g_words;
#[path = "threats/h_money.rs"]
mod h_money;
#[path = "threats/i_secrets.rs"]
mod i_secrets;
#[path = "threats/j_disk.rs"]
mod j_disk;
#[path = "threats/j_operations.rs"]
mod j_operations;
#[path = "threats/scene.rs"]
mod scene;
#[path = "threats/selftest.rs"]
mod selftest;
#[path = "threats/table.rs"]
mod table;
