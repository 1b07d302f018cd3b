//! Which conversation a call goes on with, and what in it is known already.

use super::turn::{Said, Turn};

/// The conversations so far, each as the next call is expected to repeat it.
#[derive(Debug, Default)]
pub(super) struct Threads(Vec<Vec<Turn>>);

impl Threads {
    /// How many of a call's turns are told already. Its answer becomes part of the conversation.
    pub(super) fn follow(&mut self, turns: &[Turn], said: &Said) -> usize {
        let shared = self.0.iter().map(|known| shared(known, turns));
        let (best, known) = shared
            .enumerate()
            .max_by_key(|(_, length)| *length)
            .unwrap_or_default();
        let mut now = turns.to_vec();
        now.push(Turn::Model(said.clone()));
        match self.0.get_mut(best) {
            // A conversation that goes on; one that branches off keeps its trunk.
            Some(thread) if known > 0 && known == thread.len() => *thread = now,
            Some(_) | None => self.0.push(now),
        }
        known
    }
}

fn shared(known: &[Turn], turns: &[Turn]) -> usize {
    let same = known
        .iter()
        .zip(turns)
        .take_while(|(one, other)| is_same(one, other));
    same.count()
}

/// Programs repeat what a model said without its thoughts, and with spaces of their own.
fn is_same(one: &Turn, other: &Turn) -> bool {
    match (one, other) {
        (Turn::Model(one), Turn::Model(other)) => {
            let ids = |said: &Said| -> Vec<String> {
                let tools = said.tools.iter();
                tools.map(|tool| tool.tool_call_id.clone()).collect()
            };
            one.text.trim() == other.text.trim() && ids(one) == ids(other)
        }
        _ => one == other,
    }
}
