//! Attempts, the commit point, the way of the answer to the client, and the settlement. Every way out settles once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::pin_mut;
use serde_json::value::{RawValue, to_raw_value};

use crate::activity::row::Row;
use crate::attempt::classify::{self, Breakage, Class, Verdict};
use crate::attempt::machine::{Failed, Machine, Step};
use crate::catalog::Situation;
use crate::dialect::chat::GATEWAY_FIELDS;
use crate::error::{Code, Failure};
use crate::family::{fault, openai_chat, wait};
use crate::health::sample::{Place, Sample};
use crate::ledger::charge::{Receipt, receipt};
use crate::ledger::ending::{Ending, Rule};
use crate::money::{Nanos, Price};
use crate::relay::{Relay, Seen, Stop, UsageView, with_members};
use crate::routing::plan::Candidate;
use crate::serve::infer::{Generation, Outcome};
use crate::serve::ports::{Answer, Call, Client, Ports, Waits};
use crate::serve::reply::{Body, Reply};
use crate::sse::{KEEP_ALIVE, write_data};
use crate::time::Millis;
use crate::usage::{Meter, Usage};
use crate::workspace::{Admitted, Settlement};

/// Largest whole answer that is taken from a provider, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The status of a client that left before its answer, in activity rows.
const STATUS_LEFT: u16 = 499;
/// How long the body of an error is waited for, in milliseconds.
const FAULT_WAIT_MS: u64 = 2_000;

/// An attempt that committed.
struct Served<P: Ports> {
    candidate: usize,
    /// The output limit that was sent because the hold covers no more.
    lowered_to: Option<u64>,
    began: Millis,
    first_byte: Millis,
    what: What<P>,
}

enum What<P: Ports> {
    /// A whole answer.
    Whole { bytes: Vec<u8>, answer: openai_chat::Answer },
    /// A stream whose first content has come.
    Stream { answer: Option<P::Answer>, relay: Relay, first: Vec<u8> },
}

/// What the settlement needs to know.
struct Closing {
    status: u16,
    code: Option<String>,
    ending: Ending,
    candidate: Option<usize>,
    usage: Option<Usage>,
    output_bytes: u64,
    finish: Option<String>,
    service_tier: Option<String>,
    first_byte: Option<Millis>,
    /// When the first upstream call began; `None` when there was none.
    dispatched: Option<Millis>,
}

/// From admission to settlement.
pub async fn deliver<P: Ports>(
    ports: Rc<P>,
    generation: Generation,
    admitted: Admitted,
    tell: oneshot::Sender<Outcome<P>>,
) {
    let machine = RefCell::new(Machine::new(generation.plan.seats(), generation.patience, generation.arrived));
    let dispatched = Cell::new(None);
    let closing = if generation.request.stream {
        streamed(&ports, &generation, &admitted, &machine, &dispatched, tell).await
    } else {
        plain(&ports, &generation, &admitted, &machine, &dispatched, tell).await
    };
    settle(ports.as_ref(), generation, admitted, machine.into_inner(), closing).await;
}

/// A plain answer: wait for all of it, add its price, send it.
async fn plain<P: Ports>(
    ports: &Rc<P>,
    generation: &Generation,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
    tell: oneshot::Sender<Outcome<P>>,
) -> Closing {
    let outcome = {
        let work = attempts(ports, generation, admitted, machine, dispatched);
        let left = ports.left();
        pin_mut!(work, left);
        match select(work, left).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    };
    match outcome {
        None => left_early(dispatched, None, None),
        Some(Err(failure)) => refused(generation, admitted, failure, dispatched, tell),
        Some(Ok(served)) => {
            let What::Whole { bytes, answer } = &served.what else {
                return refused(generation, admitted, machine.borrow().failure(), dispatched, tell);
            };
            let told = &answer.told;
            let candidate = generation.plan.candidates.get(served.candidate);
            let is_refusal = told.finish.as_deref().map(openai_chat::finish_reason) == Some("content_filter");
            let is_empty = told.output_bytes == 0 && (told.finish.is_none() || is_refusal);
            let ending = if is_empty { Ending::Empty } else { Ending::Finished };
            let closing = Closing {
                status: 200,
                code: None,
                ending,
                candidate: Some(served.candidate),
                usage: told.usage.clone(),
                output_bytes: told.output_bytes,
                finish: told.finish.clone(),
                service_tier: told.service_tier.clone(),
                first_byte: Some(served.first_byte),
                dispatched: dispatched.get(),
            };
            let price = candidate.map(|candidate| charge(generation, candidate, &closing, admitted, ports.now()));
            let receipt = price.map(|charge| charge.receipt).unwrap_or_default();
            let body = match (&answer.usage_span, std::str::from_utf8(bytes)) {
                (Some(span), Ok(text)) => {
                    with_members(text, span.clone(), &price_members(&receipt, &generation.snapshot)).into_bytes()
                }
                _ => bytes.clone(),
            };
            let mut reply = Reply {
                status: 200,
                headers: vec![("content-type", "application/json".to_owned())],
                body: Body::Bytes(body),
            };
            reply.headers.push(("x-gateway-cost", receipt.total.to_dollars()));
            let reply = served_headers(reply, generation, admitted, &served, machine.borrow().attempts(), dispatched);
            drop(tell.send(Ok(reply)));
            closing
        }
    }
}

