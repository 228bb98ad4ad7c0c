//! One attempt at a piece of media work: its calls, what they lead to, and the begin of its answer.

use std::cell::Cell;

use bytes::Bytes;
use futures::future::try_join_all;

use crate::attempt::classify::{Breakage, Class, Verdict};
use crate::catalog::{Offer, Provider};
use crate::error::{Code, Failure};
use crate::family::fault::{self, Fault};
use crate::json::skeleton::Path;
use crate::media::Work;
use crate::media::images::Images;
use crate::media::images::passing::{self, Passing};
use crate::media::shape::{Answered, Asked, COUNTING, Delivery, Links, Raw, Reading, Written, is_same_site};
use crate::media::stream::Events;
use crate::replay::ANSWER_BYTES_MAX as KEPT_BYTES_MAX;
use crate::routing::plan::Candidate;
use crate::serve::attempts::{Trouble, refusal};
use crate::serve::call::{SecretsOf, Unwritable, authorized, signed, url};
use crate::serve::infer::Generation;
use crate::serve::media::fetch::{self, Open};
use crate::serve::ports::{Answer, Call, Ports};

/// Longest answer that is taken in, in bytes.
pub const ANSWER_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Most questions after one order.
const QUESTIONS_MAX: u32 = 600;
/// Longest wait between two of them, in milliseconds.
const QUESTION_WAIT_MS_MAX: u64 = 4_000;
/// Questions in a row that may fail, and the wait before one is asked again, in milliseconds.
const MISSES_MAX: u32 = 3;
const MISS_WAIT_MS: u64 = 500;
/// Most calls of one attempt at the same time.
const PARALLEL_MAX: usize = 4;
/// From this size on a body goes out in pieces, and an answer with pictures is not held.
const LARGE_BYTES: usize = 1024 * 1024;

/// What came of an attempt.
pub enum Got<P: Ports> {
    /// All of it.
    Whole(Answered),
    /// Bytes that go on as they come; the first of them.
    Bytes {
        /// The rest.
        answer: P::Answer,
        /// The first.
        first: Vec<u8>,
        /// Their content type.
        content_type: String,
        /// What headers count.
        told: crate::media::meter::Told,
    },
    /// Events.
    Events {
        /// The rest.
        answer: P::Answer,
        /// What reads them.
        events: Box<Events>,
        /// What the client gets of the first.
        first: Vec<u8>,
        /// What the client is told that it is.
        content_type: String,
    },
    /// Pictures out of JSON that is too long to be held.
    Passing {
        /// The rest.
        answer: P::Answer,
        /// What reads it.
        passing: Box<Passing>,
        /// What the client gets of the first.
        first: Vec<u8>,
        /// The answer without its bytes.
        raw: Raw,
        /// The family that it is in.
        family: String,
    },
    /// Pictures too long to be held, by their place among `data`.
    Drawn(Vec<(usize, Open<P::Answer>)>, Answered),
}

/// The calls of an attempt, written.
pub struct Prepared {
    family: String,
    calls: Vec<Written>,
    /// Parameters that are left out.
    pub dropped: Vec<String>,
    links: Links,
}

/// Whom the work is written for.
pub fn asked<'a>(generation: &'a Generation, work: &Work, offer: &'a Offer, links: &'a Links) -> Asked<'a> {
    Asked {
        upstream: &offer.upstream,
        batch_max: offer.batch_max,
        is_by_tokens: work.is_by_tokens(&offer.card),
        fetched: links,
        voices: &offer.voices,
        id: generation.id.as_str(),
    }
}

/// Writes the calls for a candidate; fetches what links lead to where the host takes none.
pub async fn prepare<P: Ports>(
    ports: &P,
    generation: &Generation,
    work: &Work,
    candidate: &Candidate,
) -> Result<Prepared, Unwritable> {
    let unusable = || Unwritable::from(Failure::new(Code::ProviderUnavailable, "the offer cannot be asked"));
    let (offer, provider) = candidate.offer().zip(candidate.provider()).ok_or_else(unusable)?;
    let family = work.family(offer, provider).ok_or_else(unusable)?;
    let mut links = Links::default();
    let mut written = work.write(family, &asked(generation, work, offer, &links));
    if links.missed.get() {
        for url in work.links() {
            let Some(one) = fetch::picture(ports, &url).await else {
                return Err(refused(Failure::invalid("image", "a link of the request could not be fetched")));
            };
            links.fetched.push(one);
        }
        written = work.write(family, &asked(generation, work, offer, &links));
    }
    let (calls, mut dropped) = written.map_err(refused)?;
    if generation.request.provider.require_parameters && !dropped.is_empty() {
        let param = dropped.into_iter().next();
        let failure = Failure::new(Code::UnsupportedParameter, "the provider does not take a parameter");
        return Err(Unwritable { param, ..failure.into() });
    }
    dropped.extend(generation.request.provider.unknown.iter().cloned());
    Ok(Prepared { family: family.to_owned(), calls, dropped, links })
}

