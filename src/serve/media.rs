//! Work that is not text, along the same way: candidates, admission, attempts, answer, settlement.

mod deliver;
mod exchange;
mod fetch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, pending, select};
use futures::pin_mut;

use crate::access::policy::Policy;
use crate::attempt::classify::{Breakage, Class};
use crate::attempt::machine::{Failed, Machine, Step};
use crate::dialect::common;
use crate::error::{Code, Failure};
use crate::health::sample::Sample;
use crate::media::Work;
use crate::media::embeddings::Embeddings;
use crate::media::images::Images;
use crate::media::moderation::Moderation;
use crate::media::multipart;
use crate::media::rerank::Rerank;
use crate::media::shape::Links;
use crate::media::speech::Speech;
use crate::media::transcription::{Front, Transcription};
use crate::preset::Preset;
use crate::preset::fields::Layout;
use crate::serve::attempts::{Trouble, Waiting, place_of, refused, sample, with_removed};
use crate::serve::infer::{Generation, Outcome, admit, planned_for, timeouts};
use crate::serve::ports::Ports;
use crate::serve::prompts;
use crate::serve::replay::{self, Begun};
use crate::serve::reply::Reply;
use crate::serve::room::{Copies, Taken, read_body};
use crate::serve::settings::{self, Source};
use crate::serve::settlement::settle;
use crate::serve::{Does, Head};
use crate::text::request::Request;
use crate::time::Millis;
use crate::workspace::Admitted;
use exchange::{Exchange, Got, Prepared, asked, prepare};

/// Answers a request for work of that kind.
pub async fn answer<P: Ports>(ports: &Rc<P>, head: &Head, policy: Rc<Policy>, does: Does) -> Result<Reply<P>, Failure> {
    ports.count_request();
    timeouts(ports.as_ref(), head.timeout_ms.as_deref(), false)?;
    let copies = if is_form(head) { Copies::One } else { Copies::Three };
    let Taken { bytes, stay } = read_body(ports, copies).await?;
    let bytes = Bytes::from(bytes);
    let source = source(head, &bytes, does)?;
    let print = replay::print_of(&source);
    let (source, preset) = settings::with_preset_in(ports.as_ref(), &policy.workspace, source).await?;
    let work = parse(source, does)?;
    let _going_on = replay::go_on(ports.as_ref(), head);
    let ticket = match replay::begin(ports.as_ref(), head, &policy, &print, ports.settings().hold_ms).await? {
        Begun::Answered(reply) => return Ok(reply),
        Begun::Run(ticket) => ticket,
    };
    drop((bytes, print));
    let generation = match planned(ports.as_ref(), head, policy, work, preset).await {
        Ok(generation) => Generation { replay: ticket, stay, ..generation },
        Err(failure) => {
            if let Some(ticket) = &ticket {
                replay::give_up(ports.as_ref(), ticket).await;
            }
            return Err(failure);
        }
    };
    let keeping = generation.keeping;
    let (tell, told) = oneshot::channel();
    ports.in_background(run(Rc::clone(ports), generation, tell));
    let reply = match told.await {
        Ok(Ok(reply)) => reply,
        Ok(Err((failure, requests, tokens))) => {
            Reply::failure(&failure, head.id.as_str()).with_allowances(requests, tokens)
        }
        Err(oneshot::Canceled) => return Err(Failure::new(Code::Internal, "the request was given up")),
    };
    Ok(prompts::told(reply, keeping))
}

fn is_form(head: &Head) -> bool {
    head.content_type.as_deref().is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/"))
}

/// The body in its parts, where it is a form.
fn source(head: &Head, bytes: &Bytes, does: Does) -> Result<Source, Failure> {
    let unsupported = |wanted: &str| {
        Failure::new(Code::UnsupportedMediaType, format!("the body must be {wanted}")).about("content-type")
    };
    let is_model_id = matches!(does, Does::Synthesize | Does::Transcribe);
    let model = if is_model_id { "model_id" } else { "model" };
    let takes_only_forms = matches!(does, Does::Transcriptions | Does::Translations | Does::Transcribe);
    match (is_form(head), takes_only_forms || does == Does::ImageEdits) {
        (true, true) => {
            let boundary = multipart::boundary(head.content_type.as_deref().unwrap_or_default());
            let boundary = boundary.ok_or_else(|| unsupported("multipart/form-data"))?;
            let parts = multipart::parse(bytes, &boundary);
            let parts =
                parts.ok_or_else(|| Failure::new(Code::InvalidInput, "the body is not what multipart/form-data is"))?;
            Ok(Source::Form(parts, model))
        }
        (true, false) => Err(unsupported("JSON (content-type: application/json)")),
        (false, _) if takes_only_forms => Err(unsupported("multipart/form-data")),
        (false, _) => Ok(Source::Json(bytes.clone(), Layout::Flat(model))),
    }
}