/// A streamed answer: first content, headers, then the pump.
async fn streamed<P: Ports>(
    ports: &Rc<P>,
    generation: &Generation,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
    tell: oneshot::Sender<Outcome<P>>,
) -> Closing {
    let mut tell = Some(tell);
    let mut early: Option<P::Client> = None;
    let outcome = {
        let work = attempts(ports, generation, admitted, machine, dispatched);
        let left = ports.left();
        pin_mut!(work, left);
        let mut silence_ms = ports.settings().keep_alive_first_ms;
        loop {
            let tick = ports.sleep(silence_ms);
            pin_mut!(tick);
            match select(select(&mut work, &mut left), tick).await {
                Either::Left((Either::Left((outcome, _)), _)) => break Some(outcome),
                Either::Left((Either::Right(_), _)) => break None,
                Either::Right(_) => {}
            }
            // Silence: let the headers go, so that nothing between us and the client gives up, and see who listens.
            if let Some(tell) = tell.take() {
                let (client, readable) = ports.open_stream();
                let reply = stream_reply::<P>(readable).with_allowances(admitted.requests, admitted.tokens);
                drop(tell.send(Ok(reply)));
                early = Some(client);
                silence_ms = ports.settings().keep_alive_ms;
            }
            if let Some(client) = &mut early
                && client.write(KEEP_ALIVE).await.is_err()
            {
                break None;
            }
        }
    };
    let served = match outcome {
        None => return left_early(dispatched, None, None),
        Some(Ok(served)) => served,
        Some(Err(failure)) => {
            let Some(mut client) = early else {
                return match tell {
                    Some(tell) => refused(generation, admitted, failure, dispatched, tell),
                    None => left_early(dispatched, None, None),
                };
            };
            let mut out = Vec::new();
            write_data(&failure.envelope(generation.id.as_str()), &mut out);
            let _ = client.write(&out).await;
            client.close().await;
            return failed(&failure, dispatched);
        }
    };
    let candidate = served.candidate;
    let attempts = machine.borrow().attempts();
    let mut client = match (early, tell) {
        (Some(client), _) => client,
        (None, Some(tell)) => {
            let (client, readable) = ports.open_stream();
            let reply =
                served_headers(stream_reply::<P>(readable), generation, admitted, &served, attempts, dispatched);
            drop(tell.send(Ok(reply)));
            client
        }
        (None, None) => return left_early(dispatched, Some(candidate), None),
    };
    let (first_byte, began) = (served.first_byte, served.began);
    let What::Stream { answer, relay, first } = served.what else {
        return left_early(dispatched, Some(candidate), None);
    };
    let end = {
        let amend = |usage: &Usage| {
            let candidate = generation.plan.candidates.get(candidate)?;
            let receipt = priced(usage, candidate, generation.request.service_tier.as_deref(), ports.now())?;
            Some(price_members(&receipt, &generation.snapshot))
        };
        let relay = Rc::new(RefCell::new(relay));
        let total_ms = generation.arrived.plus(generation.patience.total_ms).since(ports.now());
        let settings = ports.settings();
        let waits = Waits { idle_ms: settings.idle_timeout_ms, keep_alive_ms: settings.keep_alive_ms, total_ms };
        let (stop, native) = match (client.write(&first).await, answer) {
            (Err(_), _) => (Stop::Left, false),
            (Ok(()), None) => (Stop::Eof, false),
            (Ok(()), Some(answer)) => ports.pump(answer, &mut client, &relay, &amend, waits).await,
        };
        let mut out = Vec::new();
        let relay = relay.replace(Relay::new(Vec::new(), UsageView::Shown));
        let end = relay.finish(stop, native, generation.id.as_str(), &mut out, &amend);
        if !out.is_empty() && stop != Stop::Left {
            let _ = client.write(&out).await;
        }
        end
    };
    client.close().await;
    if let (Some(verdict), Some(candidate)) = (end.verdict, generation.plan.candidates.get(candidate)) {
        sample(ports.as_ref(), candidate, &verdict, None, began);
    }
    let Seen { usage, output_bytes, finish, service_tier, .. } = end.seen;
    Closing {
        status: 200,
        code: end.verdict.map(|verdict| verdict.code.name().to_owned()),
        ending: end.ending,
        candidate: Some(candidate),
        usage,
        output_bytes,
        finish,
        service_tier,
        first_byte: Some(first_byte),
        dispatched: dispatched.get(),
    }
}

