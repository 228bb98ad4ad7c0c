//! The life of a job, from its admission to its settlement.
//!
//! ```text
//! queued ──▶ running ──▶ completed | failed
//!    └──────────┴──────▶ cancelled | expired
//! ```
//!
//! [`Job::next`] says what to do, and claims it in the record first; a fact comes back by `on_…`. The record is stored
//! between the two, so a crash repeats one step at most: a submission that nobody knows the answer of is made again (a few
//! times), a question is asked again, a settlement is recognised by the job's id. Once a job has ended its status never
//! changes again, whatever arrives late.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::charge;
use super::family::{Family, Handle, Media, Progress};
use super::order::Front;
use super::pace::Pace;
use super::terms::Terms;
use crate::activity::origin::Origin;
use crate::activity::row::{AttemptRow, Row};
use crate::attempt::classify::{Class, Verdict};
use crate::catalog::{Offer, Provider};
use crate::error::{Blame, Code, Failure};
use crate::id::{CredentialId, KeyId, RequestId, WorkspaceId};
use crate::json::Raw;
use crate::ledger::charge::Receipt;
use crate::ledger::ending::Ending;
use crate::money::Nanos;
use crate::time::Millis;
use crate::usage::Usage;

/// Submissions to one host that may end without a word (the process died).
const SUBMITS_MAX: u32 = 3;
/// Answers in a row by which a host says that it does not know the job.
const UNKNOWN_MAX: u32 = 4;
/// Tries to cancel at the host.
const CANCELS_MAX: u32 = 3;
/// Tries to write the end into the list before it is given up.
const TELLS_MAX: u32 = 8;
/// The wait before a failed step at home is tried again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Admitted; at a host or on its way to one.
    Queued,
    /// A host is at work.
    Running,
    /// There is a result.
    Completed,
    /// There is none.
    Failed,
    /// Its owner wanted it no more.
    Cancelled,
    /// It took too long.
    Expired,
}

impl Status {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
        }
    }

    /// Whether that is an end.
    pub const fn is_end(self) -> bool {
        !matches!(self, Status::Queued | Status::Running)
    }
}

/// An offer that may make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// Who.
    pub provider: Provider,
    /// As what.
    pub offer: Offer,
    /// The model's canonical id.
    pub model: String,
    /// The family's name in the catalog.
    pub family_name: String,
    /// In whose words.
    pub family: Family,
    /// The workspace's own credential it is asked with; none: the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<CredentialId>,
    /// The gateway's credential among several: a host knows a job by the account it was ordered from.
    #[serde(default)]
    pub slot: u8,
    /// Others that it may be ordered with, should the host refuse that one or be busy with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<u8>,
    /// What for.
    pub terms: Terms,
}

impl Seat {
    /// Who pays the host.
    pub const fn paid_by(&self) -> &'static str {
        if self.own.is_some() { "byok" } else { "credits" }
    }
}

/// One job at a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name there.
    pub handle: Handle,
    /// How far.
    pub state: PartState,
}

/// How far a part is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// Under way.
    Waiting,
    /// Made, with what the host says it used.
    Made(Vec<Media>, Usage),
    /// Failed.
    Failed(String),
    /// Cancelled at the host, or tried often enough.
    GivenUp,
}

