//! Work that is not text, along the same way: candidates, admission, attempts, answer, settlement.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, pending, select};
use futures::pin_mut;

use crate::access::policy::Policy;
use crate::attempt::classify::{Breakage, Class};
use crate::attempt::machine::{Failed, Machine, Step};
use crate::dialect::common;
use crate::error::{Code, Failure};
use crate::health::sample::Sample;
use crate::ledger::ending::Ending;
use crate::media::embeddings::Embeddings;
use crate::media::images::Images;
use crate::media::moderation::Moderation;
use crate::media::multipart::{self, Part};
use crate::media::rerank::Rerank;
use crate::media::speech::Speech;
use crate::media::transcription::{Front, Transcription};
use crate::media::{Answered, Reading, Work};
use crate::relay::with_members;
use crate::routing::plan::Candidate;
use crate::serve::attempts::{Trouble, Waiting, place_of, refusal, refused, sample};
use crate::serve::call::{SecretsOf, authorized, url};
use crate::serve::infer::{Generation, Outcome, admit, planned_for, read_body, timeouts};
use crate::serve::ports::{Answer, Call, Ports};
use crate::serve::replay::{self, Begun, Captured};
use crate::serve::reply::{Body, Reply};
use crate::serve::settlement::{Closing, charge, paid_by, price_members, settle};
use crate::serve::{Does, Head};
use crate::text::request::Request;
use crate::time::Millis;
use crate::usage::Usage;
use crate::workspace::Admitted;

/// Longest answer that is taken in, in bytes.
const ANSWER_BYTES_MAX: usize = 40 * 1024 * 1024;
/// The status of a client that left before its answer, in activity rows.
const STATUS_LEFT: u16 = 499;

/// Answers a request for work of that kind.
pub async fn answer<P: Ports>(ports: &Rc<P>, head: &Head, policy: Rc<Policy>, does: Does) -> Result<Reply<P>, Failure> {
    ports.count_request();
    timeouts(ports.as_ref(), head.timeout_ms.as_deref(), false)?;
    let bytes = read_body(ports.as_ref()).await?;
    let work = parse(head, &bytes, does)?;
    let ticket = match replay::begin(ports.as_ref(), head, &policy, &bytes, ports.settings().hold_ms).await? {
        Begun::Answered(reply) => return Ok(reply),
        Begun::Run(ticket) => ticket,
    };
    drop(bytes);
    let generation = match planned(ports.as_ref(), head, policy, work).await {
        Ok(generation) => Generation { replay: ticket, ..generation },
        Err(failure) => {
            if let Some(ticket) = &ticket {
                replay::give_up(ports.as_ref(), ticket).await;
            }
            return Err(failure);
        }
    };
    let (tell, told) = oneshot::channel();
    ports.in_background(run(Rc::clone(ports), generation, tell));
    match told.await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err((failure, requests, tokens))) => {
            Ok(Reply::failure(&failure, head.id.as_str()).with_allowances(requests, tokens))
        }
        Err(oneshot::Canceled) => Err(Failure::new(Code::Internal, "the request was given up")),
    }
}

