//! The lines of the write-ahead log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bill, Fault, Grant};
use crate::{money::PicoUsd, phase::EgressPhase, price::ModelSlug};

/// One line of the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The account is opened.
    Open {
        /// What each phase may spend.
        grants: BTreeMap<EgressPhase, Grant>,
        /// Which prices hold.
        price_version: String,
    },
    /// A request is admitted. Written before it is forwarded.
    Reserve {
        /// Its number.
        id: u64,
        /// Whose purse pays.
        phase: EgressPhase,
        /// The first model that it names.
        model: ModelSlug,
        /// What is held.
        amount: PicoUsd,
        /// Tokens held, in and out.
        tokens: u64,
    },
    /// The service began to answer and named the answer: by that name it tells the bill later.
    Answering {
        /// The request.
        id: u64,
        /// The model service, by its host.
        service: String,
        /// The service's name of the answer.
        generation: String,
    },
    /// The bill is known.
    Settle {
        /// The request.
        id: u64,
        /// What it cost.
        bill: Bill,
        /// Who is at fault where the answer was none.
        #[serde(default)]
        fault: Fault,
    },
    /// Nothing can be billed.
    Release {
        /// The request.
        id: u64,
        /// Who is at fault.
        #[serde(default)]
        fault: Fault,
    },
    /// Cut off before the bill was known: the whole amount counts as spent.
    Unresolved {
        /// The request.
        id: u64,
        /// Who is at fault.
        #[serde(default)]
        fault: Fault,
    },
    /// The service told the bill of an unresolved request.
    Reconcile {
        /// The request.
        id: u64,
        /// What it cost.
        bill: Bill,
    },
    /// The model service answered by a model that was not asked for: nothing more is admitted.
    Freeze {
        /// Whose purse.
        phase: EgressPhase,
    },
    /// What the log said from here on cannot be read: all that was granted may be spent. No proxy writes this; the
    /// reader puts it in the place of a damaged line.
    Damaged,
}
