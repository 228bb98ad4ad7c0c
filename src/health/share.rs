//! What isolates and the `Health` object tell each other. Both are lossy and late by nature: reports add up, a snapshot
//! replaces the one before, and neither is needed for a request to be served.
//!
//! A report is `[entry, …]`, a snapshot `[at, [entry, …], [[provider, routing], …]]`, an entry `[provider, upstream, [12 numbers or more]]`; the
//! numbers stand in the order of [`Entry`]'s fields, the last ones (slot and time, again and again) only where there are cool-downs. Arrays, because a snapshot is read by every isolate every few seconds.

use crate::catalog::Routing;
use crate::health::sample::{Place, SEED, SLOTS_MAX, hash};
use crate::health::tally::{Moments, Tally};
use crate::time::Millis;

/// Providers are spread over this many objects and keys.
pub const SHARDS: u64 = 8;
/// An isolate with news of a failure reports after this long at the soonest, in milliseconds.
const REPORT_SOON_MS: u64 = 2_000;
/// One without, after this long, …
const REPORT_MS: u64 = 10_000;
/// … or with this many samples.
const REPORT_SAMPLES: u32 = 50;

/// The shard of a provider.
pub fn shard(provider: &str) -> u64 {
    hash(SEED, provider.as_bytes()) % SHARDS
}

/// The KV key of a shard's snapshot.
pub fn snapshot_key(shard: u64) -> String {
    format!("health/{shard}")
}

/// One offer's counts: what is new (report), or all of it (snapshot).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// The provider.
    pub provider: String,
    /// The model's name there.
    pub upstream: String,
    /// Successes and failures.
    pub tally: Tally,
    /// Milliseconds to the first content.
    pub latency: Moments,
    /// Milliseconds per token.
    pub pace: Moments,
    /// Report: failures since the last success. Snapshot: until when the breaker is open, in milliseconds.
    pub broken: u64,
    /// Until when it cools down, under the first of the gateway's credentials.
    pub cool_until: Millis,
    /// When it last served.
    pub served_at: Millis,
    /// When it last failed.
    pub failed_at: Millis,
    /// Until when it cools down under further credentials, by their slot; as slot [`ALL_SLOTS`](crate::health::sample::ALL_SLOTS), under all of them.
    pub cools: Vec<(u8, Millis)>,
}

type Raw = (String, String, Vec<f64>);
/// How many numbers an entry has at least.
const NUMBERS: usize = 12;

/// Three digits are plenty.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch fit a float exactly")]
fn float(value: u64) -> f64 {
    value as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating; a stranger's number is clamped"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// A count: finite and not below zero.
fn count(value: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, 1e9) } else { 0.0 }
}

impl Entry {
    /// The offer.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.provider, &self.upstream)
    }

    /// Takes in that it cools down under the credential of a slot until then.
    pub fn cool(&mut self, slot: u8, until: Millis) {
        if slot == 1 {
            self.cool_until = self.cool_until.max(until);
            return;
        }
        match self.cools.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, known)) => *known = (*known).max(until),
            None => self.cools.push((slot, until)),
        }
    }

    fn is_news_after(&self, before: &Entry, now: Millis) -> bool {
        let failing = |tally: &Tally| tally.bad / (tally.good + tally.bad).max(1.0);
        let has_moved = |a: &Moments, b: &Moments| match (a.spread(), b.spread()) {
            (Some(a), Some(b)) => (a.mean - b.mean).abs() > MOVED_SHARE,
            (a, b) => a.is_some() != b.is_some(),
        };
        (self.broken > now.0) != (before.broken > now.0)
            || (self.cool_until > now && self.cool_until != before.cool_until)
            || self.cools.iter().any(|cool| cool.1 > now && !before.cools.contains(cool))
            || (failing(&self.tally) - failing(&before.tally)).abs() > MOVED_FAILURES
            || has_moved(&self.latency, &before.latency)
            || has_moved(&self.pace, &before.pace)
    }

    fn raw(&self) -> Raw {
        let moments = |m: &Moments| [short(m.n), short(m.sum), short(m.squares)];
        let ([a, b, c], [d, e, f]) = (moments(&self.latency), moments(&self.pace));
        let mut numbers = vec![
            short(self.tally.good),
            short(self.tally.bad),
            a,
            b,
            c,
            d,
            e,
            f,
            float(self.broken),
            float(self.cool_until.0),
            float(self.served_at.0),
            float(self.failed_at.0),
        ];
        numbers.extend(self.cools.iter().flat_map(|(slot, until)| [f64::from(*slot), float(until.0)]));
        (self.provider.clone(), self.upstream.clone(), numbers)
    }

    fn of(raw: Raw, at: Millis) -> Option<Entry> {
        let (provider, upstream, numbers) = raw;
        let (first, more) = numbers.split_at_checked(NUMBERS)?;
        let [good, bad, a, b, c, d, e, f, broken, cool, served, failed] = *<&[f64; NUMBERS]>::try_from(first).ok()?;
        let slot = |value: f64| u8::try_from(whole(value)).ok().filter(|slot| *slot <= SLOTS_MAX && *slot != 1);
        let pair = |pair: &[f64]| Some((slot(*pair.first()?)?, Millis(whole(*pair.get(1)?))));
        let cools = more.chunks(2).take(usize::from(SLOTS_MAX)).filter_map(pair).collect();
        let moments = |n: f64, sum: f64, squares: f64| match count(n) > 0.0 && sum.is_finite() && squares.is_finite() {
            true => Moments { n: count(n), sum, squares, at },
            false => Moments { at, ..Moments::default() },
        };
        Some(Entry {
            provider,
            upstream,
            tally: Tally { good: count(good), bad: count(bad), at },
            latency: moments(a, b, c),
            pace: moments(d, e, f),
            broken: whole(broken),
            cool_until: Millis(whole(cool)),
            served_at: Millis(whole(served)),
            failed_at: Millis(whole(failed)),
            cools,
        })
    }
}

