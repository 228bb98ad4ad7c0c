//! The answer of media work on its way to the client, whole or as it is made, and what is charged for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::pin_mut;

use super::Served;
use super::exchange::{ANSWER_BYTES_MAX, Got};
use crate::attempt::classify::{self, Breakage};
use crate::attempt::machine::Machine;
use crate::error::Failure;
use crate::excerpt::Excerpt;
use crate::ledger::ending::Ending;
use crate::media::Work;
use crate::media::meter;
use crate::media::shape::Answered;
use crate::media::stream::{Events, event};
use crate::relay::{Stop, with_members};
use crate::serve::attempts::{Trouble, sample};
use crate::serve::deliver::explanation;
use crate::serve::infer::{Generation, Outcome};
use crate::serve::ports::{Answer, Client, Ports, Waits};
use crate::serve::prompts;
use crate::serve::replay::Captured;
use crate::serve::reply::{Body, Reply};
use crate::serve::settlement::{Closing, charge, paid_by, price_members};
use crate::time::Millis;
use crate::workspace::Admitted;

/// The status of a client that left before its answer, in activity rows.
const STATUS_LEFT: u16 = 499;

/// What is known when the attempts are over.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// The request.
    pub generation: &'a Generation,
    /// The work.
    pub work: &'a Work,
    /// Its admission.
    pub admitted: &'a Admitted,
    /// When the first call began.
    pub dispatched: &'a Cell<Option<Millis>>,
    /// The record of the attempts.
    pub machine: &'a RefCell<Machine>,
}

/// Answers the client, and says what the settlement needs to know.
pub async fn deliver<P: Ports>(
    ports: &Rc<P>,
    told: Told<'_>,
    outcome: Option<Result<Served<P>, Failure>>,
    tell: oneshot::Sender<Outcome<P>>,
) -> Closing {
    let served = match outcome {
        None => return Closing { status: STATUS_LEFT, ending: Ending::ClientLeft, ..told.closing() },
        Some(Err(failure)) => {
            let reply = told.refused(&failure);
            prompts::hear(told.generation, &reply);
            drop(tell.send(Ok(reply)));
            let code = Some(failure.code.name().to_owned());
            return Closing { status: failure.code.status(), code, ..told.closing() };
        }
        Some(Ok(served)) => served,
    };
    let Served { candidate, slot, got, dropped, began, first_byte } = served;
    let of = Of { candidate, slot, dropped, began, first_byte };
    // An answer that is kept for its key is had whole first.
    let got = match told.generation.replay {
        None => got,
        Some(_) => match collected(got).await {
            Ok(whole) => Got::Whole(whole),
            Err(breakage) => return told.broken(ports.as_ref(), &of, breakage, tell),
        },
    };
    match got {
        Got::Whole(answered) => told.whole(&of, answered, tell),
        Got::Bytes { answer, first, content_type, told: counted } => {
            let closing = told.finished(&of, &counted);
            let (mut client, readable) = ports.open_stream();
            let reply = told.reply(&of, Some(&closing), &content_type, Body::Stream(readable));
            prompts::hear(told.generation, &reply);
            drop(tell.send(Ok(reply)));
            let stop = match client.write(&first).await {
                Err(_) => Stop::Left,
                Ok(()) => {
                    let waits = told.waits(ports.as_ref());
                    drop(first);
                    ports.pipe(answer, &mut client, waits).await
                }
            };
            client.close().await;
            told.stopped(ports.as_ref(), &of, closing, stop)
        }
        Got::Events { answer, mut events, first, content_type } => {
            let (mut client, readable) = ports.open_stream();
            let reply = told.reply(&of, None, &content_type, Body::Stream(readable));
            prompts::hear(told.generation, &reply);
            drop(tell.send(Ok(reply)));
            let is_told = content_type.starts_with("text/event-stream");
            let most = told.generation.keeping.bytes_max().filter(|_| is_told);
            let mut record = most.map(|most| Excerpt::of(&first, most));
            let stop = match client.write(&first).await {
                Err(_) => Stop::Left,
                Ok(()) => {
                    let waits = told.waits(ports.as_ref());
                    relayed(ports.as_ref(), answer, &mut client, &mut events, waits, &mut record).await
                }
            };
            if stop != Stop::Eof && stop != Stop::Left && is_told {
                let failure = Failure::new(classify::breakage(Breakage::Cut).code, "the provider broke off");
                let mut out = Vec::new();
                event(
                    &serde_json::json!({"type": "error", "error": {"code": failure.code.name(), "message": failure.message}}),
                    &mut out,
                );
                if let Some(record) = &mut record {
                    record.push(&out);
                }
                let _ = client.write(&out).await;
            }
            client.close().await;
            if let Some(record) = record {
                prompts::hear_stream(told.generation, record);
            }
            let closing = told.finished(&of, &events.told());
            told.stopped(ports.as_ref(), &of, closing, stop)
        }
    }
}

