//! The attempts of one request up to the commit point.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::future::{Either, select};
use futures::pin_mut;

use crate::attempt::classify::{self, Breakage, Class, Verdict};
use crate::attempt::machine::{Failed, Machine, Step};
use crate::attempt::pool;
use crate::dialect::{Dialect, Voice};
use crate::error::{Code, Failure};
use crate::family::quirk::Quirk;
use crate::family::{Decoder, Family, fault, openai_chat, wait};
use crate::health::board::Ticket;
use crate::health::sample::{Place, Sample};
use crate::relay::{Relay, Seen, UsageView};
use crate::routing::filter::Removed;
use crate::routing::plan::Candidate;
use crate::serve::call::{Prepared, Unwritable, name, prepare};
use crate::serve::infer::Generation;
use crate::serve::ports::{Answer, Call, Ports};
use crate::serve::settlement::price_of;
use crate::serve::{byok, credential};
use crate::sse::FRAME_BYTES_MAX;
use crate::text::custom::Customs;
use crate::text::ids::Ids;
use crate::text::reply::Reply;
use crate::text::terms::Terms;
use crate::time::Millis;
use crate::workspace::Admitted;

/// Largest whole answer that is taken from a provider, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of a stream up to its first content: a longest frame, and what may stand before it.
const PREAMBLE_BYTES_MAX: usize = FRAME_BYTES_MAX + 1024 * 1024;
/// How long the body of an error is waited for, in milliseconds.
const FAULT_WAIT_MS: u64 = 2_000;

/// An attempt that committed.
pub struct Served<P: Ports> {
    /// Its place in the plan.
    pub candidate: usize,
    /// The output limit that was sent because the hold covers no more.
    pub lowered_to: Option<u64>,
    /// Parameters that were not sent.
    pub dropped: Vec<String>,
    /// When the call began.
    pub began: Millis,
    /// When its first content (or the whole answer) was there.
    pub first_byte: Millis,
    /// The answer.
    pub what: What<P>,
}

/// An answer, whole or under way.
pub enum What<P: Ports> {
    /// A whole answer, and what it told.
    Whole(WholeBody, Box<Seen>),
    /// A stream whose first content has come.
    Stream {
        /// The rest of it.
        answer: Option<P::Answer>,
        /// What has seen its beginning.
        relay: Box<Relay>,
        /// What of it the client gets.
        first: Vec<u8>,
    },
}

/// A whole answer's body.
pub enum WholeBody {
    /// The provider's bytes, and where their usage object stands.
    Bytes(Vec<u8>, Option<std::ops::Range<usize>>),
    /// The typed form, to be written in the client's dialect.
    Typed(Reply),
}

/// The attempts, one after the other, until one commits or nobody is left. Where the request opted in to hedging, the
/// next one joins an attempt that is later than its offer usually is; the first to commit wins, and the other is
/// cancelled: its connection is closed, and nothing of it is charged.
pub async fn attempts<P: Ports>(
    ports: &Rc<P>,
    generation: &Generation,
    admitted: &Admitted,
    machine: &RefCell<Machine>,
    dispatched: &Cell<Option<Millis>>,
) -> Result<Served<P>, Failure> {
    let asking = Asking { ports: ports.as_ref(), generation, admitted, machine, dispatched };
    loop {
        let step = machine.borrow_mut().next(ports.now());
        let (place, wait_ms) = match step {
            Step::Send { candidate, wait_ms } => (candidate, wait_ms),
            Step::Wait { ms } => {
                ports.sleep(ms).await;
                continue;
            }
            Step::GiveUp => return Err(with_removed(machine.borrow().failure(), &generation.plan.removed)),
        };
        let hedge_ms = if generation.request.provider.hedge { machine.borrow().hedge_ms(place) } else { None };
        let served = match hedge_ms {
            Some(after_ms) => asking.hedged(place, wait_ms, after_ms).await,
            None => asking.attempt(place, wait_ms, &Cell::new(None)).await,
        };
        if let Some(served) = served {
            return Ok(served);
        }
    }
}

/// What all attempts of a request share.
struct Asking<'a, P: Ports> {
    ports: &'a P,
    generation: &'a Generation,
    admitted: &'a Admitted,
    machine: &'a RefCell<Machine>,
    dispatched: &'a Cell<Option<Millis>>,
}