/// Writes a report.
pub fn write_report(entries: &[Entry]) -> String {
    let raw: Vec<Raw> = entries.iter().map(Entry::raw).collect();
    serde_json::to_string(&raw).unwrap_or_default()
}

/// Parses a report that came in at `now`; a malformed one is none.
pub fn parse_report(text: &str, now: Millis) -> Option<Vec<Entry>> {
    let raw: Vec<Raw> = crate::json::from_str(text).ok()?;
    raw.into_iter().map(|raw| Entry::of(raw, now)).collect()
}

/// A shard's snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// When it was made.
    pub at: Millis,
    /// Its offers.
    pub entries: Vec<Entry>,
    /// Providers that the operator has switched, and to what.
    pub switches: Vec<(String, Routing)>,
}

/// A median that moved by this share is worth telling, …
const MOVED_SHARE: f64 = 0.1;
/// … and a share of failures that moved by this much.
const MOVED_FAILURES: f64 = 0.02;
/// A snapshot whose news are smaller is told when it is this old, in milliseconds.
const TOLD_AGAIN_MS: u64 = 60_000;

impl Snapshot {
    /// Writes it.
    pub fn write(&self) -> String {
        let raw: Vec<Raw> = self.entries.iter().map(Entry::raw).collect();
        serde_json::to_string(&(self.at.0, raw, &self.switches)).unwrap_or_default()
    }

    /// Parses one; a malformed one is none.
    pub fn parse(text: &str) -> Option<Snapshot> {
        let (at, raw, switches): (u64, Vec<Raw>, Vec<(String, Routing)>) = crate::json::from_str(text).ok()?;
        let at = Millis(at);
        Some(Snapshot { at, entries: raw.into_iter().map(|raw| Entry::of(raw, at)).collect::<Option<_>>()?, switches })
    }

    /// Whether it says enough that the one before does not, to be worth writing.
    pub fn is_news_after(&self, before: &Snapshot) -> bool {
        let is_old = self.at.since(before.at) >= TOLD_AGAIN_MS;
        let is_same = |a: &Entry, b: &Entry| a.provider == b.provider && a.upstream == b.upstream;
        let is_news = |entry: &Entry| match before.entries.iter().find(|other| is_same(entry, other)) {
            None => true,
            Some(other) => entry.is_news_after(other, self.at) || (is_old && entry.served_at > other.served_at),
        };
        self.switches != before.switches || self.entries.iter().any(is_news)
    }
}

/// When an isolate reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    reported: Millis,
    samples: u32,
    is_urgent: bool,
}

impl Clock {
    /// A sample came; failures and cool-downs are urgent.
    pub fn on_sample(&mut self, is_urgent: bool, now: Millis) {
        if self.samples == 0 && now.since(self.reported) > REPORT_MS {
            // An isolate that was idle gathers first.
            self.reported = Millis(now.0.saturating_sub(REPORT_SOON_MS / 2));
        }
        self.samples = self.samples.saturating_add(1);
        self.is_urgent |= is_urgent;
    }

    /// Whether a report is due.
    pub fn is_due(&self, now: Millis) -> bool {
        let age = now.since(self.reported);
        let is_worth = self.is_urgent || self.samples >= REPORT_SAMPLES;
        self.samples > 0 && (age >= REPORT_MS || (is_worth && age >= REPORT_SOON_MS))
    }