/// Who served, and when.
struct Of {
    candidate: usize,
    slot: u8,
    dropped: Vec<String>,
    began: Millis,
    first_byte: Millis,
}

impl Told<'_> {
    fn closing(&self) -> Closing {
        Closing {
            status: 0,
            code: None,
            ending: Ending::AttemptsFailed,
            candidate: None,
            usage: None,
            is_estimated: false,
            output_bytes: 0,
            finish: None,
            service_tier: None,
            first_byte: None,
            dispatched: self.dispatched.get(),
        }
    }

    fn refused<P: Ports>(&self, failure: &Failure) -> Reply<P> {
        let reply = Reply::failure(failure, self.generation.id.as_str())
            .with_allowances(self.admitted.requests, self.admitted.tokens);
        match self.generation.explains {
            true => reply.with_header("x-gateway-explanation", explanation(self.generation, self.machine)),
            false => reply,
        }
    }

    /// Charged by what the host told.
    fn finished(&self, of: &Of, counted: &meter::Told) -> Closing {
        let offer = self.generation.plan.candidates.get(of.candidate).and_then(|candidate| candidate.offer());
        let charged = offer.map(|offer| self.work.charged(counted, &offer.card));
        Closing {
            status: 200,
            ending: Ending::Finished,
            candidate: Some(of.candidate),
            is_estimated: charged.as_ref().is_some_and(|(_, is_estimated)| *is_estimated),
            usage: charged.map(|(usage, _)| usage),
            finish: Some("stop".to_owned()),
            first_byte: Some(of.first_byte),
            ..self.closing()
        }
    }

    /// The same, by the way the stream stopped. What broke off costs nothing.
    fn stopped<P: Ports>(&self, ports: &P, of: &Of, closing: Closing, stop: Stop) -> Closing {
        let breakage = match stop {
            Stop::Eof => return closing,
            Stop::Left => return Closing { ending: Ending::ClientLeft, finish: None, ..closing },
            Stop::Idle | Stop::Deadline => Breakage::Timeout,
            Stop::Broken => Breakage::Cut,
        };
        let verdict = classify::breakage(breakage);
        if let Some(candidate) = self.generation.plan.candidates.get(of.candidate) {
            sample(ports, self.generation, candidate, of.slot, &verdict, None, ports.now());
        }
        let code = Some(verdict.code.name().to_owned());
        Closing { ending: Ending::UpstreamFailed, code, usage: None, finish: None, ..closing }
    }

    fn broken<P: Ports>(&self, ports: &P, of: &Of, breakage: Breakage, tell: oneshot::Sender<Outcome<P>>) -> Closing {
        let trouble = Trouble::broke(breakage);
        let failure = Failure::new(trouble.verdict.code, "the provider broke off");
        let reply = self.refused(&failure);
        prompts::hear(self.generation, &reply);
        drop(tell.send(Ok(reply)));
        if let Some(candidate) = self.generation.plan.candidates.get(of.candidate) {
            sample(ports, self.generation, candidate, of.slot, &trouble.verdict, None, ports.now());
        }
        let code = Some(failure.code.name().to_owned());
        Closing { status: failure.code.status(), code, ..self.closing() }
    }

    fn whole<P: Ports>(&self, of: &Of, answered: Answered, tell: oneshot::Sender<Outcome<P>>) -> Closing {
        let Answered { content_type, mut body, told: counted, .. } = answered;
        let closing = self.finished(of, &counted);
        if content_type.contains("json")
            && let Some(candidate) = self.generation.plan.candidates.get(of.candidate)
        {
            let receipt = charge(self.generation, candidate, &closing, self.admitted).receipt;
            body = priced(body, &price_members(&receipt, &self.generation.snapshot));
        }
        let reply = self.reply::<P>(of, Some(&closing), &content_type, Body::Bytes(body));
        if let (Some(_), Body::Bytes(body)) = (&self.generation.replay, &reply.body) {
            let captured = Captured { headers: reply.headers.clone(), body: body.clone() };
            self.generation.captured.replace(Some(captured));
        }
        prompts::hear(self.generation, &reply);
        drop(tell.send(Ok(reply)));
        closing
    }

    /// The reply with its headers; with the cost where that is known already.
    fn reply<P: Ports>(&self, of: &Of, closing: Option<&Closing>, content_type: &str, body: Body<P>) -> Reply<P> {
        let generation = self.generation;
        let mut headers = vec![("content-type", content_type.to_owned())];
        if let Some(candidate) = generation.plan.candidates.get(of.candidate) {
            headers.push(("x-gateway-provider", candidate.provider().map(|one| one.id.clone()).unwrap_or_default()));
            headers.push(("x-gateway-model", candidate.model().id.clone()));
            if let Some(closing) = closing {
                let receipt = charge(generation, candidate, closing, self.admitted).receipt;
                headers.push(("x-gateway-cost", receipt.total.to_dollars()));
            }
            headers.push(("x-gateway-paid-by", paid_by(candidate.own).to_owned()));
        }
        headers.push(("x-gateway-attempts", self.machine.borrow().attempts().to_string()));
        if !of.dropped.is_empty() {
            headers.push(("x-gateway-warning", format!("dropped: {}", of.dropped.join(", "))));
        }
        if generation.explains {
            headers.push(("x-gateway-explanation", explanation(generation, self.machine)));
        }
        let began = self.dispatched.get().unwrap_or(of.began);
        let (gateway, provider) = (began.since(generation.arrived), of.first_byte.since(began));
        headers.push(("server-timing", format!("gateway;dur={gateway}, provider;dur={provider}")));
        let reply = prompts::told(Reply { status: 200, headers, body }, generation.keeping);
        reply.with_allowances(self.admitted.requests, self.admitted.tokens)
    }

    fn waits<P: Ports>(&self, ports: &P) -> Waits {
        let settings = ports.settings();
        let end = self.generation.arrived.plus(self.generation.patience.total_ms);
        Waits {
            idle_ms: self.generation.timeouts.idle_ms,
            keep_alive_ms: settings.keep_alive_ms,
            total_ms: end.since(ports.now()),
        }
    }
}

