//! Dockerfiles: here-documents of `RUN`, written in a way that builders without them understand.

use std::borrow::Cow;

/// Turns each `RUN` that has here-documents into its list form, which holds the whole script on one line. Blank lines keep
/// the numbers of the lines below. What is written otherwise stays as it is, for the builder to judge.
pub fn without_heredocs(text: &str) -> Cow<'_, str> {
    if !text.contains("<<") {
        return Cow::Borrowed(text);
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut result: Vec<String> = Vec::with_capacity(lines.len());
    let mut shell = default_shell();
    let mut at = 0;
    while at < lines.len() {
        let (instruction, next) = instruction(&lines, at);
        let word = instruction.split_whitespace().next().unwrap_or_default();
        let rest = instruction.trim_start()[word.len()..].trim();
        match word.to_ascii_uppercase().as_str() {
            "FROM" => shell = default_shell(),
            "SHELL" => shell = serde_json::from_str(rest).unwrap_or_else(|_| default_shell()),
            "RUN" => {
                if let Some((script, end)) = script(rest, &lines, next) {
                    let list: Vec<String> = shell.iter().cloned().chain([script]).collect();
                    result.push(format!(
                        "RUN {}",
                        serde_json::to_string(&list).unwrap_or_default()
                    ));
                    result.extend((at + 1..end).map(|_| String::new()));
                    at = end;
                    continue;
                }
            }
            _ => {}
        }
        result.extend(lines[at..next].iter().map(|line| (*line).to_owned()));
        at = next;
    }
    Cow::Owned(result.join("\n") + "\n")
}

/// An instruction with its continuations, and the line after it.
fn instruction(lines: &[&str], at: usize) -> (String, usize) {
    let mut whole = String::new();
    let mut next = at;
    while let Some(line) = lines.get(next) {
        next += 1;
        let is_comment = line.trim_start().starts_with('#');
        if is_comment && next > at + 1 {
            continue;
        }
        let Some(part) = line.trim_end().strip_suffix('\\').filter(|_| !is_comment) else {
            whole.push_str(line);
            break;
        };
        whole.push_str(part);
    }
    (whole, next)
}

/// What the shell is given, and the line after the last here-document. `None` where there is none, or one without an end.
fn script(command: &str, lines: &[&str], from: usize) -> Option<(String, usize)> {
    let markers = markers(command);
    if markers.is_empty() || command.starts_with("--") {
        return None;
    }
    let mut bodies = String::new();
    let mut next = from;
    for marker in &markers {
        loop {
            let line = lines.get(next)?;
            next += 1;
            let shown = if marker.strips_tabs {
                line.trim_start_matches('\t')
            } else {
                line
            };
            let is_end = shown == marker.word;
            // Alone on its line the document is the script itself, without the word that ends it.
            if !is_end || !marker.is_alone {
                bodies.push_str(line);
                bodies.push('\n');
            }
            if is_end {
                break;
            }
        }
    }
    if !markers.iter().any(|marker| marker.is_alone) {
        return Some((format!("{command}\n{bodies}"), next));
    }
    // A script with an interpreter of its own needs a file.
    (!bodies.starts_with("#!")).then_some((bodies, next))
}

struct Marker<'a> {
    word: &'a str,
    strips_tabs: bool,
    /// The command is nothing but this document.
    is_alone: bool,
}

/// The here-documents of a command, in order. `<<<` and shifts of numbers are none.
fn markers(command: &str) -> Vec<Marker<'_>> {
    let mut found = Vec::new();
    for (at, _) in command.match_indices("<<") {
        let after = &command[at + 2..];
        if command[..at].ends_with('<') || after.starts_with('<') {
            continue;
        }
        let strips_tabs = after.starts_with('-');
        let rest = after.trim_start_matches('-').trim_start_matches([' ', '"', '\'']);
        let is_first = |sign: char| sign.is_ascii_alphabetic() || sign == '_';
        let is_inner = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
        let end = rest.find(|sign| !is_inner(sign)).unwrap_or(rest.len());
        if rest.starts_with(is_first) {
            let is_alone = at == 0 && rest[end..].trim_matches(['"', '\'', ' ']).is_empty();
            found.push(Marker {
                word: &rest[..end],
                strips_tabs,
                is_alone,
            });
        }
    }
    found
}

fn default_shell() -> Vec<String> {
    ["/bin/sh", "-c"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_part_of_one_script_and_lines_keep_their_number() {
        let text =
            "FROM a\nRUN cat > /x <<'EOF' && \\\n  chmod +x /x\nfrom b import c\n  \"q\" \\\nEOF\nRUN true\n";
        let script = r#"cat > /x <<'EOF' &&   chmod +x /x\nfrom b import c\n  \"q\" \\\nEOF\n"#;
        let want = format!("FROM a\nRUN [\"/bin/sh\",\"-c\",\"{script}\"]\n\n\n\n\nRUN true\n");
        assert_eq!(without_heredocs(text), want);
    }

    #[test]
    fn a_document_alone_is_the_script_and_the_stages_shell_runs_it() {
        let text = "FROM a\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN <<EOF\necho 1\nEOF\nFROM b\nRUN <<-EOF\n\techo 2\n\tEOF\n";
        let want = "FROM a\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN [\"/bin/bash\",\"-ec\",\"echo 1\\n\"]\n\n\nFROM b\n\
                    RUN [\"/bin/sh\",\"-c\",\"\\techo 2\\n\"]\n\n\n";
        assert_eq!(without_heredocs(text), want);
    }

    #[test]
    fn what_is_no_document_stays_as_it_is() {
        for text in [
            "FROM a\nRUN echo $((1 << 2)) $((1<<a))\nRUN cat <<< x\n",
            "FROM a\nRUN cat <<EOF\nwithout end\n",
            "FROM a\nRUN --mount=type=cache,target=/c cat <<EOF\nx\nEOF\n",
            "FROM a\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n",
            "# <<EOF\nFROM a\n",
        ] {
            assert_eq!(without_heredocs(text), text);
        }
    }
}
