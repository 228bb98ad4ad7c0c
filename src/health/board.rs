//! The state of many offers: samples in, scores out. One in each isolate, and one in each `Health` object, where the
//! reports of the isolates are its samples.
//!
//! Invariants: what an isolate saw itself wins over what it was told; a snapshot replaces the one before, so nothing is
//! counted twice for long; the number of offers is bounded.

use std::collections::{BTreeMap, HashMap};

use crate::catalog::Routing;
use crate::health::breaker::{Breaker, Change, OPEN_AFTER, OPEN_PROVIDER_AFTER, Phase};
use crate::health::sample::{ALL_SLOTS, Place, SLOTS_MAX, Sample};
use crate::health::score::{PRIOR_RELIABILITY, PRIOR_WEIGHT, Score, Standing, prompt_factor};
use crate::health::share::{Clock, Entry, Snapshot, shard};
use crate::health::tally::{Moments, Spread, Tally};
use crate::time::Millis;

/// Successes and failures halve in this time, in milliseconds.
const RELIABILITY_HALF_LIFE_MS: f64 = 120_000.0;
/// Latency and pace of late halve in this time, in milliseconds: a provider that gets slower is noticed at once.
const LATELY_HALF_LIFE_MS: f64 = 10_000.0;
/// The last few samples, one's own and those of others, are remembered longer: they halve in this time, in
/// milliseconds, …
const LAST_HALF_LIFE_MS: f64 = 45_000.0;
/// … and are so many.
const LAST_SAMPLES: f64 = 6.0;
/// Of successes and failures, a snapshot weighs at most as much as this many samples of one's own.
const TOLD_WEIGHT: f64 = 30.0;
/// Share of requests that may be a trial, …
const TRIAL_SHARE: f64 = 0.5;
/// … where the trial may wait for nothing.
const SILENT_TRIAL_SHARE: f64 = 0.2;
/// Requests under way that are remembered of an offer.
const WAITING_MAX: usize = 32;
/// A snapshot older than this is forgotten, in milliseconds.
const TOLD_MS: u64 = 600_000;
/// News older than what the isolate saw itself by less than this is not believed, in milliseconds.
const OWN_EYES_MS: u64 = 5_000;
/// Cool-down of an offer that asks for one without saying how long, in milliseconds; doubles while it goes on asking.
pub const COOL_MS: u64 = 2_000;
/// Longest cool-down, in milliseconds: a mistaken Retry-After must not cost a day.
pub const COOL_MS_MAX: u64 = 300_000;
/// How long an offer that refuses the credential goes last, in milliseconds; doubles, up to `COOL_MS_MAX`.
const REFUSED_MS: u64 = 60_000;
/// Offers remembered at once; the least recently seen goes first.
const OFFERS_MAX: usize = 4096;

#[derive(Debug, Clone, Default)]
struct Seen {
    provider: Box<str>,
    upstream: Box<str>,
    tally: Tally,
    latency: Speed,
    pace: Speed,
    breaker: Breaker,
    /// Requests under way, and from when on each waits too long.
    waiting: Vec<(Ticket, Millis)>,
    /// Last change of the breaker, last success, last sample; zero is never.
    changed_at: Millis,
    served_at: Millis,
    seen_at: Millis,
    /// Not reported yet.
    news: Option<Box<Entry>>,
    /// What the last snapshot said.
    told: Option<Box<Entry>>,
}

/// A quantity: all samples of late, and the last few.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    lately: Moments,
    last: Moments,
}

impl Speed {
    fn add(&mut self, moments: Moments, now: Millis) {
        self.lately.add(moments, LATELY_HALF_LIFE_MS, now);
        self.last.add(moments, LAST_HALF_LIFE_MS, now);
        // New samples push out the old ones.
        self.last = self.last.scaled(share_of(LAST_SAMPLES, self.last.n));
    }

    /// What the other isolates are told.
    fn told(&self, now: Millis) -> Moments {
        self.last.faded(LAST_HALF_LIFE_MS, now)
    }

