//! Reads values out of a TOML document and tells each fault with line, column and key path.
//!
//! Values are taken the way Harbor's own parser takes them: a number may be written as text, a whole float is an
//! integer, `1` is a flag. Keys that nobody asked for are kept in the document and become warnings.

use std::cell::RefCell;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{InvalidTask, Place, Warning};

/// A document under reading: its text and what was found worth a warning.
pub(super) struct Document<'a> {
    text: &'a str,
    warnings: RefCell<Vec<Warning>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            warnings: RefCell::default(),
        }
    }

    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, InvalidTask> {
        DeTable::parse(self.text).map_err(|error| InvalidTask::Syntax {
            place: self.place(error.span().map_or(0, |span| span.start)),
            message: error.message().trim().replace('\n', ", "),
        })
    }

    pub(super) fn root<'d>(&'d self, table: &'d Spanned<DeTable<'a>>) -> Table<'d, 'a> {
        Table {
            document: self,
            path: String::new(),
            at: 0,
            content: table.get_ref(),
            known: Vec::new(),
        }
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings.into_inner()
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One value and the way to it.
pub(super) struct Value<'d, 'a> {
    document: &'d Document<'a>,
    path: String,
    spanned: &'d Spanned<DeValue<'a>>,
}

impl<'d, 'a> Value<'d, 'a> {
    pub(super) fn fault(&self, message: impl Into<String>) -> InvalidTask {
        InvalidTask::Value {
            key: self.path.clone(),
            place: self.document.place(self.spanned.span().start),
            message: message.into(),
        }
    }

    fn wanted(&self, wanted: &str) -> InvalidTask {
        self.fault(format!("want {wanted}, found {}", self.raw().type_str()))
    }

    pub(super) fn raw(&self) -> &'d DeValue<'a> {
        self.spanned.get_ref()
    }

    pub(super) fn text(&self) -> Result<String, InvalidTask> {
        self.raw()
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.wanted("a string"))
    }

    pub(super) fn float(&self) -> Result<f64, InvalidTask> {
        float_of(self.raw()).ok_or_else(|| self.wanted("a number"))
    }

    pub(super) fn integer(&self) -> Result<i64, InvalidTask> {
        integer_of(self.raw()).ok_or_else(|| self.wanted("an integer"))
    }

    pub(super) fn flag(&self) -> Result<bool, InvalidTask> {
        let word = match self.raw() {
            DeValue::Boolean(flag) => return Ok(*flag),
            DeValue::String(text) => text.to_lowercase(),
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => match float_of(other) {
                Some(0.0) => return Ok(false),
                Some(1.0) => return Ok(true),
                _ => return Err(self.wanted("true or false")),
            },
        };
        match word.as_str() {
            "1" | "on" | "t" | "true" | "y" | "yes" => Ok(true),
            "0" | "off" | "f" | "false" | "n" | "no" => Ok(false),
            _ => Err(self.wanted("true or false")),
        }
    }

    pub(super) fn list<T>(
        &self,
        read: impl Fn(Self) -> Result<T, InvalidTask>,
    ) -> Result<Vec<T>, InvalidTask> {
        let items = self.raw().as_array().ok_or_else(|| self.wanted("a list"))?;
        items
            .iter()
            .enumerate()
            .map(|(index, spanned)| {
                read(Value {
                    document: self.document,
                    path: format!("{}[{index}]", self.path),
                    spanned,
                })
            })
            .collect()
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, InvalidTask> {
        self.list(|item| item.text())
    }

    /// A table with any keys.
    pub(super) fn map<T, M: FromIterator<(String, T)>>(
        &self,
        read: impl Fn(Self) -> Result<T, InvalidTask>,
    ) -> Result<M, InvalidTask> {
        let table = self.raw().as_table().ok_or_else(|| self.wanted("a table"))?;
        table
            .iter()
            .map(|(key, spanned)| {
                let value = Value {
                    document: self.document,
                    path: join(&self.path, key.get_ref()),
                    spanned,
                };
                Ok((key.get_ref().to_string(), read(value)?))
            })
            .collect()
    }

    pub(super) fn table(&self) -> Result<Table<'d, 'a>, InvalidTask> {
        let table = self.raw().as_table().ok_or_else(|| self.wanted("a table"))?;
        let (document, path, at) = (self.document, self.path.clone(), self.spanned.span().start);
        Ok(Table {
            document,
            path,
            at,
            content: table,
            known: Vec::new(),
        })
    }
}

/// A table whose keys are known by name. Asking for a key makes it known.
pub(super) struct Table<'d, 'a> {
    document: &'d Document<'a>,
    path: String,
    at: usize,
    content: &'d DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'d, 'a> Table<'d, 'a> {
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'d, 'a>> {
        self.known.push(key);
        let spanned = self.content.get(key)?;
        Some(Value {
            document: self.document,
            path: join(&self.path, key),
            spanned,
        })
    }

    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Value<'d, 'a>) -> Result<T, InvalidTask>,
    ) -> Result<Option<T>, InvalidTask> {
        self.get(key).map(read).transpose()
    }

    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Value<'d, 'a>) -> Result<T, InvalidTask>,
    ) -> Result<T, InvalidTask> {
        self.read(key, read)?.ok_or_else(|| self.fault(key, "is missing"))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, InvalidTask> {
        self.read(key, |value| value.text())
    }

    pub(super) fn float(&mut self, key: &'static str) -> Result<Option<f64>, InvalidTask> {
        self.read(key, |value| value.float())
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Result<Option<i64>, InvalidTask> {
        self.read(key, |value| value.integer())
    }

    pub(super) fn fault(&self, key: &str, message: impl Into<String>) -> InvalidTask {
        let at = self.content.get(key).map_or(self.at, |value| value.span().start);
        let key = join(&self.path, key);
        InvalidTask::Value {
            key,
            place: self.document.place(at),
            message: message.into(),
        }
    }

    /// Warns about a key that is known but old.
    pub(super) fn deprecated(&self, key: &str, instead: &str) {
        self.warn("deprecated-field", key, &format!("is old; write {instead}"));
    }

    /// Every key that nobody asked for becomes a warning.
    pub(super) fn finish(self) {
        for (key, value) in self.content {
            let key = key.get_ref();
            if self.known.iter().any(|known| *known == key.as_ref()) {
                continue;
            }
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), *known))
                .min()
                .filter(|(distance, known)| *distance * 3 <= known.len().max(key.len()));
            let guess = nearest.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
            let Place { line, column } = self.document.place(value.span().start);
            let message = format!("line {line}, column {column}: is not a key that is known{guess}");
            self.warn("unknown-config-field", key, &message);
        }
    }

    fn warn(&self, rule: &'static str, key: &str, message: &str) {
        let message = format!("{}: {message}", join(&self.path, key));
        self.document
            .warnings
            .borrow_mut()
            .push(Warning { rule, message });
    }
}