/// What stays the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The job's id, and that of its request.
    pub id: RequestId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// The key that ordered it.
    pub key: KeyId,
    /// In which words.
    pub front: Front,
    /// When it was ordered.
    pub arrived: Millis,
    /// When it was admitted.
    pub admitted: Millis,
    /// What is held for it.
    pub held: Nanos,
    /// When it must be over.
    pub deadline: Millis,
    /// The model as the client named it.
    pub model_asked: String,
    /// The snapshot that prices it.
    pub snapshot: String,
    /// Basis points of the price that an own credential costs.
    pub fee_basis_points: u64,
    /// The quality that prices depend on.
    pub quality: Option<String>,
    /// How many images it goes by.
    pub references: usize,
    /// The client's words about itself.
    pub session: Option<String>,
    /// The client's end user.
    pub user: Option<String>,
    /// The application.
    pub origin: Origin,
    /// Why these offers.
    pub why: Option<Value>,
    /// Offers in the order to try them.
    pub seats: Vec<Seat>,
    /// Times.
    pub pace: Pace,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What stays the same.
    pub about: About,
    /// Where it is.
    pub status: Status,
    /// Changes with everything that its owner can see.
    pub version: u64,
    /// The place of the offer that has it, or is asked next.
    pub place: usize,
    /// Jobs at the host.
    pub parts: Vec<Part>,
    /// Whether its hold is known to last as long as it may take. A hold without a job must not: the process may die between
    /// the two.
    #[serde(default)]
    pub is_claimed: bool,
    /// Since when a submission is under way, and how many ended without a word.
    pub submitting: Option<Millis>,
    /// Submissions to this host that nobody knows the answer of.
    pub submits: u32,
    /// When the first submission began.
    pub dispatched: Option<Millis>,
    /// When the host had all of it.
    pub started: Option<Millis>,
    /// When the host was seen at work.
    pub running: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
    /// How much is done, of a hundred.
    pub percent: u64,
    /// Questions asked, answers missing in a row, and when the last question was asked.
    pub polls: u32,
    /// Answers missing in a row.
    pub misses: u32,
    /// When the last question was asked.
    pub polled: Option<Millis>,
    /// When to do the next thing.
    pub due: Millis,
    /// Every submission that was answered.
    pub attempts: Vec<AttemptRow>,
    /// Why it failed.
    pub code: Option<String>,
    /// What it used.
    pub usage: Option<Usage>,
    /// What it costs.
    pub receipt: Option<Receipt>,
    /// Tries to cancel.
    pub cancels: u32,
    /// Whether the workspace has booked it.
    pub is_settled: bool,
    /// The version that the list has, and tries since.
    pub listed: Option<u64>,
    /// Tries of the list that failed.
    pub tells: u32,
    /// Whether its owner deleted it.
    pub is_deleted: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Say to the workspace that the hold is this job's.
    Claim,
    /// Ask this offer to make it (a part of it).
    Submit(usize),
    /// Ask how far this part is.
    Poll(usize),
    /// Ask the host to stop with this part.
    Cancel(usize),
    /// Book it.
    Settle,
    /// Write it into the list.
    List,
    /// Come again then.
    Wait(Millis),
    /// Its record goes.
    Forget,
}

/// A submission that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What it means.
    pub verdict: Verdict,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// The wait it asks for.
    pub retry_after_ms: Option<u64>,
}

impl Job {
    /// A job that was admitted.
    pub fn new(about: About) -> Job {
        Job {
            due: about.admitted,
            about,
            status: Status::Queued,
            version: 1,
            place: 0,
            parts: Vec::new(),
            is_claimed: false,
            submitting: None,
            submits: 0,
            dispatched: None,
            started: None,
            running: None,
            ended: None,
            percent: 0,
            polls: 0,
            misses: 0,
            polled: None,
            attempts: Vec::new(),
            code: None,
            usage: None,
            receipt: None,
            cancels: 0,
            is_settled: false,
            listed: None,
            tells: 0,
            is_deleted: false,
        }
    }

    /// The offer that has it, or is asked next.
    pub fn seat(&self) -> Option<&Seat> {
        self.about.seats.get(self.place)
    }

    /// Whether the order itself is still needed.
    pub fn needs_order(&self) -> bool {
        !self.status.is_end() && self.started.is_none()
    }

