//! A worker as tests need it: registers, claims, beats, reports.

use assay_core::{
    cause::Cause,
    control::proxy::Ledger,
    id::{AttemptId, WorkerId},
    money::PicoUsd,
    wire::{
        WIRE, WIRE_OLDEST,
        worker::{
            Assignment, Beat, Beaten, Claim, Claimed, Handoff, Lease, Register, Registered, Report,
            ResourceUse,
        },
    },
};
use assay_runtime::client::Error;
use http::Method;

use crate::stage::Stage;

pub fn introduction(name: &str) -> Register {
    Register {
        name: name.to_owned(),
        class: "1".to_owned(),
        slots: 4,
        engine: "containers".to_owned(),
        commit: "unknown-to-all".to_owned(),
        wire: WIRE,
        wire_oldest: WIRE_OLDEST,
    }
}

pub fn lease(assignment: &Assignment) -> Lease {
    Lease {
        attempt: assignment.attempt,
        fence: assignment.fence,
    }
}

pub fn ledger(pico: u64) -> Ledger {
    Ledger {
        settled: PicoUsd::from_pico(pico),
        input_tokens: 3,
        output_tokens: 4,
        denied: 1,
        ..Ledger::default()
    }
}

pub fn report(assignment: &Assignment, cause: Cause) -> Report {
    Report {
        fence: assignment.fence,
        cause,
        detail: "as the test says".to_owned(),
        rewards: None,
        score: cause.is_graded().then_some(1.0),
        verifier_mode: None,
        ledger: Ledger::default(),
        verifier_ledger: Ledger::default(),
        usage: ResourceUse::default(),
        replayed: false,
    }
}

impl Stage {
    pub async fn register(&self, name: &str) -> WorkerId {
        let answer: Registered = self.register_as(&introduction(name)).await.unwrap();
        answer.worker
    }

    pub async fn register_as(&self, new: &Register) -> Result<Registered, Error> {
        self.call_as(&self.worker_key, Method::POST, "/v1/workers", Some(new))
            .await
    }

    pub async fn claim(&self, worker: WorkerId, slots: u32) -> Vec<Assignment> {
        self.try_claim(worker, slots).await.unwrap()
    }

    pub async fn try_claim(&self, worker: WorkerId, slots: u32) -> Result<Vec<Assignment>, Error> {
        let path = format!("/v1/workers/{worker}/claim");
        let answer = self
            .call_as(
                &self.worker_key,
                Method::POST,
                &path,
                Some(&Claim { slots, fresh: None }),
            )
            .await;
        answer.map(|claimed: Claimed| claimed.assignments)
    }

    pub async fn beat(&self, worker: WorkerId, leases: &[Lease]) -> Beaten {
        let path = format!("/v1/workers/{worker}/beat");
        let beat = Beat {
            leases: leases.to_vec(),
            claiming: true,
        };
        self.call_as(&self.worker_key, Method::POST, &path, Some(&beat))
            .await
            .unwrap()
    }

    pub async fn hand_off(&self, worker: WorkerId, leases: &[Lease]) {
        let path = format!("/v1/workers/{worker}/handoff");
        let handoff = Handoff {
            leases: leases.to_vec(),
        };
        let answer: Result<(), Error> = self
            .call_as(&self.worker_key, Method::POST, &path, Some(&handoff))
            .await;
        answer.unwrap();
    }

    pub async fn report(&self, attempt: AttemptId, report: &Report) -> Result<(), Error> {
        let path = format!("/v1/attempts/{attempt}/report");
        self.call_as(&self.worker_key, Method::POST, &path, Some(report))
            .await
    }

    pub async fn finish(&self, assignment: &Assignment, cause: Cause) {
        self.report(assignment.attempt, &report(assignment, cause))
            .await
            .unwrap();
    }

    /// Lets every run be claimed now, whatever its back-off.
    pub async fn forget_back_off(&self) {
        sqlx::query("UPDATE run_queue SET not_before = now()")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Makes every back-off an hour longer: the second that it takes at least may pass unseen on a busy machine. A run that
    /// may be tried again earlier than a second after its attempt has no back-off, and gets none here.
    pub async fn stretch_back_off(&self) {
        sqlx::query(
            "UPDATE run_queue q SET not_before = q.not_before + interval '1 hour'
             WHERE q.not_before >= (SELECT max(a.finished_at) + interval '1 s' FROM attempts a WHERE a.run = q.run)",
        )
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Lets every lease run out so many lease times ago.
    pub async fn expire_leases(&self, milliseconds: i64) {
        sqlx::query("UPDATE run_queue SET lease_until = now() - $1 * interval '1 ms' WHERE state = 'leased'")
            .bind(milliseconds)
            .execute(&self.pool)
            .await
            .unwrap();
    }
}