/// A body of JSON whose `usage` has the price in it; one without `usage` gains it.
fn priced(body: Vec<u8>, members: &str) -> Vec<u8> {
    let found = crate::json::members(&body).unwrap_or_default();
    let is_object = |range: &std::ops::Range<usize>| body.get(range.start) == Some(&b'{');
    let usage = found.into_iter().find(|member| member.key == "usage").map(|member| member.value).filter(is_object);
    match (usage, std::str::from_utf8(&body)) {
        (Some(range), Ok(text)) => with_members(text, range, members).into_bytes(),
        _ => body,
    }
}

/// Events to the client, until their last.
async fn relayed<P: Ports>(
    ports: &P,
    mut answer: P::Answer,
    client: &mut P::Client,
    events: &mut Events,
    waits: Waits,
    record: &mut Option<Excerpt>,
) -> Stop {
    let end = ports.now().plus(waits.total_ms);
    let left = ports.left();
    pin_mut!(left);
    let mut out = Vec::new();
    while !events.is_over() {
        let patience_ms = waits.idle_ms.min(end.since(ports.now()));
        let chunk = {
            let (chunk, silence) = (answer.chunk(), ports.sleep(patience_ms));
            pin_mut!(chunk, silence);
            match select(select(chunk, &mut left), silence).await {
                Either::Left((Either::Left((chunk, _)), _)) => chunk,
                Either::Left((Either::Right(_), _)) => return Stop::Left,
                Either::Right(_) if ports.now() >= end => return Stop::Deadline,
                Either::Right(_) => return Stop::Idle,
            }
        };
        let Ok(Some(chunk)) = chunk else { return Stop::Broken };
        out.clear();
        events.push(&chunk, &mut out);
        if let Some(record) = record {
            record.push(&out);
        }
        if client.write(&out).await.is_err() {
            return Stop::Left;
        }
        if events.fault().is_some() {
            return Stop::Broken;
        }
    }
    Stop::Eof
}

/// All of an answer, however it comes.
async fn collected<P: Ports>(got: Got<P>) -> Result<Answered, Breakage> {
    match got {
        Got::Whole(answered) => Ok(answered),
        Got::Bytes { mut answer, first: mut body, content_type, told } => {
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER_BYTES_MAX {
                    return Err(Breakage::Malformed);
                }
            }
            Ok(Answered { content_type, body, told, ..Answered::default() })
        }
        Got::Events { mut answer, mut events, first: mut body, content_type } => {
            while !events.is_over() {
                let chunk = answer.chunk().await?.ok_or(Breakage::Cut)?;
                events.push(&chunk, &mut body);
                if events.fault().is_some() || body.len() > ANSWER_BYTES_MAX {
                    return Err(Breakage::Malformed);
                }
            }
            Ok(Answered { content_type, body, told: events.told(), ..Answered::default() })
        }
    }
}
