//! The answer of media work on its way to the client, whole or as it is made, and what is charged for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::pin_mut;

use super::Served;
use super::exchange::{ANSWER_BYTES_MAX, Got, reading};
use super::fetch::Open;
use crate::attempt::classify::{self, Breakage};
use crate::attempt::machine::Machine;
use crate::error::Failure;
use crate::excerpt::Excerpt;
use crate::ledger::ending::Ending;
use crate::media::Work;
use crate::media::images::PICTURE_BYTES_MAX;
use crate::media::images::passing::{Drawing, Frame, Passing};
use crate::media::meter;
use crate::media::shape::{Answered, Raw};
use crate::media::stream::{Events, event};
use crate::relay::{Stop, with_members};
use crate::serve::attempts::{Trouble, sample};
use crate::serve::deliver::explanation;
use crate::serve::infer::{Generation, Outcome};
use crate::serve::ports::{Answer, Client, Ports, Waits};
use crate::serve::prompts;
use crate::serve::replay::Captured;
use crate::serve::reply::{Body, Reply, warning};
use crate::serve::settlement::{Closing, charge, paid_by, price_members};
use crate::time::Millis;
use crate::workspace::Admitted;

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
        None => return Closing::left(told.dispatched.get()),
        Some(Err(failure)) => {
            let reply = told.refused(&failure);
            prompts::hear(told.generation, &reply);
            drop(tell.send(Ok(reply)));
            return Closing::failed(&failure, told.dispatched.get());
        }
        Some(Ok(served)) => served,
    };
    let Served { candidate, slot, got, dropped, began, first_byte } = served;
    let of = Of { candidate, slot, dropped, began, first_byte };
    // An answer that is kept for its key is had whole first.
    let is_long = matches!(got, Got::Passing { .. } | Got::Drawn(..));
    let got = match told.generation.replay {
        None => got,
        Some(_) if is_long => got,
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
            over(client, stop == Stop::Eof).await;
            told.stopped(ports.as_ref(), &of, closing, stop)
        }
        Got::Events { mut answer, mut events, first, content_type } => {
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
                    let mut line = Line { ports: ports.as_ref(), client: &mut client, waits, bytes: usize::MAX };
                    relayed(&mut line, &mut answer, &mut events, &mut record).await
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
            over(client, is_told || stop == Stop::Eof).await;
            if let Some(record) = record {
                prompts::hear_stream(told.generation, record);
            }
            let closing = told.finished(&of, &events.told());
            told.stopped(ports.as_ref(), &of, closing, stop)
        }
        Got::Passing { answer, passing, first, raw, family } => {
            let (client, readable) = ports.open_stream();
            let reply = told.reply(&of, None, JSON, Body::Stream(readable));
            prompts::hear(told.generation, &reply);
            drop(tell.send(Ok(reply)));
            told.passed(ports.as_ref(), &of, client, (answer, first), *passing, (raw, &family)).await
        }
        Got::Drawn(pictures, answered) => {
            let closing = told.finished(&of, &answered.told);
            let body = told.priced(&of, &closing, answered.body);
            let (client, readable) = ports.open_stream();
            let reply = told.reply(&of, Some(&closing), JSON, Body::Stream(readable));
            prompts::hear(told.generation, &reply);
            drop(tell.send(Ok(reply)));
            told.drawn(ports.as_ref(), &of, client, pictures, &body, closing).await
        }
    }
}

/// The content type of an answer with pictures.
const JSON: &str = "application/json";

