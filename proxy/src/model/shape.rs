//! Shapes of JSON, as data: what a request may look like. A shape both checks a value and rebuilds it; what no shape
//! names is refused, so that a field that a provider invents tomorrow is not forwarded today.

use super::{
    images::{self, Images},
    json::Json,
};

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number between these, both included.
    Whole(i64, i64),
    /// A number between these, both included.
    Number(f64, f64),
    /// A string of at most so many bytes.
    Text(usize),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// An image as a `data:` URL; anything that a provider would fetch is refused.
    DataUrl,
    /// The file of an image, as base64 of at most so many bytes.
    ImageFile(usize),
    /// A URL that a provider would fetch: refused by the name that says why.
    Fetched,
    /// At most so many values of one shape.
    List(&'static Self, usize),
    /// An object with free keys, at most so many, and values of one shape.
    Map(&'static Self, usize),
    /// An object with these fields.
    Object(&'static [Field]),
    /// An object whose fields depend on the word in the field named first; the empty word stands for its absence.
    Tagged(&'static str, &'static [(&'static str, &'static [Field])]),
    /// The first of these that fits by its JSON type.
    Either(&'static [Self]),
    /// Any JSON, e.g. a JSON schema. It must not mean anything to the provider but text for the model.
    Any,
    /// An array without elements.
    Empty,
    /// `null` only: known to software libraries, never of use.
    Nothing,
    /// `false` only: a thing that would be refused if it were wanted.
    Off,
}

/// A field of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its key.
    pub key: &'static str,
    /// What it may be. `null` counts as absent unless the shape is inside of [`Presence::Nullable`].
    pub shape: Shape,
    /// Whether it must be there, and whether it goes on.
    pub presence: Presence,
}

/// Whether a field must be there, and whether it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Must be there.
    Required,
    /// May be absent.
    Optional,
    /// May be absent; `null` has a meaning and goes on.
    Nullable,
    /// Checked, then left out: the proxy has its own word on it, or it has no effect.
    Dropped,
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where it stands, e.g. `messages[2].content`.
    pub path: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No shape names it.
    Unknown,
    /// It must be there.
    Missing,
    /// Not of its type or out of its range.
    Wrong(&'static str),
    /// A URL that the provider would fetch.
    FetchedUrl,
    /// A word that is not on the list: a tool type, a role, a kind of content.
    NotListed,
}

impl Fault {
    fn here(self) -> Misfit {
        Misfit {
            path: String::new(),
            fault: self,
        }
    }
}

impl Misfit {
    fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

impl Shape {
    /// Checks `value`, rebuilds it, and counts the images that stand in it.
    pub fn rebuild(&self, value: Json, images: &mut Images) -> Result<Json, Misfit> {
        match (self, value) {
            (Self::Any, value)
            | (Self::Bool, value @ Json::Bool(_))
            | (Self::Off, value @ Json::Bool(false))
            | (Self::Nothing, value @ Json::Null) => Ok(value),
            (Self::Whole(least, most), Json::Number(number)) => match number.as_i64() {
                Some(whole) if (*least..=*most).contains(&whole) => Ok(Json::Number(number)),
                _ => Err(Fault::Wrong("a whole number in its range").here()),
            },
            (Self::Number(least, most), Json::Number(number)) => match number.as_f64() {
                Some(value) if (*least..=*most).contains(&value) => Ok(Json::Number(number)),
                _ => Err(Fault::Wrong("a number in its range").here()),
            },
            (Self::Text(most), Json::Text(text)) if text.len() <= *most => Ok(Json::Text(text)),
            (Self::OneOf(words), Json::Text(text)) => {
                if words.contains(&text.as_str()) {
                    Ok(Json::Text(text))
                } else {
                    Err(Fault::NotListed.here())
                }
            }
            (Self::Off, Json::Bool(true)) => Err(Fault::Unknown.here()),
            (Self::DataUrl, Json::Text(text)) => match images::file_of(&text) {
                Some(file) => {
                    images.add(file);
                    Ok(Json::Text(text))
                }
                None => Err(Fault::FetchedUrl.here()),
            },
            (Self::ImageFile(most), Json::Text(text)) if text.len() <= *most => {
                images.add(&text);
                Ok(Json::Text(text))
            }
            (Self::Fetched, Json::Text(_)) => Err(Fault::FetchedUrl.here()),
            (Self::Empty, Json::List(items)) if items.is_empty() => Ok(Json::List(items)),
            (Self::List(shape, most), Json::List(items)) if items.len() <= *most => {
                rebuild_list(shape, items, images)
            }
            (Self::Map(shape, most), Json::Object(members)) if members.len() <= *most => {
                rebuild_map(shape, members, images)
            }
            (Self::Object(fields), Json::Object(members)) => rebuild_object(fields, members, images),
            (Self::Tagged(tag, variants), value @ Json::Object(_)) => {
                rebuild_tagged(tag, variants, value, images)
            }
            (Self::Either(shapes), value) => match shapes.iter().find(|shape| shape.takes(&value)) {
                Some(shape) => shape.rebuild(value, images),
                None => Err(Fault::Wrong("another type").here()),
            },
            (shape, _) => Err(Fault::Wrong(shape.name()).here()),
        }
    }

    /// Does the value have this shape's JSON type?
    fn takes(&self, value: &Json) -> bool {
        match value {
            Json::Null => matches!(self, Self::Nothing | Self::Any),
            Json::Bool(_) => matches!(self, Self::Bool | Self::Off | Self::Any),
            Json::Number(_) => matches!(self, Self::Whole(..) | Self::Number(..) | Self::Any),
            Json::Text(_) => matches!(
                self,
                Self::Text(_)
                    | Self::OneOf(_)
                    | Self::DataUrl
                    | Self::ImageFile(_)
                    | Self::Fetched
                    | Self::Any
            ),
            Json::List(_) => matches!(self, Self::List(..) | Self::Empty | Self::Any),
            Json::Object(_) => {
                matches!(
                    self,
                    Self::Map(..) | Self::Object(_) | Self::Tagged(..) | Self::Any
                )
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Whole(..) => "a whole number",
            Self::Number(..) => "a number",
            Self::Text(_) | Self::ImageFile(_) => "a string, and not too long",
            Self::OneOf(_) => "a listed word",
            Self::DataUrl | Self::Fetched => "a data: URL",
            Self::List(..) => "an array, and not too long",
            Self::Map(..) | Self::Object(_) | Self::Tagged(..) => "an object",
            Self::Either(_) | Self::Any => "another type",
            Self::Empty => "an empty array",
            Self::Nothing => "null",
            Self::Off => "false",
        }
    }
}

fn rebuild_list(shape: &Shape, items: Vec<Json>, images: &mut Images) -> Result<Json, Misfit> {
    let items = items.into_iter().enumerate().map(|(at, item)| {
        shape
            .rebuild(item, images)
            .map_err(|misfit| misfit.below(&format!("[{at}]")))
    });
    Ok(Json::List(items.collect::<Result<_, _>>()?))
}

fn rebuild_map(shape: &Shape, members: Vec<(String, Json)>, images: &mut Images) -> Result<Json, Misfit> {
    let members = members.into_iter().map(|(key, value)| {
        let value = shape.rebuild(value, images).map_err(|misfit| misfit.below("*"))?;
        Ok((key, value))
    });
    Ok(Json::Object(members.collect::<Result<_, Misfit>>()?))
}

/// Checks an object's fields, rebuilds it in its own order, and counts the images that go on.
pub fn rebuild_object(
    fields: &[Field],
    members: Vec<(String, Json)>,
    images: &mut Images,
) -> Result<Json, Misfit> {
    let missing = fields.iter().find(|field| {
        field.presence == Presence::Required && !members.iter().any(|(key, _)| key == field.key)
    });
    if let Some(field) = missing {
        return Err(Fault::Missing.here().below(field.key));
    }
    let mut rebuilt = Vec::with_capacity(members.len());
    for (key, value) in members {
        let Some(field) = fields.iter().find(|field| field.key == key) else {
            let shown: String = key.chars().take(64).collect();
            return Err(Fault::Unknown.here().below(&shown));
        };
        if value == Json::Null && field.presence != Presence::Required {
            if field.presence == Presence::Nullable {
                rebuilt.push((key, value));
            }
            continue;
        }
        let mut within = *images;
        let value = field
            .shape
            .rebuild(value, &mut within)
            .map_err(|misfit| misfit.below(&key))?;
        if field.presence != Presence::Dropped {
            rebuilt.push((key, value));
            *images = within;
        }
    }
    Ok(Json::Object(rebuilt))
}

fn rebuild_tagged(
    tag: &str,
    variants: &[(&str, &'static [Field])],
    value: Json,
    images: &mut Images,
) -> Result<Json, Misfit> {
    let word = value.member(tag).filter(|word| **word != Json::Null);
    let fields = variants
        .iter()
        .find(|(name, _)| word.map_or(Some(""), Json::as_text) == Some(name))
        .map(|(_, fields)| *fields);
    match (fields, word) {
        // A tag that is there and empty is no tag that is absent.
        (Some(fields), _) if word != Some(&Json::from("")) => Shape::Object(fields).rebuild(value, images),
        (_, None) => Err(Fault::Missing.here().below(tag)),
        (_, Some(_)) => Err(Fault::NotListed.here().below(tag)),
    }
}
