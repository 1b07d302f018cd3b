//! One exchange with a model service, from the reservation to the bill, tries included.
//!
//! It runs in a task of its own, so that a workload that goes away cannot stop the bill from being read: a whole answer
//! is read to its end, a stream for a bounded time.

use std::{sync::Arc, time::Duration};

use assay_core::{
    ledger::{Bill, Fault},
    money::PicoUsd,
    phase::EgressPhase,
    upstream::Upstream,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{sleep, timeout},
};

use super::{
    answer::Answer,
    delivery::Delivery,
    failure::Failure,
    pool::{Connection, Unanswered},
    reading::{Ended, Reading},
    reconcile,
    recorder::{Draft, Outcome},
    request::Judged,
    retry,
    scrub::Secrets,
    upstream,
    usage::Tally,
};
use crate::{account::Reservation, audit::Event, phase::Flow, serving::Serving, waits::Wait};

/// A request for which money is reserved.
pub struct Exchange {
    /// What the proxy shares.
    pub serving: Arc<Serving>,
    /// The connection of the workload that it came on.
    pub flow: Arc<Flow>,
    /// The service.
    pub upstream: Arc<Upstream>,
    /// The request.
    pub judged: Judged,
    /// The audit line, to be completed.
    pub event: Event,
    /// The share of memory that the body takes.
    pub memory: OwnedSemaphorePermit,
    /// How long the service may be silent. There is no total deadline.
    pub silence: Duration,
    /// What is recorded of it, where the policy consents.
    pub draft: Option<Draft>,
}

/// An answer that has begun.
struct Begun {
    response: Response<Incoming>,
    connection: Connection,
}

