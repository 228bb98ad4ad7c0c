//! The way of the answer to the client. Every way out ends in one settlement.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, pending, select};
use futures::pin_mut;
use serde_json::json;

use crate::attempt::machine::Machine;
use crate::error::{Code, Failure};
use crate::excerpt::Excerpt;
use crate::health::sample::{Place, Sample};
use crate::ledger::ending::Ending;
use crate::relay::{Relay, Seen, Stop, UNTAKEN, UsageView, with_members};
use crate::routing::explain::{ASKED_CANDIDATES, explain};
use crate::serve::attempts::{Served, What, WholeBody, attempts, sample, voice};
use crate::serve::drain::drain;
use crate::serve::health;
use crate::serve::infer::{Generation, Outcome};
use crate::serve::ports::{Client, Ports, Waits};
use crate::serve::prompts;
use crate::serve::replay::{self, Captured};
use crate::serve::reply::{Body, Reply, warning};
use crate::serve::settlement::{Closing, charge, paid_by, price_members, price_of, settle};
use crate::sse::KEEP_ALIVE;
use crate::text::terms::Terms;
use crate::time::Millis;
use crate::usage::Usage;
use crate::workspace::Admitted;

/// From admission to settlement.
pub async fn deliver<P: Ports>(
    ports: Rc<P>,
    mut generation: Generation,
    admitted: Admitted,
    tell: oneshot::Sender<Outcome<P>>,
) {
    let machine = RefCell::new(generation.machine());
    let dispatched = Cell::new(None);
    let closing = if generation.request.stream {
        streamed(&ports, &mut generation, &admitted, &machine, &dispatched, tell).await
    } else {
        plain(&ports, &generation, &admitted, &machine, &dispatched, tell).await
    };
    let (ticket, captured) = (generation.replay.clone(), generation.captured.take());
    let record = prompts::record(&generation);
    // What is charged is kept: an answer of which the client saw only a part was still brought to its end.
    let is_served = matches!(closing.ending, Ending::Finished | Ending::Empty | Ending::ClientLeft);
    // Before the charge: were the isolate to die between the two, the answer would cost nothing. The other way round the
    // key would be given free after a charge, and a retry be charged again.
    replay::end(ports.as_ref(), ticket, captured.filter(|_| is_served)).await;
    settle(ports.as_ref(), generation, admitted, machine.into_inner(), closing).await;
    health::report(ports.as_ref()).await;
    prompts::keep(ports.as_ref(), record).await;
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
        let left = left_for_good(ports, generation);
        pin_mut!(work, left);
        match select(work, left).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    };
    match outcome {
        None => Closing::left(dispatched.get()),
        Some(Err(failure)) => refused(generation, admitted, machine, failure, dispatched, tell),
        Some(Ok(served)) => {
            let What::Whole(body, told) = &served.what else {
                return refused(generation, admitted, machine, machine.borrow().failure(), dispatched, tell);
            };
            let candidate = generation.plan.candidates.get(served.candidate);
            let ending = told.ending();
            let closing = Closing {
                status: 200,
                code: None,
                ending,
                candidate: Some(served.candidate),
                usage: told.usage.clone(),
                is_estimated: false,
                output_bytes: told.output_bytes,
                finish: told.finish.clone(),
                terms: Some(told.terms.clone()),
                first_byte: Some(served.first_byte),
                dispatched: dispatched.get(),
            };
            let price = candidate.map(|candidate| charge(generation, candidate, &closing, admitted));
            let receipt = price.map(|charge| charge.receipt).unwrap_or_default();
            let members = price_members(&receipt, &generation.snapshot);
            let body = match (body, candidate) {
                (WholeBody::Typed(reply), Some(candidate)) => {
                    generation.dialect.write(reply, &voice(generation, candidate, ports.now()), Some(&members))
                }
                (WholeBody::Typed(_), None) => Vec::new(),
                (WholeBody::Bytes(bytes, span), _) => match (span, std::str::from_utf8(bytes)) {
                    (Some(span), Ok(text)) => with_members(text, span.clone(), &members).into_bytes(),
                    _ => bytes.clone(),
                },
            };
            let mut reply = Reply {
                status: 200,
                headers: vec![("content-type", "application/json".to_owned())],
                body: Body::Bytes(body),
            };
            reply.headers.push(("x-gateway-cost", receipt.total.to_dollars()));
            let reply = served_headers(reply, generation, admitted, &served, machine, dispatched);
            if let (Some(_), Body::Bytes(body)) = (&generation.replay, &reply.body) {
                let captured = Captured { headers: reply.headers.clone(), body: Some(body.clone()) };
                generation.captured.replace(Some(captured));
            }
            prompts::hear(generation, &reply);
            drop(tell.send(Ok(reply)));
            closing
        }
    }
}

