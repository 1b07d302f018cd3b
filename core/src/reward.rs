//! What a verifier leaves behind: the reward, and reports of single tests.
//!
//! `reward.json` is preferred where both files exist. Only finite numbers count; anything else is the task's fault.

mod report;

use std::collections::BTreeMap;

use serde_json::Value;

pub use report::{Report, TestCase, TestStatus};

/// A reward by key. Text files have the one key `reward`.
pub type Rewards = BTreeMap<String, f64>;

/// Where the verifier leaves its reward, preferred.
pub const JSON_PATH: &str = "/logs/verifier/reward.json";
/// Where the verifier leaves its reward otherwise.
pub const TEXT_PATH: &str = "/logs/verifier/reward.txt";
/// The key of a reward that has only one.
pub const KEY: &str = "reward";
/// A reward file that is longer is refused.
pub const MAX_BYTES: usize = 1 << 20;

/// Why there is no valid reward.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidReward {
    /// Neither file exists.
    #[error("the verifier left neither reward.json nor reward.txt in /logs/verifier")]
    Missing,
    /// The file has no content.
    #[error("{file} is empty")]
    Empty {
        /// Which file.
        file: &'static str,
    },
    /// The file is longer than [`MAX_BYTES`].
    #[error("{file} is longer than 1 MiB")]
    TooBig {
        /// Which file.
        file: &'static str,
    },
    /// The text is not one number.
    #[error("reward.txt holds {0:?}; want one number")]
    NotANumber(String),
    /// The file is no JSON, or no object.
    #[error("reward.json {0}; want a flat object of numbers")]
    NotAnObject(String),
    /// A value is no number.
    #[error("reward.json: {key}: found {found}; want a number")]
    NotNumeric {
        /// The key.
        key: String,
        /// What stands there.
        found: &'static str,
    },
    /// A number is infinite or none.
    #[error("{file}: {key} is not finite")]
    NotFinite {
        /// Which file.
        file: &'static str,
        /// The key.
        key: String,
    },
}

/// Reads the reward out of the two files, each absent or whole.
pub fn read(json: Option<&[u8]>, text: Option<&[u8]>) -> Result<Rewards, InvalidReward> {
    match (json, text) {
        (Some(json), _) => read_json(json),
        (None, Some(text)) => read_text(text),
        (None, None) => Err(InvalidReward::Missing),
    }
}

/// The one number of a reward: the key `reward`, else the mean over the keys. `None` when there is no key.
pub fn score(rewards: &Rewards) -> Option<f64> {
    if let Some(reward) = rewards.get(KEY) {
        return Some(*reward);
    }
    mean(rewards.values().copied(), rewards.len())
}

/// The rewards of several steps, key by key: the mean over the steps that have a result; a missing key counts 0.
pub fn mean_of_steps(steps: &[Option<Rewards>]) -> Option<Rewards> {
    let results: Vec<&Rewards> = steps.iter().flatten().collect();
    if results.is_empty() {
        return None;
    }
    let keys: std::collections::BTreeSet<&String> =
        results.iter().flat_map(|rewards| rewards.keys()).collect();
    let value = |key: &String| {
        let values = results
            .iter()
            .map(|rewards| rewards.get(key).copied().unwrap_or(0.0));
        mean(values, results.len()).unwrap_or(0.0)
    };
    Some(keys.into_iter().map(|key| (key.clone(), value(key))).collect())
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> Option<f64> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(values.sum::<f64>() / f64::from(count))
}

fn read_json(bytes: &[u8]) -> Result<Rewards, InvalidReward> {
    const FILE: &str = "reward.json";
    check_size(FILE, bytes)?;
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        // The reader knows no infinity: `1e309` is told as what it is.
        if error.to_string().starts_with("number out of range") {
            InvalidReward::NotFinite {
                file: FILE,
                key: "a number".to_owned(),
            }
        } else {
            InvalidReward::NotAnObject(format!("is no JSON ({error})"))
        }
    })?;
    let Value::Object(object) = value else {
        return Err(InvalidReward::NotAnObject(format!("holds {}", kind(&value))));
    };
    object
        .into_iter()
        .map(|(key, value)| number(&key, &value).map(|number| (key, number)))
        .collect()
}