impl<P: Ports> Asking<'_, P> {
    /// One attempt, joined by the next candidate when it takes longer than `after_ms`.
    async fn hedged(&self, place: usize, wait_ms: u64, after_ms: u64) -> Option<Served<P>> {
        let (began, joined) = (Cell::new(None), Cell::new(None));
        let first = self.attempt(place, wait_ms, &began);
        pin_mut!(first);
        {
            let late = self.ports.sleep(after_ms);
            pin_mut!(late);
            if let Either::Left((served, _)) = select(&mut first, late).await {
                return served;
            }
        }
        // Credits pay where an own credential fails, not where it is slow.
        let is_own = |at: usize| self.generation.plan.candidates.get(at).map(|one| one.own.is_some());
        if is_own(place) != is_own(place.saturating_add(1)) {
            return first.await;
        }
        let next = self.machine.borrow_mut().hedge(self.ports.now());
        let Some((other, other_wait_ms)) = next else { return first.await };
        let second = self.attempt(other, other_wait_ms, &joined);
        pin_mut!(second);
        let (served, rest, lost) = match select(first, second).await {
            Either::Left((served, second)) => (served, Either::Right(second), (other, &joined)),
            Either::Right((served, first)) => (served, Either::Left(first), (place, &began)),
        };
        // Who failed leaves the race to the other, unless it failed for a reason that holds for both.
        if served.is_none() && !self.machine.borrow().has_ended() {
            return match rest {
                Either::Left(first) => first.await,
                Either::Right(second) => second.await,
            };
        }
        self.cancelled(lost.0, lost.1.get());
        served
    }

    /// The record of an attempt that the other one was faster than.
    fn cancelled(&self, place: usize, began: Option<Millis>) {
        let candidate = self.generation.plan.candidates.get(place);
        let Some((offer, provider)) = candidate.and_then(|one| one.offer().zip(one.provider())) else { return };
        let Some(began) = began else { return };
        let now = self.ports.now();
        self.machine.borrow_mut().on_cancelled(place, &provider.id, &offer.upstream, began, now);
    }

    /// One attempt. `None` where it failed, or where the candidate cannot be asked; the machine has been told.
    async fn attempt(&self, place: usize, wait_ms: u64, sent: &Cell<Option<Millis>>) -> Option<Served<P>> {
        let Asking { ports, generation, admitted, machine, dispatched } = *self;
        let candidate = generation.plan.candidates.get(place)?;
        // The hold may cover a cheaper candidate and not this one.
        let affordable = candidate.bound.affordable(admitted.held)?;
        let (offer, provider) = candidate.offer().zip(candidate.provider())?;
        let lowered = affordable < candidate.bound.output_tokens;
        let limit = (lowered || candidate.bound.must_send_limit).then_some(affordable);
        let slot = machine.borrow().slot(place);
        let prepared = prepare(ports, generation, candidate, limit, slot).await;
        let Prepared { call, family, is_pass, dropped, customs, region } = match prepared {
            Ok(prepared) => prepared,
            Err(Unwritable { verdict, param, says }) => {
                machine.borrow_mut().on_unwritable(verdict, param, says);
                return None;
            }
        };
        let began = ports.now();
        sent.set(Some(began));
        machine.borrow_mut().on_sent(place);
        if dispatched.get().is_none() {
            dispatched.set(Some(began));
        }
        let health = place_of(generation, candidate, slot)?;
        let late_ms = machine.borrow().late_ms(place);
        let is_hurried = machine.borrow().is_hurried()
            || (generation.request.stream && generation.timeouts.connect_ms < generation.timeouts_max.connect_ms);
        let answered = Cell::new(None);
        let result = {
            let _waiting = Waiting::new(ports, health, late_ms, began);
            let addressed = Terms { region: region.map(str::to_owned), ..Terms::default() };
            let terms = generation.request.terms.sent(&dropped).or(addressed);
            let work = one(
                ports,
                generation,
                candidate,
                call,
                Spoken { family, is_pass, customs: &customs, terms },
                wait_ms,
                &answered,
            );
            let deadline = ports.sleep(wait_ms);
            pin_mut!(work, deadline);
            match select(work, deadline).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Trouble::broke(Breakage::Timeout)),
            }
        };
        let now = ports.now();
        match result {
            Ok((status, what)) => {
                let served = Sample::Served {
                    first_byte_ms: generation.request.stream.then(|| now.since(began)),
                    prompt_tokens: candidate.facts.prompt_tokens,
                };
                ports.board().borrow_mut().on_sample(&health, served, now);
                if let Some(conversation) = generation.conversation {
                    // An own credential's warm prompts are not looked for.
                    let warm = Place { credential: pool::label(slot), ..health };
                    let (offer, tokens) = (warm.credential_key(), candidate.facts.prompt_tokens);
                    ports.affinity().borrow_mut().remember(conversation, offer, tokens, now);
                }
                machine.borrow_mut().on_served_at(place, (&provider.id, &offer.upstream), status, began, now);
                let lowered_to = lowered.then_some(affordable);
                Some(Served { candidate: place, lowered_to, dropped, began, first_byte: now, what })
            }
            Err(trouble) => {
                // A client that does not wait says nothing about who is late.
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

/// A credential was refused: a token made of it is forgotten, and the owner of an own one is to see that.
pub(super) async fn refused<P: Ports>(
    ports: &P,
    generation: &Generation,
    candidate: &Candidate,
    slot: u8,
    status: Option<u16>,
) {
    let Some(provider) = candidate.provider() else { return };
    credential::forget(ports, provider, &name(generation, candidate, slot));
    if let Some(own) = candidate.own.and_then(|place| generation.own.get(place)) {
        byok::refused(ports, &generation.policy.workspace, &own.id, status).await;
    }
}

/// Removals told of in a failure, beside the attempts.
const REMOVED_TOLD: usize = 16;

/// The failure of all attempts, with who could not be asked at all and by which rule.
pub(super) fn with_removed(mut failure: Failure, removed: &[Removed]) -> Failure {
    if let Some(details) =
        failure.details.as_mut().and_then(|details| details.as_object_mut()).filter(|_| !removed.is_empty())
    {
        let told = removed.get(..REMOVED_TOLD.min(removed.len())).unwrap_or_default();
        details.insert("removed".to_owned(), serde_json::json!(told));
    }
    failure
}

/// Where an attempt is made: limits are per credential, and a refused one says nothing about the provider.
pub(super) fn place_of<'a>(generation: &'a Generation, candidate: &'a Candidate, slot: u8) -> Option<Place<'a>> {
    let (offer, provider) = candidate.offer().zip(candidate.provider())?;
    let own = candidate.own.and_then(|place| generation.own.get(place));
    let credential = own.map(|own| own.id.as_str()).or(pool::label(slot).filter(|_| own.is_none()));
    Some(Place { credential, ..Place::new(&provider.id, &offer.upstream) })
}

/// Tells the board about a failed attempt.
pub fn sample<P: Ports>(
    ports: &P,
    generation: &Generation,
    candidate: &Candidate,
    slot: u8,
    verdict: &Verdict,
    wait_ms: Option<u64>,
    now: Millis,
) {
    let Some(place) = place_of(generation, candidate, slot) else { return };
    let sample = match verdict.class {
        Class::Request => return,
        Class::Credential => Sample::Refused,
        Class::Busy => Sample::Busy { wait_ms },
        Class::Fault if verdict.code == Code::ProviderTimeout => Sample::Silent,
        Class::Fault => Sample::Failed,
    };
    let mut board = ports.board().borrow_mut();
    board.on_sample(&place, sample, now);
    // One that fails and says for how long is not asked before, whatever the credential.
    if verdict.class == Class::Fault
        && let Some(wait_ms) = wait_ms
    {
        board.on_sample(&place, Sample::Paused { wait_ms }, now);
    }
}

/// A request that an offer has and has not answered: it ends with this, also where the client leaves.
pub(super) struct Waiting<'a, P: Ports> {
    ports: &'a P,
    place: Place<'a>,
    ticket: Ticket,
}

impl<'a, P: Ports> Waiting<'a, P> {
    /// From now on.
    pub fn new(ports: &'a P, place: Place<'a>, late_ms: Option<u64>, now: Millis) -> Waiting<'a, P> {
        let ticket = ports.board().borrow_mut().on_sent(&place, late_ms, now);
        Waiting { ports, place, ticket }
    }
}

