//! `messages`, Anthropic's API, and the count of its tokens.
//!
//! Left out on purpose: `fallbacks`, `mcp_servers`, `container`, `context_management`, `speed`, `plugins`, sources by URL
//! or file id, and every tool that the service itself would run.

use super::{CACHE_CONTROL, LONG, MANY, SHORT, TYPE, field};
use crate::model::shape::{
    Field,
    Presence::{Dropped, Optional, Required},
    Shape::{
        self, Any, Bool, DataUrl, Either, Empty, Fetched, ImageFile, List, Number, Object, OneOf, Tagged,
        Text, Whole,
    },
};

/// The body of a request.
pub const MESSAGES: &[Field] = &[
    field("model", Text(SHORT), Required),
    field("models", List(&Text(SHORT), 8), Dropped),
    field("messages", TURNS, Required),
    field("system", TOLD, Optional),
    field("max_tokens", Whole(1, MANY), Dropped),
    field("stream", Bool, Dropped),
    field("temperature", Number(0.0, 1.0), Optional),
    field("top_p", Number(0.0, 1.0), Optional),
    field("top_k", Whole(0, MANY), Optional),
    field("stop_sequences", List(&Text(SHORT), 64), Optional),
    field("tools", TOOLS, Optional),
    field("tool_choice", Tagged("type", CHOICES), Optional),
    field("thinking", Tagged("type", THINKING), Optional),
    field(
        "metadata",
        Object(&[field("user_id", Text(SHORT), Dropped)]),
        Dropped,
    ),
    field("service_tier", OneOf(&["auto", "standard_only"]), Dropped),
    field("user", Text(SHORT), Dropped),
    field("session_id", Text(SHORT), Dropped),
    field("provider", Any, Dropped),
];

/// The body of a request that is only counted.
pub const COUNT_TOKENS: &[Field] = &[
    field("model", Text(SHORT), Required),
    field("messages", TURNS, Required),
    field("system", TOLD, Optional),
    field("tools", TOOLS, Optional),
    field("tool_choice", Tagged("type", CHOICES), Optional),
    field("thinking", Tagged("type", THINKING), Optional),
];

const TURNS: Shape = List(
    &Object(&[
        field("role", OneOf(&["user", "assistant"]), Required),
        field(
            "content",
            Either(&[Text(LONG), List(&Tagged("type", BLOCKS), 10_000)]),
            Required,
        ),
    ]),
    10_000,
);

const TOLD: Shape = Either(&[Text(LONG), List(&Tagged("type", &[("text", TEXT)]), 1_000)]);

const TEXT: &[Field] = &[
    TYPE,
    field("text", Text(LONG), Required),
    CACHED,
    field("citations", Empty, Dropped),
];

const BLOCKS: &[(&str, &[Field])] = &[
    ("text", TEXT),
    ("image", IMAGE),
    ("document", DOCUMENT),
    (
        "tool_use",
        &[
            TYPE,
            field("id", Text(SHORT), Required),
            field("name", Text(SHORT), Required),
            field("input", Any, Required),
            CACHED,
        ],
    ),
    (
        "tool_result",
        &[
            TYPE,
            field("tool_use_id", Text(SHORT), Required),
            field(
                "content",
                Either(&[Text(LONG), List(&Tagged("type", RESULTS), 1_000)]),
                Optional,
            ),
            field("is_error", Bool, Optional),
            CACHED,
        ],
    ),
    (
        "thinking",
        &[
            TYPE,
            field("thinking", Text(LONG), Required),
            field("signature", Text(LONG), Optional),
        ],
    ),
    ("redacted_thinking", &[TYPE, field("data", Text(LONG), Required)]),
];

const RESULTS: &[(&str, &[Field])] = &[("text", TEXT), ("image", IMAGE), ("document", DOCUMENT)];

const IMAGE: &[Field] = &[TYPE, field("source", Tagged("type", IMAGES), Required), CACHED];

const IMAGES: &[(&str, &[Field])] = &[
    (
        "base64",
        &[
            TYPE,
            field(
                "media_type",
                OneOf(&["image/png", "image/jpeg", "image/gif", "image/webp"]),
                Required,
            ),
            field("data", ImageFile(LONG), Required),
        ],
    ),
    ("url", &[TYPE, field("url", DataUrl, Required)]),
];

const DOCUMENT: &[Field] = &[
    TYPE,
    field("source", Tagged("type", DOCUMENTS), Required),
    field("title", Text(SHORT), Optional),
    field("context", Text(LONG), Optional),
    CACHED,
];

/// Plain text alone: how many tokens the pages of a PDF become is not known before.
const DOCUMENTS: &[(&str, &[Field])] = &[
    (
        "text",
        &[
            TYPE,
            field("media_type", OneOf(&["text/plain"]), Required),
            field("data", Text(LONG), Required),
        ],
    ),
    ("url", &[TYPE, field("url", Fetched, Required)]),
];

const CACHED: Field = field("cache_control", CACHE_CONTROL, Optional);

/// Tools that the caller runs. A tool of the caller's own may come without a type.
const TOOLS: Shape = List(
    &Tagged(
        "type",
        &[
            ("", OWN),
            ("custom", OWN),
            ("bash_20250124", KNOWN),
            ("text_editor_20250124", KNOWN),
            ("text_editor_20250429", KNOWN),
            ("text_editor_20250728", KNOWN),
        ],
    ),
    512,
);

const OWN: &[Field] = &[
    field("type", OneOf(&["custom"]), Optional),
    field("name", Text(SHORT), Required),
    field("description", Text(LONG), Optional),
    field("input_schema", Any, Required),
    CACHED,
];

const KNOWN: &[Field] = &[
    TYPE,
    field("name", Text(SHORT), Required),
    field("max_characters", Whole(1, MANY), Optional),
    CACHED,
];

const CHOICES: &[(&str, &[Field])] = &[
    ("auto", &[TYPE, SERIAL]),
    ("any", &[TYPE, SERIAL]),
    ("none", &[TYPE]),
    ("tool", &[TYPE, SERIAL, field("name", Text(SHORT), Required)]),
];

const SERIAL: Field = field("disable_parallel_tool_use", Bool, Optional);

const THINKING: &[(&str, &[Field])] = &[
    (
        "enabled",
        &[TYPE, field("budget_tokens", Whole(1, MANY), Required)],
    ),
    ("disabled", &[TYPE]),
    ("adaptive", &[TYPE]),
];
