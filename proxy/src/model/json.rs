//! JSON that means one thing only. A key that occurs twice is refused at any depth: parsers disagree about which one
//! counts, and a policy that reads the other one is no policy. The order of keys is kept.

use std::{cell::Cell, collections::BTreeSet, fmt};

use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::Number;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object, in its order.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Reads a whole document: UTF-8, no byte-order mark, at most 128 deep, at most [`MOST_VALUES`] values.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut document = serde_json::Deserializer::from_slice(bytes);
        let left = Cell::new(MOST_VALUES);
        let value = Strict(&left).deserialize(&mut document)?;
        document.end()?;
        Ok(value)
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The whole number, if it is one and not negative.
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The values of an array; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Object(_) => &[],
        }
    }

    /// The member of an object.
    pub fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The bytes that are sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
        match serde_json::to_writer(&mut bytes, self) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(members) => {
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    object.serialize_entry(key, value)?;
                }
                object.end()
            }
        }
    }
}

/// Reads one value; the cell counts down.
struct Strict<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let left = self.0.get();
        if left == 0 {
            return Err(D::Error::custom("too many values"));
        }
        self.0.set(left - 1);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Strict(self.0))? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let (mut members, mut seen) = (Vec::new(), Seen::default());
        while let Some(key) = map.next_key::<String>()? {
            if seen.is_double(&key, &members) {
                return Err(A::Error::custom(DUPLICATE));
            }
            members.push((key, map.next_value_seed(Strict(self.0))?));
        }
        Ok(Json::Object(members))
    }
}

/// The keys of an object so far. Few are looked through; many get an index, so that no body takes quadratic time.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn is_double(&mut self, key: &str, members: &[(String, Json)]) -> bool {
        if members.len() < FEW_KEYS {
            return members.iter().any(|(other, _)| other == key);
        }
        if self.0.is_empty() {
            self.0.extend(members.iter().map(|(other, _)| other.clone()));
        }
        !self.0.insert(key.to_owned())
    }
}

/// What the error of a key that occurs twice begins with.
pub const DUPLICATE: &str = "duplicate key";
/// A tree takes many times the memory of its text: this bounds it.
pub const MOST_VALUES: usize = 300_000;

const FEW_KEYS: usize = 16;
/// A short conversation.
const TYPICAL_BYTES: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_that_occurs_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","mod\u0065l":"b"}"#,
            r#"{"a":[{"b":{"c":1,"c":2}}]}"#,
        ] {
            let error = Json::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(DUPLICATE), "{error}");
        }
        assert!(Json::parse(br#"{"a":{"x":1},"b":{"x":1}}"#).is_ok());
    }

    #[test]
    fn only_one_whole_finite_utf8_document_is_read() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let many = format!("[{}0]", "0,".repeat(MOST_VALUES));
        for bytes in [
            &b"{} {}"[..],
            b"",
            b"{\"a\":1e999}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":NaN}",
            b"{\"a\":1,}",
            deep.as_bytes(),
            many.as_bytes(),
        ] {
            assert!(Json::parse(bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(texts in prop::collection::vec(".*", 0..8), number in any::<i64>()) {
            let members = texts.iter().enumerate().map(|(at, text)| {
                (format!("{at}{text}"), Json::List(vec![Json::Text(text.clone()), Json::Number(number.into())]))
            });
            let value = Json::Object(members.collect());
            prop_assert_eq!(Json::parse(&value.to_bytes()).unwrap(), value);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(Json::parse(&bytes));
        }
    }
}