/// A number as Harbor's parser takes it.
pub(super) fn float_of(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        DeValue::Boolean(flag) => Some(f64::from(u8::from(*flag))),
        DeValue::String(text) => number_text(text),
        DeValue::Integer(_) =>
        {
            #[expect(clippy::cast_precision_loss, reason = "as the reference parser rounds")]
            integer_of(value).map(|integer| integer as f64)
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// An integer as Harbor's parser takes it.
pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(integer) => {
            i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
        }
        DeValue::Boolean(flag) => Some(i64::from(*flag)),
        DeValue::Float(_) => whole(float_of(value)?),
        DeValue::String(text) => {
            let text = text.trim();
            let digits = text.split_once('.').map_or(text, |(whole, zeros)| {
                if zeros.bytes().all(|byte| byte == b'0') {
                    whole
                } else {
                    text
                }
            });
            integer_text(digits)
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The integer that a whole float stands for.
fn whole(float: f64) -> Option<i64> {
    if float.fract() != 0.0 || float.abs() > MAX_WHOLE {
        return None;
    }
    format!("{float:.0}").parse().ok()
}

fn integer_text(text: &str) -> Option<i64> {
    let is_grouped = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    is_grouped.then(|| text.replace('_', "").parse().ok()).flatten()
}

fn number_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_plain.then(|| text.parse().ok()).flatten()
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

const MAX_WHOLE: f64 = 9.0e18;