/// What one host has no words for another may have.
fn refused(failure: Failure) -> Unwritable {
    let unwritable = Unwritable::from(failure);
    Unwritable { verdict: Verdict { next: true, ..unwritable.verdict }, ..unwritable }
}

/// What a candidate's answers are read with.
pub fn reading<'a>(generation: &'a Generation, candidate: &'a Candidate, offer: &'a Offer) -> Reading<'a> {
    Reading {
        upstream: &offer.upstream,
        model: &candidate.model().id,
        id: generation.id.as_str(),
        created: generation.arrived.seconds(),
    }
}

/// A candidate that is being asked.
pub struct Exchange<'a, P: Ports> {
    /// The world.
    pub ports: &'a P,
    /// The request.
    pub generation: &'a Generation,
    /// The work.
    pub work: &'a Work,
    /// The candidate.
    pub candidate: &'a Candidate,
    /// Which of the gateway's credentials.
    pub slot: u8,
    /// The status that came last.
    pub answered: &'a Cell<Option<u16>>,
}

impl<P: Ports> Exchange<'_, P> {
    /// Asks, and asks again until there is an answer; of bytes and events, until their begin is there.
    pub async fn run(&self, prepared: Prepared) -> Result<(u16, Got<P>), Trouble> {
        let broken = || Trouble::broke(Breakage::Malformed);
        let (offer, provider) = self.candidate.offer().zip(self.candidate.provider()).ok_or_else(broken)?;
        let Prepared { family, mut calls, links, .. } = prepared;
        let asked = asked(self.generation, self.work, offer, &links);
        let here = Here { family: &family, provider, asked };
        let is_streamed = |call: &Written| !matches!(call.delivery, Delivery::Whole);
        let long = match (self.work, calls.as_slice()) {
            (Work::Images(images), [_]) if !images.is_stream() => passing::paths(&family).map(|paths| (images, paths)),
            _ => None,
        };
        let raws = if let Some((images, paths)) = long {
            let call = calls.swap_remove(0);
            let answer = self.send(&here, call.clone()).await?;
            match self.long(answer, images, paths, &family).await? {
                Begun::Streamed(status, got) => return Ok((status, got)),
                Begun::Whole(raw) => vec![self.followed(&here, call, Some(raw)).await?],
            }
        } else if calls.first().is_some_and(is_streamed) {
            let call = calls.swap_remove(0);
            let (delivery, content_type) = (call.delivery, call.answers.clone());
            let answer = self.send(&here, call).await?;
            match self.begun(answer, delivery, content_type).await? {
                Begun::Streamed(status, got) => return Ok((status, got)),
                Begun::Whole(raw) => vec![raw],
            }
        } else {
            let mut raws = Vec::with_capacity(calls.len());
            let mut rest = calls.into_iter();
            loop {
                let group: Vec<Written> = rest.by_ref().take(PARALLEL_MAX).collect();
                if group.is_empty() {
                    break raws;
                }
                raws.extend(try_join_all(group.into_iter().map(|call| self.followed(&here, call, None))).await?);
            }
        };
        let status = raws.first().map_or(200, |raw| raw.status);
        let reading = reading(self.generation, self.candidate, offer);
        let read = self.work.read(&family, raws, &reading).map_err(|fault| self.told(status, &fault))?;
        let cut = || Trouble::broke(Breakage::Cut);
        let mut opened = Vec::with_capacity(read.links.len());
        for (at, url) in &read.links {
            opened.push((*at, fetch::open(self.ports, url).await.ok_or_else(cut)?));
        }
        let length: Option<usize> = opened.iter().map(|(_, open)| open.length).sum();
        let is_stream = matches!(self.work, Work::Images(images) if images.is_stream());
        if !is_stream && !opened.is_empty() && length.is_none_or(|length| length > self.held_max()) {
            return Ok((status, Got::Drawn(opened, read)));
        }
        let mut fetched = Vec::with_capacity(opened.len());
        for (at, open) in opened {
            fetched.push((at, open.whole().await.ok_or_else(cut)?));
        }
        let whole = self.work.finish(read, &fetched).map_err(|fault| self.told(status, &fault))?;
        Ok((status, Got::Whole(whole)))
    }

    /// What a fault means: of this host's answer, or told in it.
    fn told(&self, status: u16, fault: &Fault) -> Trouble {
        match fault.message.starts_with("malformed") {
            true => Trouble::broke(Breakage::Malformed),
            false => Trouble::told(fault.status.unwrap_or(status), fault, self.generation),
        }
    }

    /// Longest answer with pictures that is held, in bytes: a longer one could not be kept for its key either.
    fn held_max(&self) -> usize {
        if self.generation.replay.is_some() { KEPT_BYTES_MAX } else { LARGE_BYTES }
    }

    /// An answer with pictures: whole where it is short, else when its first picture begins.
    async fn long(
        &self,
        mut answer: P::Answer,
        images: &Images,
        paths: &'static [Path],
        family: &str,
    ) -> Result<Begun<P>, Trouble> {
        let (broken, cut) = (|| Trouble::broke(Breakage::Malformed), || Trouble::broke(Breakage::Cut));
        let length = answer.header("content-length").and_then(|text| text.trim().parse::<usize>().ok());
        if length.is_some_and(|length| length <= self.held_max()) {
            return raw(&mut answer).await.map(Begun::Whole);
        }
        let (status, counts) = (answer.status(), counts(&answer));
        let content_type = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let mut raw = Raw { status, content_type, counts, bytes: Vec::new() };
        let offer = self.candidate.offer().ok_or_else(broken)?;
        let reading = reading(self.generation, self.candidate, offer);
        if raw.content_type.starts_with("image/") {
            let open = Open::of(answer).await.ok_or_else(cut)?;
            let read = self.work.read(family, vec![raw], &reading).map_err(|fault| self.told(status, &fault))?;
            return Ok(Begun::Streamed(status, Got::Drawn(vec![(0, open)], read)));
        }
        let (mut passing, mut first) = (Box::new(Passing::new(images, paths, reading.created)), Vec::new());
        let mut read = 0;
        loop {
            let Some(chunk) = answer.block().await.map_err(|_| cut())? else { return Ok(Begun::Whole(raw)) };
            raw.bytes.extend_from_slice(&chunk);
            if raw.bytes.len() > ANSWER_BYTES_MAX {
                return Err(broken());
            }
            if raw.bytes.len() > self.held_max() {
                passing.push(raw.bytes.get(read..).unwrap_or_default(), &mut first).map_err(|_| broken())?;
                read = raw.bytes.len();
                if passing.has_begun() {
                    raw.bytes = Vec::new();
                    let family = family.to_owned();
                    return Ok(Begun::Streamed(status, Got::Passing { answer, passing, first, raw, family }));
                }
            }
        }
    }

    /// One call and what follows from it, to its last answer; from its first one on where that is there.
    async fn followed(&self, here: &Here<'_>, mut call: Written, mut first: Option<Raw>) -> Result<Raw, Trouble> {
        // What was ordered is being made, and would be paid for twice: a question that fails is asked again.
        let (mut misses, mut is_question) = (0, false);
        for round in 0..QUESTIONS_MAX {
            let answered = match first.take() {
                Some(raw) => Ok(raw),
                None => self.raw_of(here, call.clone()).await,
            };
            let raw = match answered {
                Ok(raw) => raw,
                Err(trouble)
                    if is_question
                        && misses < MISSES_MAX
                        && matches!(trouble.verdict.class, Class::Fault | Class::Busy) =>
                {
                    misses = misses.saturating_add(1);
                    let wait_ms = trouble.retry_after_ms.unwrap_or(MISS_WAIT_MS);
                    self.ports.sleep(wait_ms.min(QUESTION_WAIT_MS_MAX)).await;
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            misses = 0;
            let status = raw.status;
            let again = self.work.follow(here.family, &raw, &here.asked).map_err(|fault| self.told(status, &fault))?;
            let Some(again) = again else { return Ok(raw) };
            if again.after_ms > 0 {
                let grown = again.after_ms.saturating_add(again.after_ms.saturating_mul(u64::from(round)) / 2);
                self.ports.sleep(grown.min(QUESTION_WAIT_MS_MAX)).await;
            }
            is_question = matches!(again.call.method, "" | "GET");
            if !again.call.method.is_empty() {
                call = again.call;
            }
        }
        Err(Trouble::broke(Breakage::Timeout))
    }

    async fn raw_of(&self, here: &Here<'_>, call: Written) -> Result<Raw, Trouble> {
        raw(&mut self.send(here, call).await?).await
    }

    /// Sends one call; an answer that serves.
    async fn send(&self, here: &Here<'_>, call: Written) -> Result<P::Answer, Trouble> {
        let unusable = |unwritable: Unwritable| Trouble {
            status: None,
            verdict: unwritable.verdict,
            broke: None,
            param: unwritable.param,
            retry_after_ms: None,
        };
        let secrets = SecretsOf::new(self.ports, self.generation, self.candidate).map_err(unusable)?;
        let secrets = secrets.in_slot(self.generation, self.candidate, self.slot);
        let broken = || Trouble::broke(Breakage::Malformed);
        // A host may name where to ask; its credential goes there only where that is its own.
        let target = match call.path.contains("://") {
            false => url(&secrets, here.provider, here.family, &call.path).ok_or_else(broken)?,
            true => {
                let base = url(&secrets, here.provider, here.family, "").ok_or_else(broken)?;
                if !is_same_site(&base, &call.path) {
                    return Err(broken());
                }
                call.path.clone()
            }
        };
        let size: usize = call.body.iter().map(Bytes::len).sum();
        let is_large = size > LARGE_BYTES;
        let body = if is_large { Vec::new() } else { call.whole_body() };
        let kind = call.content_type.as_str();
        let plain = Call { method: call.method, url: target, headers: call.headers, body };
        let made = match call.method {
            "POST" => authorized(self.ports, &secrets, here.family, plain.url, kind, plain.headers, plain.body).await,
            _ => signed(self.ports, &secrets, here.family, kind, plain).await,
        };
        let made = made.map_err(unusable)?;
        let sent = if is_large { self.ports.send_pieces(made, call.body).await } else { self.ports.send(made).await };
        let mut answer = sent.map_err(Trouble::broke)?;
        let status = answer.status();
        self.answered.set(Some(status));
        if !(200..300).contains(&status) {
            return Err(refusal(self.ports, &mut answer, self.generation).await);
        }
        Ok(answer)
    }

    /// The begin of a streamed answer, or the whole of one that came otherwise.
    async fn begun(&self, mut answer: P::Answer, delivery: Delivery, wanted: String) -> Result<Begun<P>, Trouble> {
        let status = answer.status();
        let kind = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let cut = || Trouble::broke(Breakage::Cut);
        // A host that says what went wrong says it in JSON; sound is never that.
        if kind.contains("json") {
            let raw = raw(&mut answer).await?;
            let told = fault::parse(&raw.bytes);
            let is_fault = !told.code.is_empty() || !told.message.is_empty() || told.status.is_some();
            return if is_fault { Err(self.told(status, &told)) } else { Ok(Begun::Whole(raw)) };
        }
        if let Delivery::Events(fold) = delivery
            && (kind.starts_with("text/event-stream") || kind.is_empty())
        {
            let mut events = Box::new(Events::new(fold(self.work)));
            let mut first = Vec::new();
            while first.is_empty() && !events.is_over() {
                let chunk = answer.block().await.map_err(|_| cut())?.ok_or_else(cut)?;
                events.push(&chunk, &mut first);
                if let Some(fault) = events.fault() {
                    return Err(self.told(status, fault));
                }
            }
            return Ok(Begun::Streamed(status, Got::Events { answer, events, first, content_type: wanted }));
        }
        if let Delivery::Events(_) = delivery
            && !kind.starts_with("audio/")
        {
            return raw(&mut answer).await.map(Begun::Whole);
        }
        // A page of a proxy is no sound.
        if kind.starts_with("text/") || kind.contains("html") || kind.contains("xml") {
            return Err(Trouble::broke(Breakage::Malformed));
        }
        let counted = counts(&answer);
        let first = loop {
            match answer.block().await.map_err(|_| cut())? {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => break chunk,
                None => return Err(cut()),
            }
        };
        let count = |name: &str| counted.iter().find(|(known, _)| *known == name).map(|(_, count)| *count);
        let characters = count("dg-char-count").or_else(|| count("x-amzn-requestcharacters"));
        let told = crate::media::meter::Told::default().with(crate::usage::Meter::InputCharacters, characters);
        let content_type = Some(kind).filter(|kind| kind.starts_with("audio/")).unwrap_or(wanted);
        Ok(Begun::Streamed(status, Got::Bytes { answer, first, content_type, told }))
    }
}

enum Begun<P: Ports> {
    Streamed(u16, Got<P>),
    Whole(Raw),
}

/// Where the calls go.
struct Here<'a> {
    family: &'a str,
    provider: &'a Provider,
    asked: Asked<'a>,
}

fn counts<A: Answer>(answer: &A) -> Vec<(&'static str, u64)> {
    COUNTING.iter().filter_map(|name| Some((*name, answer.header(name)?.trim().parse().ok()?))).collect()
}

async fn raw<A: Answer>(answer: &mut A) -> Result<Raw, Trouble> {
    let content_type = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let (status, counts) = (answer.status(), counts(answer));
    let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(Trouble::broke)?;
    Ok(Raw { status, content_type, counts, bytes })
}
