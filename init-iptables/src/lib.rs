//! Writes and proves the packet rules of a sandbox, then exits or holds its network namespace.
//!
//! `ruleset` says what the rules are, `nft` and `legacy` put them in force, `proof` shows that they hold, `run` is the
//! order of these, `hold` stays, `exit` names the ways to fail.

pub mod exit;
pub mod hold;
pub mod install;
pub mod legacy;
pub mod netlink;
pub mod nft;
pub mod proof;
pub mod route;
pub mod ruleset;
pub mod run;
