//! From a provider's stream to a client's: decoder, usage meter and encoder as one push machine.
//!
//! Where both ends speak alike, frames pass as they are, in one of two ways for the same stream: *seen* (every chunk
//! goes through [`Relay::push`] with an output) and *native* (the runtime moves the bytes, the relay only observes them:
//! no output). Else every frame is decoded into events and those are encoded again. [`Relay::finish`] says once how it
//! ended and what must still be written.

use crate::attempt::classify::{self, Breakage, Verdict};
use crate::dialect::{Dialect, Encoder, Voice};
use crate::error::Failure;
use crate::excerpt::Excerpt;
use crate::family::event_stream::EventFrames;
use crate::family::fault::Fault;
use crate::family::openai_chat::{self, Reader, Told};
use crate::family::quirk::Quirk;
use crate::family::{Decoder, Family, event_stream};
use crate::ledger::ending::Ending;
use crate::relay::numbers::Numbers;
use crate::sse::{Frame, Frames, write_data};
use crate::text::custom::Customs;
use crate::text::event::Event;
use crate::text::ids::Ids;
use crate::text::terms::Terms;
use crate::usage::Usage;

/// Says what usage costs in an answer that ends so, at the service tier that was served where the host told it, as members
/// for a usage object.
pub type Amend<'a> = &'a dyn Fn(&Usage, &Terms, Ending) -> Option<String>;

/// Whether a provider of that family gets the client's bytes, and the client the provider's.
pub const fn is_pass(dialect: Dialect, family: Family) -> bool {
    matches!(
        (dialect, family),
        (Dialect::Chat, Family::OpenAiChat | Family::AzureOpenAi)
            | (Dialect::Responses, Family::OpenAiResponses)
            | (Dialect::Messages, Family::Anthropic)
    )
}

/// What the client sees of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageView {
    /// It did not ask: the usage chunk is taken out.
    Hidden,
    /// It asked: the chunk passes.
    Shown,
    /// It asked for the cost as well: the chunk passes with its price.
    Priced,
}

/// What a client is told that took nothing for too long.
pub const UNTAKEN: &str = "the answer was not taken in time";

/// How the bytes stopped coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The provider closed the stream.
    Eof,
    /// The connection broke.
    Broken,
    /// Nothing came for too long.
    Idle,
    /// The total time is over.
    Deadline,
    /// The client left.
    Left,
    /// The client takes nothing any more.
    Stalled,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// For the table of endings.
    pub ending: Ending,
    /// The verdict on the provider, where it failed.
    pub verdict: Option<Verdict>,
    /// What the stream reported.
    pub seen: Seen,
}

/// What was gathered from the frames.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Content the client can show has come: the commit point.
    pub has_content: bool,
    /// Bytes of generated text and arguments.
    pub output_bytes: u64,
    /// The last finish reason, in the provider's words.
    pub finish: Option<String>,
    /// The last usage report.
    pub usage: Option<Usage>,
    /// The terms of the call: as the provider told, else as it was asked.
    pub terms: Terms,
    /// The end mark has come.
    pub is_done: bool,
    /// The first error.
    pub fault: Option<Fault>,
    /// That error is a frame that a client's SDK takes for one: where the bytes pass, it needs no other.
    pub is_plain_fault: bool,
}

/// What becomes of frames.
#[derive(Debug)]
enum Mode {
    /// OpenAI chat on both sides: frames pass, usage is shown, hidden or priced.
    Chat { quirks: Vec<Quirk>, view: UsageView, numbers: Numbers, reader: Reader },
    /// Another dialect that both sides speak: frames pass.
    Pass { decoder: Decoder, dialect: Dialect },
    /// Two that differ.
    Translate { decoder: Decoder, customs: Customs, ids: Ids, encoder: Encoder },
}

/// How bytes become frames.
#[derive(Debug)]
enum Cut {
    Sse(Frames),
    Aws(EventFrames),
}