    /// What to do now. What must not be done twice is claimed.
    pub fn next(&mut self, now: Millis) -> Step {
        if !self.status.is_end() && now >= self.about.deadline {
            self.end(Status::Expired, Some(Code::ProviderTimeout), now);
        }
        if self.status.is_end() {
            return self.after_end(now);
        }
        if now < self.due {
            return Step::Wait(self.due.min(self.about.deadline));
        }
        if self.started.is_some() {
            return self.ask(now);
        }
        if !self.is_claimed && self.submitting.is_none() {
            return Step::Claim;
        }
        if self.submitting.is_some() {
            // Nobody knows what became of it.
            self.submits = self.submits.saturating_add(1);
            if self.submits >= SUBMITS_MAX {
                self.submitting = None;
                let verdict = crate::attempt::classify::breakage(crate::attempt::classify::Breakage::Timeout);
                self.on_refused(&Refused { verdict, status: None, retry_after_ms: None }, now, now);
                return self.next(now);
            }
        }
        self.submitting = Some(now);
        self.dispatched.get_or_insert(now);
        Step::Submit(self.place)
    }

    fn ask(&mut self, now: Millis) -> Step {
        match self.parts.iter().position(|part| part.state == PartState::Waiting) {
            Some(part) => {
                self.polled = Some(now);
                Step::Poll(part)
            }
            None => {
                self.finish(now);
                self.next(now)
            }
        }
    }

    /// Money first, then the host, then who wants to know.
    fn after_end(&mut self, now: Millis) -> Step {
        if now < self.due {
            return Step::Wait(self.due);
        }
        if !self.is_settled {
            return Step::Settle;
        }
        let family = self.seat().map(|seat| seat.family);
        if let (Status::Cancelled | Status::Expired | Status::Failed, Some(family)) = (self.status, family)
            && let Some(part) = self.parts.iter().position(|part| part.state == PartState::Waiting)
        {
            if self.cancels < CANCELS_MAX
                && self.parts.get(part).is_some_and(|one| family.cancel(&one.handle).is_some())
            {
                self.cancels = self.cancels.saturating_add(1);
                return Step::Cancel(part);
            }
            self.on_cancelled(part);
            return self.after_end(now);
        }
        if self.listed != Some(self.version) && self.tells < TELLS_MAX {
            return Step::List;
        }
        let forget = self.ended.unwrap_or(now).plus(self.about.pace.keep_ms);
        if self.is_deleted || now >= forget { Step::Forget } else { Step::Wait(forget) }
    }

    /// What is held is held for as long as this may take; or it is held no more, and nothing is made.
    pub fn on_claimed(&mut self, is_held: bool, now: Millis) {
        self.is_claimed = is_held;
        if !is_held {
            self.end(Status::Expired, Some(Code::ProviderTimeout), now);
        }
    }

    /// A host took it.
    pub fn on_started(&mut self, handle: Handle, status: u16, began: Millis, now: Millis) {
        self.submitting = None;
        self.submits = 0;
        self.parts.push(Part { handle, state: PartState::Waiting });
        let first = self.parts.len() == 1;
        if first {
            self.note(Some(status), None, None, began, now);
        }
        // One that ended meanwhile is cancelled by the next step.
        if self.status.is_end() {
            return;
        }
        let wanted = self.seat().map_or(1, |seat| seat.terms.parts);
        if u64::try_from(self.parts.len()).unwrap_or(u64::MAX) >= wanted {
            self.started = Some(now);
            self.change();
            self.due = now.plus(self.wait_ms(false));
        }
    }

    /// A host did not take it: the next one's turn, unless it was the client's mistake or a part of it has begun.
    pub fn on_refused(&mut self, refused: &Refused, began: Millis, now: Millis) {
        self.submitting = None;
        self.submits = 0;
        let Refused { verdict, status, retry_after_ms } = *refused;
        self.note(status, Some(verdict), retry_after_ms, began, now);
        // A refused credential of ours says little about the request; anything else decides over it.
        if verdict.class != Class::Credential || self.code.is_none() {
            self.code = Some(verdict.code.name().to_owned());
        }
        if self.status.is_end() {
            return;
        }
        if verdict.next && self.parts.is_empty() {
            // Limits and refusals are per credential: the host may take it with another one.
            let is_of_credential = matches!(verdict.class, Class::Busy | Class::Credential);
            let seat = self.about.seats.get_mut(self.place).filter(|seat| is_of_credential && !seat.slots.is_empty());
            if let Some(seat) = seat {
                seat.slot = seat.slots.remove(0);
                return;
            }
            let next = self.place.saturating_add(1);
            if next < self.about.seats.len() {
                self.place = next;
                return;
            }
        }
        self.end(Status::Failed, None, now);
    }