fn stream_reply<P: Ports>(readable: P::Readable) -> Reply<P> {
    let headers = vec![
        ("content-type", "text/event-stream; charset=utf-8".to_owned()),
        ("cache-control", "no-cache, no-transform".to_owned()),
    ];
    Reply { status: 200, headers, body: Body::Stream(readable) }
}

fn served_headers<P: Ports>(
    mut reply: Reply<P>,
    generation: &Generation,
    admitted: &Admitted,
    served: &Served<P>,
    attempts: usize,
    dispatched: &Cell<Option<Millis>>,
) -> Reply<P> {
    if let Some(candidate) = generation.plan.candidates.get(served.candidate) {
        let provider = candidate.provider().map(|provider| provider.id.clone()).unwrap_or_default();
        reply.headers.push(("x-gateway-provider", provider));
        reply.headers.push(("x-gateway-model", candidate.model().id.clone()));
    }
    reply.headers.push(("x-gateway-attempts", attempts.to_string()));
    reply.headers.push(("x-gateway-paid-by", "credits".to_owned()));
    if let Some(limit) = served.lowered_to {
        reply.headers.push(("x-gateway-max-tokens", limit.to_string()));
    }
    let began = dispatched.get().unwrap_or(served.began);
    let (gateway, provider) = (began.since(generation.arrived), served.first_byte.since(began));
    reply.headers.push(("server-timing", format!("gateway;dur={gateway}, provider;dur={provider}")));
    reply.with_allowances(admitted.requests, admitted.tokens)
}

fn refused<P: Ports>(
    generation: &Generation,
    admitted: &Admitted,
    failure: Failure,
    dispatched: &Cell<Option<Millis>>,
    tell: oneshot::Sender<Outcome<P>>,
) -> Closing {
    let closing = failed(&failure, dispatched);
    let began = dispatched.get().unwrap_or(generation.arrived);
    let timing = format!("gateway;dur={}", began.since(generation.arrived));
    let reply = Reply::failure(&failure, generation.id.as_str())
        .with_header("server-timing", timing)
        .with_allowances(admitted.requests, admitted.tokens);
    drop(tell.send(Ok(reply)));
    closing
}

fn failed(failure: &Failure, dispatched: &Cell<Option<Millis>>) -> Closing {
    Closing {
        status: failure.code.status(),
        code: Some(failure.code.name().to_owned()),
        ending: Ending::AttemptsFailed,
        candidate: None,
        usage: None,
        output_bytes: 0,
        finish: None,
        service_tier: None,
        first_byte: None,
        dispatched: dispatched.get(),
    }
}

fn left_early(dispatched: &Cell<Option<Millis>>, candidate: Option<usize>, first_byte: Option<Millis>) -> Closing {
    Closing {
        status: STATUS_LEFT,
        code: None,
        ending: Ending::ClientLeft,
        candidate,
        usage: None,
        output_bytes: 0,
        finish: None,
        service_tier: None,
        first_byte,
        dispatched: dispatched.get(),
    }
}