impl Cut {
    fn is_at_border(&self) -> bool {
        match self {
            Cut::Sse(frames) => frames.pending().is_empty(),
            Cut::Aws(frames) => frames.is_at_border(),
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Relay {
    cut: Cut,
    mode: Mode,
    seen: Seen,
    broken: bool,
    /// Events of the frame at hand; kept for its allocation.
    events: Vec<Event>,
    /// What the client got, where that is to be kept.
    record: Option<Excerpt>,
}

impl Relay {
    /// For one answer of a provider with these quirks, chat on both sides.
    pub fn new(quirks: Vec<Quirk>, view: UsageView) -> Relay {
        Relay::of(Mode::Chat { quirks, view, numbers: Numbers::default(), reader: Reader::default() })
    }

    /// For one answer of a provider that speaks the client's dialect.
    pub fn pass(dialect: Dialect, family: Family, quirks: &[Quirk], provider: &str) -> Relay {
        Relay::of(Mode::Pass { decoder: Decoder::new(family, quirks, provider), dialect })
    }

    /// For one answer that is translated.
    /// `customs` are the client's tools that take free text, where the family has them as functions.
    pub fn translate(
        dialect: Dialect,
        (family, quirks, provider): (Family, &[Quirk], &str),
        customs: &[String],
        voice: Voice,
    ) -> Relay {
        let (decoder, customs) = (Decoder::new(family, quirks, provider), Customs::new(customs.to_vec()));
        let (ids, encoder) = (Ids::new(&voice.request_id), Encoder::new(dialect, voice));
        let relay = Relay::of(Mode::Translate { decoder, customs, ids, encoder });
        match family.has_event_stream() {
            true => Relay { cut: Cut::Aws(EventFrames::default()), ..relay },
            false => relay,
        }
    }

    fn of(mode: Mode) -> Relay {
        let cut = Cut::Sse(Frames::default());
        Relay { cut, mode, seen: Seen::default(), broken: false, events: Vec::new(), record: None }
    }

    /// What has been gathered.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What the call was sent with, which holds where the provider does not tell.
    pub fn assume(&mut self, terms: Terms) {
        self.seen.terms = terms;
    }

    /// Whether the runtime may move the bytes: nothing has to be taken out or added.
    pub fn can_be_native(&self) -> bool {
        match &self.mode {
            Mode::Chat { view, quirks, .. } => *view == UsageView::Shown && !quirks.contains(&Quirk::UnnumberedCalls),
            Mode::Pass { .. } => true,
            Mode::Translate { .. } => false,
        }
    }

    /// Whether no frame is unfinished: a comment may stand here. Translated frames go out whole.
    pub fn is_at_border(&self) -> bool {
        matches!(self.mode, Mode::Translate { .. }) || self.cut.is_at_border()
    }

    /// Whether the price goes into what the client gets of usage while the stream runs.
    pub fn is_priced(&self) -> bool {
        matches!(self.mode, Mode::Chat { view: UsageView::Priced, .. })
    }

    /// Whether the stream has said all it will: its end mark or an error.
    pub fn is_over(&self) -> bool {
        self.seen.is_done || self.seen.fault.is_some() || self.broken
    }

    /// From now on notes what the client gets. What went out before is the record's begin.
    pub fn record(&mut self, record: Excerpt) {
        self.record = Some(record);
    }

    /// What was noted.
    pub fn take_record(&mut self) -> Option<Excerpt> {
        self.record.take()
    }

    /// Takes a chunk; appends what the client gets to `out` (native use passes none).
    pub fn push(&mut self, bytes: &[u8], mut out: Option<&mut Vec<u8>>, amend: Amend<'_>) {
        let before = out.as_ref().map(|out| out.len());
        let Relay { cut, mode, seen, broken, events, record } = self;
        *broken |= match cut {
            Cut::Sse(frames) => {
                frames.push(bytes, |frame| take(frame, mode, events, seen, out.as_deref_mut(), amend)).is_err()
            }
            Cut::Aws(frames) => {
                let mut on_frame = |kind: &str, payload: &str| {
                    let data = event_stream::as_json(kind, payload);
                    decode(&data, mode, events, seen, out.as_deref_mut());
                };
                frames.push(bytes, &mut on_frame).is_err()
            }
        };
        if let Some(record) = record {
            let sent = out.as_deref().zip(before).and_then(|(out, before)| out.get(before..));
            record.push(sent.unwrap_or(bytes));
        }
    }

    /// A whole answer in place of a stream, by a host that did not stream although asked to.
    pub fn push_whole(&mut self, text: &str, out: &mut Vec<u8>) {
        let Relay { mode, seen, events, .. } = self;
        if let Mode::Translate { decoder, customs, ids, encoder } = mode {
            decoder.whole(text, events);
            customs.turn(events);
            ids.give(events);
            spread(events, Some(encoder), seen, Some(out));
        }
    }

    /// The end: how it was, and (in `out`) what the client still has to get. `request_id` goes into an error event.
    pub fn finish(mut self, stop: Stop, native: bool, request_id: &str, out: &mut Vec<u8>, amend: Amend<'_>) -> End {
        let pending = std::mem::replace(&mut self.cut, Cut::Sse(Frames::default()));
        let Relay { mode, seen, broken, events, .. } = &mut self;
        let is_translated = matches!(mode, Mode::Translate { .. });
        let had_pending = !pending.is_at_border();
        let before = out.len();
        // Only an orderly end can have meant its last bytes as an event.
        if stop == Stop::Eof {
            *broken |= match pending {
                Cut::Sse(frames) => frames
                    .finish(|frame| {
                        let target = if native { None } else { Some(&mut *out) };
                        take(frame, mode, events, seen, target, amend);
                    })
                    .is_err(),
                Cut::Aws(_) => had_pending,
            };
        }
        // A last event without its blank line gets one, wherever its bytes went.
        if had_pending && !is_translated && (native || out.len() > before) {
            out.extend_from_slice(b"\n\n");
        }
        if let (Mode::Translate { decoder, customs, ids, encoder }, Stop::Eof) = (mode, stop) {
            decoder.finish(events);
            customs.turn(events);
            ids.give(events);
            spread(events, Some(encoder), seen, Some(out));
        }
        self.end(stop, native, request_id, out, amend)
    }

    fn end(self, stop: Stop, native: bool, request_id: &str, out: &mut Vec<u8>, amend: Amend<'_>) -> End {
        let mut mode = self.mode;
        let seen = self.seen;
        let verdict = if let Some(fault) = &seen.fault {
            Some(classify::answer(200, fault))
        } else if self.broken {
            Some(classify::breakage(Breakage::Malformed))
        } else if seen.finish.is_some() && (seen.is_done || stop == Stop::Eof) {
            None
        } else {
            match stop {
                Stop::Left => None,
                Stop::Idle | Stop::Deadline | Stop::Stalled => Some(classify::breakage(Breakage::Timeout)),
                // An end mark after nothing at all is an empty answer; after text without a finish it is a cut.
                Stop::Eof if seen.is_done && seen.output_bytes == 0 => None,
                Stop::Eof | Stop::Broken => Some(classify::breakage(Breakage::Cut)),
            }
        };
        let finished = seen.finish.is_some() && (seen.is_done || stop == Stop::Eof);
        let ending = match (&verdict, stop) {
            (Some(_), Stop::Stalled) if seen.fault.is_none() => Ending::ClientLeft,
            (Some(_), _) => Ending::UpstreamFailed,
            (None, Stop::Left) if !finished => Ending::ClientLeft,
            _ => seen.ending(),
        };
        if stop != Stop::Left {
            let fault_was_passed_on = native && seen.is_plain_fault;
            match &verdict {
                Some(verdict) if !fault_was_passed_on => {
                    let says = if stop == Stop::Stalled { UNTAKEN } else { "the provider's answer was cut short" };
                    let failure = Failure::new(verdict.code, says);
                    match &mut mode {
                        Mode::Chat { .. } => Dialect::Chat.failure_event(&failure, request_id, out),
                        Mode::Pass { dialect, .. } => dialect.failure_event(&failure, request_id, out),
                        Mode::Translate { encoder, .. } => encoder.fail(&failure, request_id, out),
                    }
                }
                None => match &mut mode {
                    Mode::Translate { encoder, .. } => {
                        let terms = &seen.terms;
                        encoder.finish(seen.usage.as_ref(), &|usage| amend(usage, terms, ending), out);
                    }
                    Mode::Chat { .. } if !seen.is_done => Dialect::Chat.end_mark(out),
                    Mode::Pass { dialect, .. } if !seen.is_done => dialect.end_mark(out),
                    Mode::Chat { .. } | Mode::Pass { .. } => {}
                },
                Some(_) => {}
            }
        }
        End { ending, verdict, seen }
    }
}

/// Takes one frame in, and passes it on.
fn take(
    frame: Frame<'_>,
    mode: &mut Mode,
    events: &mut Vec<Event>,
    seen: &mut Seen,
    out: Option<&mut Vec<u8>>,
    amend: Amend<'_>,
) {
    match mode {
        Mode::Chat { quirks, view, numbers, reader } => {
            let told =
                frame.data.filter(|_| !seen.is_done && seen.fault.is_none()).map(|data| reader.frame(data, quirks));
            let numbers = quirks.contains(&Quirk::UnnumberedCalls).then_some(numbers);
            take_chat(frame, told, *view, numbers, seen, out, amend);
        }
        Mode::Pass { decoder, .. } => {
            if seen.is_done || seen.fault.is_some() {
                return;
            }
            if let Some(data) = frame.data {
                decoder.frame(data, events);
                spread(events, None, seen, None);
            }
            if let Some(out) = out.filter(|_| seen.fault.is_none()) {
                out.extend_from_slice(frame.raw);
            }
        }
        Mode::Translate { .. } => {
            if let Some(data) = frame.data {
                decode(data, mode, events, seen, out);
            }
        }
    }
}

/// Decodes one frame and encodes what it tells.
fn decode(data: &str, mode: &mut Mode, events: &mut Vec<Event>, seen: &mut Seen, out: Option<&mut Vec<u8>>) {
    if seen.is_done || seen.fault.is_some() {
        return;
    }
    if let Mode::Translate { decoder, customs, ids, encoder } = mode {
        decoder.frame(data, events);
        customs.turn(events);
        ids.give(events);
        spread(events, Some(encoder), seen, out);
    }
}

/// Takes events into what is seen, and to the encoder up to the first fault.
fn spread(events: &mut Vec<Event>, mut encoder: Option<&mut Encoder>, seen: &mut Seen, mut out: Option<&mut Vec<u8>>) {
    for event in events.drain(..) {
        if seen.fault.is_some() || seen.is_done {
            break;
        }
        if let (Some(encoder), Some(out)) = (encoder.as_deref_mut(), out.as_deref_mut()) {
            encoder.push(&event, out);
        }
        seen.note(event);
    }
}

/// The ending of an answer that came to its end with so much output and that reason.
fn ending_of(output_bytes: u64, finish: Option<&str>) -> Ending {
    let is_refusal = finish.map(openai_chat::finish_reason) == Some("content_filter");
    match output_bytes == 0 && (finish.is_none() || is_refusal) {
        true => Ending::Empty,
        false => Ending::Finished,
    }
}

impl Seen {
    /// Of an answer that came to its end: whether there was anything in it.
    pub fn ending(&self) -> Ending {
        ending_of(self.output_bytes, self.finish.as_deref())
    }

    /// Takes an event in.
    pub fn note(&mut self, event: Event) {
        self.has_content |= event.is_content();
        self.output_bytes = self.output_bytes.saturating_add(event.content_bytes());
        match event {
            Event::Finish { reason, .. } => self.finish = Some(reason.name().to_owned()),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::ServiceTier(tier) => self.terms.service_tier = Some(tier),
            Event::Term(term, word) => self.terms.set(term, Some(word)),
            Event::Fault(fault) => {
                self.fault = Some(fault);
                self.is_plain_fault = true;
            }
            Event::Malformed => {
                self.fault = Some(Fault { message: "malformed".to_owned(), ..Fault::default() });
            }
            Event::Done => self.is_done = true,
            _ => {}
        }
    }
}

/// Takes one chat frame in with what it told, and passes it on.
fn take_chat(
    frame: Frame<'_>,
    told: Option<Told>,
    view: UsageView,
    numbers: Option<&mut Numbers>,
    seen: &mut Seen,
    out: Option<&mut Vec<u8>>,
    amend: Amend<'_>,
) {
    if seen.is_done || seen.fault.is_some() {
        return;
    }
    let (Some(data), Some(told)) = (frame.data, told) else {
        if let Some(out) = out {
            out.extend_from_slice(frame.raw);
        }
        return;
    };
    let hidden = told.fault.is_some()
        || (view == UsageView::Hidden && told.is_usage_only)
        // The end mark without any finish is a cut: the error event takes its place.
        || (told.is_done && seen.finish.is_none() && seen.output_bytes > 0);
    if let Some(out) = out.filter(|_| !hidden) {
        let usage = told.usage.as_ref().filter(|_| view == UsageView::Priced);
        let output_bytes = seen.output_bytes.saturating_add(told.output_bytes);
        let ending = ending_of(output_bytes, told.finish.as_deref().or(seen.finish.as_deref()));
        let numbered = numbers.and_then(|numbers| numbers.give(data));
        let terms = || told.terms.clone().or(seen.terms.clone());
        let members = usage.and_then(|usage| amend(usage, &terms(), ending));
        match (members, numbered) {
            (None, None) => out.extend_from_slice(frame.raw),
            (None, Some(data)) => write_data(&data, out),
            (Some(members), numbered) => write_data(&amended(numbered.as_deref().unwrap_or(data), &members), out),
        }
    }
    gather(seen, told);
}

fn gather(seen: &mut Seen, told: Told) {
    seen.has_content |= told.has_content;
    seen.output_bytes = seen.output_bytes.saturating_add(told.output_bytes);
    seen.is_done |= told.is_done;
    seen.finish = told.finish.or_else(|| seen.finish.take());
    seen.usage = told.usage.or_else(|| seen.usage.take());
    seen.terms = told.terms.or(std::mem::take(&mut seen.terms));
    seen.fault = told.fault;
    seen.is_plain_fault = told.is_plain_fault;
}

/// `data` with `members` added to its top-level `usage` object.
fn amended(data: &str, members: &str) -> String {
    let found = crate::json::members(data.as_bytes()).unwrap_or_default();
    let usage = found.iter().find(|member| member.key == "usage").map(|member| member.value.clone());
    match usage {
        Some(range) => with_members(data, range, members),
        None => data.to_owned(),
    }
}

/// `text` with `members` added at the end of the object that stands at `object`.
pub fn with_members(text: &str, object: std::ops::Range<usize>, members: &str) -> String {
    let Some(inner) = text.get(object.clone()).filter(|inner| inner.ends_with('}') && inner.len() >= 2) else {
        return text.to_owned();
    };
    let is_empty = inner.get(1..inner.len().saturating_sub(1)).is_some_and(|body| body.trim().is_empty());
    let at = object.end.saturating_sub(1);
    let comma = if is_empty { "" } else { "," };
    let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at..).unwrap_or_default());
    format!("{before}{comma}{members}{after}")
}

mod numbers;

#[cfg(test)]
mod calls;
#[cfg(test)]
mod citations;
#[cfg(test)]
mod features;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod tests;
