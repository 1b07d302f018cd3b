//! Every path that an allow-list names, and what becomes of a value there. Written apart from `Shape::rebuild`, so that the
//! two can be held against each other.

use std::collections::BTreeMap;

use assay_proxy::model::shape::{Field, Presence, Shape};

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Looked at and left out, or only its empty form is taken.
    Kept,
    /// Looked at and sent.
    Sent,
    /// Sent with all that is in it.
    SentWhole,
}

/// The paths below these fields, e.g. `messages[].content[].text`; `.*` is any key of a map.
pub(crate) fn paths(fields: &[Field]) -> BTreeMap<String, Fate> {
    let mut found = BTreeMap::new();
    object(fields, "", true, &mut found);
    found
}

fn object(fields: &[Field], at: &str, sent: bool, found: &mut BTreeMap<String, Fate>) {
    for field in fields {
        let dot = if at.is_empty() { "" } else { "." };
        let sent = sent && field.presence != Presence::Dropped;
        below(&field.shape, &format!("{at}{dot}{}", field.key), sent, found);
    }
}

fn below(shape: &Shape, at: &str, sent: bool, found: &mut BTreeMap<String, Fate>) {
    let fate = match (sent, shape) {
        (false, _) | (true, Shape::Empty | Shape::Nothing | Shape::Off | Shape::Fetched) => Fate::Kept,
        (true, Shape::Any) => Fate::SentWhole,
        (true, _) => Fate::Sent,
    };
    let known = found.entry(at.to_owned()).or_insert(fate);
    *known = fate.max(*known);
    match shape {
        Shape::Object(fields) => object(fields, at, sent, found),
        Shape::Tagged(_, variants) => variants
            .iter()
            .for_each(|(_, fields)| object(fields, at, sent, found)),
        Shape::List(shape, _) => below(shape, &format!("{at}[]"), sent, found),
        Shape::Map(shape, _) => below(shape, &format!("{at}.*"), sent, found),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| below(shape, at, sent, found)),
        Shape::Bool
        | Shape::Whole(..)
        | Shape::Number(..)
        | Shape::Text(_)
        | Shape::OneOf(_)
        | Shape::DataUrl
        | Shape::ImageFile(_)
        | Shape::Fetched
        | Shape::Any
        | Shape::Empty
        | Shape::Nothing
        | Shape::Off => {}
    }
}
