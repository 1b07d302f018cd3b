//! Names a request as the workload sent it, so that a recording can be asked for its answer.
//!
//! Two bodies that mean the same have the same name: spaces and the order of keys do not matter. What we add ourselves is
//! no part of it, because it differs from run to run.

use std::io;

use assay_core::digest::{Digest, Hasher};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};

use super::{json::Json, spec::Api};

/// The name of a request.
pub fn of(api: Api, body: &Json) -> Digest {
    let mut sink = Sink(Hasher::default());
    sink.0.update(api.name().as_bytes());
    sink.0.update(b"\n");
    if let Err(error) = serde_json::to_writer(&mut sink, &Sorted(body)) {
        // A hash takes every byte.
        tracing::error!(%error, "a request has no name");
    }
    sink.0.finish()
}

struct Sink(Hasher);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// With the keys of every object in order.
struct Sorted<'a>(&'a Json);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Sorted(item))?;
                }
                list.end()
            }
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|one, other| one.0.cmp(&other.0));
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    object.serialize_entry(key, &Sorted(value))?;
                }
                object.end()
            }
            plain @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => {
                plain.serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(api: Api, text: &str) -> Digest {
        of(api, &Json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_means_the_same_has_the_same_name() {
        let one = name(Api::Chat, r#"{"a": {"x": [1, 2], "y": null}, "b": "t"}"#);
        assert_eq!(one, name(Api::Chat, r#"{"b":"t","a":{"y":null,"x":[1,2]}}"#));
        for other in [
            r#"{"a": {"x": [2, 1], "y": null}, "b": "t"}"#,
            r#"{"a": {"x": [1, 2]}, "b": "t"}"#,
        ] {
            assert_ne!(one, name(Api::Chat, other), "{other}");
        }
        assert_ne!(name(Api::Chat, "{}"), name(Api::Responses, "{}"));
    }
}
