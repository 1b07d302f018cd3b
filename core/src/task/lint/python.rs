//! Python packages without a version: what is installed tomorrow may be another program.

use super::{Warning, warn};
use crate::archive::Files;

/// Looks for `pip install` and its relatives in a Dockerfile or a shell script.
pub(super) fn check_commands(path: &str, text: &str, found: &mut Vec<Warning>) {
    for (number, line) in joined(text) {
        for command in line.split(['&', ';', '|', '(', ')']) {
            let words = command
                .split_whitespace()
                .take_while(|word| !word.starts_with('#'));
            let words: Vec<&str> = words.map(unquote).collect();
            for package in unpinned(&words) {
                let message = format!("{path} line {number}: {package} has no version (want {package}==…)");
                warn(found, RULE, message);
            }
        }
    }
}

/// Looks into the `requirements*.txt` of the image and of the tests.
pub(super) fn check_requirements(files: &Files, found: &mut Vec<Warning>) {
    let is_list = |path: &&String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let belongs = path.starts_with("environment/") || path.contains("tests/");
        belongs
            && name.starts_with("requirements")
            && name.rsplit_once('.').is_some_and(|(_, end)| end == "txt")
    };
    for path in files.entries().keys().filter(is_list) {
        let text = files.text(path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let requirement = line.split(" #").next().unwrap_or_default().trim();
            let is_option = requirement.starts_with(['-', '#']);
            if !requirement.is_empty() && !is_option && is_loose(requirement) {
                let message = format!("{path} line {}: {requirement} has no version", number + 1);
                warn(found, RULE, message);
            }
        }
    }
}

/// The packages without a version that a command installs.
fn unpinned<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let install = words.windows(2).position(|pair| {
        let program = pair[0].rsplit('/').next().unwrap_or_default();
        program.starts_with("pip") && pair[1] == "install"
    });
    if let Some(at) = install {
        return positional(&words[at + 2..]);
    }
    if let Some(at) = words.iter().position(|word| *word == "uvx") {
        return with_packages(&words[at + 1..]);
    }
    Vec::new()
}

fn positional<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut loose = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(word) {
            words.next();
        } else if word.starts_with(['>', '<']) || *word == "2>" {
            break;
        } else if !word.starts_with('-') && is_loose(word) {
            loose.push(*word);
        }
    }
    loose
}

/// Of `uvx`: the values of `-w` and `--with`; what it runs comes last.
fn with_packages<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words
        .windows(2)
        .filter(|pair| ["-w", "--with"].contains(&pair[0]) && is_loose(pair[1]))
        .map(|pair| pair[1])
        .collect()
}

/// Is it a package's name, and nothing says which version?
fn is_loose(requirement: &str) -> bool {
    let is_name = requirement.starts_with(|first: char| first.is_ascii_alphanumeric());
    let says = ["==", "@", "/", "$", ".whl", ".tar.gz", "\\"];
    is_name && !says.iter().any(|sign| requirement.contains(sign))
}

/// Lines with their number, continuations joined, comments left out.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let part = line.trim_end();
        let (part, goes_on) = part.strip_suffix('\\').map_or((part, false), |part| (part, true));
        match all.last_mut().filter(|_| open) {
            Some((_, whole)) => {
                whole.push(' ');
                whole.push_str(part);
            }
            None => all.push((index + 1, part.to_owned())),
        }
        open = goes_on;
    }
    all
}

fn unquote(word: &str) -> &str {
    word.trim_matches(['"', '\'', '[', ']', ','])
}

const RULE: &str = "unpinned-python-dependency";
const WITH_VALUE: &[&str] = &[
    "-r",
    "--requirement",
    "-c",
    "--constraint",
    "-e",
    "--editable",
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "-t",
    "--target",
    "--prefix",
    "--root",
    "--retries",
    "--timeout",
    "--trusted-host",
    "--python",
    "--only-binary",
    "--no-binary",
    "--platform",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check_commands("x", text, &mut found);
        let name = |warning: &Warning| {
            warning
                .message
                .split_whitespace()
                .nth(3)
                .unwrap_or_default()
                .to_owned()
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn only_packages_without_a_version_are_named() {
        for (text, want) in [
            (
                "RUN pip install --no-cache-dir --retries 3 pytest==8.4.1 numpy",
                vec!["numpy"],
            ),
            (
                "RUN apt-get install curl && python3 -m pip install \\\n  a \\\n  # b\n  'c>=1' && rm x",
                vec!["a", "c>=1"],
            ),
            (
                "pip3 install -r requirements.txt -e . ./wheel.whl git+https://x.org/y $PACKAGES",
                vec![],
            ),
            ("# pip install a\npip install a # b", vec!["a"]),
            (
                "uvx -p 3.13 -w pytest==8.4.1 -w requests pytest",
                vec!["requests"],
            ),
            ("RUN [\"pip\", \"install\", \"a\"]", vec!["a"]),
            ("echo installing pip; install x", vec![]),
        ] {
            assert_eq!(packages(text), want, "{text}");
        }
    }
}