/// A streamed answer: first content, headers, then the pump.
async fn streamed<P: Ports>(
    ports: &Rc<P>,
    generation: &mut Generation,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
    tell: oneshot::Sender<Outcome<P>>,
) -> Closing {
    let mut tell = Some(tell);
    let mut early: Option<P::Client> = None;
    let outcome = {
        let generation = &*generation;
        let work = attempts(ports, generation, admitted, machine, dispatched);
        let left = left_for_good(ports, generation);
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
                && generation.replay.is_none()
            {
                break None;
            }
        }
    };
    generation.let_body_go();
    let generation = &*generation;
    let served = match outcome {
        None => return Closing::left(dispatched.get()),
        Some(Ok(served)) => served,
        Some(Err(failure)) => {
            let Some(mut client) = early else {
                return match tell {
                    Some(tell) => refused(generation, admitted, machine, failure, dispatched, tell),
                    None => Closing::left(dispatched.get()),
                };
            };
            let mut out = Vec::new();
            generation.dialect.failure_event(&failure, generation.id.as_str(), &mut out);
            prompts::hear_last_words(generation, &out);
            let _ = client.write(&out).await;
            client.close().await;
            return Closing::failed(&failure, dispatched.get());
        }
    };
    let candidate = served.candidate;
    let slot = machine.borrow().slot(candidate);
    let mut client = match (early, tell) {
        (Some(client), _) => client,
        (None, Some(tell)) => {
            let (client, readable) = ports.open_stream();
            let reply = served_headers(stream_reply::<P>(readable), generation, admitted, &served, machine, dispatched);
            drop(tell.send(Ok(reply)));
            client
        }
        (None, None) => return Closing { candidate: Some(candidate), ..Closing::left(dispatched.get()) },
    };
    let (first_byte, began) = (served.first_byte, served.began);
    let kept_headers = match &generation.replay {
        Some(_) => {
            let (_, readable) = ports.open_stream();
            served_headers(stream_reply::<P>(readable), generation, admitted, &served, machine, dispatched).headers
        }
        None => Vec::new(),
    };
    let What::Stream { answer, relay, first } = served.what else {
        return Closing { candidate: Some(candidate), ..Closing::left(dispatched.get()) };
    };
    let (end, is_own_stop) = {
        let amend = |usage: &Usage, terms: &Terms, ending: Ending| {
            price_of(generation, generation.plan.candidates.get(candidate)?)(usage, terms, ending)
        };
        let relay = Rc::new(RefCell::new(*relay));
        if let Some(most) = generation.keeping.bytes_max() {
            relay.borrow_mut().record(Excerpt::of(&first, most));
        }
        let total_ms = generation.arrived.plus(generation.patience.total_ms).since(ports.now());
        let settings = ports.settings();
        let waits = Waits { idle_ms: generation.timeouts.idle_ms, keep_alive_ms: settings.keep_alive_ms, total_ms };
        let mut kept = if generation.replay.is_some() { first.clone() } else { Vec::new() };
        let mut has_gap = false;
        let (stop, native) = match (client.write(&first).await, answer) {
            (_, Some(answer)) if generation.replay.is_some() => {
                let (stop, native, is_gone) =
                    drain(ports.as_ref(), answer, &mut client, &relay, &amend, waits, &mut kept).await;
                has_gap = is_gone;
                (stop, native)
            }
            (_, None) if generation.replay.is_some() => (Stop::Eof, false),
            (Err(_), _) => (Stop::Left, false),
            (Ok(()), None) => (Stop::Eof, false),
            (Ok(()), Some(answer)) => ports.pump(answer, &mut client, &relay, &amend, waits).await,
        };
        let mut out = Vec::new();
        let mut relay = relay.replace(Relay::new(Vec::new(), UsageView::Shown));
        let record = relay.take_record();
        let end = relay.finish(stop, native, generation.id.as_str(), &mut out, &amend);
        if let Some(mut record) = record {
            record.push(&out);
            prompts::hear_stream(generation, record);
        }
        // One that takes nothing for a while, and then goes on, must see that something is missing.
        if has_gap {
            let failure = Failure::new(Code::ProviderTimeout, UNTAKEN);
            let mut words = Vec::new();
            generation.dialect.failure_event(&failure, generation.id.as_str(), &mut words);
            let _ = client.write(&words).await;
        } else if !out.is_empty() && stop != Stop::Left {
            let _ = client.write(&out).await;
        }
        if generation.replay.is_some() {
            kept.extend_from_slice(&out);
            generation.captured.replace(Some(Captured { headers: kept_headers, body: Some(kept) }));
        }
        (end, generation.is_own_stop(stop))
    };
    client.close().await;
    // Who lowers a time-out and reaches it in mid-stream pays as one that leaves then, and the provider is not to blame.
    let is_own = is_own_stop && end.ending == Ending::UpstreamFailed && end.seen.fault.is_none();
    let ending = if is_own { Ending::ClientLeft } else { end.ending };
    if let (Some(verdict), Some(candidate)) =
        (end.verdict.filter(|_| ending != Ending::ClientLeft), generation.plan.candidates.get(candidate))
    {
        sample(ports.as_ref(), generation, candidate, slot, &verdict, None, began);
    }
    if let (Ending::Finished, Some(usage)) = (end.ending, &end.seen.usage)
        && let Some((offer, provider)) =
            generation.plan.candidates.get(candidate).and_then(|c| c.offer().zip(c.provider()))
    {
        let paced = Sample::Paced { output_tokens: usage.completion_tokens(), ms: ports.now().since(first_byte) };
        ports.board().borrow_mut().on_sample(&Place::new(&provider.id, &offer.upstream), paced, ports.now());
    }
    let Seen { usage, output_bytes, finish, terms, .. } = end.seen;
    Closing {
        status: 200,
        code: end.verdict.map(|verdict| verdict.code.name().to_owned()),
        ending,
        candidate: Some(candidate),
        usage,
        is_estimated: false,
        output_bytes,
        finish,
        terms: Some(terms),
        first_byte: Some(first_byte),
        dispatched: dispatched.get(),
    }
}

