//! One exchange with a model service, from the reservation to the bill.
//!
//! It runs in a task of its own, so that a workload that goes away cannot stop the bill from being read: a whole answer
//! is read to its end, a stream for a bounded time.

use std::{io, sync::Arc, time::Duration};

use assay_core::{ledger::Bill, upstream::Upstream};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    answer::{self, Answer},
    bound::Prices,
    refusal::Refusal,
    request::Judged,
    sse::Events,
    upstream,
    usage::Usage,
};
use crate::{
    account::{Fault, Reservation},
    audit::Event,
    serving::Serving,
};

/// A request for which money is reserved.
pub struct Exchange {
    /// What the proxy shares.
    pub serving: Arc<Serving>,
    /// The service.
    pub upstream: Arc<Upstream>,
    /// The money.
    pub reservation: Reservation,
    /// The request.
    pub judged: Judged,
    /// The audit line, to be completed.
    pub event: Event,
    /// How long the service may be silent. There is no total deadline.
    pub silence: Duration,
}

/// How an answer is read.
struct Reading {
    events: Option<Events>,
    whole: BytesMut,
    /// Set once the whole is too large to be kept; its bill cannot be read then.
    too_large: bool,
    bytes: u64,
    prices: Prices,
    silence: Duration,
}

impl Exchange {
    /// Forwards the request, answers through `head` and settles. The answer's body may go on after `head`.
    pub async fn run(mut self, head: oneshot::Sender<Answer>) {
        let prices = self.judged.prices.clone();
        let (stream, hide_usage) = (self.judged.stream, !self.judged.wants_usage);
        let clamped = self.reservation.output_tokens() < self.judged.ask.output_tokens;
        let output_tokens = self.reservation.output_tokens();
        let judged = self.judged;
        let body = judged.into_bytes(output_tokens);
        let sent_bytes = body.len() as u64;
        let request = upstream::request(&self.upstream, body, stream);
        let services = &self.serving.services;
        let connected = match request {
            Ok(request) => services
                .connect(&self.serving.resolver, &self.upstream)
                .await
                .map(|connection| (request, connection)),
            Err(error) => Err(error),
        };
        let (request, connection) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a model service cannot be reached"
                );
                self.reservation.release(Fault::Provider);
                let refusal =
                    Refusal::provider("upstream_unreachable", "The model service cannot be reached.");
                return refuse(&self.serving, self.event, &refusal, head);
            }
        };
        self.event = self.event.dialled(Some(connection.address));
        let mut sender = connection.sender;
        self.reservation.mark_sent();
        let response = match timeout(self.silence, sender.send_request(request)).await {
            Ok(Ok(response)) => response,
            failed => {
                let timed_out = failed.is_err();
                self.reservation.unresolve(Fault::Provider);
                let refusal = if timed_out {
                    Refusal::provider("upstream_timeout", "The model service did not answer in time.")
                        .with_status(StatusCode::GATEWAY_TIMEOUT)
                } else {
                    Refusal::provider("upstream_broken", "The model service broke the connection.")
                };
                return refuse(&self.serving, self.event, &refusal, head);
            }
        };
        let rest = Rest {
            serving: self.serving,
            upstream: self.upstream,
            reservation: self.reservation,
            event: self.event,
            sent_bytes,
        };
        if response.status() == StatusCode::OK {
            let is_stream = is_event_stream(response.headers());
            let reading = Reading {
                events: is_stream.then(|| Events::new(hide_usage)),
                whole: BytesMut::new(),
                too_large: false,
                bytes: 0,
                prices,
                silence: self.silence,
            };
            let clamp = clamped.then_some(output_tokens);
            rest.pass_on(response, reading, clamp, head).await;
        } else {
            rest.pass_error(response, head).await;
        }
    }
}

/// What is left of an exchange once the request is sent.
struct Rest {
    serving: Arc<Serving>,
    upstream: Arc<Upstream>,
    reservation: Reservation,
    event: Event,
    sent_bytes: u64,
}

impl Rest {
    /// A good answer: pass it on while reading its usage.
    async fn pass_on(
        self,
        response: Response<Incoming>,
        mut reading: Reading,
        clamp: Option<u64>,
        head: oneshot::Sender<Answer>,
    ) {
        let (parts, mut body) = response.into_parts();
        let (sender, out) = answer::stream();
        let mut answer = Response::new(out);
        *answer.headers_mut() = allowed(&parts.headers);
        if let Some(output_tokens) = clamp {
            answer.headers_mut().insert(CLAMPED, output_tokens.into());
        }
        let mut reader = (head.send(answer).is_ok()).then_some(sender);
        let complete = reading.copy(&mut body, &mut reader).await;
        let event = self
            .event
            .status(parts.status)
            .bytes(self.sent_bytes, reading.bytes);
        if let Some(bill) = reading.bill() {
            self.reservation.settle(bill);
            let tokens = (bill.input_tokens, bill.output_tokens);
            self.serving.audit.write(event.bill(bill.cost, tokens));
            return;
        }
        let fault = if complete.is_ok() {
            Fault::Other
        } else {
            Fault::Provider
        };
        let cost = self.reservation.amount();
        self.reservation.unresolve(fault);
        let event = event.reason("unresolved").bill(cost, (0, 0));
        self.serving.audit.write(event);
    }

