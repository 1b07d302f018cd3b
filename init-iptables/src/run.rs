//! The order of things: rules, proof, read-back, report; and the choice between the two packet filters.

use std::{fs, path::Path, time::Instant};

use assay_core::control::init::{Backend, InitConfig, InitReport};

use crate::{
    exit::Failure,
    legacy, nft,
    proof::{self, Token},
    ruleset::{Ruleset, plan},
};

/// Which packet filter holds the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Nft,
    Legacy,
}

/// Reads the configuration file.
pub fn read_config(path: &Path) -> Result<InitConfig, Failure> {
    let name = || path.display().to_string();
    let text = fs::read(path).map_err(|source| Failure::Unreadable { path: name(), source })?;
    serde_json::from_slice(&text).map_err(|source| Failure::Config { path: name(), source })
}

/// Writes the rules and proves them.
pub fn establish(backend: Backend) -> Result<InitReport, Failure> {
    let started = Instant::now();
    let ruleset = plan();
    let filter = load(&ruleset, backend)?;
    finish(started, &ruleset, filter)
}

/// Proves the rules that are there, changing none. The proxy's ports must be free.
pub fn check(expected: Option<&str>) -> Result<InitReport, Failure> {
    let started = Instant::now();
    let ruleset = plan();
    let filter = present()?;
    matches_expected(&read_back(&ruleset, filter)?, expected)?;
    finish(started, &ruleset, filter)
}

/// Compares the rules that are there with the plan and gives their digest; for a sandbox whose proxy is running.
pub fn check_rules(expected: Option<&str>) -> Result<String, Failure> {
    let digest = read_back(&plan(), present()?)?;
    matches_expected(&digest, expected)?;
    Ok(digest)
}

fn present() -> Result<Filter, Failure> {
    let nft = match nft::is_loaded() {
        Ok(loaded) => loaded,
        Err(nft::Error::Missing(_)) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(if nft || nft::probe().is_ok() {
        Filter::Nft
    } else {
        Filter::Legacy
    })
}

fn matches_expected(found: &str, expected: Option<&str>) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != found => Err(Failure::OtherDigest {
            expected: expected.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn load(ruleset: &Ruleset, backend: Backend) -> Result<Filter, Failure> {
    let by_nft = || {
        nft::probe()?;
        nft::refuse_foreign()?;
        nft::load(ruleset)
    };
    match backend {
        Backend::Nft => by_nft().map(|()| Filter::Nft).map_err(Failure::from),
        Backend::IptablesLegacy => legacy::load(ruleset)
            .map(|()| Filter::Legacy)
            .map_err(Failure::from),
        Backend::Auto => match by_nft() {
            Ok(()) => Ok(Filter::Nft),
            Err(nft @ nft::Error::Missing(_)) => legacy::load(ruleset)
                .map(|()| Filter::Legacy)
                .map_err(|legacy| Failure::NoFilter { nft, legacy }),
            Err(error) => Err(error.into()),
        },
    }
}

fn finish(started: Instant, ruleset: &Ruleset, filter: Filter) -> Result<InitReport, Failure> {
    let mut token = Token::default();
    getrandom::fill(&mut token).map_err(|error| proof::Error::System {
        what: "random bytes",
        source: std::io::Error::other(error.to_string()),
    })?;
    let families = proof::prove(&token)?;
    let digest = read_back(ruleset, filter)?;
    Ok(InitReport {
        backend: match filter {
            Filter::Nft => "nft".to_owned(),
            Filter::Legacy => "iptables_legacy".to_owned(),
        },
        ipv4: families.ipv4,
        ipv6: families.ipv6,
        ruleset: digest,
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn read_back(ruleset: &Ruleset, filter: Filter) -> Result<String, Failure> {
    Ok(match filter {
        Filter::Nft => nft::read_back(ruleset)?.to_string(),
        Filter::Legacy => legacy::read_back(ruleset)?.to_string(),
    })
}