fn parse(head: &Head, bytes: &[u8], does: Does) -> Result<Work, Failure> {
    let kind = head.content_type.as_deref().unwrap_or_default();
    let is_form = kind.trim_start().to_ascii_lowercase().starts_with("multipart/");
    let unsupported = |wanted: &str| {
        Failure::new(Code::UnsupportedMediaType, format!("the body must be {wanted}")).about("content-type")
    };
    let parts = || -> Result<Vec<Part>, Failure> {
        let boundary = multipart::boundary(kind).ok_or_else(|| unsupported("multipart/form-data"))?;
        multipart::parse(bytes, &boundary)
            .ok_or_else(|| Failure::new(Code::InvalidInput, "the body is not what multipart/form-data is"))
    };
    if is_form && !matches!(does, Does::Transcriptions | Does::Translations | Does::Transcribe | Does::ImageEdits) {
        return Err(unsupported("JSON (content-type: application/json)"));
    }
    Ok(match does {
        Does::Embeddings => Work::Embeddings(Embeddings::parse(bytes)?),
        Does::Moderations => Work::Moderation(Moderation::parse(bytes)?),
        Does::Rerank => Work::Rerank(Rerank::parse(bytes)?),
        Does::ImageGenerations => Work::Images(Images::parse(bytes)?),
        Does::ImageEdits => Work::Images(Images::parse_parts(parts()?)?),
        Does::Speech => Work::Speech(Speech::parse(bytes)?),
        Does::Synthesize => Work::Speech(Speech::parse_synthesis(bytes)?),
        Does::Transcriptions => Work::Transcription(Transcription::parse(Front::Transcriptions, parts()?)?),
        Does::Translations => Work::Transcription(Transcription::parse(Front::Translations, parts()?)?),
        Does::Transcribe => Work::Transcription(Transcription::parse(Front::Transcribe, parts()?)?),
        _ => return Err(Failure::new(Code::NotFound, "there is no such endpoint")),
    })
}

/// Resolves and ranks.
async fn planned<P: Ports>(ports: &P, head: &Head, policy: Rc<Policy>, work: Work) -> Result<Generation, Failure> {
    let mut fields = work.common().body.clone();
    // In a form an object is its text.
    if let Some(serde_json::Value::String(text)) = fields.get("provider")
        && let Ok(object) = serde_json::from_str(text)
    {
        fields.insert("provider".to_owned(), object);
    }
    let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let (user, session) = (text("user"), text("session_id"));
    let body = common::body(serde_json::Value::Object(fields).to_string().into_bytes(), &[])?;
    let mut provider = common::provider(&body)?;
    let (mut quality, mut size) = (None, None);
    match &work {
        Work::Images(images) => {
            quality = images.quality().map(str::to_owned);
            size = images.size().map(str::to_owned);
        }
        Work::Transcription(sound) => provider.only.extend(sound.provider().map(str::to_owned)),
        _ => {}
    }
    let request =
        Request { models: work.models().to_vec(), provider, user, session, quality, size, body, ..Request::default() };
    planned_for(ports, head, policy, request, None, Some(work)).await
}

async fn run<P: Ports>(ports: Rc<P>, mut generation: Generation, tell: oneshot::Sender<Outcome<P>>) {
    let admitted = match admit(ports.as_ref(), &mut generation).await {
        Ok(admitted) => admitted,
        Err(outcome) => {
            if let Some(ticket) = &generation.replay {
                replay::give_up(ports.as_ref(), ticket).await;
            }
            drop(tell.send(Err(outcome)));
            return;
        }
    };
    let Some(work) = generation.work.take() else { return };
    let machine = RefCell::new(Machine::new(generation.plan.seats(), generation.patience, generation.arrived));
    let dispatched = Cell::new(None);
    let outcome = {
        let asked = attempts(ports.as_ref(), &generation, &work, &admitted, &machine, &dispatched);
        let left = async {
            match generation.replay {
                Some(_) => pending().await,
                None => ports.left().await,
            }
        };
        pin_mut!(asked, left);
        match select(asked, left).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    };
    generation.work = Some(work);
    let closing = match outcome {
        None => Closing { status: STATUS_LEFT, ending: Ending::ClientLeft, ..closing(&dispatched) },
        Some(Err(failure)) => {
            let reply =
                Reply::failure(&failure, generation.id.as_str()).with_allowances(admitted.requests, admitted.tokens);
            drop(tell.send(Ok(reply)));
            let code = Some(failure.code.name().to_owned());
            Closing { status: failure.code.status(), code, ending: Ending::AttemptsFailed, ..closing(&dispatched) }
        }
        Some(Ok(served)) => {
            let closing = Closing {
                status: 200,
                ending: Ending::Finished,
                candidate: Some(served.candidate),
                usage: Some(served.usage.clone()),
                is_estimated: served.is_estimated,
                finish: Some("stop".to_owned()),
                first_byte: Some(served.first_byte),
                ..closing(&dispatched)
            };
            let reply = reply_of(&generation, &admitted, &closing, served, machine.borrow().attempts());
            if let (Some(_), Body::Bytes(body)) = (&generation.replay, &reply.body) {
                let captured = Captured { headers: reply.headers.clone(), body: body.clone() };
                generation.captured.replace(Some(captured));
            }
            drop(tell.send(Ok(reply)));
            closing
        }
    };
    let (ticket, captured) = (generation.replay.clone(), generation.captured.take());
    settle(ports.as_ref(), generation, admitted, machine.into_inner(), closing).await;
    match (ticket, captured) {
        (Some(ticket), Some(captured)) => replay::keep(ports.as_ref(), &ticket, &captured).await,
        (Some(ticket), None) => replay::give_up(ports.as_ref(), &ticket).await,
        (None, _) => {}
    }
}

