//! Values that fit a shape.

use assay_proxy::model::{
    json::Json,
    shape::{Field, Presence, Shape},
};
use serde_json::Number;

/// A value of this shape. `choose` names one of so many; if it always names the first, the value is the smallest.
pub(crate) fn value(shape: &Shape, choose: &mut dyn FnMut(usize) -> usize) -> Json {
    match shape {
        Shape::Bool => Json::Bool(choose(2) == 1),
        Shape::Off => Json::Bool(false),
        Shape::Whole(least, most) => {
            let middle = least.saturating_add(300).min(*most);
            Json::Number([*least, middle, *most][choose(3)].into())
        }
        Shape::Number(least, most) => {
            let number = [*least, 0.5 * (least + most), *most][choose(3)];
            Number::from_f64(number).map_or(Json::Null, Json::Number)
        }
        Shape::Text(_) => TEXTS[choose(TEXTS.len())].into(),
        Shape::OneOf(words) => words[choose(words.len())].into(),
        Shape::DataUrl => "data:image/png;base64,iVBORw0KGgo=".into(),
        Shape::ImageFile(_) => "iVBORw0KGgo=".into(),
        Shape::Fetched => "https://example.com/a.png".into(),
        Shape::List(shape, most) => {
            let length = choose(4).min(*most);
            Json::List((0..length).map(|_| value(shape, choose)).collect())
        }
        Shape::Map(shape, most) => {
            let keys = (0..choose(3).min(*most)).map(|key| key.to_string());
            Json::Object(keys.map(|key| (key, value(shape, choose))).collect())
        }
        Shape::Object(fields) => object(fields, choose),
        Shape::Tagged(tag, variants) => {
            let variants: Vec<_> = variants
                .iter()
                .filter(|(_, fields)| !fields.iter().any(is_fetched))
                .collect();
            let (word, fields) = variants[choose(variants.len())];
            tagged(tag, word, fields, choose)
        }
        Shape::Either(shapes) => value(&shapes[choose(shapes.len())], choose),
        Shape::Any => {
            let texts = [
                "{}",
                "null",
                r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
                "[1,[2.5]]",
            ];
            Json::parse(texts[choose(texts.len())].as_bytes()).unwrap_or(Json::Null)
        }
        Shape::Empty => Json::List(Vec::new()),
        Shape::Nothing => Json::Null,
    }
}

/// An object of these fields; the optional ones are there at times.
pub(crate) fn object(fields: &[Field], choose: &mut dyn FnMut(usize) -> usize) -> Json {
    let mut members = Vec::new();
    for field in fields {
        if field.presence == Presence::Required || choose(4) == 1 {
            members.push((field.key.to_owned(), value(&field.shape, choose)));
        }
    }
    Json::Object(members)
}

/// One variant of a tagged object; the empty word stands for no tag.
pub(crate) fn tagged(
    tag: &str,
    word: &str,
    fields: &[Field],
    choose: &mut dyn FnMut(usize) -> usize,
) -> Json {
    let Json::Object(mut members) = object(fields, choose) else {
        return Json::Null;
    };
    members.retain(|(key, _)| key != tag);
    if !word.is_empty() {
        members.push((tag.to_owned(), word.into()));
    }
    Json::Object(members)
}

/// No value of such a field is ever taken.
fn is_fetched(field: &Field) -> bool {
    matches!(field.shape, Shape::Fetched)
}

const TEXTS: &[&str] = &[
    "x",
    "",
    "hello, who are you?",
    "\u{0}\n\t\"\\\u{7f}",
    "\u{4e16}\u{754c} \u{1f600}",
    "data:image/png;base64,iVBORw0KGgo=",
    "https://example.com/",
    "0123456789012345678901234567890123456789012345678901234567890123456789",
];