    /// A report leaves.
    pub fn on_report(&mut self, now: Millis) {
        *self = Clock { reported: now, samples: 0, is_urgent: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::sample::ALL_SLOTS;

    fn entry() -> Entry {
        Entry {
            provider: "p".into(),
            upstream: "u/m".into(),
            tally: Tally { good: 3.5, bad: 1.0, at: Millis(9) },
            latency: Moments { n: 2.0, sum: 10.5, squares: 55.125, at: Millis(9) },
            pace: Moments { at: Millis(9), ..Moments::default() },
            broken: 7,
            cool_until: Millis(1_795_570_634_000),
            served_at: Millis(8),
            failed_at: Millis(7),
            cools: Vec::new(),
        }
    }

    #[test]
    fn report_and_snapshot_formats_are_unchanged() {
        let text = write_report(&[entry()]);
        assert_eq!(text, r#"[["p","u/m",[3.5,1.0,2.0,10.5,55.125,0.0,0.0,0.0,7.0,1795570634000.0,8.0,7.0]]]"#);
        assert_eq!(parse_report(&text, Millis(9)), Some(vec![entry()]));
        let cools = Entry { cools: vec![(ALL_SLOTS, Millis(99)), (9, Millis(98))], ..entry() };
        let text = write_report(std::slice::from_ref(&cools));
        assert!(text.ends_with(",8.0,7.0,0.0,99.0,9.0,98.0]]]"), "{text}");
        assert_eq!(parse_report(&text, Millis(9)), Some(vec![cools]));
        let switches = vec![("q".to_owned(), Routing::Off)];
        let snapshot = Snapshot { at: Millis(9), entries: vec![entry()], switches };
        assert!(snapshot.write().ends_with(r#",8.0,7.0]]],[["q","off"]]]"#), "{}", snapshot.write());
        assert_eq!(Snapshot::parse(&snapshot.write()), Some(snapshot));
    }

    #[test]
    fn only_what_changed_enough_is_told_again() {
        let at = |ms: u64, change: &dyn Fn(&mut Entry)| {
            let mut changed = entry();
            change(&mut changed);
            Snapshot { at: Millis(ms), entries: vec![changed], ..Snapshot::default() }
        };
        let before = at(1_000, &|_| {});
        let is_news = |ms: u64, change: &dyn Fn(&mut Entry)| at(ms, change).is_news_after(&before);
        assert!(!is_news(2_000, &|_| {}) && !is_news(999_000, &|_| {}), "nothing happened");
        assert!(!is_news(2_000, &|e| e.served_at = Millis(1_500)), "a little");
        assert!(is_news(61_000, &|e| e.served_at = Millis(60_500)), "a little, for long");
        assert!(is_news(2_000, &|e| e.broken = 9_000), "it opened");
        assert!(is_news(2_000, &|e| e.tally.bad = 3.0), "it fails more");
        assert!(is_news(2_000, &|e| e.latency.sum = 12.0), "it got slower");
        assert!(is_news(2_000, &|e| e.cool_until = Millis(1_795_570_634_999)), "it asked for a wait");
        assert!(is_news(2_000, &|e| e.cool(3, Millis(2_001))), "a further credential is to wait");
        assert!(!is_news(2_000, &|e| e.cool(3, Millis(1_999))), "it waited");
        assert!(is_news(2_000, &|e| e.upstream = "v".into()), "another offer");
        let switched = Snapshot { switches: vec![("q".to_owned(), Routing::Last)], ..at(2_000, &|_| {}) };
        assert!(switched.is_news_after(&before) && at(2_000, &|_| {}).is_news_after(&switched));
    }

    #[test]
    fn nonsense_is_no_news() {
        assert_eq!(parse_report("{}", Millis(0)), None);
        assert_eq!(Snapshot::parse(r#"[1,[["p","u",[1,2]]],[]]"#), None);
        let odd = r#"[["p","u",[-5,1e300,-1,9,9,0,0,0,-3,-4,-5,-6]]]"#;
        let parsed = parse_report(odd, Millis(0)).unwrap();
        let entry = &parsed[0];
        let strange = r#"[["p","u",[0,0,0,0,0,0,0,0,0,0,0,0,1,5,77,6,-1,7,4]]]"#;
        assert_eq!(parse_report(strange, Millis(0)).unwrap()[0].cools, [(ALL_SLOTS, Millis(7))]);
        assert_eq!((entry.tally.good, entry.tally.bad, entry.latency.n, entry.broken), (0.0, 1e9, 0.0, 0));
    }

    #[test]
    fn failures_are_told_soon_and_good_news_in_batches() {
        let mut clock = Clock::default();
        clock.on_sample(true, Millis(100_000));
        assert!(!clock.is_due(Millis(100_500)) && clock.is_due(Millis(101_000)));
        clock.on_report(Millis(101_000));
        clock.on_sample(false, Millis(102_000));
        assert!(!clock.is_due(Millis(104_000)) && clock.is_due(Millis(111_000)));
        (0..REPORT_SAMPLES).for_each(|_| clock.on_sample(false, Millis(102_500)));
        assert!(clock.is_due(Millis(103_000)));
        clock.on_report(Millis(103_000));
        assert!(!clock.is_due(Millis(999_000)), "nothing to tell");
    }
}