/// The attempts, one after the other, until one commits or nobody is left.
async fn attempts<P: Ports>(
    ports: &Rc<P>,
    generation: &Generation,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
) -> Result<Served<P>, Failure> {
    loop {
        let step = machine.borrow_mut().next(ports.now());
        let (place, wait_ms) = match step {
            Step::Send { candidate, wait_ms } => (candidate, wait_ms),
            Step::Wait { ms } => {
                ports.sleep(ms).await;
                continue;
            }
            Step::GiveUp => return Err(machine.borrow().failure()),
        };
        let Some(candidate) = generation.plan.candidates.get(place) else { continue };
        // The hold may cover a cheaper candidate and not this one.
        let Some(affordable) = candidate.bound.affordable(admitted.held) else { continue };
        let (Some(offer), Some(provider)) = (candidate.offer(), candidate.provider()) else { continue };
        let lowered = affordable < candidate.bound.output_tokens;
        let limit = (lowered || candidate.bound.must_send_limit).then_some(affordable);
        let began = ports.now();
        if dispatched.get().is_none() {
            dispatched.set(Some(began));
        }
        let health = Place::new(&provider.id, &offer.upstream);
        let ticket = ports.board().borrow_mut().on_sent(&health, machine.borrow().late_ms(place), began);
        let body = openai_chat::request(&generation.request, &offer.upstream, &provider.quirks, GATEWAY_FIELDS, limit);
        let call = Call {
            url: format!("{}{}", provider.base_url, openai_chat::PATH),
            headers: headers(ports.as_ref(), candidate),
            body,
        };
        let answered = Cell::new(None);
        let result = {
            let work = one(ports.as_ref(), generation, candidate, call, &answered);
            let deadline = ports.sleep(wait_ms);
            pin_mut!(work, deadline);
            match select(work, deadline).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Trouble::broke(Breakage::Timeout)),
            }
        };
        let now = ports.now();
        ports.board().borrow_mut().on_ended(&health, ticket);
        match result {
            Ok((status, what)) => {
                let served = Sample::Served {
                    first_byte_ms: generation.request.stream.then(|| now.since(began)),
                    prompt_tokens: candidate.facts.prompt_tokens,
                };
                ports.board().borrow_mut().on_sample(&health, served, now);
                machine.borrow_mut().on_served(&provider.id, &offer.upstream, status, began, now);
                let lowered_to = lowered.then_some(affordable);
                return Ok(Served { candidate: place, lowered_to, began, first_byte: now, what });
            }
            Err(trouble) => {
                sample(ports.as_ref(), candidate, &trouble.verdict, trouble.retry_after_ms, now);
                let failed = Failed {
                    provider: provider.id.clone(),
                    upstream: offer.upstream.clone(),
                    status: trouble.status.or(answered.get()),
                    verdict: trouble.verdict,
                    broke: trouble.broke,
                    param: trouble.param,
                    retry_after_ms: trouble.retry_after_ms,
                    began,
                };
                machine.borrow_mut().on_failed(failed, now);
            }
        }
    }
}

fn sample<P: Ports>(ports: &P, candidate: &Candidate, verdict: &Verdict, wait_ms: Option<u64>, now: Millis) {
    let (Some(offer), Some(provider)) = (candidate.offer(), candidate.provider()) else { return };
    let sample = match verdict.class {
        Class::Request => return,
        Class::Credential => Sample::Refused,
        Class::Busy => Sample::Busy { wait_ms },
        Class::Fault if verdict.code == Code::ProviderTimeout => Sample::Silent,
        Class::Fault => Sample::Failed,
    };
    ports.board().borrow_mut().on_sample(&Place::new(&provider.id, &offer.upstream), sample, now);
}