impl Exchange {
    /// Forwards the request, answers through `head` and settles. The answer's body may go on after `head`.
    pub async fn run(mut self, mut reservation: Reservation, mut head: oneshot::Sender<Answer>) {
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.attempt(&mut reservation).await {
                Ok(begun) if is_readable(&begun.response) => {
                    return self.pass_on(begun, reservation, head).await;
                }
                Ok(begun) => self.failed_status(begun).await,
                Err(failure) => failure,
            };
            let (id, amount) = (reservation.id(), reservation.amount());
            if let Some(generation) = &failure.generation {
                reservation.answering(self.upstream.host.as_str(), generation);
            }
            let cost = if failure.billable { amount } else { PicoUsd::ZERO };
            if !self.wait(&failure, tries, &mut head).await {
                if failure.billable {
                    reservation.unresolve(failure.fault);
                } else {
                    reservation.release(failure.fault);
                }
                self.ask_for_bill(id, failure.generation.as_deref());
                return self.tell(failure, cost, head);
            }
            self.serving.audit.write(
                self.event
                    .clone()
                    .reason("retried")
                    .status(failure.answer.status()),
            );
            let next = reservation.again(failure.billable);
            self.ask_for_bill(id, failure.generation.as_deref());
            match next {
                Ok(next) => reservation = next,
                Err(_) => return self.tell(failure, cost, head),
            }
        }
    }

    /// Of a try that failed after the service had named its answer.
    fn ask_for_bill(&self, id: u64, generation: Option<&str>) {
        if let Some(generation) = generation {
            reconcile::start(&self.serving, &self.upstream, id, generation.to_owned());
        }
    }

    async fn attempt(&mut self, reservation: &mut Reservation) -> Result<Begun, Failure> {
        let body = self.judged.to_bytes(reservation.output_tokens());
        if let Some(draft) = &mut self.draft {
            draft.sends(&body);
        }
        let mut request = upstream::post(&self.upstream, self.judged.api, body, self.judged.stream)
            .map_err(|error| Failure::unreachable(&error))?;
        loop {
            let services = &self.serving.services;
            let mut connection = services
                .connection(&self.serving.resolver, &self.serving.waits, &self.upstream)
                .await
                .map_err(|error| Failure::unreachable(&error))?;
            self.event.set_dialled(Some(connection.address));
            reservation.mark_sent();
            let answered = timeout(self.silence, connection.send(request));
            match self.serving.waits.measure(Wait::FirstByte, answered).await {
                Ok(Ok(response)) => return Ok(Begun { response, connection }),
                // An idle connection that had ended: as if nothing had been tried.
                Ok(Err(Unanswered::Unsent(unsent))) => request = *unsent,
                Ok(Err(Unanswered::Broken(error))) => {
                    return Err(Failure::broken(self.judged.length(), &error));
                }
                Err(_) => return Err(Failure::silent()),
            }
        }
    }

    /// True when it is time for the next try; false when there is none, or nobody waits for it any more.
    async fn wait(&self, failure: &Failure, tries: u32, head: &mut oneshot::Sender<Answer>) -> bool {
        let Some(wait) = retry::wait(tries, failure.told).filter(|_| failure.passing) else {
            return false;
        };
        tokio::select! {
            biased;
            // cancel-safe: each only waits.
            () = self.flow.cut() => false,
            () = head.closed() => false,
            () = sleep(wait) => true,
        }
    }

    /// An answer that is an error: to be passed on as such, unless it repeats our credential.
    async fn failed_status(&self, begun: Begun) -> Failure {
        let Begun { response, connection } = begun;
        let status = response.status();
        let secrets = self.serving.services.secrets(&self.upstream.host);
        let headers = allowed(response.headers(), &secrets);
        let generation = generation(response.headers())
            .filter(|id| !status.is_client_error() && reconcile::is_possible(&self.upstream, id))
            .map(str::to_owned);
        let body = read_short(response.into_body()).await;
        if body.is_some() {
            self.serving.services.keep(&self.upstream.host, connection);
        }
        let body = body.filter(|body| !secrets.are_in(body));
        Failure::told((status, headers), body, generation, self.upstream.dialect)
    }

    /// Completes the audit line with what the workload is told, and tells it.
    fn tell(self, failure: Failure, cost: PicoUsd, head: oneshot::Sender<Answer>) {
        if let Some(mut draft) = self.draft {
            draft.takes(&failure.text);
            draft.end(Outcome {
                status: failure.answer.status(),
                content_type: content_type(failure.answer.headers()),
                complete: true,
                bill: Bill {
                    cost,
                    ..Bill::default()
                },
            });
        }
        let event = self.event.reason(failure.reason).status(failure.answer.status());
        self.serving.audit.write(event);
        drop(head.send(failure.answer));
    }

    /// A good answer: pass it on while reading its usage, then book it.
    async fn pass_on(self, begun: Begun, reservation: Reservation, head: oneshot::Sender<Answer>) {
        let Begun { response, connection } = begun;
        let (parts, mut body) = response.into_parts();
        drop(self.memory);
        let secrets = self.serving.services.secrets(&self.upstream.host);
        let mut headers = allowed(&parts.headers, &secrets);
        if reservation.output_tokens() < self.judged.ask.output_tokens {
            headers.insert(CLAMPED, reservation.output_tokens().into());
        }
        let tally = Tally::new(self.judged.api);
        let (mut reading, mut delivery) = if is_event_stream(&parts.headers) {
            let reading = Reading::stream(tally, !self.judged.wants_usage, self.silence);
            (reading, Delivery::in_pieces(headers, head))
        } else {
            let delivery = Delivery::of(&body, headers, head);
            (Reading::whole(tally, self.silence), delivery)
        };
        let mut name = Name::new(&self.upstream, &reservation);
        name.take(generation(&parts.headers));
        let mut draft = self.draft;
        let ended = reading
            .copy(&mut body, &mut delivery, (&secrets, &mut draft), |id| {
                name.take(Some(id));
            })
            .await;
        let complete = ended == Ended::Whole;
        let bill = reading.tally().bill(complete, &self.judged.prices);
        if bill.is_none() {
            name.take(reading.tally().id.as_deref());
        }
        let generation = name.taken;
        if complete {
            self.serving.services.keep(&self.upstream.host, connection);
        }
        let event = self
            .event
            .status(parts.status)
            .bytes(self.judged.length(), reading.bytes);
        let mut closing = Closing {
            serving: self.serving,
            upstream: self.upstream,
            judged: self.judged,
            phase: self.flow.phase(),
            event,
            generation,
            draft,
            head: parts,
        };
        closing.check_model(reading.tally());
        let fault = if reading.tally().failed || ended == Ended::ByService {
            Fault::Provider
        } else {
            Fault::Nobody
        };
        let most = Bill {
            cost: reservation.amount(),
            ..Bill::default()
        };
        closing.record(complete, bill.unwrap_or(most));
        match bill {
            Some(bill) => closing.settle(bill, reservation, fault),
            None => closing.unresolve(reservation, fault),
        }
        // Whoever asks for the account now finds this bill in it.
        delivery.finish();
    }
}

