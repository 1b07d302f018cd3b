//! Reads a builder's answer line by line: log, the Dockerfile's failure, or the engine's own fault.

use std::collections::VecDeque;

use assay_core::control::build::killed_by_mistake;
use bollard::{errors::Error as ClientError, models::BuildInfo};
use bytes::Bytes;

use crate::{
    Error,
    containers::fault::{fault, status},
};

/// How much of the log's end becomes the reason of a failure.
const KEPT_LINES: usize = 20;
const KEPT_BYTES: usize = 4 << 10;

/// Words by which an engine says that it failed itself. Everything else in a build's error is the Dockerfile's.
const OWN_FAULTS: [&str; 8] = [
    "no space left on device",
    "context canceled",
    "cannot join network",
    "non running container",
    "error creating overlay mount",
    "failed to create shim",
    "oci runtime create failed: unable to retrieve",
    "connection reset by peer",
];

/// What one message of the builder means.
#[derive(Debug)]
pub(super) enum Step {
    /// Something to show.
    Line(Bytes),
    /// Nothing to show.
    Quiet,
    /// The Dockerfile failed.
    Failed(String),
    /// The engine failed.
    Fault(Error),
}

/// Remembers the end of the log.
#[derive(Debug, Default)]
pub(super) struct Progress {
    tail: VecDeque<String>,
    /// The last line of the tail goes on with the next message.
    open: bool,
}

impl Progress {
    /// Takes the next message.
    pub(super) fn take(&mut self, message: Result<BuildInfo, ClientError>) -> Step {
        match message {
            Ok(info) => {
                let status = info.status.map(|line| line + "\n");
                self.show(info.stream.or(status).as_deref().map(plain))
            }
            Err(ClientError::DockerStreamError { error }) => self.failed(&error),
            Err(error) if matches!(status(&error), Some(400..=499)) => self.failed(&error.to_string()),
            // Docker answers 500 where the Dockerfile cannot be read.
            Err(error) if error.to_string().contains("dockerfile parse error") => {
                self.failed(&error.to_string())
            }
            Err(error) => Step::Fault(fault("build", &error)),
        }
    }

    fn show(&mut self, text: Option<String>) -> Step {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Step::Quiet;
        };
        for line in text.split_inclusive('\n') {
            match self.tail.back_mut().filter(|_| self.open) {
                Some(last) => last.push_str(line.trim_end_matches(['\r', '\n'])),
                None => self
                    .tail
                    .push_back(line.trim_end_matches(['\r', '\n']).to_owned()),
            }
            self.open = !line.ends_with('\n');
            if !self.open && self.tail.back().is_some_and(String::is_empty) {
                self.tail.pop_back();
            }
        }
        while self.tail.len() > KEPT_LINES {
            self.tail.pop_front();
        }
        Step::Line(Bytes::from(text))
    }

    fn failed(&self, error: &str) -> Step {
        let lower = error.to_lowercase();
        if OWN_FAULTS.iter().any(|words| lower.contains(words)) || killed_by_mistake(&lower) {
            return Step::Fault(Error::Unavailable {
                operation: "build",
                message: error.to_owned(),
            });
        }
        let tail = self.tail.iter().map(String::as_str);
        let lines: Vec<&str> = tail.chain([error.trim_end()]).collect();
        let mut reason = lines.join("\n");
        let mut from = reason.len().saturating_sub(KEPT_BYTES);
        while !reason.is_char_boundary(from) {
            from += 1;
        }
        Step::Failed(reason.split_off(from))
    }
}

/// A message without the colours that Docker's builder puts around each piece of standard error.
fn plain(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        result.push_str(before);
        let end = after.find(|sign: char| ('@'..='~').contains(&sign));
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> BuildInfo {
        BuildInfo {
            stream: Some(text.to_owned()),
            ..BuildInfo::default()
        }
    }

    fn error(text: &str) -> Result<BuildInfo, ClientError> {
        Err(ClientError::DockerStreamError {
            error: text.to_owned(),
        })
    }

    #[test]
    fn a_failed_step_is_told_with_the_end_of_the_log() {
        let mut progress = Progress::default();
        for number in 0..40 {
            assert!(matches!(
                progress.take(Ok(line(&format!("line {number}\n")))),
                Step::Line(_)
            ));
        }
        let Step::Failed(reason) =
            progress.take(error("The command '/bin/false' returned a non-zero code: 1"))
        else {
            panic!("not failed");
        };
        assert!(reason.starts_with("line 20\n"), "{reason}");
        assert!(reason.ends_with("code: 1"), "{reason}");
    }

    #[test]
    fn pieces_of_standard_error_become_whole_lines_without_colours() {
        let mut progress = Progress::default();
        for piece in [
            "\u{1b}[91mE\u{1b}[0m",
            "\u{1b}[91m: \u{1b}[0m",
            "\u{1b}[91mno such host\u{1b}[0m",
        ] {
            let Step::Line(shown) = progress.take(Ok(line(piece))) else {
                panic!("not shown");
            };
            assert!(!shown.contains(&0x1b), "{shown:?}");
        }
        progress.take(Ok(line("\u{1b}[91m\n\u{1b}[0m")));
        progress.take(Ok(line("next\n")));
        let Step::Failed(reason) = progress.take(error("code: 1")) else {
            panic!("not failed");
        };
        assert_eq!(reason, "E: no such host\nnext\ncode: 1");
    }

    #[test]
    fn a_full_disk_is_the_engines_fault() {
        let step = Progress::default().take(error("write /x: no space left on device"));
        assert!(matches!(step, Step::Fault(error) if error.is_transient()));
    }

    #[test]
    fn a_step_that_the_builder_killed_by_mistake_is_no_fault_of_the_dockerfile() {
        let step = Progress::default().take(error(
            r#"building at STEP "RUN sleep 60": while running runtime: signal: killed"#,
        ));
        assert!(matches!(step, Step::Fault(error) if error.is_transient()));
        // What the Dockerfile itself says of it counts for nothing.
        let step = Progress::default().take(error(
            r#"building at STEP "RUN echo while running runtime: signal: killed; exit 1": while running runtime: exit status 1"#,
        ));
        assert!(matches!(step, Step::Failed(_)));
    }

    #[test]
    fn an_engine_that_breaks_off_is_a_fault() {
        let step = Progress::default().take(Err(ClientError::RequestTimeoutError));
        assert!(matches!(step, Step::Fault(_)));
    }
}
