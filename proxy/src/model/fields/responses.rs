//! `responses`, without anything that the service would keep between calls.
//!
//! Left out on purpose: `prompt` (stored templates), `conversation`, `previous_response_id`, references to stored
//! items and files, `plugins`, `max_tool_calls`, `context_management`, and every tool that is not a function.

use super::{EFFORTS, LONG, MANY, ROLE, SHORT, TYPE, field};
use crate::model::shape::{
    Field,
    Presence::{Dropped, Nullable, Optional, Required},
    Shape::{
        self, Any, Bool, DataUrl, Either, List, Map, Nothing, Number, Object, Off, OneOf, Tagged, Text, Whole,
    },
};

/// The body of a request.
pub const RESPONSES: &[Field] = &[
    field("model", Text(SHORT), Required),
    field("models", List(&Text(SHORT), 8), Dropped),
    field("input", Either(&[Text(LONG), List(&ITEM, 10_000)]), Required),
    field("instructions", Text(LONG), Optional),
    field("max_output_tokens", Whole(1, MANY), Dropped),
    field("stream", Bool, Dropped),
    field(
        "stream_options",
        Object(&[field("include_obfuscation", Bool, Optional)]),
        Dropped,
    ),
    field("temperature", Number(0.0, 2.0), Optional),
    field("top_p", Number(0.0, 1.0), Optional),
    field("top_k", Whole(0, MANY), Optional),
    field("frequency_penalty", Number(-2.0, 2.0), Optional),
    field("presence_penalty", Number(-2.0, 2.0), Optional),
    field("top_logprobs", Whole(0, 20), Optional),
    field("tools", List(&Tagged("type", TOOLS), 512), Optional),
    field(
        "tool_choice",
        Either(&[OneOf(&["none", "auto", "required"]), Tagged("type", CHOICES)]),
        Optional,
    ),
    field("parallel_tool_calls", Bool, Optional),
    field("reasoning", Object(REASONING), Optional),
    field("text", Object(TEXT), Optional),
    field("include", List(&OneOf(INCLUDES), 8), Optional),
    field("truncation", OneOf(&["auto", "disabled"]), Optional),
    field("metadata", Map(&Text(SHORT), 16), Dropped),
    field("service_tier", OneOf(&["auto", "default"]), Dropped),
    field("store", Off, Dropped),
    field("background", Off, Dropped),
    field("previous_response_id", Nothing, Dropped),
    field("conversation", Nothing, Dropped),
    field("prompt", Nothing, Dropped),
    field("user", Text(SHORT), Dropped),
    field("safety_identifier", Text(SHORT), Dropped),
    field("prompt_cache_key", Text(SHORT), Dropped),
    field("session_id", Text(SHORT), Dropped),
    field("provider", Any, Dropped),
];

const INCLUDES: &[&str] = &["reasoning.encrypted_content", "message.output_text.logprobs"];

const REASONING: &[Field] = &[
    field("effort", OneOf(EFFORTS), Optional),
    field("max_tokens", Whole(1, MANY), Optional),
    field("summary", OneOf(&["auto", "concise", "detailed"]), Optional),
    field("generate_summary", Nothing, Dropped),
    field("enabled", Bool, Optional),
];

const TEXT: &[Field] = &[
    field("verbosity", OneOf(&["low", "medium", "high"]), Optional),
    field("format", Tagged("type", FORMATS), Optional),
];

const FORMATS: &[(&str, &[Field])] = &[
    ("text", &[TYPE]),
    ("json_object", &[TYPE]),
    (
        "json_schema",
        &[
            TYPE,
            field("name", Text(SHORT), Required),
            field("description", Text(LONG), Optional),
            field("schema", Any, Optional),
            field("strict", Bool, Optional),
        ],
    ),
];

const TOOLS: &[(&str, &[Field])] = &[(
    "function",
    &[
        TYPE,
        field("name", Text(SHORT), Required),
        field("description", Text(LONG), Optional),
        field("parameters", Any, Optional),
        field("strict", Bool, Optional),
    ],
)];

const CHOICES: &[(&str, &[Field])] = &[("function", &[TYPE, field("name", Text(SHORT), Required)])];

/// A message may come without its type.
const ITEM: Shape = Tagged(
    "type",
    &[
        ("", MESSAGE),
        ("message", MESSAGE),
        (
            "function_call",
            &[
                TYPE,
                ID,
                STATUS,
                field("call_id", Text(SHORT), Required),
                field("name", Text(SHORT), Required),
                field("arguments", Text(LONG), Required),
            ],
        ),
        (
            "function_call_output",
            &[
                TYPE,
                ID,
                STATUS,
                field("call_id", Text(SHORT), Required),
                field("output", CONTENT, Required),
            ],
        ),
        (
            "reasoning",
            &[
                TYPE,
                ID,
                STATUS,
                field("summary", List(&Tagged("type", THOUGHTS), 1_000), Optional),
                field("content", List(&Tagged("type", THOUGHTS), 1_000), Optional),
                field("encrypted_content", Text(LONG), Nullable),
            ],
        ),
    ],
);

const MESSAGE: &[Field] = &[
    field("type", OneOf(&["message"]), Optional),
    ID,
    STATUS,
    ROLE,
    field("content", CONTENT, Required),
];

const ID: Field = field("id", Text(SHORT), Optional);
const STATUS: Field = field(
    "status",
    OneOf(&["in_progress", "completed", "incomplete"]),
    Optional,
);

const CONTENT: Shape = Either(&[Text(LONG), List(&Tagged("type", PARTS), 10_000)]);

const PARTS: &[(&str, &[Field])] = &[
    ("input_text", &[TYPE, field("text", Text(LONG), Required)]),
    (
        "output_text",
        &[
            TYPE,
            field("text", Text(LONG), Required),
            field("annotations", List(&Any, 1_000), Dropped),
            field("logprobs", List(&Any, 1_000_000), Dropped),
        ],
    ),
    ("refusal", &[TYPE, field("refusal", Text(LONG), Required)]),
    (
        "input_image",
        &[
            TYPE,
            field("image_url", DataUrl, Required),
            field("detail", OneOf(&["auto", "low", "high"]), Optional),
            field("file_id", Nothing, Dropped),
        ],
    ),
];

const THOUGHTS: &[(&str, &[Field])] = &[
    ("summary_text", &[TYPE, field("text", Text(LONG), Required)]),
    ("reasoning_text", &[TYPE, field("text", Text(LONG), Required)]),
];