/// The end of a body without an end of its own: when it is not whole, that must be seen.
async fn over<C: Client>(client: C, is_whole: bool) {
    if is_whole {
        client.close().await;
    } else {
        client.cut().await;
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
            candidate: Some(of.candidate),
            is_estimated: charged.as_ref().is_some_and(|(_, is_estimated)| *is_estimated),
            usage: charged.map(|(usage, _)| usage),
            finish: Some("stop".to_owned()),
            first_byte: Some(of.first_byte),
            ..Closing::unserved(Ending::Finished, 200, None, self.dispatched.get())
        }
    }

    /// The same, by the way the stream stopped. What broke off costs nothing.
    fn stopped<P: Ports>(&self, ports: &P, of: &Of, closing: Closing, stop: Stop) -> Closing {
        let breakage = match stop {
            Stop::Eof => return closing,
            Stop::Left | Stop::Stalled => return Closing { ending: Ending::ClientLeft, finish: None, ..closing },
            Stop::Idle | Stop::Deadline if self.generation.is_own_stop(stop) => {
                let code = Some(classify::breakage(Breakage::Timeout).code.name().to_owned());
                return Closing { ending: Ending::ClientLeft, code, finish: None, ..closing };
            }
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
        Closing::failed(&failure, self.dispatched.get())
    }

    fn whole<P: Ports>(&self, of: &Of, answered: Answered, tell: oneshot::Sender<Outcome<P>>) -> Closing {
        let Answered { content_type, mut body, told: counted, .. } = answered;
        let closing = self.finished(of, &counted);
        if content_type.contains("json") {
            body = self.priced(of, &closing, body);
        }
        let reply = self.reply::<P>(of, Some(&closing), &content_type, Body::Bytes(body));
        if let (Some(_), Body::Bytes(body)) = (&self.generation.replay, &reply.body) {
            let captured = Captured { headers: reply.headers.clone(), body: Some(body.clone()) };
            self.generation.captured.replace(Some(captured));
        }
        prompts::hear(self.generation, &reply);
        drop(tell.send(Ok(reply)));
        closing
    }

    /// A body of JSON with its price.
    fn priced(&self, of: &Of, closing: &Closing, body: Vec<u8>) -> Vec<u8> {
        let Some(candidate) = self.generation.plan.candidates.get(of.candidate) else { return body };
        let receipt = charge(self.generation, candidate, closing, self.admitted).receipt;
        priced(body, &price_members(&receipt, &self.generation.snapshot))
    }

    /// Pictures of a host's JSON to the client, as they come; then what all of it cost.
    async fn passed<P: Ports>(
        &self,
        ports: &P,
        of: &Of,
        mut client: P::Client,
        (mut answer, first): (P::Answer, Vec<u8>),
        mut passing: Passing,
        (raw, family): (Raw, &str),
    ) -> Closing {
        let mut line = Line { ports, client: &mut client, waits: self.waits(ports), bytes: ANSWER_BYTES_MAX };
        let mut stop = if line.client.write(&first).await.is_ok() { Stop::Eof } else { Stop::Left };
        drop(first);
        if stop == Stop::Eof {
            stop = line.carry(&mut answer, |chunk, out| Step::good(passing.push(chunk, out).is_ok())).await;
        }
        let mut closing = self.finished(of, &meter::Told::default());
        if stop == Stop::Eof {
            stop = Stop::Broken;
            if let Some((answered, frame)) = self.read(of, passing, raw, family) {
                closing = self.finished(of, &answered.told);
                let body = self.priced(of, &closing, answered.body);
                stop = finished(&mut client, frame, &body).await;
            }
        }
        self.long_over(ports, of, client, closing, stop).await
    }

    /// What a host said beside its pictures.
    fn read(&self, of: &Of, passing: Passing, raw: Raw, family: &str) -> Option<(Answered, Frame)> {
        let (skeleton, frame) = passing.finish().ok()?;
        let candidate = self.generation.plan.candidates.get(of.candidate)?;
        let reading = reading(self.generation, candidate, candidate.offer()?);
        let answered = self.work.read(family, vec![Raw { bytes: skeleton, ..raw }], &reading).ok()?;
        Some((answered, frame))
    }

    /// Pictures that links lead to, to the client as they come. `body` is the answer without them.
    async fn drawn<P: Ports>(
        &self,
        ports: &P,
        of: &Of,
        mut client: P::Client,
        pictures: Vec<(usize, Open<P::Answer>)>,
        body: &[u8],
        closing: Closing,
    ) -> Closing {
        let stop = match self.work {
            Work::Images(images) => {
                let line = Line { ports, client: &mut client, waits: self.waits(ports), bytes: PICTURE_BYTES_MAX };
                draw(line, Frame::new(images), pictures, body).await
            }
            _ => Stop::Broken,
        };
        self.long_over(ports, of, client, closing, stop).await
    }

    /// What was too long to be held cannot be kept for its key; that it was served is.
    async fn long_over<P: Ports>(
        &self,
        ports: &P,
        of: &Of,
        client: P::Client,
        closing: Closing,
        stop: Stop,
    ) -> Closing {
        over(client, stop == Stop::Eof).await;
        if matches!(stop, Stop::Eof | Stop::Left) && self.generation.replay.is_some() {
            self.generation.captured.replace(Some(Captured { headers: Vec::new(), body: None }));
        }
        self.stopped(ports, of, closing, stop)
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
            headers.push(("x-gateway-warning", warning(&of.dropped)));
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

/// Writes the end of an answer with pictures.
async fn finished<C: Client>(client: &mut C, frame: Frame, body: &[u8]) -> Stop {
    let Some(whole) = crate::json::from_bytes(body) else { return Stop::Broken };
    let mut out = Vec::new();
    frame.finish(&whole, &mut out);
    if client.write(&out).await.is_ok() { Stop::Eof } else { Stop::Left }
}

async fn draw<P: Ports>(
    mut line: Line<'_, P>,
    mut frame: Frame,
    mut pictures: Vec<(usize, Open<P::Answer>)>,
    body: &[u8],
) -> Stop {
    let whole: serde_json::Value = crate::json::from_bytes(body).unwrap_or_default();
    let created = whole.get("created").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let mut before = None;
    for (at, one) in whole.get("data").and_then(serde_json::Value::as_array).into_iter().flatten().enumerate() {
        let mut out = Vec::new();
        frame.begin(created, before, &mut out);
        before = one.as_object();
        if let Some(place) = pictures.iter().position(|(place, _)| *place == at) {
            let Open { mut answer, first, .. } = pictures.swap_remove(place).1;
            let mut drawing = Drawing::default();
            line.bytes = PICTURE_BYTES_MAX.saturating_sub(first.len());
            if !drawing.push(&first, &mut frame, &mut out) {
                return Stop::Broken;
            }
            if line.client.write(&out).await.is_err() {
                return Stop::Left;
            }
            let stop = line.carry(&mut answer, |chunk, out| Step::good(drawing.push(chunk, &mut frame, out))).await;
            if stop != Stop::Eof {
                return stop;
            }
            out.clear();
            if !drawing.finish(&mut frame, &mut out) {
                return Stop::Broken;
            }
        } else {
            frame
                .part(one.get("b64_json").and_then(serde_json::Value::as_str).unwrap_or_default().as_bytes(), &mut out);
            frame.end(&mut out);
        }
        if line.client.write(&out).await.is_err() {
            return Stop::Left;
        }
    }
    finished(line.client, frame, body).await
}

/// The way of an answer's chunks to the client.
struct Line<'a, P: Ports> {
    ports: &'a P,
    client: &'a mut P::Client,
    waits: Waits,
    /// How many may still come.
    bytes: usize,
}

/// What a chunk was.
enum Step {
    More,
    Last,
    Bad,
}

impl Step {
    fn good(is_good: bool) -> Step {
        if is_good { Step::More } else { Step::Bad }
    }
}

impl<P: Ports> Line<'_, P> {
    /// Each chunk through `step`, to the last one, or to the end of the answer.
    async fn carry(&mut self, answer: &mut P::Answer, mut step: impl FnMut(&[u8], &mut Vec<u8>) -> Step) -> Stop {
        let Line { ports, client, waits, bytes } = self;
        let end = ports.now().plus(waits.total_ms);
        let left = ports.left();
        pin_mut!(left);
        let mut out = Vec::new();
        loop {
            let now = ports.now();
            if now >= end {
                return Stop::Deadline;
            }
            let patience_ms = waits.idle_ms.min(end.since(now));
            let chunk = {
                let (chunk, silence) = (answer.block(), ports.sleep(patience_ms));
                pin_mut!(chunk, silence);
                match select(select(chunk, &mut left), silence).await {
                    Either::Left((Either::Left((chunk, _)), _)) => chunk,
                    Either::Left((Either::Right(_), _)) => return Stop::Left,
                    Either::Right(_) if ports.now() >= end => return Stop::Deadline,
                    Either::Right(_) => return Stop::Idle,
                }
            };
            let Ok(chunk) = chunk else { return Stop::Broken };
            let Some(chunk) = chunk else { return Stop::Eof };
            out.clear();
            let step = step(&chunk, &mut out);
            if client.write(&out).await.is_err() {
                return Stop::Left;
            }
            let left = bytes.checked_sub(chunk.len());
            match (step, left) {
                (Step::More, Some(left)) => *bytes = left,
                (Step::Last, _) => return Stop::Eof,
                (Step::More | Step::Bad, _) => return Stop::Broken,
            }
        }
    }
}