/// Resolves when the client has left, where that ends the request: an answer that is to be kept is brought to its end.
async fn left_for_good<P: Ports>(ports: &Rc<P>, generation: &Generation) {
    match generation.replay {
        Some(_) => pending().await,
        None => ports.left().await,
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
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
) -> Reply<P> {
    if let Some(candidate) = generation.plan.candidates.get(served.candidate) {
        let provider = candidate.provider().map(|provider| provider.id.clone()).unwrap_or_default();
        reply.headers.push(("x-gateway-provider", provider));
        reply.headers.push(("x-gateway-model", candidate.model().id.clone()));
    }
    reply.headers.push(("x-gateway-attempts", machine.borrow().attempts().to_string()));
    let own = generation.plan.candidates.get(served.candidate).and_then(|candidate| candidate.own);
    reply.headers.push(("x-gateway-paid-by", paid_by(own).to_owned()));
    if let Some(limit) = served.lowered_to {
        reply.headers.push(("x-gateway-max-tokens", limit.to_string()));
    }
    if !served.dropped.is_empty() {
        reply.headers.push(("x-gateway-warning", warning(&served.dropped)));
    }
    if generation.explains {
        reply.headers.push(("x-gateway-explanation", explanation(generation, machine)));
    }
    let mut reply = prompts::told(reply, generation.keeping);
    let began = dispatched.get().unwrap_or(served.began);
    let (gateway, provider) = (began.since(generation.arrived), served.first_byte.since(began));
    reply.headers.push(("server-timing", format!("gateway;dur={gateway}, provider;dur={provider}")));
    reply.with_allowances(admitted.requests, admitted.tokens)
}

/// The explanation as a header, with the attempts so far: JSON in ASCII.
pub(super) fn explanation(generation: &Generation, machine: &RefCell<Machine>) -> String {
    let mut why = explain(&generation.plan, ASKED_CANDIDATES);
    if let Some(members) = why.as_object_mut() {
        members.insert("attempts".into(), json!(machine.borrow().rows()));
    }
    why.to_string().chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

fn refused<P: Ports>(
    generation: &Generation,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    failure: Failure,
    dispatched: &Cell<Option<Millis>>,
    tell: oneshot::Sender<Outcome<P>>,
) -> Closing {
    let closing = Closing::failed(&failure, dispatched.get());
    let began = dispatched.get().unwrap_or(generation.arrived);
    let timing = format!("gateway;dur={}", began.since(generation.arrived));
    let reply = Reply::failure_in(generation.dialect, &failure, generation.id.as_str())
        .with_header("server-timing", timing)
        .with_allowances(admitted.requests, admitted.tokens);
    let reply = match generation.explains {
        true => reply.with_header("x-gateway-explanation", explanation(generation, machine)),
        false => reply,
    };
    prompts::hear(generation, &reply);
    drop(tell.send(Ok(reply)));
    closing
}
