//! What is answered: a file of questions and answers, and words that ask for a fault.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Questions and their answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// By question. A message asks it by the line `ASSAY-DEMO: <question>`.
    #[serde(default)]
    pub answers: BTreeMap<String, String>,
}

/// How an answer goes wrong. Each is asked for by its word anywhere in the last user message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Status 429 with `retry-after`.
    TooManyRequests,
    /// Status 500.
    ServerError,
    /// Status 500 after the work, which is charged.
    BilledError,
    /// Status 503.
    Overloaded,
    /// A body shorter than its announced length.
    HalfBody,
    /// A stream without its end.
    CutStream,
    /// Nothing at all, the connection stays open.
    Silence,
    /// A stream that begins and never ends; asked for its bill, the service says nothing at all.
    LateBill,
    /// A stream that stops in its middle until the test says so, see [`super::Model::go_on`].
    Held,
    /// An answer of that many tokens, for budgets: `ASSAY-TOKENS: 500`.
    Long(u64),
}

/// On what terms an answer is given. Each is asked for by its words in the last user message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// So many tokens of the request were kept from before: `ASSAY-CACHED: 50`.
    pub cached_tokens: u64,
    /// A key of the caller's own pays for it: `ASSAY-OWN-KEY`.
    pub own_key: bool,
}

impl Terms {
    /// Those that a message asks for.
    pub fn asked_for(message: &str) -> Self {
        Self {
            cached_tokens: number_after("ASSAY-CACHED:", message).unwrap_or(0),
            own_key: message.contains("ASSAY-OWN-KEY"),
        }
    }
}

impl Script {
    /// The answer to the last user message; a plain sentence where the script has none.
    pub fn answer(&self, message: &str) -> String {
        let question = message
            .lines()
            .find_map(|line| line.trim().strip_prefix(MARK))
            .map(str::trim);
        match question.map(|question| self.answers.get(question)) {
            Some(Some(answer)) => answer.trim_end().to_owned(),
            Some(None) => "The script has no answer to this question.".to_owned(),
            None => "This is a scripted model. Ask it by a line that begins with ASSAY-DEMO.".to_owned(),
        }
    }
}

impl Fault {
    /// The fault that a message asks for.
    pub fn asked_for(message: &str) -> Option<Self> {
        let words = [
            ("ASSAY-FAULT-429", Self::TooManyRequests),
            ("ASSAY-FAULT-500-BILLED", Self::BilledError),
            ("ASSAY-FAULT-503", Self::Overloaded),
            ("ASSAY-FAULT-500", Self::ServerError),
            ("ASSAY-FAULT-HALF-BODY", Self::HalfBody),
            ("ASSAY-FAULT-CUT-STREAM", Self::CutStream),
            ("ASSAY-FAULT-SILENCE", Self::Silence),
            ("ASSAY-FAULT-LATE-BILL", Self::LateBill),
            ("ASSAY-FAULT-HELD", Self::Held),
        ];
        if let Some((_, fault)) = words.into_iter().find(|(word, _)| message.contains(word)) {
            return Some(fault);
        }
        number_after("ASSAY-TOKENS:", message).map(Self::Long)
    }
}

fn number_after(word: &str, message: &str) -> Option<u64> {
    let number = message.lines().find_map(|line| line.trim().strip_prefix(word))?;
    number.trim().parse().ok()
}

const MARK: &str = "ASSAY-DEMO:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_anywhere_in_the_message_finds_its_answer() {
        let script: Script = toml::from_str("[answers]\n\"What?\" = \"That.\"").unwrap();
        assert_eq!(script.answer("Hello\n  ASSAY-DEMO: What?\nbye"), "That.");
        assert!(script.answer("ASSAY-DEMO: Who?").contains("no answer"));
        assert!(script.answer("Hello").contains("scripted model"));
    }

    #[test]
    fn faults_are_asked_for_by_word() {
        assert_eq!(
            Fault::asked_for("please ASSAY-FAULT-429 now"),
            Some(Fault::TooManyRequests)
        );
        assert_eq!(
            Fault::asked_for("ASSAY-FAULT-500-BILLED"),
            Some(Fault::BilledError)
        );
        assert_eq!(Fault::asked_for("ASSAY-TOKENS: 500"), Some(Fault::Long(500)));
        assert_eq!(Fault::asked_for("hello"), None);
        let terms = Terms::asked_for("hello\nASSAY-CACHED: 50\nASSAY-OWN-KEY");
        assert_eq!((terms.cached_tokens, terms.own_key), (50, true));
    }
}