fn parse(source: Source, does: Does) -> Result<Work, Failure> {
    let unknown = || Failure::new(Code::NotFound, "there is no such endpoint");
    Ok(match source {
        Source::Form(parts, _) => match does {
            Does::ImageEdits => Work::Images(Images::parse_parts(parts)?),
            Does::Transcriptions => Work::Transcription(Transcription::parse(Front::Transcriptions, parts)?),
            Does::Translations => Work::Transcription(Transcription::parse(Front::Translations, parts)?),
            Does::Transcribe => Work::Transcription(Transcription::parse(Front::Transcribe, parts)?),
            _ => return Err(unknown()),
        },
        Source::Json(bytes, _) => match does {
            Does::Embeddings => Work::Embeddings(Embeddings::parse(&bytes)?),
            Does::Moderations => Work::Moderation(Moderation::parse(&bytes)?),
            Does::Rerank => Work::Rerank(Rerank::parse(&bytes)?),
            Does::ImageGenerations => Work::Images(Images::parse(&bytes, false)?),
            Does::ImageEdits => Work::Images(Images::parse(&bytes, true)?),
            Does::Speech => Work::Speech(Speech::parse(&bytes)?),
            Does::Synthesize => Work::Speech(Speech::parse_synthesis(&bytes)?),
            _ => return Err(unknown()),
        },
    })
}

/// Resolves and ranks; a request that no candidate could be sent ends here, with the reason of the first.
async fn planned<P: Ports>(
    ports: &P,
    head: &Head,
    policy: Rc<Policy>,
    work: Work,
    preset: Option<Preset>,
) -> Result<Generation, Failure> {
    let mut fields = work.common().body.clone();
    // In a form an object is its text.
    if let Some(serde_json::Value::String(text)) = fields.get("provider")
        && let Ok(object) = crate::json::from_str(text)
    {
        fields.insert("provider".to_owned(), object);
    }
    let mut models = work.models().to_vec();
    let preset = match preset {
        Some(preset) => Some(preset),
        None => settings::preset_of_work(ports, &policy.workspace, &mut models, &mut fields).await?,
    };
    let body = common::read(serde_json::Value::Object(fields).to_string().into_bytes())?;
    let (user, session) = (common::label(&body, "user")?, common::label(&body, "session_id")?);
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
    let request = Request { models, provider, user, session, quality, size, body, ..Request::default() };
    let is_stream = work.is_stream();
    // In the words of the front that was used.
    let own: &[(&str, &str)] = match () {
        () if head.path.ends_with("/synthesize") => {
            &[("model", "model_id"), ("voice", "voice_id"), ("response_format", "format"), ("input", "text")]
        }
        () if head.path.ends_with("/transcribe") => &[("model", "model_id"), ("file", "audio")],
        () => &[],
    };
    let told = |mut failure: Failure| {
        let named = own.iter().find(|(ours, _)| failure.param.as_deref() == Some(ours));
        failure.param = named.map(|(_, theirs)| (*theirs).to_owned()).or(failure.param);
        failure
    };
    let mut generation = planned_for(ports, head, policy, request, preset, Some(work)).await.map_err(told)?;
    // What is said in the row; the time-outs are those of plain answers.
    generation.request.stream = is_stream;
    unwritable(&generation).map_or(Ok(generation), |failure| Err(told(failure)))
}

