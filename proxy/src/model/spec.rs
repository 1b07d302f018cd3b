//! The model APIs, as data: where each is, what its requests look like, who speaks it.

use assay_core::upstream::Dialect;

use super::{fields, shape::Field};

/// A model API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's chats.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// How many tokens a message has.
    CountTokens,
    /// OpenAI's completions of one text.
    Completions,
    /// Vectors of texts.
    Embeddings,
}

/// What is known of an API.
#[derive(Debug)]
pub struct Spec {
    /// Its path, after what the paths of the service begin with.
    pub path: &'static str,
    /// What may be in a request.
    pub fields: &'static [Field],
    /// The names of the limit of output in a request; the smallest holds.
    pub limits: &'static [&'static str],
    /// The limit where a request names none; the model's where absent.
    pub default_output: Option<u64>,
    /// Where the conversation is.
    pub turns: &'static str,
    /// Whether its answer can be a stream.
    pub streams: bool,
    /// Whether a seed makes its answers repeatable, or they are so anyway.
    pub seeded: Seeded,
    /// Whether calls are billed.
    pub billed: bool,
}

/// What a seed does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeded {
    /// It makes answers repeatable.
    Yes,
    /// The API takes none.
    No,
    /// None is needed.
    Needless,
}

impl Api {
    /// Every API.
    pub const ALL: [Self; 6] = [
        Self::Chat,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
        Self::Completions,
        Self::Embeddings,
    ];

    /// The API at a path.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.spec().path == path)
    }

    /// The word in recordings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        }
    }

    /// What is known of it.
    pub fn spec(self) -> &'static Spec {
        match self {
            Self::Chat => &CHAT,
            Self::Responses => &RESPONSES,
            Self::Messages => &MESSAGES,
            Self::CountTokens => &COUNT_TOKENS,
            Self::Completions => &COMPLETIONS,
            Self::Embeddings => &EMBEDDINGS,
        }
    }

    /// Does a service of this dialect speak it?
    pub fn is_spoken_by(self, dialect: Dialect) -> bool {
        match (dialect, self) {
            (_, Self::Messages) => dialect != Dialect::OpenAi,
            (_, Self::CountTokens) => dialect == Dialect::Anthropic,
            (Dialect::OpenRouter | Dialect::OpenAi, _) => true,
            (Dialect::Anthropic, _) => false,
        }
    }

    /// Under which name our limit of output goes on.
    pub fn limit_key(self, dialect: Dialect) -> Option<&'static str> {
        match (self, dialect) {
            (Self::Chat, Dialect::OpenAi) => Some("max_completion_tokens"),
            (Self::Chat | Self::Messages | Self::Completions, _) => Some("max_tokens"),
            (Self::Responses, _) => Some("max_output_tokens"),
            (Self::CountTokens | Self::Embeddings, _) => None,
        }
    }
}

const CHAT: Spec = Spec {
    path: "/chat/completions",
    fields: fields::CHAT,
    limits: &["max_tokens", "max_completion_tokens"],
    default_output: None,
    turns: "messages",
    streams: true,
    seeded: Seeded::Yes,
    billed: true,
};

const RESPONSES: Spec = Spec {
    path: "/responses",
    fields: fields::RESPONSES,
    limits: &["max_output_tokens"],
    default_output: None,
    turns: "input",
    streams: true,
    seeded: Seeded::No,
    billed: true,
};

const MESSAGES: Spec = Spec {
    path: "/messages",
    fields: fields::MESSAGES,
    limits: &["max_tokens"],
    default_output: None,
    turns: "messages",
    streams: true,
    seeded: Seeded::No,
    billed: true,
};

const COUNT_TOKENS: Spec = Spec {
    path: "/messages/count_tokens",
    fields: fields::COUNT_TOKENS,
    limits: &[],
    default_output: Some(0),
    turns: "messages",
    streams: false,
    seeded: Seeded::Needless,
    billed: false,
};

const COMPLETIONS: Spec = Spec {
    path: "/completions",
    fields: fields::COMPLETIONS,
    limits: &["max_tokens"],
    // The services' own default.
    default_output: Some(16),
    turns: "prompt",
    streams: true,
    seeded: Seeded::Yes,
    billed: true,
};

const EMBEDDINGS: Spec = Spec {
    path: "/embeddings",
    fields: fields::EMBEDDINGS,
    limits: &[],
    default_output: Some(0),
    turns: "input",
    streams: false,
    seeded: Seeded::Needless,
    billed: true,
};