/// What is needed to book an answer.
struct Closing {
    serving: Arc<Serving>,
    upstream: Arc<Upstream>,
    judged: Judged,
    phase: EgressPhase,
    event: Event,
    /// The service's name of the answer, where it was written down.
    generation: Option<String>,
    draft: Option<Draft>,
    head: Parts,
}

impl Closing {
    fn settle(self, bill: Bill, reservation: Reservation, fault: Fault) {
        if bill.cost > reservation.amount() {
            tracing::error!(%bill.cost, "a model service billed more than it can have been asked for");
            let event = self.event.clone().denied("bill_above_reserved");
            self.serving.audit.write(event);
        }
        reservation.settle(bill, fault);
        let tokens = (bill.input_tokens, bill.output_tokens);
        self.serving.audit.write(self.event.bill(bill.cost, tokens));
    }

    fn unresolve(self, reservation: Reservation, fault: Fault) {
        let (id, amount) = (reservation.id(), reservation.amount());
        reservation.unresolve(fault);
        self.serving
            .audit
            .write(self.event.reason("unresolved").bill(amount, (0, 0)));
        if let Some(generation) = self.generation {
            reconcile::start(&self.serving, &self.upstream, id, generation);
        }
    }

    fn record(&mut self, complete: bool, bill: Bill) {
        if let Some(draft) = self.draft.take() {
            draft.end(Outcome {
                status: self.head.status,
                content_type: content_type(&self.head.headers),
                complete,
                bill,
            });
        }
    }

    /// Another model than asked for may cost more, and says nothing about the agent: nothing more is admitted.
    fn check_model(&self, tally: &Tally) {
        let Some(told) = tally
            .model
            .as_deref()
            .filter(|told| !self.judged.is_answered_by(told))
        else {
            return;
        };
        tracing::error!(model = %told.escape_default(), "another model answered than was asked for");
        self.serving.account.freeze(self.phase);
        let event = self
            .event
            .clone()
            .denied("model_mismatch")
            .model(Some(told.escape_default()));
        self.serving.audit.write(event);
    }
}

/// The service's name of an answer, written down once, for the case that the bill has to be asked for.
struct Name<'a> {
    upstream: &'a Upstream,
    reservation: &'a Reservation,
    taken: Option<String>,
}

impl<'a> Name<'a> {
    fn new(upstream: &'a Upstream, reservation: &'a Reservation) -> Self {
        Self {
            upstream,
            reservation,
            taken: None,
        }
    }

    fn take(&mut self, id: Option<&str>) {
        if let Some(id) = id
            && self.taken.is_none()
            && reconcile::is_possible(self.upstream, id)
        {
            self.reservation.answering(self.upstream.host.as_str(), id);
            self.taken = Some(id.to_owned());
        }
    }
}

/// A good answer, and not packed: we ask for none that is, and could not read its bill.
fn is_readable<B>(response: &Response<B>) -> bool {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    response.status() == StatusCode::OK && encoding.is_none_or(|encoding| encoding == "identity")
}

/// The name by which the service tells the bill of this answer.
fn generation(headers: &HeaderMap) -> Option<&str> {
    headers.get(GENERATION)?.to_str().ok()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    content_type(headers)
        .trim_start()
        .starts_with("text/event-stream")
}

fn content_type(headers: &HeaderMap) -> String {
    let told = headers.get(header::CONTENT_TYPE);
    told.and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

async fn read_short(body: Incoming) -> Option<Bytes> {
    let limited = http_body_util::Limited::new(body, MOST_ERROR);
    let collected = timeout(SHORT, limited.collect()).await.ok()?.ok()?;
    Some(collected.to_bytes())
}

/// What of the service's headers the workload sees.
fn allowed(headers: &HeaderMap, secrets: &Secrets) -> HeaderMap {
    let names = [
        header::CONTENT_TYPE,
        header::RETRY_AFTER,
        header::CACHE_CONTROL,
        GENERATION,
        REQUEST_ID,
    ];
    let told = |name: HeaderName| {
        let value = headers
            .get(&name)
            .filter(|value| !secrets.are_in(value.as_bytes()));
        Some((name, HeaderValue::clone(value?)))
    };
    names.into_iter().filter_map(told).collect()
}

const CLAMPED: HeaderName = HeaderName::from_static("x-egress-clamped");
const GENERATION: HeaderName = HeaderName::from_static("x-generation-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const SHORT: Duration = Duration::from_secs(30);
const MOST_ERROR: usize = 64 * 1024;
