//! What a policy says that its author may not have meant: hosts that overlap, wildcards over what belongs to many, fronts
//! that many tenants share, ways round our DNS.
//!
//! An error is refused by the API; a warning is only told. What is a public suffix is asked from outside: the list is
//! large, and the programs of a sandbox have no use for it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{AgentNetwork, EgressRule, HostRule, Mode, Policy, SharedCdn};
use crate::{
    egress::{HostName, HostPattern},
    phase::EgressPhase,
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It can be used.
    Warning,
    /// It is refused.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// How bad it is.
    pub level: Level,
    /// A stable word.
    pub code: &'static str,
    /// The key, e.g. `egress.agent.hosts`.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Everything that speaks against a policy. `is_public_suffix` says of a name whether its labels below belong to
/// different people, as those of `co.uk`.
pub fn lint(policy: &Policy, is_public_suffix: &dyn Fn(&HostName) -> bool) -> Vec<Lint> {
    let mut lints = Vec::new();
    for phase in EgressPhase::ALL {
        let Some(rule) = policy.egress.of(phase) else {
            continue;
        };
        let path = format!("egress.{phase}.hosts");
        for host in &rule.hosts {
            lints.extend(wide(host, &path, is_public_suffix));
            lints.extend(known(host, &path, policy.hosts.get(host)));
        }
        lints.extend(overlaps(rule, &path));
        lints.extend(open(policy, phase, rule));
    }
    lints.extend(differing(policy));
    lints.extend(idle(policy));
    lints
}

/// The first error in words, for who cannot take them all.
pub fn first_error(lints: &[Lint]) -> Option<&Lint> {
    lints.iter().find(|lint| lint.level == Level::Error)
}

fn error(code: &'static str, path: &str, message: String) -> Lint {
    Lint {
        level: Level::Error,
        code,
        path: path.to_owned(),
        message,
    }
}

fn warning(code: &'static str, path: &str, message: String) -> Lint {
    Lint {
        level: Level::Warning,
        ..error(code, path, message)
    }
}

fn suffix(host: &HostPattern) -> &HostName {
    match host {
        HostPattern::Exact(name) | HostPattern::OneLabel(name) | HostPattern::AnyLabels(name) => name,
    }
}

fn wide(host: &HostPattern, path: &str, is_public_suffix: &dyn Fn(&HostName) -> bool) -> Option<Lint> {
    let is_wildcard = !matches!(host, HostPattern::Exact(_));
    (is_wildcard && is_public_suffix(suffix(host))).then(|| {
        let message = format!("{host} covers names of many owners; name the hosts that are meant");
        error("public_suffix_wildcard", path, message)
    })
}

/// Does the pattern reach this name, or names below it?
fn reaches(host: &HostPattern, below: &str) -> bool {
    let name = suffix(host).as_str();
    let is_below =
        |name: &str, of: &str| name == of || name.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    is_below(name, below) || (!matches!(host, HostPattern::Exact(_)) && is_below(below, name))
}

fn known(host: &HostPattern, path: &str, rule: Option<&HostRule>) -> Option<Lint> {
    let one_of = |names: &[&str]| names.iter().any(|name| reaches(host, name));
    if one_of(DOH) {
        let message = format!("{host} answers DNS over HTTPS: names would be looked up past the proxy");
        return Some(error("doh_host", path, message));
    }
    if one_of(ECH_OUTER) {
        let message =
            format!("{host} is the outer name of encrypted hellos: what is meant inside is not to be seen");
        return Some(error("ech_outer_name", path, message));
    }
    let allowed = rule.is_some_and(|rule| rule.shared_cdn == SharedCdn::Allow);
    (one_of(SHARED_FRONTS) && !allowed).then(|| {
        let message = format!(
            "{host} is on a front that many tenants share, and any of them can be reached through it; where that is meant: \
             [hosts.\"{host}\"] shared_cdn = \"allow\""
        );
        error("shared_cdn", path, message)
    })
}

/// Is everything that `narrow` covers covered by `wide` too?
fn covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (wide, HostPattern::Exact(name)) => wide.matches(name),
        (HostPattern::AnyLabels(wide), HostPattern::OneLabel(narrow) | HostPattern::AnyLabels(narrow)) => {
            let (wide, narrow) = (wide.as_str(), narrow.as_str());
            wide == narrow || narrow.strip_suffix(wide).is_some_and(|rest| rest.ends_with('.'))
        }
        (HostPattern::OneLabel(wide), HostPattern::OneLabel(narrow)) => wide == narrow,
        (HostPattern::Exact(_) | HostPattern::OneLabel(_), _) => false,
    }
}