    /// Records a submission that was answered, or broke.
    fn note(
        &mut self,
        status: Option<u16>,
        verdict: Option<Verdict>,
        retry_after_ms: Option<u64>,
        began: Millis,
        now: Millis,
    ) {
        let Some(seat) = self.about.seats.get(self.place) else { return };
        self.attempts.push(AttemptRow {
            provider: seat.provider.id.clone(),
            upstream: seat.offer.upstream.clone(),
            paid_by: Some(seat.paid_by().to_owned()),
            slot: (seat.slot > 1).then_some(seat.slot),
            status,
            class: verdict.map(|verdict| verdict.class.name().to_owned()),
            code: verdict.map(|verdict| verdict.code.name().to_owned()),
            start_ms: began.since(self.about.arrived),
            ms: now.since(began),
            retry_after_ms,
        });
    }

    /// A host said how far a part is.
    pub fn on_progress(&mut self, part: usize, progress: Progress, is_watched: bool, now: Millis) {
        self.misses = 0;
        let Some(one) = self.parts.get_mut(part).filter(|one| one.state == PartState::Waiting) else { return };
        match progress {
            Progress::Made(media, usage) => one.state = PartState::Made(media, usage),
            Progress::Failed(code) => one.state = PartState::Failed(code.name().to_owned()),
            Progress::Waiting { is_running, percent } => {
                self.saw(is_running, percent, now);
                self.polls = self.polls.saturating_add(1);
                self.ask_at(now.plus(self.wait_ms(is_watched)));
            }
            // A result that is elsewhere is fetched by whoever asked.
            Progress::Then(_) => {}
        }
        if !self.status.is_end() && self.parts.iter().all(|one| one.state != PartState::Waiting) {
            self.finish(now);
        }
    }

    /// A host did not answer a question.
    pub fn on_miss(&mut self, is_unknown: bool, retry_after_ms: Option<u64>, part: usize, now: Millis) {
        self.misses = self.misses.saturating_add(1);
        self.polls = self.polls.saturating_add(1);
        self.ask_at(now.plus(self.about.pace.after_miss_ms(self.misses, retry_after_ms)));
        if is_unknown && self.misses >= UNKNOWN_MAX {
            self.on_progress(part, Progress::Failed(Code::ProviderError), false, now);
        }
    }

    /// The next question; one that ended meanwhile has other things to do, and those at once.
    fn ask_at(&mut self, at: Millis) {
        if !self.status.is_end() {
            self.due = at;
        }
    }

    fn saw(&mut self, is_running: bool, percent: Option<u64>, now: Millis) {
        if self.status.is_end() {
            return;
        }
        if is_running && self.status == Status::Queued {
            self.status = Status::Running;
            self.running = Some(now);
            self.change();
        }
        if let Some(percent) = percent.map(|percent| percent.min(99)).filter(|percent| *percent > self.percent) {
            self.percent = percent;
            self.change();
        }
    }

    /// Every part is at its end.
    fn finish(&mut self, now: Millis) {
        let made = self.parts.iter().any(|part| matches!(part.state, PartState::Made(..)));
        if made {
            let usage = self.usage_made();
            self.receipt = usage.as_ref().and_then(|usage| self.price(usage));
            self.usage = usage;
            self.end(Status::Completed, None, now);
            return;
        }
        let refused = Code::InvalidInput.name();
        let is_refused = self.parts.iter().any(|part| part.state == PartState::Failed(refused.to_owned()));
        self.end(Status::Failed, Some(if is_refused { Code::InvalidInput } else { Code::ProviderError }), now);
    }