fn headers<P: Ports>(ports: &P, candidate: &Candidate) -> Vec<(String, String)> {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let Some(provider) = candidate.provider() else { return headers };
    if let Some(secret) = provider.key_env.as_deref().and_then(|name| ports.secret(name)) {
        headers.push((provider.auth.header.clone(), format!("{}{secret}", provider.auth.prefix)));
    }
    headers.extend(provider.auth.extra_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers
}

/// Why an attempt did not commit.
struct Trouble {
    status: Option<u16>,
    verdict: Verdict,
    broke: Option<Breakage>,
    param: Option<String>,
    retry_after_ms: Option<u64>,
}

impl Trouble {
    fn broke(how: Breakage) -> Trouble {
        Trouble { status: None, verdict: classify::breakage(how), broke: Some(how), param: None, retry_after_ms: None }
    }

    fn told(status: u16, fault: &fault::Fault, generation: &Generation) -> Trouble {
        // Only the name of a field that the client itself sent: nothing a provider wrote reaches a client.
        let param = fault.param.as_deref().filter(|param| {
            let root = param.split(['.', '[']).next().unwrap_or_default();
            generation.request.body.has(root)
                && param.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.[]-".contains(&b))
        });
        Trouble {
            status: Some(status),
            verdict: classify::answer(status, fault),
            broke: None,
            param: param.map(str::to_owned),
            retry_after_ms: fault.retry_after_ms,
        }
    }
}

/// One upstream call up to its commit point.
async fn one<P: Ports>(
    ports: &P,
    generation: &Generation,
    candidate: &Candidate,
    call: Call,
    answered: &Cell<Option<u16>>,
) -> Result<(u16, What<P>), Trouble> {
    let quirks = candidate.provider().map(|provider| provider.quirks.clone()).unwrap_or_default();
    let mut answer = ports.send(call).await.map_err(Trouble::broke)?;
    let status = answer.status();
    answered.set(Some(status));
    if !(200..300).contains(&status) {
        let asked = wait::from_headers(
            answer.header("retry-after-ms").as_deref(),
            answer.header("retry-after").as_deref(),
            ports.now(),
        );
        let body = {
            let work = answer.whole(fault::FAULT_BYTES_MAX);
            let deadline = ports.sleep(FAULT_WAIT_MS);
            pin_mut!(work, deadline);
            match select(work, deadline).await {
                Either::Left((Ok(body), _)) => body,
                _ => Vec::new(),
            }
        };
        let trouble = Trouble::told(status, &fault::parse(&body), generation);
        return Err(Trouble { retry_after_ms: asked.or(trouble.retry_after_ms), ..trouble });
    }
    if !generation.request.stream {
        let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(Trouble::broke)?;
        return match openai_chat::answer(&bytes, &quirks) {
            Ok(answer) => Ok((status, What::Whole { bytes, answer })),
            Err(fault) => Err(Trouble::told(status, &fault, generation)),
        };
    }
    let view = match (generation.request.wants_cost, generation.request.wants_usage) {
        (true, _) => UsageView::Priced,
        (false, true) => UsageView::Shown,
        (false, false) => UsageView::Hidden,
    };
    let mut relay = Relay::new(quirks.clone(), view);
    let mut first = Vec::new();
    let is_json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
    if is_json {
        let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(Trouble::broke)?;
        openai_chat::answer(&bytes, &quirks).map_err(|fault| Trouble::told(status, &fault, generation))?;
        let stream = openai_chat::as_stream(&bytes).ok_or_else(|| Trouble::broke(Breakage::Malformed))?;
        relay.push(&stream, Some(&mut first), &price_of(ports, generation, candidate));
        return Ok((status, What::Stream { answer: None, relay, first }));
    }
    let amend = price_of(ports, generation, candidate);
    let mut held_back = Vec::new();
    while !relay.seen().has_content && !relay.is_over() {
        match answer.chunk().await.map_err(|_| Trouble::broke(Breakage::Cut))? {
            Some(bytes) => {
                relay.push(&bytes, Some(&mut first), &amend);
                held_back.extend_from_slice(&bytes);
            }
            None => return Err(Trouble::broke(Breakage::Cut)),
        }
    }
    if let Some(fault) = &relay.seen().fault
        && !relay.seen().has_content
    {
        return Err(Trouble::told(status, fault, generation));
    }
    if relay.is_over() && !relay.seen().is_done {
        return Err(Trouble::broke(Breakage::Malformed));
    }
    // Where the bytes pass as they are, an unfinished frame must not be held back either.
    let first = if relay.can_be_native() { held_back } else { first };
    Ok((status, What::Stream { answer: Some(answer), relay, first }))
}

fn price_of<'a, P: Ports>(
    ports: &'a P,
    generation: &'a Generation,
    candidate: &'a Candidate,
) -> impl Fn(&Usage) -> Option<String> + 'a {
    move |usage| {
        let receipt = priced(usage, candidate, generation.request.service_tier.as_deref(), ports.now())?;
        Some(price_members(&receipt, &generation.snapshot))
    }
}

fn priced(usage: &Usage, candidate: &Candidate, tier: Option<&str>, now: Millis) -> Option<Receipt> {
    let offer = candidate.offer()?;
    let situation =
        Situation { prompt_tokens: usage.prompt_tokens(), service_tier: tier, region: None, speed: None, now };
    receipt(usage, &offer.card, &situation).ok()
}

/// The members that an answer's usage gains: cost in dollars, its parts, and the snapshot that priced it.
fn price_members(receipt: &Receipt, snapshot: &str) -> String {
    let parts: Vec<String> = receipt
        .lines
        .iter()
        .filter_map(|line| {
            let nanos = i64::try_from(line.quantity).ok()?.checked_mul(line.price.0)?;
            // Nano-dollars per million units times units is 10⁻¹⁵ dollars: printed exactly.
            Some(format!("\"{}\":{}", line.meter.name(), Price(nanos).to_dollars(1)))
        })
        .collect();
    let cost = receipt.total.to_dollars();
    format!("\"cost\":{cost},\"cost_details\":{{{}}},\"price_snapshot\":\"{snapshot}\"", parts.join(","))
}