fn overlaps(rule: &EgressRule, path: &str) -> Vec<Lint> {
    let pairs = rule.hosts.iter().flat_map(|wide| {
        let others = rule.hosts.iter().filter(move |other| *other != wide);
        others.map(move |narrow| (wide, narrow))
    });
    pairs
        .filter(|(wide, narrow)| covers(wide, narrow))
        .map(|(wide, narrow)| warning("overlap", path, format!("{narrow} is covered by {wide} already")))
        .collect()
}

fn open(policy: &Policy, phase: EgressPhase, rule: &EgressRule) -> Option<Lint> {
    if phase == EgressPhase::Agent && policy.agent_network == AgentNetwork::Task {
        let message = "is not used: with agent_network = \"task\" the task decides".to_owned();
        return Some(warning("unused", "egress.agent", message));
    }
    (phase == EgressPhase::Agent && rule.mode == Mode::Public).then(|| {
        let message = "lets the agent reach every public name; what it learns there, nobody knows".to_owned();
        warning("public_agent", "egress.agent.mode", message)
    })
}

/// Two patterns that cover one name and say different things of it: the proxy takes the stricter word.
fn differing(policy: &Policy) -> Vec<Lint> {
    let rules: Vec<_> = policy.hosts.iter().collect();
    let mut lints = Vec::new();
    for (at, (one, rule)) in rules.iter().enumerate() {
        for (other, second) in rules.iter().skip(at + 1) {
            if rule.deny_ech != second.deny_ech && (covers(one, other) || covers(other, one)) {
                let message = format!("{one} and {other} overlap and differ in deny_ech; give both the same");
                lints.push(error("differing_overlap", "hosts", message));
            }
        }
    }
    lints
}

/// Words on hosts that no phase reaches.
fn idle(policy: &Policy) -> Vec<Lint> {
    let rules = EgressPhase::ALL
        .into_iter()
        .filter_map(|phase| policy.egress.of(phase));
    let hosts: BTreeSet<&HostPattern> = rules.clone().flat_map(|rule| &rule.hosts).collect();
    let is_public = rules.into_iter().any(|rule| rule.mode == Mode::Public);
    let unused = policy.hosts.keys().filter(|named| {
        !is_public
            && !hosts
                .iter()
                .any(|host| covers(host, named) || covers(named, host))
    });
    unused
        .map(|named| {
            let path = format!("hosts.\"{named}\"");
            warning("unused", &path, format!("no phase lists {named}"))
        })
        .collect()
}