    fn usage_made(&self) -> Option<Usage> {
        let terms = &self.seat()?.terms;
        let each = self.parts.iter().filter_map(|part| match &part.state {
            PartState::Made(media, reported) => {
                let outputs = u64::try_from(media.len()).unwrap_or(u64::MAX);
                Some(charge::usage_of(terms, self.about.references, outputs, reported))
            }
            _ => None,
        });
        Some(charge::sum(each))
    }

    /// The receipt, of no more than what is held.
    fn price(&self, usage: &Usage) -> Option<Receipt> {
        let seat = self.seat()?;
        let card = &seat.offer.card;
        let price = charge::price(usage, &seat.terms, self.about.quality.as_deref(), card, self.about.arrived)?;
        let price = if seat.own.is_some() { price.of_fee(self.about.fee_basis_points) } else { price };
        Some(Receipt { total: price.total.min(self.about.held).max(Nanos::ZERO), ..price })
    }

    /// Its owner wants it no more.
    pub fn cancel(&mut self, now: Millis) {
        if !self.status.is_end() {
            self.end(Status::Cancelled, None, now);
        }
    }

    /// Its owner wants nothing left of it.
    pub fn delete(&mut self, now: Millis) {
        self.cancel(now);
        if !self.is_deleted {
            self.is_deleted = true;
            self.due = now;
            self.change();
        }
    }

    /// Somebody waits for it: the next question comes sooner. When to come again, where that changed.
    pub fn hurry(&mut self, now: Millis) -> Option<Millis> {
        if self.status.is_end() || self.started.is_none() || self.misses > 0 {
            return None;
        }
        let soon = self.polled.or(self.started).unwrap_or(now).plus(self.wait_ms(true)).max(now);
        (soon < self.due).then(|| {
            self.due = soon;
            soon
        })
    }

    fn wait_ms(&self, is_watched: bool) -> u64 {
        let floor = self.seat().map_or(0, |seat| seat.family.manner().floor);
        self.about.pace.wait_ms(self.polls, is_watched, floor)
    }

    fn end(&mut self, status: Status, code: Option<Code>, now: Millis) {
        self.status = status;
        self.ended = Some(now);
        self.submitting = None;
        self.due = now;
        if let Some(code) = code {
            self.code = Some(code.name().to_owned());
        }
        if status == Status::Completed {
            self.percent = 100;
            self.code = None;
        }
        self.change();
    }

    fn change(&mut self) {
        self.version = self.version.saturating_add(1);
    }

    /// The workspace has booked it.
    pub fn on_settled(&mut self) {
        self.is_settled = true;
    }

    /// A host was asked to stop.
    pub fn on_cancelled(&mut self, part: usize) {
        if let Some(one) = self.parts.get_mut(part) {
            one.state = PartState::GivenUp;
        }
    }

    /// The list has that version of it.
    pub fn on_listed(&mut self, version: u64) {
        self.listed = Some(version);
    }

    /// A step at home failed: it is tried again a little later.
    pub fn on_trouble(&mut self, step: &Step, now: Millis) {
        if *step == Step::List {
            self.tells = self.tells.saturating_add(1);
        }
        self.due = now.plus(AGAIN_MS);
    }

    /// How it ended, for the row.
    pub fn ending(&self) -> Ending {
        match self.status {
            Status::Completed => Ending::Finished,
            Status::Cancelled => Ending::Cancelled,
            Status::Expired => Ending::Expired,
            _ if self.parts.is_empty() => Ending::AttemptsFailed,
            _ => Ending::UpstreamFailed,
        }
    }