fn closing(dispatched: &Cell<Option<Millis>>) -> Closing {
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
        dispatched: dispatched.get(),
    }
}

/// An answer, and who gave it.
struct Served {
    candidate: usize,
    answered: Answered,
    usage: Usage,
    is_estimated: bool,
    began: Millis,
    first_byte: Millis,
}

fn reply_of<P: Ports>(
    generation: &Generation,
    admitted: &Admitted,
    closing: &Closing,
    served: Served,
    attempts: usize,
) -> Reply<P> {
    let Answered { content_type, mut body, .. } = served.answered;
    let mut headers = vec![("content-type", content_type.clone())];
    if let Some(candidate) = generation.plan.candidates.get(served.candidate) {
        let receipt = charge(generation, candidate, closing, admitted).receipt;
        if content_type.contains("json") {
            body = priced(body, &price_members(&receipt, &generation.snapshot));
        }
        headers.push(("x-gateway-provider", candidate.provider().map(|one| one.id.clone()).unwrap_or_default()));
        headers.push(("x-gateway-model", candidate.model().id.clone()));
        headers.push(("x-gateway-cost", receipt.total.to_dollars()));
    }
    headers.push(("x-gateway-attempts", attempts.to_string()));
    let own = generation.plan.candidates.get(served.candidate).and_then(|candidate| candidate.own);
    headers.push(("x-gateway-paid-by", paid_by(own).to_owned()));
    let began = closing.dispatched.unwrap_or(served.began);
    let (gateway, provider) = (began.since(generation.arrived), served.first_byte.since(began));
    headers.push(("server-timing", format!("gateway;dur={gateway}, provider;dur={provider}")));
    Reply { status: 200, headers, body: Body::Bytes(body) }.with_allowances(admitted.requests, admitted.tokens)
}

/// A body of JSON whose `usage` has the price in it.
fn priced(body: Vec<u8>, members: &str) -> Vec<u8> {
    let found = crate::json::members(&body).unwrap_or_default();
    let is_object = |range: &std::ops::Range<usize>| body.get(range.start) == Some(&b'{');
    let usage = found.into_iter().find(|member| member.key == "usage").map(|member| member.value).filter(is_object);
    match (usage, std::str::from_utf8(&body)) {
        (Some(range), Ok(text)) => with_members(text, range, members).into_bytes(),
        _ => body,
    }
}

