//! One decision on its way into the audit.

use assay_core::{
    audit::{AuditLine, Decision},
    money::PicoUsd,
    phase::EgressPhase,
};

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A look-up.
    Dns,
    /// A connection to port 443.
    Tls,
    /// A request on port 80.
    Http,
    /// A connection to another port.
    Tcp,
    /// A model request.
    Model,
    /// A switch of the phase.
    Phase,
    /// The proxy's own life.
    Control,
}

impl Kind {
    /// The word in the audit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Model => "model",
            Self::Phase => "phase",
            Self::Control => "control",
        }
    }
}

/// One decision, before it becomes a line.
#[derive(Debug, Clone)]
pub struct Event {
    pub(super) kind: Kind,
    pub(super) line: AuditLine,
}

impl Event {
    /// Something was let through.
    pub fn allow(kind: Kind, phase: EgressPhase, reason: &str) -> Self {
        Self::new(kind, phase, Decision::Allow, reason)
    }

    /// Something was refused.
    pub fn deny(kind: Kind, phase: EgressPhase, reason: &str) -> Self {
        Self::new(kind, phase, Decision::Deny, reason)
    }

    pub(super) fn new(kind: Kind, phase: EgressPhase, decision: Decision, reason: &str) -> Self {
        Self {
            kind,
            line: AuditLine {
                seq: 0,
                time: String::new(),
                phase,
                kind: kind.name().to_owned(),
                decision,
                reason: reason.to_owned(),
                host: None,
                original: None,
                dialled: None,
                request: None,
                model: None,
                status: None,
                cost: None,
                tokens: None,
                bytes: None,
                advice: None,
                count: None,
                totals: None,
                prev: String::new(),
            },
        }
    }

    /// What began as a denial is let through after all.
    #[must_use]
    pub fn allowed(mut self, reason: &str) -> Self {
        self.line.decision = Decision::Allow;
        self.reason(reason)
    }

    /// What began as let through is refused after all.
    #[must_use]
    pub fn denied(mut self, reason: &str) -> Self {
        self.line.decision = Decision::Deny;
        self.reason(reason)
    }

    /// Another stable code, when more is known.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.line.reason);
        self
    }

    /// The name that was asked for.
    #[must_use]
    pub fn host(mut self, host: &(impl ToString + ?Sized)) -> Self {
        self.set_host(host);
        self
    }

    /// The same, of an event that somebody else completes.
    pub fn set_host(&mut self, host: &(impl ToString + ?Sized)) {
        self.line.host = Some(host.to_string());
    }

    /// Where the workload's packet was going.
    #[must_use]
    pub fn original(mut self, address: Option<impl ToString>) -> Self {
        self.line.original = address.map(|address| address.to_string());
        self
    }

    /// Where the proxy connected to.
    #[must_use]
    pub fn dialled(mut self, address: Option<impl ToString>) -> Self {
        self.set_dialled(address);
        self
    }

    /// The same, of an event that somebody else completes.
    pub fn set_dialled(&mut self, address: Option<impl ToString>) {
        self.line.dialled = address.map(|address| address.to_string());
    }

    /// Method and path, cut at 256 bytes; control characters cannot occur in either.
    #[must_use]
    pub fn request(mut self, method: &http::Method, path: &str) -> Self {
        self.line.request = Some(format!("{method} {path}").chars().take(256).collect());
        self
    }

    /// The model.
    #[must_use]
    pub fn model(mut self, model: Option<impl ToString>) -> Self {
        self.set_model(model);
        self
    }

    /// The same, of an event that somebody else completes.
    pub fn set_model(&mut self, model: Option<impl ToString>) {
        self.line.model = model.map(|model| model.to_string());
    }

    /// The HTTP status that the workload got.
    #[must_use]
    pub fn status(mut self, status: http::StatusCode) -> Self {
        self.line.status = Some(status.as_u16());
        self
    }

    /// What it cost, and tokens in and out.
    #[must_use]
    pub fn bill(mut self, cost: PicoUsd, tokens: (u64, u64)) -> Self {
        self.line.cost = Some(cost);
        self.line.tokens = Some(tokens);
        self
    }

    /// Bytes up and down.
    #[must_use]
    pub fn bytes(mut self, up: u64, down: u64) -> Self {
        self.line.bytes = Some((up, down));
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(mut self, advice: String) -> Self {
        self.line.advice = Some(advice);
        self
    }

    /// Can a workload cause it again and again for nothing?
    pub(super) fn is_cheap(&self) -> bool {
        match self.kind {
            Kind::Phase | Kind::Control => false,
            Kind::Dns | Kind::Tls | Kind::Http | Kind::Tcp => true,
            Kind::Model => self.line.decision == Decision::Deny,
        }
    }
}
