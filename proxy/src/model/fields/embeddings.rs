//! `embeddings`: text, or tokens that the caller has made of it.

use super::{LONG, MANY, SHORT, field};
use crate::model::shape::{
    Field,
    Presence::{Dropped, Optional, Required},
    Shape::{self, Any, Either, List, OneOf, Text, Whole},
};

/// The body of a request.
pub const EMBEDDINGS: &[Field] = &[
    field("model", Text(SHORT), Required),
    field(
        "input",
        Either(&[
            Text(LONG),
            List(&Either(&[Text(LONG), TOKEN, List(&TOKEN, 100_000)]), 100_000),
        ]),
        Required,
    ),
    field("dimensions", Whole(1, 100_000), Optional),
    field("encoding_format", OneOf(&["float", "base64"]), Optional),
    field("input_type", Text(SHORT), Optional),
    field("user", Text(SHORT), Dropped),
    field("provider", Any, Dropped),
];

const TOKEN: Shape = Whole(0, MANY);
