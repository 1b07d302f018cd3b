//! Why an attempt ended: one word from a closed list, and what follows from it.
//!
//! A score may be absent, a cause never is. What a workload prints or writes is never evidence for a cause.

use serde::{Deserialize, Serialize};

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nobody: the attempt ended as it should.
    Nobody,
    /// The submitted agent.
    Agent,
    /// The task's author.
    Task,
    /// The model service.
    Provider,
    /// Assay or the machine below it.
    Platform,
    /// A person who asked for it.
    Operator,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $word:tt, $fault:ident, $retry:literal, $graded:literal, $charged:literal;)*) => {
        /// The one reason why an attempt ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub enum Cause {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word used in SQL, JSON, metrics and documents.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Who is at fault.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// May another attempt end better?
            pub fn is_retried(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// Does the score of this attempt count?
            pub fn is_graded(self) -> bool {
                match self { $(Self::$name => $graded,)* }
            }

            /// Is the tenant charged for what was spent?
            pub fn is_charged(self) -> bool {
                match self { $(Self::$name => $charged,)* }
            }
        }
    };
}

causes! {
    // name = word, fault, retried, graded, charged

    /// The verifier gave a reward.
    Completed = "completed", Nobody, false, true, true;
    /// The agent ran past its deadline; what it left was verified.
    AgentTimeout = "agent_timeout", Agent, false, true, true;
    /// The agent exited non-zero; what it left was verified.
    AgentFailed = "agent_failed", Agent, false, true, true;
    /// The agent spent its budget; what it left was verified.
    BudgetExhausted = "budget_exhausted", Agent, false, true, true;
    /// The agent ran out of memory; what it left was verified.
    AgentOutOfMemory = "agent_out_of_memory", Agent, false, true, true;
    /// The agent wrote more than its disk may hold; what it left was verified, where the sandbox could stay.
    AgentOutOfDisk = "agent_out_of_disk", Agent, false, true, true;
    /// The agent's install command failed or ran past its deadline.
    AgentSetupFailed = "agent_setup_failed", Agent, false, true, true;
    /// The agent's bundle is unusable: empty, too big, without its function, with a syntax error.
    AgentInvalid = "agent_invalid", Agent, false, true, true;
    /// A patch agent left no diff: score 0, unverified.
    NoPatch = "no_patch", Agent, false, true, true;
    /// The diff does not apply, is binary where it may not be, touches `.git` or leaves the tree: score 0, unverified.
    PatchInvalid = "patch_invalid", Agent, false, true, true;
    /// What the agent left for a separate verifier is more than can be carried to it: score 0, unverified.
    ArtifactsTooBig = "artifacts_too_big", Agent, false, true, true;
    /// The agent broke its sandbox: it killed or outlived what runs it.
    AgentBrokeSandbox = "agent_broke_sandbox", Agent, false, true, true;
    /// `task.toml` or the archive is unusable.
    TaskInvalid = "task_invalid", Task, false, false, false;
    /// The task's Dockerfile failed or ran past its deadline.
    ImageBuildFailed = "image_build_failed", Task, false, false, false;
    /// The task's healthcheck never passed.
    HealthcheckFailed = "healthcheck_failed", Task, false, false, false;
    /// A container beside the task's own one could not be started, ended with a fault, or never got healthy.
    ServiceFailed = "service_failed", Task, false, false, false;
    /// The step's `setup.sh` failed.
    StepSetupFailed = "step_setup_failed", Task, false, false, false;
    /// The verifier left no reward.
    RewardMissing = "reward_missing", Task, false, false, false;
    /// The verifier left a reward file that is empty or no finite number.
    RewardInvalid = "reward_invalid", Task, false, false, false;
    /// The verifier ran past its deadline.
    VerifierTimeout = "verifier_timeout", Task, false, false, false;
    /// The verifier ran out of memory.
    VerifierOutOfMemory = "verifier_out_of_memory", Task, false, false, false;
    /// The verifier wrote more than its disk may hold.
    VerifierOutOfDisk = "verifier_out_of_disk", Task, false, false, false;
    /// A separate verifier was asked for, and nothing can be carried to it.
    SeparateNotPossible = "separate_not_possible", Task, false, false, false;
    /// The model service was down or answered nothing useful for too long.
    ProviderDown = "provider_down", Provider, true, false, false;
    /// The sandbox could not be created or never became ready.
    SandboxFailed = "sandbox_failed", Platform, true, false, false;
    /// There was no room for the sandbox: nothing was tried, and the attempt does not count.
    NoRoom = "no_room", Platform, true, false, false;
    /// The proxy died under the agent.
    ProxyLost = "proxy_lost", Platform, true, false, false;
    /// The proxy could not write its records, and refused what it would have forwarded.
    ProxyOutOfDisk = "proxy_out_of_disk", Platform, true, false, false;
    /// The sandbox vanished or its runner stopped answering.
    SandboxLost = "sandbox_lost", Platform, true, false, false;
    /// The cluster evicted the sandbox: its node ran short, or was drained.
    Evicted = "evicted", Platform, true, false, false;
    /// The sandbox had to give way to something of a higher priority.
    Preempted = "preempted", Platform, true, false, false;
    /// The node below the sandbox went away.
    NodeLost = "node_lost", Platform, true, false, false;
    /// The network phase could not be switched and proven.
    FlipFailed = "flip_failed", Platform, true, false, false;
    /// The object store could not be reached.
    StoreUnavailable = "store_unavailable", Platform, true, false, false;
    /// The image could not be built or pulled for a reason that is not the Dockerfile's.
    ImageUnavailable = "image_unavailable", Platform, true, false, false;
    /// The archive's content does not have the digest that names it.
    DigestMismatch = "digest_mismatch", Platform, true, false, false;
    /// Nobody held the lease for two lease times.
    Lost = "lost", Platform, true, false, false;
    /// The screener met a bug of its own.
    Internal = "internal", Platform, true, false, false;
    /// Somebody cancelled it.
    Cancelled = "cancelled", Operator, false, false, true;
}

impl Cause {
    /// The cause of that word.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.name() == word)
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_platform_and_provider_are_retried() {
        for cause in Cause::ALL {
            let ours = matches!(cause.fault(), Fault::Platform | Fault::Provider);
            assert_eq!(cause.is_retried(), ours, "{cause}");
        }
    }

    #[test]
    fn no_fault_of_platform_provider_or_task_is_ever_a_score() {
        for cause in Cause::ALL
            .iter()
            .filter(|cause| !matches!(cause.fault(), Fault::Nobody | Fault::Agent))
        {
            assert!(!cause.is_graded(), "{cause}");
        }
    }

    #[test]
    fn words_lead_back_to_causes() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_name(cause.name()), Some(*cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }
}
