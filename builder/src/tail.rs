//! The end of a log, for saying why a build failed.

use std::collections::VecDeque;

const LINES: usize = 20;
const BYTES: usize = 3 << 10;

/// Remembers the last lines.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    /// The last one goes on with the next piece.
    open: bool,
    complaint: Option<String>,
}

impl Tail {
    /// Takes a piece of the log.
    pub(crate) fn take(&mut self, piece: &[u8]) {
        for line in piece.split_inclusive(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end_matches(['\r', '\n']);
            match self.lines.back_mut().filter(|_| self.open) {
                Some(last) if last.len() < BYTES => last.push_str(text),
                Some(_) => {}
                None => self.lines.push_back(text.to_owned()),
            }
            self.open = !line.ends_with(b"\n");
        }
        while self.lines.len() > LINES {
            self.forget_first();
        }
    }

    /// The first line that begins as programs complain of their own arguments: a long text on their use follows it, by
    /// which it is pushed out of the last lines.
    pub(crate) fn complaint(&self) -> Option<&str> {
        let mut here = self.lines.iter().filter(|line| complains(line));
        self.complaint
            .as_deref()
            .or_else(|| here.next().map(String::as_str))
    }

    /// From the last line to the first, as far as they are kept.
    pub(crate) fn backwards(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().rev().map(String::as_str)
    }

    fn forget_first(&mut self) {
        let first = self.lines.pop_front().filter(|line| complains(line));
        if self.complaint.is_none() {
            self.complaint = first;
        }
    }

    /// The last line that says something.
    pub(crate) fn last(&self) -> &str {
        let said = self.lines.iter().rev().find(|line| !line.trim().is_empty());
        said.map_or("", String::as_str)
    }

    /// The last lines, as many as fit.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let mut text = lines.join("\n").trim().to_owned();
        let mut from = text.len().saturating_sub(BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.split_off(from)
    }
}

fn complains(line: &str) -> bool {
    line.starts_with("Error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_and_the_last_ones_are_kept() {
        let mut tail = Tail::default();
        for number in 0..40 {
            tail.take(format!("line {number}").as_bytes());
            tail.take(b" end\n");
        }
        tail.take(b"\n");
        assert_eq!(tail.last(), "line 39 end");
        assert!(tail.text().starts_with("line 21 end\n"), "{}", tail.text());
        tail.take(&vec![b'x'; 10 * BYTES]);
        tail.take(b"y");
        assert_eq!(tail.text().len(), BYTES);
    }

    #[test]
    fn a_complaint_outlives_the_text_that_follows_it() {
        let mut tail = Tail::default();
        tail.take(b"one\nError: unknown flag: --x\nUsage:\n");
        assert_eq!(tail.complaint(), Some("Error: unknown flag: --x"));
        for number in 0..100 {
            tail.take(format!("  --flag-{number}\nError: another\n").as_bytes());
        }
        assert_eq!(tail.complaint(), Some("Error: unknown flag: --x"));
        assert_eq!(tail.backwards().next(), Some("Error: another"));
        assert_eq!(Tail::default().complaint(), None);
    }
}