    /// What it costs.
    pub fn cost(&self) -> Nanos {
        match self.status {
            // Only an overflow has no receipt: what is held was the true bound.
            Status::Completed => self.receipt.as_ref().map_or(self.about.held, |receipt| receipt.total),
            _ => Nanos::ZERO,
        }
    }

    /// Why it failed, as its request would say it.
    pub fn failure(&self) -> Failure {
        let code = self.code.as_deref().and_then(Code::from_name).unwrap_or(Code::ProviderError);
        let attempts: Vec<Value> = self.attempts.iter().map(|row| {
            serde_json::json!({"provider": row.provider, "status": row.status, "class": row.class, "code": row.code, "ms": row.ms})
        }).collect();
        let wait = self.attempts.iter().filter_map(|row| row.retry_after_ms).min();
        let wait = (code.blame() == Blame::Provider).then(|| wait.unwrap_or(1_000));
        Failure::new(code, self.reason()).with_details(serde_json::json!({"attempts": attempts})).retry_after(wait)
    }

    /// The same in a sentence.
    pub fn reason(&self) -> &'static str {
        let code = self.code.as_deref().and_then(Code::from_name);
        match (self.status, code) {
            (Status::Cancelled, _) => "the job was cancelled",
            (Status::Expired, _) => "the provider did not finish in time",
            (_, Some(Code::InvalidInput)) if self.parts.is_empty() => "the provider refused the request as invalid",
            (_, Some(Code::InvalidInput)) => "the provider refused to make this",
            (_, Some(Code::UnsupportedParameter)) => "the provider does not take one of the request's parameters",
            (_, Some(Code::ProviderBusy)) => "every provider that was asked asked to slow down",
            (_, Some(Code::RegionUnavailable)) => "the provider does not serve the region that it was called from",
            (_, Some(Code::ProviderTimeout)) => "no provider took the job in time",
            (_, Some(Code::ProviderUnavailable)) => "every provider that was asked could not be used",
            _ => "the provider failed",
        }
    }

    /// Its outputs, in order.
    pub fn media(&self) -> Vec<(usize, &Media)> {
        let mut all = Vec::new();
        for (place, part) in self.parts.iter().enumerate() {
            if let PartState::Made(media, _) = &part.state
                && self.status == Status::Completed
            {
                all.extend(media.iter().map(|one| (place, one)));
            }
        }
        all
    }

    /// Its activity row.
    pub fn row(&self, now: Millis) -> Row {
        let about = &self.about;
        let ended = self.ended.unwrap_or(now);
        let seat = self.seat().filter(|_| !self.attempts.is_empty());
        let status = match self.status {
            Status::Completed => 200,
            Status::Cancelled => 499,
            _ => self.failure().code.status(),
        };
        let receipt = self.receipt.clone().unwrap_or_default();
        Row {
            model: seat.map(|seat| seat.model.clone()),
            provider: seat.map(|seat| seat.provider.id.clone()),
            dialect: self.seat().map(|seat| seat.terms.kind.name().to_owned()),
            status,
            code: self.code.clone(),
            ending: self.ending(),
            finish_reason: (self.status == Status::Completed).then(|| "stop".to_owned()),
            usage: self.usage.clone(),
            fee: receipt.fee,
            lines: receipt.lines,
            rules: receipt.rules,
            snapshot: Some(about.snapshot.clone()),
            paid_by: seat.map_or("credits", Seat::paid_by).to_owned(),
            attempts: self.attempts.clone(),
            first_byte_ms: self.ended.filter(|_| self.status == Status::Completed).map(|at| at.since(about.arrived)),
            total_ms: ended.since(about.arrived),
            gateway_ms: self.dispatched.unwrap_or(ended).since(about.arrived),
            why: about.why.as_ref().map(Raw::of),
            session: about.session.clone(),
            user: about.user.clone(),
            origin: about.origin.clone(),
            ..Row::expired(about.id.as_str(), about.key.as_str(), &about.model_asked, about.arrived.0, about.held.0)
        }
    }
}

#[cfg(test)]
mod tests;
