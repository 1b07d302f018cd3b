//! Schemas of the types that are one string in JSON, or two. Everything else derives its schema where it is declared.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    digest::Digest,
    egress::{HostName, HostPattern},
    money::PicoUsd,
    price::ModelSlug,
    upstream::Secret,
    wire::channel::Channel,
};

macro_rules! texts {
    ($($name:ident, $pattern:expr, $description:literal;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String);
                let pattern: Option<&str> = $pattern;
                text.pattern(pattern).description(Some($description)).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

texts! {
    Digest, Some("^sha256:[0-9a-f]{64}$"), "SHA-256 of some content.";
    PicoUsd, Some("^[0-9]+(\\.[0-9]+)?$"), "An amount in USD with at most 12 decimals that count, e.g. `0.25`; at most 9223372.036854775807.";
    HostName, Some("^[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+$"), "A fully written DNS name, no address.";
    HostPattern, Some("^(\\*{1,2}\\.)?[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+$"), "A DNS name, `*.suffix` (exactly one label before the suffix) or `**.suffix` (one label or more).";
    ModelSlug, Some("^[a-z0-9][a-z0-9._:/-]*$"), "The exact name of a model, e.g. `openai/gpt-5-mini`; no alias, preset or router.";
    Secret, None, "A value that no log shows.";
}

impl PartialSchema for Channel {
    fn schema() -> RefOr<Schema> {
        let word = |about| {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some(about))
        };
        ObjectBuilder::new()
            .description(Some("What a stored stream holds."))
            .property("phase", word("The phase, or `proxy` or `verifier_proxy`."))
            .required("phase")
            .property(
                "stream",
                word("`stdout` or `stderr`; of a proxy `audit`, `ledger` or `recording`."),
            )
            .required("stream")
            .into()
    }
}

impl ToSchema for Channel {}
