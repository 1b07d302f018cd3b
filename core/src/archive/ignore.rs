//! The ignore rules of a task's folder, in gitignore syntax.

/// Which entries are left out.
pub(super) struct Ignored {
    root: Vec<Rule>,
    harbor: Vec<(String, Vec<Rule>)>,
}

impl Ignored {
    /// With the text of the root's `.gitignore`, or the defaults where there is none.
    pub(super) fn new(gitignore: Option<&str>) -> Self {
        Self {
            root: rules(gitignore.unwrap_or(DEFAULTS)),
            harbor: Vec::new(),
        }
    }

    /// Does a `.harborignore` count in that folder?
    pub(super) fn has_harbor_rules(directory: &str) -> bool {
        let parts: Vec<&str> = directory.split('/').collect();
        let is_scope = |part: &str| part == "tests" || part == "solution";
        match parts.as_slice() {
            ["steps", _, scope, ..] | [scope, ..] => is_scope(scope),
            [] => false,
        }
    }

    /// Takes the `.harborignore` of a folder.
    pub(super) fn enter(&mut self, directory: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.harbor.push((format!("{directory}/"), rules(text)));
        }
    }

    /// Is the entry left out? Its folder is not.
    pub(super) fn covers(&self, path: &str, is_directory: bool) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == ".git" || name == ".harborignore" || decide(&self.root, path, is_directory) == Some(true) {
            return true;
        }
        self.harbor
            .iter()
            .filter_map(|(directory, rules)| {
                decide(rules, path.strip_prefix(directory.as_str())?, is_directory)
            })
            .next_back()
            .unwrap_or(false)
    }
}

/// One line.
struct Rule {
    pattern: Vec<char>,
    ignores: bool,
    directories_only: bool,
    is_anchored: bool,
}

/// The last rule that matches decides.
fn decide(rules: &[Rule], path: &str, is_directory: bool) -> Option<bool> {
    rules
        .iter()
        .rev()
        .find(|rule| rule.matches(path, is_directory))
        .map(|rule| rule.ignores)
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\r', ' ']);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (ignores, line) = line.strip_prefix('!').map_or((true, line), |line| (false, line));
        let line = line
            .strip_prefix('\\')
            .filter(|rest| rest.starts_with(['#', '!']))
            .unwrap_or(line);
        let (directories_only, line) = line.strip_suffix('/').map_or((false, line), |line| (true, line));
        let is_anchored = line.contains('/');
        let line = line.strip_prefix('/').unwrap_or(line);
        (!line.is_empty()).then(|| Self {
            pattern: line.chars().collect(),
            ignores,
            directories_only,
            is_anchored,
        })
    }

    fn matches(&self, path: &str, is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        let subject = if self.is_anchored {
            path
        } else {
            path.rsplit('/').next().unwrap_or(path)
        };
        glob(&self.pattern, &subject.chars().collect::<Vec<_>>())
    }
}

/// Shell patterns: `*` and `?` stop at `/`, `**` does not. A budget ends patterns made to take for ever.
fn glob(pattern: &[char], text: &[char]) -> bool {
    matches_within(pattern, text, &mut 100_000)
}

fn matches_within(pattern: &[char], text: &[char], budget: &mut u32) -> bool {
    *budget = budget.saturating_sub(1);
    if *budget == 0 {
        return false;
    }
    match pattern {
        [] => text.is_empty(),
        ['*', '*', '/', rest @ ..] => {
            matches_within(rest, text, budget)
                || text
                    .iter()
                    .enumerate()
                    .filter(|(_, char)| **char == '/')
                    .any(|(at, _)| matches_within(rest, &text[at + 1..], budget))
        }
        ['*', '*'] => true,
        ['*', rest @ ..] => {
            let end = text.iter().position(|char| *char == '/').unwrap_or(text.len());
            (0..=end).any(|at| matches_within(rest, &text[at..], budget))
        }
        ['?', rest @ ..] => match text {
            [first, tail @ ..] => *first != '/' && matches_within(rest, tail, budget),
            [] => false,
        },
        ['[', rest @ ..] => match (class(rest), text) {
            (Some((class, rest)), [first, tail @ ..]) => {
                *first != '/' && class.holds(*first) && matches_within(rest, tail, budget)
            }
            (Some(_), []) => false,
            (None, _) => literal('[', rest, text, budget),
        },
        ['\\', escaped, rest @ ..] => literal(*escaped, rest, text, budget),
        [first, rest @ ..] => literal(*first, rest, text, budget),
    }
}

fn literal(want: char, rest: &[char], text: &[char], budget: &mut u32) -> bool {
    matches!(text, [first, tail @ ..] if *first == want && matches_within(rest, tail, budget))
}

/// `[a-z]`, `[!a-z]`.
struct Class<'p> {
    members: &'p [char],
    is_negated: bool,
}

impl Class<'_> {
    fn holds(&self, char: char) -> bool {
        let mut rest = self.members;
        let mut found = false;
        while let [first, tail @ ..] = rest {
            if let ['-', last, tail @ ..] = tail {
                found |= (*first..=*last).contains(&char);
                rest = tail;
            } else {
                found |= *first == char;
                rest = tail;
            }
        }
        found != self.is_negated
    }
}

fn class(pattern: &[char]) -> Option<(Class<'_>, &[char])> {
    let (is_negated, pattern) = match pattern {
        ['!' | '^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let end = pattern.iter().skip(1).position(|char| *char == ']')? + 1;
    Some((
        Class {
            members: &pattern[..end],
            is_negated,
        },
        &pattern[end + 1..],
    ))
}

fn rules(text: &str) -> Vec<Rule> {
    text.lines().filter_map(Rule::parse).collect()
}

const DEFAULTS: &str = "__pycache__/\n*.pyc\n.DS_Store\n*.swp\n*.swo\n*~\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_git_means() {
        for (pattern, path, is_directory, covered) in [
            ("*.pyc", "a/b.pyc", false, true),
            ("/a", "a", false, true),
            ("/a", "b/a", false, false),
            ("a/", "a", false, false),
            ("a/", "b/a", true, true),
            ("a/*.txt", "a/b.txt", false, true),
            ("a/*.txt", "a/b/c.txt", false, false),
            ("**/x", "x", false, true),
            ("**/x", "a/b/x", false, true),
            ("a/**/x", "a/x", false, true),
            ("a/**/x", "a/b/c/x", false, true),
            ("[a-c]?", "bz", false, true),
            ("[!a-c]?", "bz", false, false),
            ("*\n!keep", "keep", false, false),
            ("\\#x", "#x", false, true),
        ] {
            assert_eq!(
                Ignored::new(Some(pattern)).covers(path, is_directory),
                covered,
                "{pattern} {path}"
            );
        }
        assert!(Ignored::new(None).covers("environment/__pycache__", true));
    }
}