/// Resolvers that answer over HTTPS.
const DOH: &[&str] = &[
    "dns.google",
    "dns64.dns.google",
    "cloudflare-dns.com",
    "one.one.one.one",
    "dns.cloudflare.com",
    "dns.quad9.net",
    "dns9.quad9.net",
    "dns10.quad9.net",
    "dns11.quad9.net",
    "doh.opendns.com",
    "doh.familyshield.opendns.com",
    "dns.adguard-dns.com",
    "dns.adguard.com",
    "dns.nextdns.io",
    "doh.cleanbrowsing.org",
    "doh.dns.sb",
    "doh.libredns.gr",
    "dns.mullvad.net",
    "freedns.controld.com",
    "dns.controld.com",
    "doh.applied-privacy.net",
    "mozilla.cloudflare-dns.com",
    "chrome.cloudflare-dns.com",
    "doh.xfinity.com",
    "dns.alidns.com",
    "doh.pub",
];
/// Names that clients send in clear around an encrypted hello.
const ECH_OUTER: &[&str] = &["cloudflare-ech.com", "encryptedsni.com"];
/// Where each label below is another customer, on addresses that all of them share.
const SHARED_FRONTS: &[&str] = &[
    "akamaihd.net",
    "akamaized.net",
    "amplifyapp.com",
    "appspot.com",
    "azureedge.net",
    "azurefd.net",
    "azurewebsites.net",
    "b-cdn.net",
    "cloudfront.net",
    "cloudfunctions.net",
    "deno.dev",
    "edgekey.net",
    "edgesuite.net",
    "fastly.net",
    "fastlylb.net",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "global.ssl.fastly.net",
    "herokuapp.com",
    "jsdelivr.net",
    "kxcdn.com",
    "netlify.app",
    "onrender.com",
    "pages.dev",
    "r2.dev",
    "raw.githubusercontent.com",
    "run.app",
    "storage.googleapis.com",
    "s3.amazonaws.com",
    "stackpathcdn.com",
    "surge.sh",
    "unpkg.com",
    "vercel.app",
    "web.app",
    "workers.dev",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(Level, &'static str)> {
        let policy = Policy::parse(text).unwrap();
        let lints = lint(&policy, &|name| ["co.uk", "github.io"].contains(&name.as_str()));
        lints.into_iter().map(|lint| (lint.level, lint.code)).collect()
    }

    fn agent(hosts: &str, more: &str) -> Vec<(Level, &'static str)> {
        codes(&format!(
            "[egress.agent]\nmode = \"hosts\"\nhosts = [{hosts}]\n{more}"
        ))
    }

    #[test]
    fn ordinary_hosts_are_fine() {
        assert_eq!(agent(r#""api.example.com", "*.example.org""#, ""), []);
        assert_eq!(codes(""), []);
    }

    #[test]
    fn a_wildcard_over_what_belongs_to_many_is_an_error() {
        assert_eq!(
            agent(r#""**.co.uk""#, ""),
            [(Level::Error, "public_suffix_wildcard")]
        );
        assert_eq!(agent(r#""example.co.uk""#, ""), []);
    }

    #[test]
    fn a3_a_shared_front_is_listed_knowingly_or_not_at_all() {
        for host in [
            "d1.cloudfront.net",
            "*.fastly.net",
            "me.github.io",
            "**.amazonaws.com",
        ] {
            assert_eq!(
                agent(&format!("{host:?}"), ""),
                [(Level::Error, "shared_cdn")],
                "{host}"
            );
        }
        let knowingly = "[hosts.\"d1.cloudfront.net\"]\nshared_cdn = \"allow\"";
        assert_eq!(agent(r#""d1.cloudfront.net""#, knowingly), []);
        assert_eq!(agent(r#""notcloudfront.net.example.com", "xfastly.net""#, ""), []);
    }

    #[test]
    fn a4_outer_names_and_c4_resolvers_over_https_are_errors() {
        assert_eq!(
            agent(r#""cloudflare-ech.com""#, ""),
            [(Level::Error, "ech_outer_name")]
        );
        assert_eq!(agent(r#""dns.google""#, ""), [(Level::Error, "doh_host")]);
        assert_eq!(agent(r#""*.quad9.net""#, ""), [(Level::Error, "doh_host")]);
    }

    #[test]
    fn overlaps_are_told_and_differing_ones_are_errors() {
        assert_eq!(
            agent(r#""a.example.com", "*.example.com""#, ""),
            [(Level::Warning, "overlap")]
        );
        assert_eq!(
            agent(r#""**.example.com", "*.b.example.com""#, ""),
            [(Level::Warning, "overlap")]
        );
        let differing =
            "[hosts.\"**.example.com\"]\ndeny_ech = true\n[hosts.\"a.example.com\"]\ndeny_ech = false";
        assert_eq!(
            agent(r#""**.example.com""#, differing),
            [(Level::Error, "differing_overlap")]
        );
    }

    #[test]
    fn what_is_never_used_or_opens_everything_is_told() {
        let named = "[hosts.\"x.example.org\"]\ndeny_ech = true";
        assert_eq!(agent(r#""a.example.com""#, named), [(Level::Warning, "unused")]);
        assert_eq!(
            codes("[egress.agent]\nmode = \"public\""),
            [(Level::Warning, "public_agent")]
        );
        let task = "agent_network = \"task\"\n[egress.agent]\nmode = \"public\"";
        assert_eq!(codes(task), [(Level::Warning, "unused")]);
    }
}
