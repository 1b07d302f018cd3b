//! Which images a Dockerfile starts from. Engines say whether they have them.

use std::collections::{BTreeMap, BTreeSet};

use assay_core::{
    digest::{Digest, Hasher},
    dockerfile::without_heredocs,
};

use crate::ImageSpec;

/// The images that the Dockerfile starts from. One that cannot be read is left to the builder.
pub async fn of(spec: &ImageSpec) -> BTreeSet<String> {
    match tokio::fs::read_to_string(spec.context.join(&spec.dockerfile)).await {
        Ok(text) => bases(&without_heredocs(&text), &spec.args),
        Err(_) => BTreeSet::new(),
    }
}

/// What names the result: what it is built from, with the content of each base image. A base that moves on under its
/// name makes another image.
pub(crate) fn key<'a>(spec: &ImageSpec, contents: impl IntoIterator<Item = &'a str>) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(spec.key.bytes());
    for content in contents {
        hasher.update(content.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finish()
}

/// Every image named by `FROM` or `--from=` that is neither `scratch` nor a stage of the same file.
fn bases(text: &str, args: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: Vec<String> = Vec::new();
    let mut found = BTreeSet::new();
    let mut before_first_stage = true;
    for line in instructions(text) {
        let mut words = line.split_whitespace();
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "ARG" if before_first_stage => {
                for word in words {
                    let (name, default) = word.split_once('=').unwrap_or((word, ""));
                    let given = args.get(name).map_or_else(|| unquote(default), String::as_str);
                    values.insert(name.to_owned(), given.to_owned());
                }
            }
            "FROM" => {
                before_first_stage = false;
                let words: Vec<&str> = words.filter(|word| !word.starts_with("--")).collect();
                let image = expand(words.first().copied().unwrap_or_default(), &values);
                if !image.is_empty() && image != "scratch" && !stages.contains(&image.to_lowercase()) {
                    found.insert(image);
                }
                stages.push(words.get(2).copied().unwrap_or_default().to_lowercase());
            }
            "COPY" => {
                let from = words.take_while(|word| word.starts_with("--"));
                found.extend(
                    from.filter_map(|word| word.strip_prefix("--from="))
                        .map(|image| expand(image, &values))
                        .filter(|image| {
                            image.parse::<usize>().is_err() && !stages.contains(&image.to_lowercase())
                        }),
                );
            }
            _ => {}
        }
    }
    found
}

/// Lines without comments, with continuations joined.
fn instructions(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some(part) = line.trim_end().strip_suffix('\\') {
            current.push_str(part);
            current.push(' ');
        } else {
            current.push_str(line);
            all.push(std::mem::take(&mut current));
        }
    }
    all.push(current);
    all
}

/// `$NAME`, `${NAME}` and `${NAME:-default}`.
fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = unquote(text);
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, default, next) =
            if let Some((inner, next)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                let (name, default) = inner.split_once(":-").unwrap_or((inner, ""));
                (name, default, next)
            } else {
                let end = after
                    .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                    .unwrap_or(after.len());
                (&after[..end], "", &after[end..])
            };
        let value = values
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty());
        result.push_str(value.unwrap_or(default));
        rest = next;
    }
    result.push_str(rest);
    result
}

fn unquote(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, args: &[(&str, &str)]) -> Vec<String> {
        let args = args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        bases(text, &args.collect()).into_iter().collect()
    }

    #[test]
    fn stages_and_scratch_are_no_bases() {
        let text = "FROM --platform=linux/amd64 debian:12 AS build\nRUN x\nFROM scratch\nCOPY --from=build a b\n\
                    COPY --from=0 a b\nCOPY --from=alpine:3 a b\nFROM Build\n";
        assert_eq!(found(text, &[]), ["alpine:3", "debian:12"]);
    }

    #[test]
    fn arguments_before_the_first_stage_are_filled_in() {
        let text = "# syntax=x\nARG TAG=3.12 BASE\nFROM \\\n  ${BASE:-python}:$TAG-slim\n";
        assert_eq!(found(text, &[]), ["python:3.12-slim"]);
        assert_eq!(
            found(text, &[("TAG", "3.13"), ("BASE", "pypy")]),
            ["pypy:3.13-slim"]
        );
    }
}