/// The attempts, one after the other, until one answers or nobody is left.
async fn attempts<P: Ports>(
    ports: &P,
    generation: &Generation,
    work: &Work,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
) -> Result<Served, Failure> {
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
        let (Some(offer), Some(provider)) = (candidate.offer(), candidate.provider()) else { continue };
        // The hold may cover a cheaper candidate and not this one.
        if candidate.bound.affordable(admitted.held).is_none() {
            continue;
        }
        let slot = machine.borrow().slot(place);
        let prepared = match prepare(ports, generation, work, candidate, slot).await {
            Ok(prepared) => prepared,
            Err(unwritable) => {
                machine.borrow_mut().on_unwritable(unwritable.verdict, unwritable.param);
                continue;
            }
        };
        let began = ports.now();
        if dispatched.get().is_none() {
            dispatched.set(Some(began));
        }
        let Some(health) = place_of(generation, candidate, slot) else { continue };
        let answered = Cell::new(None);
        let result = {
            let _waiting = Waiting::new(ports, health, None, began);
            let asked = one(ports, generation, work, candidate, prepared, &answered);
            let deadline = ports.sleep(wait_ms);
            pin_mut!(asked, deadline);
            match select(asked, deadline).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Trouble::broke(Breakage::Timeout)),
            }
        };
        let now = ports.now();
        match result {
            Ok((status, told)) => {
                let served = Sample::Served { first_byte_ms: None, prompt_tokens: 0 };
                ports.board().borrow_mut().on_sample(&health, served, now);
                machine.borrow_mut().on_served(&provider.id, &offer.upstream, status, began, now);
                let measure = work.priced_by(&offer.card).unwrap_or_default();
                let (usage, is_estimated) = work.charged(&measure, &told.usage);
                return Ok(Served { candidate: place, answered: told, usage, is_estimated, began, first_byte: now });
            }
            Err(trouble) => {
                sample(ports, generation, candidate, slot, &trouble.verdict, trouble.retry_after_ms, now);
                if trouble.verdict.class == Class::Credential {
                    refused(ports, generation, candidate, slot, trouble.status).await;
                }
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

async fn prepare<P: Ports>(
    ports: &P,
    generation: &Generation,
    work: &Work,
    candidate: &Candidate,
    slot: u8,
) -> Result<Call, crate::serve::call::Unwritable> {
    let unusable = || Failure::new(Code::ProviderUnavailable, "the offer cannot be asked");
    let (Some(offer), Some(provider)) = (candidate.offer(), candidate.provider()) else {
        return Err(unusable().into());
    };
    let (family, shape) = work.shape(offer, provider).ok_or_else(unusable)?;
    let by: Vec<_> = work.priced_by(&offer.card).unwrap_or_default().into_iter().map(|(meter, _)| meter).collect();
    let written = work.write(shape, &offer.upstream, &by)?;
    let secrets = SecretsOf::new(ports, generation, candidate)?.in_slot(generation, candidate, slot);
    let url = url(&secrets, provider, family, &written.path).ok_or_else(unusable)?;
    authorized(ports, &secrets, family, url, &written.content_type, Vec::new(), written.body).await
}

async fn one<P: Ports>(
    ports: &P,
    generation: &Generation,
    work: &Work,
    candidate: &Candidate,
    call: Call,
    answered: &Cell<Option<u16>>,
) -> Result<(u16, Answered), Trouble> {
    let shape = candidate.offer().zip(candidate.provider()).and_then(|(offer, provider)| work.shape(offer, provider));
    let Some((_, shape)) = shape else { return Err(Trouble::broke(Breakage::Malformed)) };
    let mut answer = ports.send(call).await.map_err(Trouble::broke)?;
    let status = answer.status();
    answered.set(Some(status));
    if !(200..300).contains(&status) {
        return Err(refusal(ports, &mut answer, generation).await);
    }
    let content_type = answer.header("content-type").unwrap_or_default();
    let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(Trouble::broke)?;
    let reading = Reading {
        shape,
        content_type: &content_type,
        model: &candidate.model().id,
        id: generation.id.as_str(),
        created: generation.arrived.seconds(),
    };
    work.read(bytes, &reading).map(|told| (status, told)).map_err(|fault| {
        match fault.message.starts_with("malformed") {
            true => Trouble::broke(Breakage::Malformed),
            false => Trouble::told(status, &fault, generation),
        }
    })
}