/// Events to the client, until their last.
async fn relayed<P: Ports>(
    line: &mut Line<'_, P>,
    answer: &mut P::Answer,
    events: &mut Events,
    record: &mut Option<Excerpt>,
) -> Stop {
    if events.is_over() {
        return Stop::Eof;
    }
    let step = |chunk: &[u8], out: &mut Vec<u8>| {
        events.push(chunk, out);
        if let Some(record) = record {
            record.push(out);
        }
        match (events.fault(), events.is_over()) {
            (Some(_), _) => Step::Bad,
            (None, true) => Step::Last,
            (None, false) => Step::More,
        }
    };
    // A host that says no more before its last event has broken off.
    match line.carry(answer, step).await {
        Stop::Eof if !events.is_over() => Stop::Broken,
        stop => stop,
    }
}

/// All of an answer, however it comes.
async fn collected<P: Ports>(got: Got<P>) -> Result<Answered, Breakage> {
    match got {
        Got::Whole(answered) => Ok(answered),
        Got::Passing { .. } | Got::Drawn(..) => Err(Breakage::Malformed),
        Got::Bytes { mut answer, first: mut body, content_type, told } => {
            while let Some(chunk) = answer.block().await? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER_BYTES_MAX {
                    return Err(Breakage::Malformed);
                }
            }
            Ok(Answered { content_type, body, told, ..Answered::default() })
        }
        Got::Events { mut answer, mut events, first: mut body, content_type } => {
            while !events.is_over() {
                let chunk = answer.block().await?.ok_or(Breakage::Cut)?;
                events.push(&chunk, &mut body);
                if events.fault().is_some() || body.len() > ANSWER_BYTES_MAX {
                    return Err(Breakage::Malformed);
                }
            }
            Ok(Answered { content_type, body, told: events.told(), ..Answered::default() })
        }
    }
}
