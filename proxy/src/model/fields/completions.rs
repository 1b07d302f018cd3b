//! `completions`, the API before chats. One prompt, one choice.

use super::{LONG, MANY, SHORT, STREAM_OPTIONS, field};
use crate::model::shape::{
    Field,
    Presence::{Dropped, Optional, Required},
    Shape::{Any, Bool, Either, List, Map, Number, Object, Off, Text, Whole},
};

/// The body of a request.
pub const COMPLETIONS: &[Field] = &[
    field("model", Text(SHORT), Required),
    field("models", List(&Text(SHORT), 8), Dropped),
    field("prompt", Either(&[Text(LONG), List(&Text(LONG), 1)]), Required),
    field("suffix", Text(LONG), Optional),
    field("max_tokens", Whole(1, MANY), Dropped),
    field("n", Whole(1, 1), Dropped),
    field("best_of", Whole(1, 1), Dropped),
    field("echo", Off, Dropped),
    field("stream", Bool, Dropped),
    field("stream_options", Object(STREAM_OPTIONS), Dropped),
    field("temperature", Number(0.0, 2.0), Optional),
    field("top_p", Number(0.0, 1.0), Optional),
    field("top_k", Whole(0, MANY), Optional),
    field("min_p", Number(0.0, 1.0), Optional),
    field("frequency_penalty", Number(-2.0, 2.0), Optional),
    field("presence_penalty", Number(-2.0, 2.0), Optional),
    field("repetition_penalty", Number(0.0, 2.0), Optional),
    field("seed", Whole(i64::MIN, i64::MAX), Optional),
    field("stop", Either(&[Text(SHORT), List(&Text(SHORT), 16)]), Optional),
    field("logprobs", Whole(0, 5), Optional),
    field("logit_bias", Map(&Number(-100.0, 100.0), 1024), Optional),
    field("user", Text(SHORT), Dropped),
    field("provider", Any, Dropped),
];
