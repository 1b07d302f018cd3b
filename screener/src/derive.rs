//! Names and keys that follow from an attempt, so that a worker after a restart finds the same ones.

use assay_core::{
    digest::{Digest, Hasher, unhex},
    id::{AttemptId, ExecId, SandboxId},
    phase::Phase,
    upstream::Secret,
};
use uuid::{Builder, Uuid};

/// Which of an attempt's sandboxes is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Where the agent works, and a shared verifier too.
    Main,
    /// Where the separate verifier of this step works.
    Verifier(u32),
    /// Where the image is built.
    Build,
}

impl Place {
    fn label(self) -> String {
        match self {
            Self::Main => "main".to_owned(),
            Self::Verifier(step) => format!("verifier {step}"),
            Self::Build => "build".to_owned(),
        }
    }
}

/// The id of an attempt's sandbox.
pub fn sandbox(attempt: AttemptId, place: Place) -> SandboxId {
    SandboxId(name(&["sandbox", &attempt.to_string(), &place.label()]))
}

/// The id of an execution: the same words give the same id, so that executing again attaches.
pub fn exec(sandbox: SandboxId, step: u32, phase: Phase, label: &str) -> ExecId {
    ExecId(name(&[
        "exec",
        &sandbox.to_string(),
        &step.to_string(),
        phase.name(),
        label,
    ]))
}

/// The seed of a sandbox's key pair: the attempt's own for the first, derived for the others. `None` when the
/// attempt's seed is not 32 bytes in hexadecimal.
pub fn seed(attempt_seed: &Secret, place: Place) -> Option<[u8; 32]> {
    let seed: [u8; 32] = unhex(attempt_seed.expose())?.try_into().ok()?;
    if place == Place::Main {
        return Some(seed);
    }
    let mut hasher = Hasher::default();
    hasher.update(b"assay sandbox seed v1\n");
    hasher.update(&seed);
    hasher.update(place.label().as_bytes());
    Some(*hasher.finish().bytes())
}

fn name(parts: &[&str]) -> Uuid {
    let digest = Digest::of(format!("assay v1\n{}", parts.join("\n")));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.bytes()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_attempt_alone() {
        let attempt = AttemptId(Uuid::from_u128(1));
        let main = sandbox(attempt, Place::Main);
        assert_eq!(main, sandbox(attempt, Place::Main));
        assert_ne!(main, sandbox(attempt, Place::Verifier(0)));
        assert_ne!(
            exec(main, 0, Phase::Agent, "agent"),
            exec(main, 1, Phase::Agent, "agent")
        );
    }

    #[test]
    fn sandboxes_of_an_attempt_have_different_keys() {
        let given = Secret::new("01".repeat(32));
        assert_eq!(seed(&given, Place::Main), Some([1; 32]));
        assert_ne!(seed(&given, Place::Verifier(0)), seed(&given, Place::Verifier(1)));
        assert_eq!(seed(&Secret::new("short"), Place::Main), None);
    }
}