impl<P: Ports> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        self.ports.board().borrow_mut().on_ended(&self.place, self.ticket);
    }
}

/// Why an attempt did not commit.
pub(super) struct Trouble {
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// What it means.
    pub verdict: Verdict,
    /// How it broke, where there was none.
    pub broke: Option<Breakage>,
    /// The field it blames.
    pub param: Option<String>,
    /// The wait it asks for.
    pub retry_after_ms: Option<u64>,
}

impl Trouble {
    /// It broke.
    pub fn broke(how: Breakage) -> Trouble {
        Trouble { status: None, verdict: classify::breakage(how), broke: Some(how), param: None, retry_after_ms: None }
    }

    /// It answered that.
    pub fn told(status: u16, fault: &fault::Fault, generation: &Generation) -> Trouble {
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

/// In which words a provider was asked.
struct Spoken<'a> {
    family: Family,
    is_pass: bool,
    /// Tools that take free text, asked for as functions.
    customs: &'a [String],
    /// What the price hangs on, as far as it was sent.
    terms: Terms,
}

/// One upstream call up to its commit point.
async fn one<P: Ports>(
    ports: &P,
    generation: &Generation,
    candidate: &Candidate,
    call: Call,
    spoken: Spoken<'_>,
    wait_ms: u64,
    answered: &Cell<Option<u16>>,
) -> Result<(u16, What<P>), Trouble> {
    let (quirks, provider) =
        candidate.provider().map(|provider| (provider.quirks.clone(), provider.id.clone())).unwrap_or_default();
    let connect_ms = generation.timeouts.connect_ms;
    let mut answer = if generation.request.stream && connect_ms < wait_ms {
        let sent = ports.send(call);
        let deadline = ports.sleep(connect_ms);
        pin_mut!(sent, deadline);
        match select(sent, deadline).await {
            Either::Left((answer, _)) => answer.map_err(Trouble::broke)?,
            Either::Right(_) => return Err(Trouble::broke(Breakage::Timeout)),
        }
    } else {
        // What comes whole sends its headers when it is done: the attempt's own span is all there is.
        ports.send(call).await.map_err(Trouble::broke)?
    };
    let status = answer.status();
    answered.set(Some(status));
    if !(200..300).contains(&status) {
        return Err(refusal(ports, &mut answer, generation).await);
    }
    if !generation.request.stream {
        let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(Trouble::broke)?;
        return whole(generation, without_mark(bytes), spoken, &quirks, &provider)
            .map(|(body, seen)| (status, What::Whole(body, Box::new(seen))))
            .map_err(|fault| Trouble::told(status, &fault, generation));
    }
    let view = match (generation.request.wants_cost, generation.request.wants_usage) {
        (true, _) => UsageView::Priced,
        (false, true) => UsageView::Shown,
        (false, false) => UsageView::Hidden,
    };
    let Spoken { family, is_pass, customs, terms } = spoken;
    let is_chat = generation.dialect == Dialect::Chat && is_pass;
    let is_json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
    let translate = || {
        let voice = voice(generation, candidate, ports.now());
        Relay::translate(generation.dialect, (family, &quirks, &provider), customs, voice)
    };
    let mut relay = match (is_chat, is_pass && !is_json) {
        (true, _) => Relay::new(quirks.clone(), view),
        (false, true) => Relay::pass(generation.dialect, family, &quirks, &provider),
        (false, false) => translate(),
    };
    relay.assume(terms);
    let mut first = Vec::new();
    let amend = price_of(generation, candidate);
    if is_json {
        let bytes = without_mark(answer.whole(ANSWER_BYTES_MAX).await.map_err(Trouble::broke)?);
        // Some hosts say JSON and send events all the same.
        if is_events(&bytes) {
            relay.push(&bytes, Some(&mut first), &amend);
            let is_whole = relay.seen().has_content;
            return match &relay.seen().fault {
                Some(fault) if !is_whole => Err(Trouble::told(status, fault, generation)),
                _ if is_whole || relay.seen().is_done => {
                    Ok((status, What::Stream { answer: None, relay: Box::new(relay), first }))
                }
                _ => Err(Trouble::broke(Breakage::Cut)),
            };
        }
        if is_chat {
            openai_chat::answer(&bytes, &quirks).map_err(|fault| Trouble::told(status, &fault, generation))?;
            let stream = openai_chat::as_stream(&bytes).ok_or_else(|| Trouble::broke(Breakage::Malformed))?;
            relay.push(&stream, Some(&mut first), &amend);
            return Ok((status, What::Stream { answer: None, relay: Box::new(relay), first }));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| Trouble::broke(Breakage::Malformed))?;
        relay.push_whole(text, &mut first);
        return match &relay.seen().fault {
            Some(fault) => Err(Trouble::told(status, fault, generation)),
            None => Ok((status, What::Stream { answer: None, relay: Box::new(relay), first })),
        };
    }
    // Where the bytes pass as they are, an unfinished frame must not be held back either.
    let is_native = relay.can_be_native();
    let mut taken: usize = 0;
    while !relay.seen().has_content && !relay.is_over() {
        let Some(bytes) = answer.chunk().await.map_err(|_| Trouble::broke(Breakage::Cut))? else {
            return Err(Trouble::broke(Breakage::Cut));
        };
        taken = taken.saturating_add(bytes.len());
        if taken > PREAMBLE_BYTES_MAX {
            return Err(Trouble::broke(Breakage::Malformed));
        }
        match is_native {
            true => {
                relay.push(&bytes, None, &amend);
                first.extend_from_slice(&bytes);
            }
            false => relay.push(&bytes, Some(&mut first), &amend),
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
    Ok((status, What::Stream { answer: Some(answer), relay: Box::new(relay), first }))
}

/// A byte order mark is no JSON, and would pass on to the client.
fn without_mark(bytes: Vec<u8>) -> Vec<u8> {
    bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes)
}

/// Whether a body begins as events do, and no JSON does.
fn is_events(bytes: &[u8]) -> bool {
    [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|begin| bytes.trim_ascii_start().starts_with(begin))
}

/// What a provider says that does not serve.
pub(super) async fn refusal<P: Ports>(ports: &P, answer: &mut P::Answer, generation: &Generation) -> Trouble {
    let status = answer.status();
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
    let mut told = fault::parse(&body);
    // AWS names the error in a header.
    if let Some(name) = answer.header("x-amzn-errortype").filter(|_| told.code.is_empty()) {
        told.code = name.split(':').next().unwrap_or_default().to_lowercase();
    }
    let trouble = Trouble::told(status, &told, generation);
    Trouble { retry_after_ms: asked.or(trouble.retry_after_ms), ..trouble }
}

/// Reads a whole answer. `Err` is an error inside a 200, or an answer that is none.
fn whole(
    generation: &Generation,
    bytes: Vec<u8>,
    Spoken { family, is_pass, customs, terms }: Spoken<'_>,
    quirks: &[Quirk],
    provider: &str,
) -> Result<(WholeBody, Seen), fault::Fault> {
    if is_pass && generation.dialect == Dialect::Chat {
        let openai_chat::Answer { told, usage_span } = openai_chat::answer(&bytes, quirks)?;
        let seen = Seen {
            has_content: told.has_content,
            output_bytes: told.output_bytes,
            finish: told.finish,
            usage: told.usage,
            terms: told.terms.or(terms),
            ..Seen::default()
        };
        return Ok((WholeBody::Bytes(bytes, usage_span), seen));
    }
    let mut events = Vec::new();
    let text = std::str::from_utf8(&bytes).map_err(|_| fault::Fault::default())?;
    Decoder::new(family, quirks, provider).whole(text, &mut events);
    Customs::new(customs.to_vec()).turn(&mut events);
    Ids::new(generation.id.as_str()).give(&mut events);
    let mut seen = Seen { terms, ..Seen::default() };
    let mut reply = Reply::default();
    for event in events {
        if !is_pass {
            reply.push(event.clone());
        }
        seen.note(event);
    }
    if let Some(fault) = seen.fault.take() {
        return Err(fault);
    }
    if !is_pass {
        return Ok((WholeBody::Typed(reply), seen));
    }
    let members = crate::json::members(&bytes).unwrap_or_default();
    let is_usage = |value: &std::ops::Range<usize>| bytes.get(value.start) == Some(&b'{');
    let usage = members.into_iter().find(|member| member.key == "usage").map(|member| member.value).filter(is_usage);
    Ok((WholeBody::Bytes(bytes, usage), seen))
}

/// What a translated answer says of itself.
pub fn voice(generation: &Generation, candidate: &Candidate, now: Millis) -> Voice {
    Voice {
        request_id: generation.id.as_str().to_owned(),
        model: candidate.model().id.clone(),
        created: now.0 / 1000,
        wants_usage: generation.request.wants_usage || generation.request.wants_cost,
        echo: generation.dialect.echo(&generation.request),
    }
}