    /// An answer that is an error: pass it on as such, unless it repeats our credential.
    async fn pass_error(self, response: Response<Incoming>, head: oneshot::Sender<Answer>) {
        let status = response.status();
        let headers = allowed(response.headers());
        let body = read_short(response.into_body()).await;
        let ours = status == StatusCode::TOO_MANY_REQUESTS
            || status.is_server_error()
            || matches!(status.as_u16(), 401..=403);
        let fault = if ours { Fault::Provider } else { Fault::Other };
        if may_be_billed(status) {
            self.reservation.unresolve(fault);
        } else {
            self.reservation.release(fault);
        }
        let redirected = !(status.is_client_error() || status.is_server_error());
        let event = self.event.reason("upstream_error");
        match body {
            Some(body) if !redirected && !repeats(&body, self.upstream.credential.expose()) => {
                let mut answer = Response::new(answer::full(body));
                *answer.status_mut() = status;
                *answer.headers_mut() = headers;
                self.serving.audit.write(event.status(status));
                drop(head.send(answer));
            }
            _ => {
                let refusal =
                    Refusal::provider("upstream_error", "The model service answered with an error.");
                let refusal = if redirected {
                    refusal
                } else {
                    refusal.with_status(status)
                };
                refuse(&self.serving, event, &refusal, head);
            }
        }
    }
}

impl Reading {
    /// Copies the body to the reader, as long as there is one, and to ourselves. `Err` when it was cut.
    async fn copy(
        &mut self,
        body: &mut Incoming,
        reader: &mut Option<mpsc::Sender<io::Result<Bytes>>>,
    ) -> Result<(), ()> {
        let mut give_up: Option<Instant> = None;
        loop {
            if reader.is_none() && self.events.is_some() {
                give_up.get_or_insert_with(|| Instant::now() + DRAIN);
            }
            let idle = Instant::now() + self.silence;
            let until = give_up.map_or(idle, |end| end.min(idle));
            let frame = match timeout_at(until, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) | Err(_) => {
                    pass(reader, Err(io::ErrorKind::ConnectionReset.into())).await;
                    return Err(());
                }
            };
            if let Ok(data) = frame.into_data() {
                let out = self.take(data);
                if !out.is_empty() {
                    pass(reader, Ok(out)).await;
                }
            }
        }
        let last = self.events.as_mut().map(Events::finish).unwrap_or_default();
        if !last.is_empty() {
            pass(reader, Ok(last)).await;
        }
        Ok(())
    }

    fn take(&mut self, data: Bytes) -> Bytes {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if let Some(events) = &mut self.events {
            return events.push(&data);
        }
        if self.too_large || self.whole.len() + data.len() > MOST_WHOLE {
            self.too_large = true;
            self.whole = BytesMut::new();
        } else {
            self.whole.extend_from_slice(&data);
        }
        data
    }

    fn bill(&self) -> Option<Bill> {
        let usage = match &self.events {
            Some(events) => events.usage(),
            None => Usage::read(&self.whole),
        };
        Some(usage?.bill(&self.prices))
    }
}

/// Gives a piece to the reader; forgets a reader that has gone.
async fn pass(reader: &mut Option<mpsc::Sender<io::Result<Bytes>>>, piece: io::Result<Bytes>) {
    if let Some(sender) = reader
        && !matches!(timeout(READER, sender.send(piece)).await, Ok(Ok(())))
    {
        *reader = None;
    }
}

/// Completes the audit line with what the workload is told, and tells it.
fn refuse(serving: &Serving, event: Event, refusal: &Refusal, head: oneshot::Sender<Answer>) {
    serving
        .audit
        .write(event.reason(refusal.code).status(refusal.status));
    drop(head.send(refusal.answer()));
}

/// Gateway timeouts alone may hide an answer that was made and billed.
fn may_be_billed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=299 | 408 | 504 | 520..=527)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with("text/event-stream"))
}

async fn read_short(body: Incoming) -> Option<Bytes> {
    let limited = http_body_util::Limited::new(body, MOST_ERROR);
    let collected = timeout(SHORT, limited.collect()).await.ok()?.ok()?;
    Some(collected.to_bytes())
}

fn repeats(body: &[u8], credential: &str) -> bool {
    !credential.is_empty()
        && body
            .windows(credential.len())
            .any(|window| window == credential.as_bytes())
}

/// What of the service's headers the workload sees.
fn allowed(headers: &HeaderMap) -> HeaderMap {
    let names: [HeaderName; 4] = [
        header::CONTENT_TYPE,
        header::RETRY_AFTER,
        header::CACHE_CONTROL,
        HeaderName::from_static("x-generation-id"),
    ];
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), HeaderValue::clone(headers.get(name)?))))
        .collect()
}

const CLAMPED: HeaderName = HeaderName::from_static("x-egress-clamped");
/// How long a reader may take for a piece.
const READER: Duration = Duration::from_mins(10);
/// How long a stream without a reader is read for its bill.
const DRAIN: Duration = Duration::from_mins(2);
const SHORT: Duration = Duration::from_secs(30);
const MOST_WHOLE: usize = 8 * 1024 * 1024;
const MOST_ERROR: usize = 64 * 1024;
