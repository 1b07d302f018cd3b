//! `chat/completions`.
//!
//! Left out on purpose: `plugins`, `preset`, `route`, `fallbacks`, `transforms`, `web_search_options`, `prediction`,
//! `audio`, `image_config`, `functions`, `metadata`, `background`, `speed`, and every tool that is not a function.

use super::{CACHE_CONTROL, EFFORTS, LONG, MANY, ROLE, SHORT, STREAM_OPTIONS, TYPE, field};
use crate::model::shape::{
    Field,
    Presence::{Dropped, Nullable, Optional, Required},
    Shape::{
        self, Any, Bool, DataUrl, Either, Empty, List, Map, Nothing, Number, Object, Off, OneOf, Tagged,
        Text, Whole,
    },
};

/// The body of a request. Models and limits are read from it; the proxy writes its own `user`, `seed`, `provider`,
/// `max_tokens` and `stream_options`.
pub const CHAT: &[Field] = &[
    field("model", Text(SHORT), Required),
    field("models", List(&Text(SHORT), 8), Dropped),
    field("messages", List(&MESSAGE, 10_000), Required),
    field("stream", Bool, Dropped),
    field("stream_options", Object(STREAM_OPTIONS), Dropped),
    field("max_tokens", Whole(1, MANY), Dropped),
    field("max_completion_tokens", Whole(1, MANY), Dropped),
    field("n", Whole(1, 1), Dropped),
    field("temperature", Number(0.0, 2.0), Optional),
    field("top_p", Number(0.0, 1.0), Optional),
    field("top_k", Whole(0, MANY), Optional),
    field("top_a", Number(0.0, 1.0), Optional),
    field("min_p", Number(0.0, 1.0), Optional),
    field("frequency_penalty", Number(-2.0, 2.0), Optional),
    field("presence_penalty", Number(-2.0, 2.0), Optional),
    field("repetition_penalty", Number(0.0, 2.0), Optional),
    field("seed", Whole(i64::MIN, i64::MAX), Optional),
    field("stop", Either(&[Text(SHORT), List(&Text(SHORT), 16)]), Optional),
    field("logprobs", Bool, Optional),
    field("top_logprobs", Whole(0, 20), Optional),
    field("logit_bias", Map(&Number(-100.0, 100.0), 1024), Optional),
    field("response_format", Tagged("type", RESPONSE_FORMATS), Optional),
    field("tools", List(&Tagged("type", TOOLS), 512), Optional),
    field(
        "tool_choice",
        Either(&[OneOf(&["none", "auto", "required"]), Tagged("type", CHOICES)]),
        Optional,
    ),
    field("parallel_tool_calls", Bool, Optional),
    field("reasoning", Object(REASONING), Optional),
    field("reasoning_effort", OneOf(EFFORTS), Optional),
    field("include_reasoning", Bool, Optional),
    field("verbosity", OneOf(&["low", "medium", "high"]), Optional),
    field("modalities", List(&OneOf(&["text"]), 1), Dropped),
    field("service_tier", OneOf(&["auto", "default"]), Dropped),
    field("store", Off, Dropped),
    field("usage", Object(&[field("include", Bool, Optional)]), Dropped),
    field("user", Text(SHORT), Dropped),
    field("safety_identifier", Text(SHORT), Dropped),
    field("prompt_cache_key", Text(SHORT), Dropped),
    field("session_id", Text(SHORT), Dropped),
    field("provider", Any, Dropped),
];

const REASONING: &[Field] = &[
    field("effort", OneOf(EFFORTS), Optional),
    field("max_tokens", Whole(1, MANY), Optional),
    field("exclude", Bool, Optional),
    field("enabled", Bool, Optional),
    field("summary", OneOf(&["auto", "concise", "detailed"]), Optional),
];

const RESPONSE_FORMATS: &[(&str, &[Field])] = &[
    ("text", &[TYPE]),
    ("json_object", &[TYPE]),
    (
        "json_schema",
        &[
            TYPE,
            field(
                "json_schema",
                Object(&[
                    field("name", Text(SHORT), Required),
                    field("description", Text(LONG), Optional),
                    field("schema", Any, Optional),
                    field("strict", Bool, Optional),
                ]),
                Required,
            ),
        ],
    ),
];

const TOOLS: &[(&str, &[Field])] = &[(
    "function",
    &[
        TYPE,
        field(
            "function",
            Object(&[
                field("name", Text(SHORT), Required),
                field("description", Text(LONG), Optional),
                field("parameters", Any, Optional),
                field("strict", Bool, Optional),
            ]),
            Required,
        ),
        field("cache_control", CACHE_CONTROL, Optional),
    ],
)];

const CHOICES: &[(&str, &[Field])] = &[(
    "function",
    &[
        TYPE,
        field(
            "function",
            Object(&[field("name", Text(SHORT), Required)]),
            Required,
        ),
    ],
)];

const MESSAGE: Shape = Tagged(
    "role",
    &[
        ("system", TOLD),
        ("developer", TOLD),
        ("user", TOLD),
        ("assistant", ASSISTANT),
        (
            "tool",
            &[
                ROLE,
                NAME,
                field("content", CONTENT, Required),
                field("tool_call_id", Text(SHORT), Required),
            ],
        ),
    ],
);

const TOLD: &[Field] = &[ROLE, NAME, field("content", CONTENT, Required)];

/// Software libraries send an answer back as they got it, with fields that are empty.
const ASSISTANT: &[Field] = &[
    ROLE,
    NAME,
    field("content", CONTENT, Nullable),
    field("tool_calls", List(&Object(TOOL_CALL), 512), Optional),
    field("refusal", Text(LONG), Optional),
    field("reasoning", Text(LONG), Optional),
    field("reasoning_content", Text(LONG), Optional),
    field("reasoning_details", List(&Any, 10_000), Optional),
    field("prefix", Bool, Optional),
    field("annotations", Empty, Dropped),
    field("audio", Nothing, Dropped),
    field("function_call", Nothing, Dropped),
    field("images", Empty, Dropped),
];

const TOOL_CALL: &[Field] = &[
    field("id", Text(SHORT), Required),
    field("type", OneOf(&["function"]), Required),
    field("index", Whole(0, MANY), Optional),
    field(
        "function",
        Object(&[
            field("name", Text(SHORT), Required),
            field("arguments", Text(LONG), Required),
        ]),
        Required,
    ),
];

const CONTENT: Shape = Either(&[Text(LONG), List(&Tagged("type", PARTS), 10_000)]);

const PARTS: &[(&str, &[Field])] = &[
    (
        "text",
        &[
            TYPE,
            field("text", Text(LONG), Required),
            field("cache_control", CACHE_CONTROL, Optional),
        ],
    ),
    (
        "image_url",
        &[
            TYPE,
            field(
                "image_url",
                Object(&[
                    field("url", DataUrl, Required),
                    field("detail", OneOf(&["auto", "low", "high"]), Optional),
                ]),
                Required,
            ),
            field("cache_control", CACHE_CONTROL, Optional),
        ],
    ),
    ("refusal", &[TYPE, field("refusal", Text(LONG), Required)]),
];

const NAME: Field = field("name", Text(SHORT), Optional);
