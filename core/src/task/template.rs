//! `${VAR}` and `${VAR:-default}`: resolved from an evaluation's named values, never from a process environment.

use std::collections::BTreeMap;

/// A value that needs a name which the evaluation does not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: the evaluation gives no value named `{name}`, and the template has no default")]
pub struct Unresolved {
    /// The key of `task.toml`, e.g. `verifier.env.API_KEY`.
    pub key: String,
    /// The name that is missing.
    pub name: String,
}

/// A value as it will stand in the environment. Only a value that is a template as a whole is one.
pub fn resolve(key: &str, value: &str, values: &BTreeMap<String, String>) -> Result<String, Unresolved> {
    let Some((name, default)) = whole(value) else {
        return Ok(value.to_owned());
    };
    match (values.get(name), default) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unresolved {
            key: key.to_owned(),
            name: name.to_owned(),
        }),
    }
}

/// Every value of a table, e.g. of `verifier.env`.
pub fn resolve_all(
    key: &str,
    env: &BTreeMap<String, String>,
    values: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Unresolved> {
    env.iter()
        .map(|(name, value)| Ok((name.clone(), resolve(&format!("{key}.{name}"), value, values)?)))
        .collect()
}

/// The names that a table's templates ask for.
pub fn names(env: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, Option<&str>)> {
    env.values().filter_map(|value| whole(value))
}

/// Name and default of a value that is a template as a whole.
fn whole(value: &str) -> Option<(&str, Option<&str>)> {
    let inner = value.strip_prefix("${")?.strip_suffix('}')?;
    let end = inner.find(['}', ':']).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    match rest.strip_prefix(":-") {
        Some(default) if !default.contains('\n') => Some((name, Some(default))),
        None if rest.is_empty() => Some((name, None)),
        _ => None,
    }
}

/// Does a text hold a `${` that begins no template?
pub(super) fn has_malformed(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        match embedded(&rest[start..]) {
            Some(template) if !template.default.is_some_and(|default| default.contains("${")) => {
                rest = &rest[start + template.length..];
            }
            _ => return true,
        }
    }
    false
}

/// Does a header hold a credential itself, instead of the name of one?
pub(super) fn has_literal_credential(header: &str, text: &str) -> bool {
    let is_sensitive_header =
        is_sensitive(header) || ["cookie", "set-cookie"].contains(&header.to_lowercase().as_str());
    let has_default = templates(text).any(|template| {
        template.default.is_some_and(|default| !default.is_empty())
            && (is_sensitive_header || is_sensitive(template.name))
    });
    has_default || (is_sensitive_header && !text.trim().is_empty() && !is_templated_credential(text))
}

struct Template<'a> {
    name: &'a str,
    default: Option<&'a str>,
    length: usize,
}

/// The template that a text begins with.
fn embedded(text: &str) -> Option<Template<'_>> {
    let inner = text.strip_prefix("${")?;
    let is_first = |char: char| char.is_ascii_alphabetic() || char == '_';
    let is_inner = |char: char| char.is_ascii_alphanumeric() || char == '_';
    if !inner.starts_with(is_first) {
        return None;
    }
    let name = &inner[..inner.find(|char| !is_inner(char)).unwrap_or(inner.len())];
    let rest = &inner[name.len()..];
    if rest.starts_with('}') {
        return Some(Template {
            name,
            default: None,
            length: "${}".len() + name.len(),
        });
    }
    let default = rest.strip_prefix(":-")?;
    let default = &default[..default.find('}')?];
    let length = "${:-}".len() + name.len() + default.len();
    Some(Template {
        name,
        default: Some(default),
        length,
    })
}

fn templates(text: &str) -> impl Iterator<Item = Template<'_>> {
    text.match_indices("${")
        .filter_map(|(at, _)| embedded(&text[at..]))
}

/// `${VAR}`s without a default, after a scheme at most, with nothing but separators between.
fn is_templated_credential(text: &str) -> bool {
    let text = text.trim();
    let mut rest = match text.split_once(char::is_whitespace) {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => rest.trim_start(),
        _ => text,
    };
    loop {
        let Some(template) = embedded(rest) else {
            return false;
        };
        if template.default.is_some_and(|default| !default.is_empty()) {
            return false;
        }
        rest = rest[template.length..]
            .trim_start_matches(|char: char| char.is_whitespace() || ":-".contains(char));
        if rest.is_empty() {
            return !text.ends_with([':', '-']);
        }
    }
}

/// Does a name speak of a secret? `TOKENS` counts something, `TOKEN` is one.
pub fn is_sensitive(name: &str) -> bool {
    let name = name.to_uppercase();
    ["KEY", "SECRET", "PASSWORD", "CREDENTIAL", "AUTH"]
        .iter()
        .any(|word| name.contains(word))
        || name
            .match_indices("TOKEN")
            .any(|(at, word)| !name[at + word.len()..].starts_with('S'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_are_templates() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (value, want) in [
            ("${A}", Ok("1")),
            ("${A:-2}", Ok("1")),
            ("${B:-2}", Ok("2")),
            ("${B:-}", Ok("")),
            ("${B:-${C}}", Ok("${C}")),
            ("x${A}", Ok("x${A}")),
            ("$A", Ok("$A")),
            ("${}", Ok("${}")),
            ("${B:+2}", Ok("${B:+2}")),
            ("${B}", Err("B")),
        ] {
            let got = resolve("verifier.env.K", value, &values);
            match want {
                Ok(want) => assert_eq!(got.as_deref(), Ok(want), "{value}"),
                Err(name) => assert_eq!(got.unwrap_err().name, name, "{value}"),
            }
        }
    }

    #[test]
    fn credentials_are_named_never_written() {
        for (header, text, is_literal) in [
            ("Authorization", "Bearer ${TOKEN}", false),
            ("Authorization", "Bearer abc", true),
            ("Authorization", "Token ${KEY_ID}:${SECRET}", false),
            ("Authorization", "Bearer ${TOKEN:-abc}", true),
            ("Accept", "text/plain", false),
            ("Accept", "${API_KEY:-abc}", true),
            ("Cookie", "a=b", true),
        ] {
            assert_eq!(
                has_literal_credential(header, text),
                is_literal,
                "{header}: {text}"
            );
        }
        assert!(has_malformed("${1}") && has_malformed("a ${B") && !has_malformed("${B} ${C:-d}"));
    }
}
