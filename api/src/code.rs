//! The stable codes of problem bodies, each with its one status. Programs match on them, so none ever changes its meaning.

use http::StatusCode;
use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($name:ident = $word:literal, $status:ident, $meaning:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in `code`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// A sentence for the API's document.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", BAD_REQUEST, "Body, query or header is malformed; `detail` says where.";
    Unauthorized = "unauthorized", UNAUTHORIZED, "No valid API key.";
    Forbidden = "forbidden", FORBIDDEN, "The key's scope may not do this.";
    NotFound = "not_found", NOT_FOUND, "There is no such thing, or it belongs to somebody else.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The route does not take this method.";
    StaleFence = "stale_fence", CONFLICT, "The lease is lost: stop and clean up.";
    EventGap = "event_gap", CONFLICT, "The events do not follow the last one stored.";
    OutputRaced = "output_raced", CONFLICT, "Another writer of this stream was quicker.";
    IdempotencyKeyReused = "idempotency_key_reused", CONFLICT, "The idempotency key stands for another request.";
    NameTaken = "name_taken", CONFLICT, "Another key is bound to the worker of this name; revoke it first.";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is larger than this route takes.";
    NotUploaded = "not_uploaded", UNPROCESSABLE_ENTITY, "Nothing was put under this digest yet.";
    DigestMismatch = "digest_mismatch", UNPROCESSABLE_ENTITY, "The uploaded bytes have another digest.";
    ArchiveTooLarge = "archive_too_large", UNPROCESSABLE_ENTITY, "The archive is empty or larger than allowed.";
    ArchiveInvalid = "archive_invalid", UNPROCESSABLE_ENTITY, "The archive cannot be unpacked safely.";
    ArtifactTooLarge = "artifact_too_large", UNPROCESSABLE_ENTITY, "The artifact is larger than allowed.";
    TaskInvalid = "task_invalid", UNPROCESSABLE_ENTITY, "The task breaks the task format; `detail` names the key.";
    TaskUnsupported = "task_unsupported", UNPROCESSABLE_ENTITY, "The task needs what this platform does not have.";
    AgentInvalid = "agent_invalid", UNPROCESSABLE_ENTITY, "The agent's bundle does not keep its contract.";
    NoTasks = "no_tasks", UNPROCESSABLE_ENTITY, "No task is named.";
    DuplicateTask = "duplicate_task", UNPROCESSABLE_ENTITY, "A task is named twice.";
    UnknownTask = "unknown_task", UNPROCESSABLE_ENTITY, "A task is not registered.";
    UnknownTaskSet = "unknown_task_set", UNPROCESSABLE_ENTITY, "The task set does not exist.";
    UnknownAgent = "unknown_agent", UNPROCESSABLE_ENTITY, "The agent does not exist.";
    PolicyInvalid = "policy_invalid", UNPROCESSABLE_ENTITY, "The policy contradicts itself; `detail` names the key.";
    RecordingMissing = "recording_missing", UNPROCESSABLE_ENTITY, "There is no recording of model calls to answer from.";
    ModelUnpriced = "model_unpriced", UNPROCESSABLE_ENTITY, "A model has no price or no service.";
    WorkspaceNotPrivate = "workspace_not_private", UNPROCESSABLE_ENTITY, "A model router's workspace keeps or passes on what agents send.";
    WorkspaceUnknown = "workspace_unknown", SERVICE_UNAVAILABLE, "A model router's workspace settings could not be read.";
    ValueMissing = "value_missing", UNPROCESSABLE_ENTITY, "A task needs a named value that was not given.";
    TooManyRuns = "too_many_runs", UNPROCESSABLE_ENTITY, "One evaluation may not have so many runs.";
    ScoreMissing = "score_missing", UNPROCESSABLE_ENTITY, "An attempt that completed has a score.";
    CauseNotReportable = "cause_not_reportable", UNPROCESSABLE_ENTITY, "Only the server says this cause.";
    WireMismatch = "wire_mismatch", UPGRADE_REQUIRED, "Worker and server share no wire version.";
    CommitMismatch = "commit_mismatch", UPGRADE_REQUIRED, "The operator wants one commit everywhere.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Our fault; quote `request_id` to an operator.";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "Database or object store does not answer.";
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "The database does not answer; try again.";
    ObjectsUnavailable = "objects_unavailable", SERVICE_UNAVAILABLE, "The object store does not answer; try again.";
    Timeout = "timeout", GATEWAY_TIMEOUT, "The request took too long; try again.";
}

impl Code {
    /// The code of that word.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == word)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
