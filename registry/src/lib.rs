//! Images in registries (OCI distribution): asked for, fetched, checked, pushed.
//!
//! Every question has three answers: it is there, it is not there ([`Error::NotThere`]), or nobody knows, because the
//! registry is away or refuses us. What is not known is never taken for missing: that would build everything again.

mod check;
mod client;
mod error;
mod exchange;
mod layout;
mod login;
mod reference;
mod shelf;
mod transfer;

use std::collections::BTreeMap;

pub use self::{
    check::{Caps, Checked, Fault, check},
    client::{Client, Repository, own_platform},
    error::Error,
    exchange::{Answer, Http},
    layout::{Descriptor, INDEX, Image, ImageConfig, Layout, Manifest, Platform, Step, architecture},
    login::{Unreadable, logins},
    reference::Reference,
    shelf::Shelf,
};

/// Where images are looked up, and as whom.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// From a registry's host (`docker.io`) to the base URL that is asked in its place, as nodes do.
    pub mirrors: BTreeMap<String, String>,
    /// From a registry's host to user and password.
    pub credentials: BTreeMap<String, (String, assay_core::upstream::Secret)>,
}
