//! Every property that the public request types of the model APIs know is either taken by our allow-lists, and then looked
//! at, or refused on purpose and by a stable code.
//!
//! `fields/extract.txt` holds the names of the properties, as the services' own libraries have them; `fields/extract.py`
//! makes a newer one. A property that is new there fails this test until somebody decides about it: in the allow-list, or
//! in [`refused`].

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../src/fixture.rs"]
mod fixture;
#[path = "allowed/paths.rs"]
mod paths;
#[path = "fields/place.rs"]
mod place;
#[path = "fields/refused.rs"]
mod refused;
#[path = "allowed/values.rs"]
mod values;

use std::collections::BTreeSet;

use assay_core::{control::proxy::ProxyAssignment, phase::EgressPhase, upstream::Dialect};
use assay_proxy::{
    model::{json::Json, request::Sent, spec::Api},
    route::Policy,
};

use paths::{Fate, paths};
use place::{Step, place};
use refused::{REFUSED, Refused, TEXT_FOR_THE_MODEL};

#[test]
fn every_public_property_is_looked_at_or_refused_on_purpose() {
    let mut unused: BTreeSet<(&str, &str)> = REFUSED.iter().flat_map(parts).collect();
    let mut faults = Vec::new();
    let assignment = fixture::assignment();
    let policy = Policy::new(&assignment);
    for (api, path) in properties() {
        let placed = place(api.spec().fields, &Step::parse(&path));
        let is_refused = |(_, part): &(&str, &str)| is_part(part, &path);
        let reasons: Vec<_> = REFUSED
            .iter()
            .filter(|refused| refused.apis.contains(&api.name()))
            .flat_map(parts)
            .filter(is_refused)
            .collect();
        let verdict = judge(&assignment, &policy, api, &placed.body);
        let is_good = match verdict {
            Ok(()) => placed.listed && reasons.is_empty(),
            Err(code) => !placed.listed && !reasons.is_empty() && CODES.contains(&code),
        };
        if !is_good {
            let listed = placed.listed;
            faults.push(format!(
                "{} {path}: {verdict:?}, listed: {listed}, {reasons:?}",
                api.name()
            ));
        }
        unused.retain(|part| !reasons.contains(part));
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(unused.is_empty(), "nothing that is known has this: {unused:?}");
}

#[test]
fn what_goes_on_unread_is_text_for_the_model() {
    let mut unread = BTreeSet::new();
    for api in Api::ALL {
        let whole = paths(api.spec().fields)
            .into_iter()
            .filter(|(_, fate)| *fate == Fate::SentWhole);
        unread.extend(whole.map(|(path, _)| (api.name(), path)));
    }
    let listed = TEXT_FOR_THE_MODEL
        .iter()
        .map(|(api, path)| (*api, (*path).to_owned()));
    assert_eq!(unread, listed.collect());
}

/// What a service that speaks the API would be sent, or why it is not.
fn judge(assignment: &ProxyAssignment, policy: &Policy, api: Api, body: &Json) -> Result<(), &'static str> {
    let purse = &assignment.purses[&EgressPhase::Agent];
    let mut upstream = assignment.upstreams[0].clone();
    if api == Api::CountTokens {
        upstream.dialect = Dialect::Anthropic;
    }
    let sent = Sent::read(api, &body.to_bytes()).map_err(|refusal| refusal.code)?;
    let judged = sent.judge(policy, purse, &upstream);
    judged.map(drop).map_err(|refusal| refusal.code)
}

/// The API and the path of each property of the extract; of words that mean the same object, each.
fn properties() -> Vec<(Api, String)> {
    let mut properties = Vec::new();
    for line in include_str!("fields/extract.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (place, keys) = line.split_once(": ").unwrap();
        let (name, parent) = place.split_once(' ').unwrap();
        let api = Api::ALL.into_iter().find(|api| api.name() == name).unwrap();
        let dot = if parent.is_empty() { "" } else { "." };
        for key in keys.split(' ') {
            properties.extend(each_word(&format!("{parent}{dot}{key}")).map(|path| (api, path)));
        }
    }
    properties
}

/// `{type=a|b}` as `{type=a}` and `{type=b}`, for the innermost; of the others the first.
fn each_word(path: &str) -> impl Iterator<Item = String> {
    let mut paths = vec![String::new()];
    for piece in path.split_inclusive('}') {
        let (before, words) = piece.split_once('=').unwrap_or((piece, ""));
        if words.is_empty() {
            for path in &mut paths {
                path.push_str(before);
            }
            continue;
        }
        let with = |word: &str| format!("{}{before}={word}}}", paths[0]);
        paths = words.trim_end_matches('}').split('|').map(with).collect();
    }
    paths.into_iter()
}

/// Is `{type=x}`, `key` or `a[].b` in the path, as whole steps?
fn is_part(part: &str, path: &str) -> bool {
    let plain = part.trim_start_matches('^');
    path.match_indices(plain).any(|(at, _)| {
        let (before, after) = (&path[..at], &path[at + plain.len()..]);
        let begins = before.is_empty() || before.ends_with('.') || plain.starts_with('{');
        let begins = if part == plain { begins } else { before.is_empty() };
        begins && (after.is_empty() || after.starts_with(['.', '[', '{']))
    })
}

/// Each part with its reason.
fn parts(refused: &'static Refused) -> impl Iterator<Item = (&'static str, &'static str)> {
    refused.parts.iter().map(|part| (refused.reason, *part))
}

const CODES: [&str; 4] = [
    "field_not_allowed",
    "field_invalid",
    "tool_not_allowed",
    "url_not_allowed",
];
