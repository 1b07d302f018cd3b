//! What is printed: lines, JSON, tables. Nothing of a workload reaches a terminal unescaped.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::error::Error;

/// Standard output and how it is used.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// JSON instead of text.
    pub json: bool,
    /// Standard output is a terminal.
    pub is_terminal: bool,
}

impl Screen {
    /// Looks at standard output.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Prints a line.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn line(self, text: impl AsRef<str>) -> Result<(), Error> {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| closed(&error))
    }

    /// Prints what a workload wrote: as it is into a file or pipe, escaped on a terminal.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn untrusted(self, bytes: &[u8]) -> Result<(), Error> {
        if self.is_terminal {
            self.bytes(harmless(&String::from_utf8_lossy(bytes)).as_bytes())
        } else {
            self.bytes(bytes)
        }
    }

    /// Prints one JSON document on one line.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn document<T: Serialize>(self, value: &T) -> Result<(), Error> {
        let text = serde_json::to_string(value).map_err(|error| Error::Software(error.to_string()))?;
        self.line(text)
    }

    /// Says something beside the result, on standard error; in JSON mode nothing.
    pub fn note(self, text: impl AsRef<str>) {
        if !self.json {
            // A note that nobody can read any more is no reason to stop.
            writeln!(io::stderr(), "{}", text.as_ref()).unwrap_or_default();
        }
    }

    /// Prints a table.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn table(self, head: &[&str], rows: Vec<Vec<String>>) -> Result<(), Error> {
        self.line(table(head, rows))
    }
}

/// A table without lines, as wide as its content; an empty head is left out.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|word| word.to_uppercase()).collect();
    let head = Some(head).filter(|head| !head.is_empty());
    // A cell is one line, whatever a task or an agent put into its name.
    let plain = |row: Vec<String>| {
        row.iter()
            .map(|cell| harmless(cell).replace(['\n', '\t'], " "))
            .collect()
    };
    let rows: Vec<Vec<String>> = head.into_iter().chain(rows.into_iter().map(plain)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell: &String| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Control characters (but line feed and tab) become visible, so that no escape sequence reaches a terminal.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\n' | '\t' => letter.to_string(),
            '\r' => String::new(),
            control if control.is_control() => control.escape_unicode().to_string(),
            // Direction marks can make a line read as another one.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                letter.escape_unicode().to_string()
            }
            visible => visible.to_string(),
        })
        .collect()
}

fn closed(error: &io::Error) -> Error {
    Error::CannotWrite(format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_a_workload_are_made_visible() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\tc"), "a\\u{1b}[2Jb\n\tc");
        assert_eq!(harmless("\u{202e}cod"), "\\u{202e}cod");
    }

    #[test]
    fn tables_align_and_have_no_trailing_spaces() {
        let text = table(
            &["task", "score"],
            vec![
                vec!["fix-the-bug".to_owned(), "1".to_owned()],
                vec!["x".to_owned(), "0.5".to_owned()],
            ],
        );
        assert_eq!(text, "TASK         SCORE\nfix-the-bug  1\nx            0.5");
    }
}