/// Why no candidate can be asked at all, where that is so.
fn unwritable(generation: &Generation) -> Option<Failure> {
    let work = generation.work.as_ref()?;
    let mut first = None;
    for candidate in &generation.plan.candidates {
        let (offer, provider) = candidate.offer().zip(candidate.provider())?;
        let links = Links::default();
        match work.write(work.family(offer, provider)?, &asked(generation, work, offer, &links)) {
            Err(failure) if !links.missed.get() => first = first.or(Some(failure)),
            _ => return None,
        }
    }
    first
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
    let machine = RefCell::new(generation.machine());
    let dispatched = Cell::new(None);
    let outcome = {
        let asking = Asking {
            ports: ports.as_ref(),
            generation: &generation,
            work: &work,
            admitted: &admitted,
            machine: &machine,
            dispatched: &dispatched,
        };
        let asked = asking.attempts();
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
    let told = deliver::Told {
        generation: &generation,
        work: &work,
        admitted: &admitted,
        dispatched: &dispatched,
        machine: &machine,
    };
    let closing = deliver::deliver(&ports, told, outcome, tell).await;
    generation.work = Some(work);
    let (ticket, captured) = (generation.replay.clone(), generation.captured.take());
    let record = prompts::record(&generation);
    // In this order, as for text.
    replay::end(ports.as_ref(), ticket, captured).await;
    settle(ports.as_ref(), generation, admitted, machine.into_inner(), closing).await;
    prompts::keep(ports.as_ref(), record).await;
}

/// An answer, and who gave it.
struct Served<P: Ports> {
    candidate: usize,
    slot: u8,
    got: Got<P>,
    dropped: Vec<String>,
    began: Millis,
    first_byte: Millis,
}

/// What all attempts of a request share.
struct Asking<'a, P: Ports> {
    ports: &'a P,
    generation: &'a Generation,
    work: &'a Work,
    admitted: &'a Admitted,
    machine: &'a RefCell<Machine>,
    dispatched: &'a Cell<Option<Millis>>,
}

impl<P: Ports> Asking<'_, P> {
    /// The attempts, one after the other, until one answers or nobody is left. What is paid by the piece is not made
    /// twice: hedging is for text.
    async fn attempts(&self) -> Result<Served<P>, Failure> {
        loop {
            let step = self.machine.borrow_mut().next(self.ports.now());
            match step {
                Step::Send { candidate, wait_ms } => {
                    if let Some(served) = self.attempt(candidate, wait_ms).await {
                        return Ok(served);
                    }
                }
                Step::Wait { ms } => self.ports.sleep(ms).await,
                Step::GiveUp => {
                    return Err(with_removed(self.machine.borrow().failure(), &self.generation.plan.removed));
                }
            }
        }
    }

    /// One attempt. `None` where it failed, or where the candidate cannot be asked; the machine has been told.
    async fn attempt(&self, place: usize, wait_ms: u64) -> Option<Served<P>> {
        let Asking { ports, generation, work, admitted, machine, dispatched } = *self;
        let candidate = generation.plan.candidates.get(place)?;
        let (offer, provider) = candidate.offer().zip(candidate.provider())?;
        // The hold may cover a cheaper candidate and not this one.
        candidate.bound.affordable(admitted.held)?;
        let slot = machine.borrow().slot(place);
        let mut prepared = match prepare(ports, generation, work, candidate).await {
            Ok(prepared) => prepared,
            Err(unwritable) => {
                machine.borrow_mut().on_unwritable(unwritable.verdict, unwritable.param, unwritable.says);
                return None;
            }
        };
        let dropped = std::mem::take(&mut prepared.dropped);
        let began = ports.now();
        if dispatched.get().is_none() {
            dispatched.set(Some(began));
        }
        machine.borrow_mut().on_sent(place);
        let health = place_of(generation, candidate, slot)?;
        let answered = Cell::new(None);
        let late_ms = machine.borrow().late_ms(place);
        let is_hurried = machine.borrow().is_hurried();
        let result = {
            let _waiting = Waiting::new(ports, health, late_ms, began);
            let exchange = Exchange { ports, generation, work, candidate, slot, answered: &answered };
            one(ports, &exchange, prepared, wait_ms).await
        };
        let now = ports.now();
        match result {
            Ok((status, got)) => {
                let served = Sample::Served { first_byte_ms: None, prompt_tokens: 0 };
                ports.board().borrow_mut().on_sample(&health, served, now);
                machine.borrow_mut().on_served_at(place, (&provider.id, &offer.upstream), status, began, now);
                Some(Served { candidate: place, slot, got, dropped, began, first_byte: now })
            }
            Err(trouble) => {
                if !(is_hurried && trouble.broke == Some(Breakage::Timeout)) {
                    sample(ports, generation, candidate, slot, &trouble.verdict, trouble.retry_after_ms, now);
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
                if failed.verdict.class == Class::Credential {
                    refused(ports, generation, candidate, slot, failed.status).await;
                }
                machine.borrow_mut().on_failed_at(place, failed, now);
                None
            }
        }
    }
}

async fn one<P: Ports>(
    ports: &P,
    exchange: &Exchange<'_, P>,
    prepared: Prepared,
    wait_ms: u64,
) -> Result<(u16, Got<P>), Trouble> {
    let asked = exchange.run(prepared);
    let deadline = ports.sleep(wait_ms);
    pin_mut!(asked, deadline);
    match select(asked, deadline).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(Trouble::broke(Breakage::Timeout)),
    }
}