    fn spread(&self, told: Option<&Moments>, now: Millis) -> Option<Spread> {
        let lately = self.lately.faded(LATELY_HALF_LIFE_MS, now);
        let mut all = lately.plus(self.last.faded(LAST_HALF_LIFE_MS, now));
        if let Some(told) = told {
            all = all.plus(told.faded(LAST_HALF_LIFE_MS, now));
        }
        all.spread()
    }
}

impl Seen {
    /// Whether a request waits too long and nothing has come since it did.
    fn is_silent(&self, now: Millis) -> bool {
        let late = self.waiting.iter().map(|(_, late_at)| *late_at).filter(|late_at| *late_at <= now);
        late.min().is_some_and(|first| self.served_at < first)
    }
}

/// A request under way.
pub type Ticket = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cooling {
    until: Millis,
    in_row: u32,
    is_refused: bool,
}

/// Offers as seen by one isolate, or as reported to one object.
#[derive(Debug, Default)]
pub struct Board {
    nonce: u64,
    offers: HashMap<u64, Seen>,
    providers: HashMap<u64, Breaker>,
    cooling: HashMap<u64, Cooling>,
    clock: Clock,
    tickets: Ticket,
    switches: BTreeMap<u64, Vec<(String, Routing)>>,
}

/// One offer's state, for the operator.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The provider.
    pub provider: String,
    /// The model's name there.
    pub upstream: String,
    /// Its score.
    pub score: Score,
    /// How often its breaker opened of late.
    pub openings: u32,
    /// The last sample.
    pub seen_at: Millis,
}

impl Board {
    /// An empty board. The nonce tells isolates apart: their breakers do not try again at the same moment.
    pub fn new(nonce: u64) -> Board {
        Board { nonce, ..Board::default() }
    }

    fn seen(&mut self, place: &Place<'_>, now: Millis) -> &mut Seen {
        let key = place.offer_key();
        if self.offers.len() >= OFFERS_MAX && !self.offers.contains_key(&key) {
            let oldest = self.offers.iter().min_by_key(|(_, seen)| seen.seen_at).map(|(key, _)| *key);
            oldest.map(|key| self.offers.remove(&key));
            self.cooling.retain(|_, cooling| cooling.until > now);
        }
        let seen = self.offers.entry(key).or_insert_with(|| Seen {
            provider: place.provider.into(),
            upstream: place.upstream.into(),
            ..Seen::default()
        });
        seen.seen_at = now;
        seen
    }