/// What a generation costs, and why.
struct Charge {
    usage: Option<Usage>,
    is_estimated: bool,
    receipt: Receipt,
}

/// Applies the table of endings.
fn charge(
    generation: &Generation,
    candidate: &Candidate,
    closing: &Closing,
    admitted: &Admitted,
    now: Millis,
) -> Charge {
    let nothing = |usage| Charge { usage, is_estimated: false, receipt: Receipt::default() };
    if closing.ending.rule() == Rule::Nothing {
        return nothing(closing.usage.clone());
    }
    let (usage, is_estimated) = match &closing.usage {
        Some(usage) => (usage.clone(), false),
        None => (estimate(generation, closing.output_bytes), true),
    };
    let tier = closing.service_tier.as_deref().or(generation.request.service_tier.as_deref());
    let mut receipt = match priced(&usage, candidate, tier, now) {
        Some(receipt) => receipt,
        // Only an overflow gets here: offers without prices are no candidates. The hold was the true bound.
        None => Receipt { total: admitted.held, ..Receipt::default() },
    };
    if closing.ending == Ending::ClientLeft {
        receipt.total = receipt.total.min(admitted.held);
    }
    Charge { usage: Some(usage), is_estimated, receipt }
}

/// What was probably used, from what was sent and delivered: four bytes a token.
fn estimate(generation: &Generation, output_bytes: u64) -> Usage {
    Usage::default()
        .with(Meter::InputTokens, generation.request.demand.prompt_tokens_likely())
        .with(Meter::OutputTokens, output_bytes.div_ceil(4))
}

/// Books it: one settlement with its activity row.
async fn settle<P: Ports>(ports: &P, generation: Generation, admitted: Admitted, machine: Machine, closing: Closing) {
    let now = ports.now();
    let attempts = machine.into_rows();
    // A client that left before anybody answered: the candidate that was being asked is the one after the failed.
    let place = closing
        .candidate
        .or_else(|| closing.dispatched.filter(|_| closing.ending == Ending::ClientLeft).map(|_| attempts.len()));
    let candidate = place.and_then(|place| generation.plan.candidates.get(place));
    let charge = match candidate {
        Some(candidate) if closing.dispatched.is_some() => charge(&generation, candidate, &closing, &admitted, now),
        _ => Charge { usage: None, is_estimated: false, receipt: Receipt::default() },
    };
    let provider = candidate.and_then(|candidate| candidate.provider());
    let tokens =
        charge.usage.as_ref().map_or(0, |usage| usage.prompt_tokens().saturating_add(usage.completion_tokens()));
    let row = Row {
        id: generation.id.as_str().to_owned(),
        at: generation.arrived.0,
        key: generation.policy.key.as_str().to_owned(),
        model_asked: generation.request.models.first().cloned().unwrap_or_default(),
        model: candidate.map(|candidate| candidate.model().id.clone()),
        provider: provider.map(|provider| provider.id.clone()),
        dialect: Some("chat".to_owned()),
        stream: generation.request.stream,
        status: closing.status,
        code: closing.code,
        ending: closing.ending,
        finish_reason: closing.finish.as_deref().map(|word| openai_chat::finish_reason(word).to_owned()),
        usage: charge.usage,
        is_estimated: charge.is_estimated,
        lines: charge.receipt.lines,
        rules: charge.receipt.rules,
        snapshot: Some(generation.snapshot.to_string()),
        paid_by: "credits".to_owned(),
        held_nanos: admitted.held.0,
        attempts,
        first_byte_ms: closing.first_byte.map(|at| at.since(generation.arrived)),
        total_ms: now.since(generation.arrived),
        gateway_ms: closing.dispatched.unwrap_or(now).since(generation.arrived),
        session: generation.request.session.clone(),
        user: generation.request.user.clone(),
    };
    let row = to_raw_value(&row).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let settlement = Settlement {
        id: generation.id.clone(),
        key: generation.policy.key.clone(),
        admitted: admitted.at,
        held: admitted.held,
        cost: charge.receipt.total.max(Nanos::ZERO),
        tokens,
        row,
    };
    ports.settle(&generation.policy.workspace, settlement).await;
}
