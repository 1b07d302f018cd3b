//! The smallest request that has a value at a path, whether the allow-list knows the path or not.

use assay_proxy::model::{
    json::Json,
    shape::{Field, Shape},
};

use crate::values;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into the member of an object.
    Key(String),
    /// Into an array.
    Item,
    /// Into the map, at any key.
    Entry,
    /// This object is the one that a word tells apart.
    Word(String, String),
}

/// A request with a value at a path.
pub(crate) struct Placed {
    /// Its body.
    pub(crate) body: Json,
    /// Does the allow-list know the path, and take values there?
    pub(crate) listed: bool,
}

impl Step {
    /// Reads e.g. `tools[]{type=function}.function.name`.
    pub(crate) fn parse(path: &str) -> Vec<Self> {
        let mut steps = Vec::new();
        for part in path.split('.') {
            let (key, word) = part.split_once('{').unwrap_or((part, ""));
            let plain = key.trim_end_matches("[]");
            steps.push(if plain == "*" {
                Self::Entry
            } else {
                Self::Key(plain.to_owned())
            });
            steps.extend((0..(key.len() - plain.len()) / 2).map(|_| Self::Item));
            if let Some((tag, word)) = word.trim_end_matches('}').split_once('=') {
                steps.push(Self::Word(tag.to_owned(), word.to_owned()));
            }
        }
        steps
    }
}

/// The smallest request with a value there.
pub(crate) fn place(fields: &'static [Field], steps: &[Step]) -> Placed {
    let mut listed = true;
    let mut body = object(fields, steps, &mut listed);
    if let Json::Object(members) = &mut body {
        members.retain(|(key, _)| key != "model");
        members.push(("model".to_owned(), "test/small".into()));
    }
    Placed { body, listed }
}

fn object(fields: &[Field], steps: &[Step], listed: &mut bool) -> Json {
    let Json::Object(mut members) = values::object(fields, &mut |_| 0) else {
        return Json::Null;
    };
    let mut set = |key: &str, value: Json| {
        members.retain(|(name, _)| name != key);
        members.push((key.to_owned(), value));
    };
    // What must be fetched is never taken.
    *listed &= !fields.iter().any(|field| matches!(field.shape, Shape::Fetched));
    let (word, steps) = after_word(steps);
    if let Some((tag, word)) = word {
        *listed &= fields
            .iter()
            .any(|field| field.key == tag && takes_word(&field.shape, word));
        set(tag, word.into());
    }
    if let [Step::Key(key), rest @ ..] = steps
        && word.is_none_or(|(tag, _)| tag != key)
    {
        match fields.iter().find(|field| field.key == key) {
            Some(field) => set(key, below(&field.shape, rest, listed)),
            None => set(key, unlisted(rest, listed)),
        }
    }
    Json::Object(members)
}

fn below(shape: &Shape, steps: &[Step], listed: &mut bool) -> Json {
    match (shape, steps) {
        (Shape::Either(shapes), _) => match shapes.iter().find(|shape| enters(shape, steps.first())) {
            Some(shape) => below(shape, steps, listed),
            None => unlisted(steps, listed),
        },
        // Only their empty form is taken.
        (Shape::Off | Shape::Nothing | Shape::Empty | Shape::Fetched, _) => match steps {
            [] if matches!(shape, Shape::Off) => {
                *listed = false;
                Json::Bool(true)
            }
            _ => unlisted(steps, listed),
        },
        (Shape::Any, _) => unlisted(steps, &mut false),
        (_, []) => values::value(shape, &mut |_| 0),
        (Shape::List(shape, _), [Step::Item, rest @ ..]) => Json::List(vec![below(shape, rest, listed)]),
        (Shape::Map(shape, _), [Step::Entry, rest @ ..]) => {
            Json::Object(vec![("x".to_owned(), below(shape, rest, listed))])
        }
        (Shape::Object(fields), _) => object(fields, steps, listed),
        (Shape::Tagged(tag, variants), _) => {
            let (word, rest) = after_word(steps);
            let wanted = word.filter(|(told, _)| told == tag).map_or("", |(_, word)| word);
            let variant = variants.iter().find(|(word, _)| *word == wanted);
            match variant {
                Some((_, fields)) if wanted.is_empty() => object(fields, steps, listed),
                Some((_, fields)) if rest == [Step::Key((*tag).to_owned())] => {
                    tagged(tag, wanted, object(fields, &[], listed))
                }
                Some((_, fields)) => tagged(tag, wanted, object(fields, rest, listed)),
                None => unlisted(steps, listed),
            }
        }
        _ => unlisted(steps, listed),
    }
}

fn tagged(tag: &str, word: &str, object: Json) -> Json {
    let Json::Object(mut members) = object else {
        return object;
    };
    members.retain(|(key, _)| key != tag);
    members.push((tag.to_owned(), word.into()));
    Json::Object(members)
}

/// A value at a path that no shape names.
fn unlisted(steps: &[Step], listed: &mut bool) -> Json {
    *listed = false;
    match steps {
        [] => "x".into(),
        [Step::Key(key), rest @ ..] => Json::Object(vec![(key.clone(), unlisted(rest, listed))]),
        [Step::Entry, rest @ ..] => Json::Object(vec![("x".to_owned(), unlisted(rest, listed))]),
        [Step::Item, rest @ ..] => Json::List(vec![unlisted(rest, listed)]),
        [Step::Word(tag, word), Step::Key(key), ..] if tag == key => {
            tagged(tag, word, Json::Object(Vec::new()))
        }
        [Step::Word(tag, word), rest @ ..] => tagged(tag, word, unlisted(rest, listed)),
    }
}

fn after_word(steps: &[Step]) -> (Option<(&str, &str)>, &[Step]) {
    match steps {
        [Step::Word(tag, word), rest @ ..] => (Some((tag, word)), rest),
        _ => (None, steps),
    }
}

/// Can a value of this shape be entered by this step?
fn enters(shape: &Shape, step: Option<&Step>) -> bool {
    match step {
        None => true,
        Some(Step::Item) => matches!(shape, Shape::List(..) | Shape::Any),
        Some(Step::Entry) => matches!(shape, Shape::Map(..) | Shape::Any),
        Some(Step::Key(_) | Step::Word(..)) => {
            matches!(shape, Shape::Object(_) | Shape::Tagged(..) | Shape::Any)
        }
    }
}

fn takes_word(shape: &Shape, word: &str) -> bool {
    matches!(shape, Shape::Text(_)) || matches!(shape, Shape::OneOf(words) if words.contains(&word))
}