    /// A request was sent to an offer: in half-open, this is the trial. After `late_ms` without a content it waits too
    /// long, where that is known.
    pub fn on_sent(&mut self, place: &Place<'_>, late_ms: Option<u64>, now: Millis) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        if let Some(seen) = self.offers.get_mut(&place.offer_key()) {
            seen.breaker.on_sent(now);
            if let Some(late_ms) = late_ms {
                if seen.waiting.len() >= WAITING_MAX {
                    seen.waiting.remove(0);
                }
                seen.waiting.push((ticket, now.plus(late_ms)));
            }
        }
        if let Some(breaker) = self.providers.get_mut(&place.provider_key()) {
            breaker.on_sent(now);
        }
        ticket
    }

    /// A request is no longer waited for: it was served, or failed, or its client left.
    pub fn on_ended(&mut self, place: &Place<'_>, ticket: Ticket) {
        if let Some(seen) = self.offers.get_mut(&place.offer_key()) {
            seen.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
    }

    /// Takes in one attempt of this isolate.
    pub fn on_sample(&mut self, place: &Place<'_>, sample: Sample, now: Millis) {
        self.clock.on_sample(!matches!(sample, Sample::Served { .. } | Sample::Paced { .. }), now);
        match sample {
            Sample::Served { first_byte_ms, prompt_tokens } => {
                self.served(place, 1.0, now);
                if let Some(cooling) = self.cooling.get_mut(&place.credential_key()) {
                    cooling.in_row = 0;
                }
                let latency = first_byte_ms.map(|ms| logarithm(ms, prompt_factor(prompt_tokens)));
                let seen = self.seen(place, now);
                let news = news(seen);
                news.tally.good += 1.0;
                news.broken = 0;
                news.served_at = now;
                if let Some(latency) = latency {
                    news.latency = news.latency.plus(latency);
                    seen.latency.add(latency, now);
                }
            }
            Sample::Paced { output_tokens: 0, .. } => {}
            Sample::Paced { output_tokens, ms } => {
                #[allow(clippy::cast_precision_loss, reason = "an answer has fewer than 2^53 tokens")]
                let pace = logarithm(ms, output_tokens as f64);
                let seen = self.seen(place, now);
                seen.pace.add(pace, now);
                let news = news(seen);
                news.pace = news.pace.plus(pace);
            }
            Sample::Failed | Sample::Silent => {
                let times = if sample == Sample::Silent { 2 } else { 1 };
                self.failed(place, times, now);
                let news = news(self.seen(place, now));
                news.tally.bad += 1.0;
                news.broken = news.broken.saturating_add(times);
                news.failed_at = now;
            }
            Sample::Busy { wait_ms } => {
                let until = self.cool(place, wait_ms, false, now);
                if let Some(slot) = place.slot() {
                    news(self.seen(place, now)).cool(slot, until);
                }
            }
            Sample::Paused { wait_ms } => {
                let until = self.cool(&place.in_slot(ALL_SLOTS), Some(wait_ms), false, now);
                news(self.seen(place, now)).cool(ALL_SLOTS, until);
            }
            Sample::Refused => {
                self.cool(place, None, true, now);
            }
        }
    }

    fn served(&mut self, place: &Place<'_>, times: f64, now: Millis) {
        if let Some(breaker) = self.providers.get_mut(&place.provider_key()) {
            breaker.on_served(now);
        }
        let seen = self.seen(place, now);
        seen.served_at = now;
        if seen.breaker.on_served(now) == Change::Recovered {
            // What was before it broke says nothing about the time after.
            seen.changed_at = now;
            seen.tally = Tally { at: now, ..Tally::default() };
        }
        seen.tally.add(times, 0.0, RELIABILITY_HALF_LIFE_MS, now);
    }

    fn failed(&mut self, place: &Place<'_>, times: u64, now: Millis) {
        let (nonce, key) = (self.nonce, place.offer_key());
        self.seen(place, now).breaker.was_silent(times > 1);
        for _ in 0..times {
            let provider = self.providers.entry(place.provider_key()).or_default();
            provider.on_failed(key, OPEN_PROVIDER_AFTER, true, nonce ^ place.provider_key(), now);
            let seen = self.seen(place, now);
            if seen.breaker.on_failed(key, OPEN_AFTER, false, nonce ^ key, now) == Change::Opened {
                seen.changed_at = now;
                // One failure opens it once, however often it counts.
                break;
            }
        }
        self.seen(place, now).tally.add(0.0, 1.0, RELIABILITY_HALF_LIFE_MS, now);
    }

    fn cool(&mut self, place: &Place<'_>, wait_ms: Option<u64>, is_refused: bool, now: Millis) -> Millis {
        let fresh = Cooling { until: Millis(0), in_row: 0, is_refused };
        let cooling = self.cooling.entry(place.credential_key()).or_insert(fresh);
        let base = if is_refused { REFUSED_MS } else { COOL_MS };
        let ms = wait_ms.unwrap_or(base << cooling.in_row.min(8)).min(COOL_MS_MAX);
        // Answers that were on their way when the cool-down began are one refusal, not many.
        if now >= cooling.until {
            cooling.in_row = cooling.in_row.saturating_add(1);
        }
        if wait_ms.is_some() || now >= cooling.until {
            cooling.until = cooling.until.max(now.plus(ms));
        }
        cooling.is_refused = is_refused;
        cooling.until
    }

    /// Until when an offer is to be left alone under that credential, where it is.
    pub fn cools_until(&self, place: &Place<'_>, now: Millis) -> Option<Millis> {
        self.cooling_of(place, now).map(|cooling| cooling.until)
    }

    /// What keeps that credential from being used at the offer: its own wait, or one that holds for all.
    fn cooling_of(&self, place: &Place<'_>, now: Millis) -> Option<&Cooling> {
        if self.cooling.is_empty() {
            return None;
        }
        let at = |place: &Place<'_>| self.cooling.get(&place.credential_key()).filter(|cooling| now < cooling.until);
        let both = [at(place), at(&place.in_slot(ALL_SLOTS))];
        both.into_iter().flatten().max_by_key(|cooling| (cooling.is_refused, cooling.until))
    }

    /// Until when an offer is to be left alone under further credentials of the gateway, or under all.
    fn cools(&self, place: Place<'_>, now: Millis) -> Vec<(u8, Millis)> {
        if self.cooling.is_empty() {
            return Vec::new();
        }
        let until = |slot: u8| {
            let cooling = self.cooling.get(&place.in_slot(slot).credential_key())?;
            (!cooling.is_refused && cooling.until > now).then_some((slot, cooling.until))
        };
        (0..=SLOTS_MAX).filter(|slot| *slot != 1).filter_map(until).collect()
    }

    /// Whether anything is known of an offer.
    pub fn is_known(&self, place: &Place<'_>) -> bool {
        self.offers.contains_key(&place.offer_key())
    }

    /// What is known of an offer at `now`.
    pub fn score(&self, place: &Place<'_>, now: Millis) -> Score {
        let provider = self.providers.get(&place.provider_key()).map_or(Phase::Closed, |breaker| breaker.phase(now));
        self.score_at(place, provider, now)
    }

    /// The same, whatever is known of its provider's other offers: for a client that names the provider itself.
    pub fn score_alone(&self, place: &Place<'_>, now: Millis) -> Score {
        self.score_at(place, Phase::Closed, now)
    }

    fn score_at(&self, place: &Place<'_>, provider: Phase, now: Millis) -> Score {
        let cooling = self.cooling_of(place, now);
        let Some(seen) = self.offers.get(&place.offer_key()) else {
            return Score { standing: standing(Phase::Closed, provider, cooling), ..Score::UNKNOWN };
        };
        let told = seen.told.as_deref().filter(|told| now.since(told.tally.at) < TOLD_MS);
        let standing = match standing(seen.breaker.phase(now), provider, cooling) {
            Standing::Trial(_) if seen.breaker.is_silent() => Standing::Trial(SILENT_TRIAL_SHARE),
            Standing::Flowing | Standing::Ramping(_) if seen.is_silent(now) => Standing::Silent,
            standing => standing,
        };
        let mut tally = seen.tally.faded(RELIABILITY_HALF_LIFE_MS, now);
        if let Some(told) = told {
            let other = told.tally.faded(RELIABILITY_HALF_LIFE_MS, now);
            if told.tally.at > seen.changed_at {
                let weight = share_of(TOLD_WEIGHT, other.good + other.bad);
                tally.good += other.good * weight;
                tally.bad += other.bad * weight;
            }
        }
        if matches!(standing, Standing::Trial(_)) {
            tally = Tally::default();
        }
        let weight = tally.good + tally.bad + PRIOR_WEIGHT;
        let reliability = (tally.good + PRIOR_WEIGHT * PRIOR_RELIABILITY) / weight;
        let latency = seen.latency.spread(told.map(|told| &told.latency), now);
        let pace = seen.pace.spread(told.map(|told| &told.pace), now);
        Score { reliability, weight, latency, pace, standing }
    }

    /// What is to be reported now, by shard; nothing while it is not worth a call.
    pub fn take_report(&mut self, now: Millis) -> Vec<(u64, Vec<Entry>)> {
        if !self.clock.is_due(now) {
            return Vec::new();
        }
        self.clock.on_report(now);
        let mut told: Vec<Entry> = Vec::new();
        for seen in self.offers.values_mut() {
            if let Some(news) = seen.news.take() {
                let (provider, upstream) = (seen.provider.to_string(), seen.upstream.to_string());
                told.push(Entry { provider, upstream, ..*news });
            }
        }
        // In order, so that a simulation can be replayed.
        told.sort_by(|a, b| (&a.provider, &a.upstream).cmp(&(&b.provider, &b.upstream)));
        let mut shards: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        told.into_iter().for_each(|entry| shards.entry(shard(&entry.provider)).or_default().push(entry));
        shards.into_iter().collect()
    }

    /// Takes in a report: the object's side.
    pub fn merge(&mut self, report: &[Entry], now: Millis) {
        for entry in report {
            let place = entry.place();
            if entry.tally.good > 0.0 {
                let served_at = entry.served_at.min(now);
                let seen = self.seen(&place, now);
                let latest = seen.served_at.max(served_at);
                // Reports come late: what was served before an offer broke does not mend it.
                if served_at > seen.changed_at {
                    self.served(&place, entry.tally.good, now);
                } else {
                    seen.tally.add(entry.tally.good, 0.0, RELIABILITY_HALF_LIFE_MS, now);
                }
                self.seen(&place, now).served_at = latest;
            }
            // Nor does what failed before it recovered break it again.
            if entry.tally.bad > 0.0 && entry.failed_at.min(now) > self.seen(&place, now).changed_at {
                let in_row = entry.broken.min(u64::from(OPEN_PROVIDER_AFTER));
                (0..in_row).for_each(|_| self.failed(&place, 1, now));
                #[allow(clippy::cast_precision_loss, reason = "at most ten")]
                let others = entry.tally.bad - in_row as f64;
                self.seen(&place, now).tally.add(0.0, others.max(0.0), RELIABILITY_HALF_LIFE_MS, now);
            }
            self.told_to_wait(entry, now);
            let seen = self.seen(&place, now);
            seen.latency.add(entry.latency, now);
            seen.pace.add(entry.pace, now);
        }
    }

    fn told_to_wait(&mut self, entry: &Entry, now: Millis) {
        let first = (1, entry.cool_until);
        for (slot, until) in entry.cools.iter().copied().chain([first]).filter(|(_, until)| *until > now) {
            self.cool(&entry.place().in_slot(slot), Some(until.since(now)), false, now);
        }
    }

    /// All that is known, for all isolates: the object's side.
    pub fn snapshot(&self, now: Millis) -> Snapshot {
        let entries = self.offers.iter().map(|(key, seen)| Entry {
            provider: seen.provider.to_string(),
            upstream: seen.upstream.to_string(),
            tally: seen.tally.faded(RELIABILITY_HALF_LIFE_MS, now),
            latency: seen.latency.told(now),
            pace: seen.pace.told(now),
            broken: match seen.breaker.phase(now) {
                Phase::Open(until) => until.0,
                Phase::Closed | Phase::Ramping(_) | Phase::HalfOpen => 0,
            },
            cool_until: self.cooling.get(key).filter(|c| !c.is_refused).map_or(Millis(0), |cooling| cooling.until),
            served_at: seen.served_at,
            failed_at: Millis(0),
            cools: self.cools(Place::new(&seen.provider, &seen.upstream), now),
        });
        // What nobody has used for long tells nobody anything.
        let worth = |entry: &Entry| {
            entry.tally.good + entry.tally.bad > 0.01 || entry.cool_until > now || !entry.cools.is_empty()
        };
        let mut entries: Vec<Entry> = entries.filter(worth).collect();
        entries.sort_by(|a, b| (&a.provider, &a.upstream).cmp(&(&b.provider, &b.upstream)));
        Snapshot { at: now, entries, ..Snapshot::default() }
    }

    /// Offers of a report whose breakers are open: provider and upstream.
    pub fn open(&self, report: &[Entry], now: Millis) -> Vec<(String, String)> {
        let is_open = |entry: &&Entry| {
            let seen = self.offers.get(&entry.place().offer_key());
            entry.broken > 0 && seen.is_some_and(|seen| matches!(seen.breaker.phase(now), Phase::Open(_)))
        };
        report.iter().filter(is_open).map(|entry| (entry.provider.clone(), entry.upstream.clone())).collect()
    }

    /// Begins with what was published before: the object's side, where it starts anew.
    pub fn restore(&mut self, snapshot: &Snapshot, now: Millis) {
        let nonce = self.nonce;
        for entry in &snapshot.entries {
            let place = entry.place();
            let key = place.offer_key();
            self.told_to_wait(entry, now);
            let seen = self.seen(&place, now);
            seen.seen_at = entry.served_at;
            seen.served_at = entry.served_at;
            seen.tally = entry.tally;
            seen.latency.last = entry.latency;
            seen.pace.last = entry.pace;
            seen.breaker.open_until(Millis(entry.broken), nonce ^ key, now);
        }
    }

    /// What the operator has said about the providers of a shard; it replaces what was said before.
    pub fn on_switches(&mut self, shard: u64, switches: Vec<(String, Routing)>) {
        self.switches.insert(shard, switches);
    }

    /// What the operator has said about a provider.
    pub fn switch(&self, provider: &str) -> Routing {
        // Next to always there is none, and no name has to be hashed.
        if self.switches.values().all(Vec::is_empty) {
            return Routing::On;
        }
        let of_shard = self.switches.get(&shard(provider)).into_iter().flatten();
        of_shard.into_iter().find(|(id, _)| id == provider).map_or(Routing::On, |(_, routing)| *routing)
    }

    /// Believes a snapshot as far as it is newer than what was seen here: the isolate's side.
    pub fn adopt(&mut self, snapshot: Snapshot, now: Millis) {
        let nonce = self.nonce;
        for entry in snapshot.entries {
            let place = entry.place();
            let key = place.offer_key();
            for (slot, until) in entry.cools.iter().copied().chain([(1, entry.cool_until)]) {
                if until > now {
                    let until = until.min(now.plus(COOL_MS_MAX));
                    let fresh = Cooling { until, in_row: 1, is_refused: false };
                    let cooling = self.cooling.entry(place.in_slot(slot).credential_key()).or_insert(fresh);
                    cooling.until = cooling.until.max(until);
                }
            }
            let seen_at = self.offers.get(&key).map_or(Millis(0), |seen| seen.seen_at);
            let seen = self.seen(&place, now);
            seen.seen_at = seen_at.max(entry.served_at);
            if seen.served_at == Millis(0) || seen.served_at.plus(OWN_EYES_MS) < snapshot.at {
                seen.breaker.open_until(Millis(entry.broken), nonce ^ key, now);
            }
            if entry.broken == 0 && entry.served_at > seen.changed_at {
                seen.breaker.may_try(now);
            }
            seen.told = Some(Box::new(entry));
        }
    }

    /// Every offer's state, in order, for the operator.
    pub fn views(&self, now: Millis) -> Vec<View> {
        let mut views: Vec<View> = self
            .offers
            .values()
            .map(|seen| View {
                provider: seen.provider.to_string(),
                upstream: seen.upstream.to_string(),
                score: self.score(&Place::new(&seen.provider, &seen.upstream), now),
                openings: seen.breaker.openings(),
                seen_at: seen.seen_at,
            })
            .collect();
        views.sort_by(|a, b| (&a.provider, &a.upstream).cmp(&(&b.provider, &b.upstream)));
        views
    }
}