fn number(key: &str, value: &Value) -> Result<f64, InvalidReward> {
    let found = || InvalidReward::NotNumeric {
        key: key.to_owned(),
        found: kind(value),
    };
    let number = value.as_f64().ok_or_else(found)?;
    if number.is_finite() {
        Ok(number)
    } else {
        Err(InvalidReward::NotFinite {
            file: "reward.json",
            key: key.to_owned(),
        })
    }
}

fn read_text(bytes: &[u8]) -> Result<Rewards, InvalidReward> {
    const FILE: &str = "reward.txt";
    check_size(FILE, bytes)?;
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let reward: f64 = text
        .parse()
        .map_err(|_| InvalidReward::NotANumber(text.chars().take(40).collect()))?;
    if !reward.is_finite() {
        return Err(InvalidReward::NotFinite {
            file: FILE,
            key: KEY.to_owned(),
        });
    }
    Ok(Rewards::from([(KEY.to_owned(), reward)]))
}

fn check_size(file: &'static str, bytes: &[u8]) -> Result<(), InvalidReward> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(InvalidReward::Empty { file });
    }
    if bytes.len() > MAX_BYTES {
        return Err(InvalidReward::TooBig { file });
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Rewards, InvalidReward> {
        read(Some(text.as_bytes()), None)
    }

    fn text(text: &str) -> Result<Rewards, InvalidReward> {
        read(None, Some(text.as_bytes()))
    }

    #[test]
    fn json_is_preferred_and_may_have_many_keys() {
        let rewards = read(Some(br#"{"a": 1, "b": 0.5}"#), Some(b"0")).unwrap();
        assert_eq!(score(&rewards), Some(0.75));
        assert_eq!(score(&json(r#"{"a": 1, "reward": 0.25}"#).unwrap()), Some(0.25));
        assert_eq!(score(&text(" 1\n").unwrap()), Some(1.0));
        assert_eq!(score(&text("1e-3").unwrap()), Some(0.001));
    }

    #[test]
    fn whatever_is_no_finite_number_is_refused() {
        assert_eq!(read(None, None), Err(InvalidReward::Missing));
        for empty in ["", " \n"] {
            assert!(
                matches!(text(empty), Err(InvalidReward::Empty { .. })),
                "{empty:?}"
            );
            assert!(
                matches!(json(empty), Err(InvalidReward::Empty { .. })),
                "{empty:?}"
            );
        }
        for bad in ["nan", "inf", "-Infinity", "1e309"] {
            assert!(matches!(text(bad), Err(InvalidReward::NotFinite { .. })), "{bad}");
        }
        for bad in ["one", "1 2", "1,5", "0x1", "[1]", "\0"] {
            assert!(matches!(text(bad), Err(InvalidReward::NotANumber(_))), "{bad}");
        }
        for bad in ["[1]", "1", "null", "\"1\"", "{", "{\"a\": NaN}", "{\"a\": 1} {}"] {
            assert!(matches!(json(bad), Err(InvalidReward::NotAnObject(_))), "{bad}");
        }
        for bad in [
            r#"{"a":"1"}"#,
            r#"{"a":true}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":null}"#,
        ] {
            assert!(
                matches!(json(bad), Err(InvalidReward::NotNumeric { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            json(r#"{"a":1e309}"#),
            Err(InvalidReward::NotFinite { .. })
        ));
        assert_eq!(score(&json("{}").unwrap()), None);
    }

    #[test]
    fn a_step_without_a_key_counts_zero_and_one_without_a_result_not_at_all() {
        let steps = [json(r#"{"a":1,"b":1}"#).ok(), None, json(r#"{"a":0}"#).ok()];
        let rewards = mean_of_steps(&steps).unwrap();
        assert_eq!((rewards["a"], rewards["b"]), (0.5, 0.5));
        assert_eq!(mean_of_steps(&[None, None]), None);
    }
}
