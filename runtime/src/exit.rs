//! Exit codes of `sysexits.h`, the same in every program.

/// Everything went well.
pub const OK: u8 = 0;
/// It ran, and the answer is no: a check failed, expected and actual differ.
pub const FAILED: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 64;
/// The input was wrong.
pub const DATA: u8 = 65;
/// An input does not exist or cannot be read.
pub const NO_INPUT: u8 = 66;
/// A service that is needed does not answer.
pub const UNAVAILABLE: u8 = 69;
/// A bug of ours.
pub const SOFTWARE: u8 = 70;
/// An error of the operating system.
pub const OS: u8 = 71;
/// Try again later.
pub const TEMPORARY: u8 = 75;
/// Not allowed.
pub const NO_PERMISSION: u8 = 77;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;