fn news(seen: &mut Seen) -> &mut Entry {
    seen.news.get_or_insert_default()
}

/// The logarithm of a span over a divisor; a span under a millisecond counts as one.
#[allow(clippy::cast_precision_loss, reason = "spans of milliseconds fit a float")]
fn logarithm(ms: u64, over: f64) -> Moments {
    Moments::of((ms.max(1) as f64 / over.max(1.0)).ln())
}

fn share_of(most: f64, n: f64) -> f64 {
    if n > most { most / n } else { 1.0 }
}

/// The worse of what the offer, its provider and the cool-down allow.
fn standing(offer: Phase, provider: Phase, cooling: Option<&Cooling>) -> Standing {
    match (offer, provider, cooling) {
        (Phase::Open(until), _, _) | (_, Phase::Open(until), _) => Standing::Broken(until),
        (_, _, Some(cooling)) if cooling.is_refused => Standing::Broken(cooling.until),
        (_, _, Some(cooling)) => Standing::Cooling(cooling.until),
        (Phase::HalfOpen, _, _) | (_, Phase::HalfOpen, _) => Standing::Trial(TRIAL_SHARE),
        (Phase::Ramping(a), Phase::Ramping(b), _) => Standing::Ramping(a.min(b)),
        (Phase::Ramping(share), Phase::Closed, _) | (Phase::Closed, Phase::Ramping(share), _) => {
            Standing::Ramping(share)
        }
        (Phase::Closed, Phase::Closed, None) => Standing::Flowing,
    }
}

#[cfg(test)]
mod tests;
