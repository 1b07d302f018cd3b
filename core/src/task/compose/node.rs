//! A value of the file with the way to it, read strictly: what has another type is refused by its key.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::InvalidTask;

/// A value and the way to it, e.g. `services.db.image`.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    file: &'a str,
    path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Self {
            file,
            path: String::new(),
            value,
        }
    }

    /// The sentence that says what is wrong with this value.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> InvalidTask {
        InvalidTask::Compose {
            path: self.file.to_owned(),
            key: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// That about something that is not there.
    pub(super) fn refuse_below(&self, key: &str, reason: impl Into<String>) -> InvalidTask {
        InvalidTask::Compose {
            path: self.file.to_owned(),
            key: self.below(key),
            reason: reason.into(),
        }
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        Self {
            file: self.file,
            path: self.below(key),
            value,
        }
    }

    /// The entries of a map. Nothing at all is an empty one.
    pub(super) fn map(&self) -> Result<Vec<(&'a str, Self)>, InvalidTask> {
        if self.value.is_null() {
            return Ok(Vec::new());
        }
        let map = self.value.as_object().ok_or_else(|| self.refuse("want a map"))?;
        Ok(map
            .iter()
            .map(|(key, value)| (key.as_str(), self.child(key, value)))
            .collect())
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Result<Vec<Self>, InvalidTask> {
        let Value::Array(items) = self.value else {
            return Err(self.refuse("want a list"));
        };
        Ok(items
            .iter()
            .enumerate()
            .map(|(index, value)| Self {
                file: self.file,
                path: format!("{}[{index}]", self.path),
                value,
            })
            .collect())
    }

    /// One item or a list of them.
    pub(super) fn one_or_list(&self) -> Result<Vec<Self>, InvalidTask> {
        if self.value.is_array() {
            self.list()
        } else {
            Ok(vec![self.clone()])
        }
    }

    /// A text. `$$` is a dollar; a single one would be filled in from somebody's environment.
    pub(super) fn text(&self) -> Result<String, InvalidTask> {
        let text = self.value.as_str().ok_or_else(|| self.refuse("want a text"))?;
        self.plain(text)
    }

    /// A text, a number or a flag, as it is written.
    pub(super) fn scalar(&self) -> Result<String, InvalidTask> {
        match self.value {
            Value::String(text) => self.plain(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(self.refuse("want a text or a number")),
        }
    }

    pub(super) fn flag(&self) -> Result<bool, InvalidTask> {
        let flag = self.value.as_bool();
        flag.ok_or_else(|| self.refuse("want true or false"))
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, InvalidTask> {
        self.list()?.iter().map(Self::scalar).collect()
    }

    /// A map of texts, or a list of `NAME=value`.
    pub(super) fn pairs(&self) -> Result<BTreeMap<String, String>, InvalidTask> {
        let pair = |name: &str, node: &Self, value: Option<String>| {
            let value = value.ok_or_else(|| {
                node.refuse(format!(
                    "`{name}` has no value here: none is taken from another environment"
                ))
            })?;
            if name.is_empty() || name.contains(['\0', '=']) {
                return Err(node.refuse("is no name of a variable"));
            }
            Ok((name.to_owned(), value))
        };
        if let Value::Array(_) = self.value {
            let items = self.list()?;
            return items
                .iter()
                .map(|node| {
                    let text = node.text()?;
                    let (name, value) = match text.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (text.as_str(), None),
                    };
                    pair(name, node, value)
                })
                .collect();
        }
        let entries = self.map()?;
        entries
            .iter()
            .map(|(name, node)| {
                let value = if node.value.is_null() {
                    None
                } else {
                    Some(node.scalar()?)
                };
                pair(name, node, value)
            })
            .collect()
    }

    fn plain(&self, text: &str) -> Result<String, InvalidTask> {
        if text.contains('\0') {
            return Err(self.refuse("holds a NUL"));
        }
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            let Some(after) = after.strip_prefix('$') else {
                return Err(self.refuse(
                    "holds a `$`: nothing is filled in from an environment; write the value, or `$$` for a dollar",
                ));
            };
            plain.push('$');
            rest = after;
        }
        plain.push_str(rest);
        Ok(plain)
    }
}
