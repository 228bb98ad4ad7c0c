//! The attempts of one request up to the commit point: which candidate next, how long it may take, and what the client
//! is told when everyone failed.
//!
//! What follows a failure, by its class:
//!
//! | class | next |
//! |---|---|
//! | request | nobody, or the next candidate where only this one cannot do it |
//! | credential | the same candidate with the gateway's next credential, else the next candidate, at once |
//! | busy | the same; when nobody is left and one asked for no more than a second, that one again |
//! | fault: connection | the next candidate at once; when nobody is left, the last one once more: a connection kept too long is no outage |
//! | fault: other | the next candidate at once |

use serde_json::json;

use crate::activity::row::AttemptRow;
use crate::attempt::classify::{Breakage, Class, Verdict};
use crate::attempt::pool::Pool;
use crate::error::{Blame, Code, Failure};
use crate::time::Millis;

/// The wait a client is told when nobody named one, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// The longest wait that a busy candidate is given a second chance for, in milliseconds.
const BUSY_WAIT_MS_MAX: u64 = 1_000;
/// The least that a useful wait is shortened to, in milliseconds.
const USEFUL_MS_MIN: u64 = 2_000;
/// A connection that took longer than this to fail is not tried again, in milliseconds.
const CONNECT_AGAIN_MS_MAX: u64 = 1_000;

/// What is known of a candidate's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seat {
    /// The longest useful wait for its first content while others could answer, in milliseconds.
    pub first_byte_max_ms: Option<u64>,
    /// When a second attempt may join it, in milliseconds.
    pub hedge_ms: Option<u64>,
    /// From when on it is later than it ever is, in milliseconds; only a stream has a time by which to tell.
    pub late_ms: Option<u64>,
    /// The gateway's credentials it can be asked with.
    pub pool: Pool,
    /// Whether it is asked with the workspace's own credential instead.
    pub is_own: bool,
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Most attempts.
    pub attempts_max: usize,
    /// Until the first content (streamed) or the whole answer (plain) of one attempt, in milliseconds.
    pub first_byte_ms: u64,
    /// All attempts and the delivery together, in milliseconds.
    pub total_ms: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call this candidate and give it this long.
    Send {
        /// Its place in the plan.
        candidate: usize,
        /// Its time, in milliseconds.
        wait_ms: u64,
    },
    /// Wait, then ask again.
    Wait {
        /// For this long, in milliseconds.
        ms: u64,
    },
    /// Nobody is left.
    GiveUp,
}

/// A failed attempt, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The provider.
    pub provider: String,
    /// The model's name there.
    pub upstream: String,
    /// Its HTTP status, where it answered.
    pub status: Option<u16>,
    /// What it means.
    pub verdict: Verdict,
    /// How it broke, where it gave no answer.
    pub broke: Option<Breakage>,
    /// The field it blames, where the client sent one of that name.
    pub param: Option<String>,
    /// The wait it asked for, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// When it began.
    pub began: Millis,
}

/// What the failure of all of them comes to.
#[derive(Debug, Clone)]
struct Decisive {
    verdict: Verdict,
    /// The field that is blamed.
    param: Option<String>,
    /// What the client is told, in the gateway's own words; else the verdict's, or its code's.
    says: Option<String>,
}

/// Who asked to be left alone for a moment, and until when.
#[derive(Debug, Clone, Copy)]
struct Busy {
    candidate: usize,
    slot: u8,
    until: Millis,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    seats: Vec<Seat>,
    next: usize,
    /// The candidate whose attempt is under way, whether it is to be sent again, and whether any was.
    current: usize,
    /// Those whose calls were sent and have not come to an end.
    under_way: Vec<usize>,
    again: Option<usize>,
    /// The candidate that is to be asked with its next credential.
    rotated: Option<usize>,
    is_repeated: bool,
    /// Who is busy for the shortest time, and until when; once.
    busy: Option<Busy>,
    has_waited: bool,
    /// Attempts that ended for want of an answer.
    silences: u32,
    patience: Patience,
    /// The patience there would be if the request had lowered nothing.
    most: Patience,
    /// The attempt that was sent last has less time than it would have then.
    is_hurried: bool,
    arrived: Millis,
    rows: Vec<AttemptRow>,
    decisive: Option<Decisive>,
    ended: bool,
    all_busy: bool,
    shortest_wait_ms: Option<u64>,
}

impl Machine {
    /// For the candidates of a plan.
    pub fn new(seats: Vec<Seat>, patience: Patience, arrived: Millis) -> Machine {
        Machine {
            seats,
            next: 0,
            current: 0,
            again: None,
            rotated: None,
            under_way: Vec::new(),
            is_repeated: false,
            busy: None,
            has_waited: false,
            silences: 0,
            patience,
            most: patience,
            is_hurried: false,
            arrived,
            rows: Vec::new(),
            decisive: None,
            ended: false,
            all_busy: true,
            shortest_wait_ms: None,
        }
    }

    /// When everything must be over.
    pub fn deadline(&self) -> Millis {
        self.arrived.plus(self.patience.total_ms)
    }

    /// What to do now.
    pub fn next(&mut self, now: Millis) -> Step {
        let left_ms = self.deadline().since(now);
        if self.ended || self.rows.len() >= self.patience.attempts_max || left_ms == 0 {
            return Step::GiveUp;
        }
        if let Some(candidate) = self.again.take() {
            self.is_repeated = true;
            return self.send(candidate, left_ms);
        }
        if let Some(candidate) = self.rotated.take() {
            return self.send(candidate, left_ms);
        }
        if self.next < self.seats.len() {
            let candidate = self.next;
            self.next = self.next.saturating_add(1);
            return self.send(candidate, left_ms);
        }
        match self.busy {
            Some(Busy { until, .. }) if now < until && !self.has_waited => {
                self.has_waited = true;
                Step::Wait { ms: until.since(now).min(left_ms) }
            }
            Some(Busy { candidate, slot, until }) if now >= until && self.has_waited => {
                self.busy = None;
                if let Some(seat) = self.seats.get_mut(candidate) {
                    seat.pool.back_to(slot);
                }
                self.is_repeated = true;
                self.send(candidate, left_ms)
            }
            _ => Step::GiveUp,
        }
    }

    /// The candidate that may join the attempt under way, where the request opted in to hedging: the next one.
    pub fn hedge(&mut self, now: Millis) -> Option<(usize, u64)> {
        let left_ms = self.deadline().since(now);
        // The attempt under way will be a row too.
        let is_full = self.rows.len().saturating_add(1) >= self.patience.attempts_max;
        if self.ended || is_full || left_ms == 0 || self.next >= self.seats.len() {
            return None;
        }
        let candidate = self.next;
        self.next = self.next.saturating_add(1);
        self.current = candidate;
        let wait_ms = self.wait_ms(candidate, false, self.patience.first_byte_ms, left_ms);
        self.is_hurried = wait_ms < self.wait_ms(candidate, false, self.most.first_byte_ms, self.more_ms(left_ms));
        Some((candidate, wait_ms))
    }

    /// When another attempt may join that of the candidate, in milliseconds after its start.
    pub fn hedge_ms(&self, candidate: usize) -> Option<u64> {
        self.seats.get(candidate)?.hedge_ms
    }

    /// The same, where the request lowered what would have been the patience.
    pub fn hurried(self, most: Patience) -> Machine {
        Machine { most, ..self }
    }

    /// Whether the attempt that was sent last has less time than the gateway would have given it: its silence then says
    /// nothing about its offer.
    pub fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// From when on the candidate is later than it ever is, in milliseconds.
    pub fn late_ms(&self, candidate: usize) -> Option<u64> {
        self.seats.get(candidate)?.late_ms
    }

    /// The slot of the gateway's credential that the candidate is asked with now.
    pub fn slot(&self, candidate: usize) -> u8 {
        self.seats.get(candidate).map_or(1, |seat| seat.pool.slot())
    }

    /// The call to a candidate was sent.
    pub fn on_sent(&mut self, candidate: usize) {
        self.under_way.push(candidate);
    }

    /// The candidate that is being asked; of two, the one that was asked last.
    pub fn asked(&self) -> Option<usize> {
        self.under_way.last().copied()
    }

    fn on_over(&mut self, candidate: usize) {
        self.under_way.retain(|one| *one != candidate);
    }

    fn send(&mut self, candidate: usize, left_ms: u64) -> Step {
        self.current = candidate;
        let others = self.next < self.seats.len() && self.rows.len().saturating_add(1) < self.patience.attempts_max;
        let wait_ms = self.wait_ms(candidate, others, self.patience.first_byte_ms, left_ms);
        self.is_hurried = wait_ms < self.wait_ms(candidate, others, self.most.first_byte_ms, self.more_ms(left_ms));
        Step::Send { candidate, wait_ms }
    }

    /// What would be left of the time if the request had not lowered it.
    fn more_ms(&self, left_ms: u64) -> u64 {
        left_ms.saturating_add(self.most.total_ms.saturating_sub(self.patience.total_ms))
    }

    /// How long an attempt may take. While others could still answer, at most half of what is left, and no longer than is
    /// useful.
    fn wait_ms(&self, candidate: usize, others: bool, first_byte_ms: u64, left_ms: u64) -> u64 {
        let wait_ms = first_byte_ms.min(left_ms);
        if !others {
            return wait_ms;
        }
        let useful = self.seats.get(candidate).and_then(|seat| seat.first_byte_max_ms).unwrap_or(u64::MAX);
        // Each silence leaves half the patience for the next.
        let useful = (useful >> self.silences.min(8)).max(useful.min(USEFUL_MS_MIN));
        wait_ms.min(left_ms.div_ceil(2)).min(useful)
    }

    /// An attempt failed before its first content.
    pub fn on_failed(&mut self, failed: Failed, now: Millis) {
        let Failed { provider, upstream, status, verdict, broke, param, retry_after_ms, began } = failed;
        self.on_over(self.current);
        let (paid_by, slot) = self.credential(self.current);
        self.rows.push(AttemptRow {
            provider,
            upstream,
            paid_by,
            slot,
            status,
            class: Some(verdict.class.name().to_owned()),
            code: Some(verdict.code.name().to_owned()),
            start_ms: began.since(self.arrived),
            ms: now.since(began),
            retry_after_ms,
        });
        self.ended = !verdict.next;
        self.silences = self.silences.saturating_add(u32::from(broke == Some(Breakage::Timeout)));
        let is_alone = self.next >= self.seats.len();
        let is_quick = now.since(began) <= CONNECT_AGAIN_MS_MAX;
        if broke == Some(Breakage::Connect) && is_alone && is_quick && !self.is_repeated {
            self.again = Some(self.current);
        }
        if let Some(wait) = retry_after_ms.filter(|wait| verdict.class == Class::Busy && *wait <= BUSY_WAIT_MS_MAX) {
            let until = now.plus(wait);
            if self.busy.is_none_or(|busy| until < busy.until) {
                self.busy = Some(Busy { candidate: self.current, slot: self.slot(self.current), until });
            }
        }
        self.all_busy &= verdict.class == Class::Busy;
        if let Some(wait) = retry_after_ms {
            self.shortest_wait_ms = Some(self.shortest_wait_ms.map_or(wait, |shortest| shortest.min(wait)));
        }
        // A refused credential of ours says little about the request; anything else decides over it.
        let keeps = verdict.class == Class::Credential && self.decisive.is_some();
        if !keeps {
            self.decisive = Some(Decisive { verdict, param, says: None });
        }
        // Limits and refusals are per credential: the candidate may have another one.
        let is_of_credential = matches!(verdict.class, Class::Busy | Class::Credential);
        if is_of_credential && !self.ended && self.seats.get_mut(self.current).is_some_and(|seat| seat.pool.rotate()) {
            self.rotated = Some(self.current);
        }
    }

    /// Who pays for an attempt at the candidate, and the slot of the credential where it is not the first.
    fn credential(&self, candidate: usize) -> (Option<String>, Option<u8>) {
        let is_own = self.seats.get(candidate).is_some_and(|seat| seat.is_own);
        let slot = self.slot(candidate);
        let paid_by = if is_own { "byok" } else { "credits" };
        (Some(paid_by.to_owned()), (slot > 1 && !is_own).then_some(slot))
    }

    /// The same for an attempt that ran beside another one.
    pub fn on_failed_at(&mut self, candidate: usize, failed: Failed, now: Millis) {
        self.current = candidate;
        self.on_failed(failed, now);
    }

    /// An attempt was given up because one beside it was faster. It says nothing about its offer.
    pub fn on_cancelled(&mut self, candidate: usize, provider: &str, upstream: &str, began: Millis, now: Millis) {
        self.on_over(candidate);
        let (paid_by, slot) = self.credential(candidate);
        self.rows.push(AttemptRow {
            provider: provider.to_owned(),
            upstream: upstream.to_owned(),
            paid_by,
            slot,
            status: None,
            class: Some("cancelled".to_owned()),
            code: None,
            start_ms: began.since(self.arrived),
            ms: now.since(began),
            retry_after_ms: None,
        });
    }

    /// Whether no attempt can change the answer any more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// A candidate could not be asked: the request cannot be put in its words. No attempt, but a reason.
    /// `says` is why, in the gateway's own words.
    pub fn on_unwritable(&mut self, verdict: Verdict, param: Option<String>, says: Option<String>) {
        self.ended = !verdict.next;
        self.all_busy = false;
        if self.decisive.is_none() {
            self.decisive = Some(Decisive { verdict, param, says });
        }
    }

    /// An attempt delivered its first content (or its whole answer).
    pub fn on_served(&mut self, provider: &str, upstream: &str, status: u16, began: Millis, now: Millis) {
        self.on_over(self.current);
        let (paid_by, slot) = self.credential(self.current);
        self.rows.push(AttemptRow {
            provider: provider.to_owned(),
            upstream: upstream.to_owned(),
            paid_by,
            slot,
            status: Some(status),
            class: None,
            code: None,
            start_ms: began.since(self.arrived),
            ms: now.since(began),
            retry_after_ms: None,
        });
    }

    /// The same for an attempt that ran beside another one.
    pub fn on_served_at(
        &mut self,
        candidate: usize,
        (provider, upstream): (&str, &str),
        status: u16,
        began: Millis,
        now: Millis,
    ) {
        self.current = candidate;
        self.on_served(provider, upstream, status, began, now);
    }

    /// Attempts so far.
    pub fn attempts(&self) -> usize {
        self.rows.len()
    }

    /// The attempts so far, in order of their ends.
    pub fn rows(&self) -> &[AttemptRow] {
        &self.rows
    }

    /// The record.
    pub fn into_rows(self) -> Vec<AttemptRow> {
        self.rows
    }

    /// What the client is told: the class of the decisive attempt is kept.
    pub fn failure(&self) -> Failure {
        let (code, param, says) = match &self.decisive {
            None => (Code::ProviderTimeout, None, None),
            // Mixed reasons: "slow down" is only true when everybody said so.
            Some(Decisive { verdict, param, says }) => match verdict.code {
                Code::ProviderBusy if !self.all_busy => (Code::ProviderUnavailable, None, None),
                code => (code, param.clone(), says.clone().or_else(|| verdict.says.map(str::to_owned))),
            },
        };
        let attempts: Vec<_> = self
            .rows
            .iter()
            .map(|row| json!({"provider": row.provider, "status": row.status, "class": row.class, "code": row.code, "ms": row.ms}))
            .collect();
        let wait = match code.blame() {
            Blame::Provider => Some(self.shortest_wait_ms.unwrap_or(RETRY_AFTER_MS)),
            Blame::Client | Blame::Gateway => None,
        };
        let mut failure = Failure::new(code, says.unwrap_or_else(|| message(code, attempts.len())))
            .with_details(json!({ "attempts": attempts }))
            .retry_after(wait);
        failure.param = param;
        failure
    }
}

fn message(code: Code, attempts: usize) -> String {
    let tried = if attempts == 1 { "the provider".to_owned() } else { "every provider that was asked".to_owned() };
    match code {
        Code::InvalidInput => "the provider refused the request as invalid".to_owned(),
        Code::ContextLengthExceeded => "the prompt is longer than the model's context".to_owned(),
        Code::UnsupportedParameter => "the provider does not take one of the request's parameters".to_owned(),
        Code::PayloadTooLarge => "the request is too large for the provider".to_owned(),
        Code::ProviderBusy => format!("{tried} asked to slow down"),
        Code::ProviderTimeout => format!("{tried} did not answer in time"),
        Code::ProviderUnavailable => format!("{tried} could not be used"),
        _ => format!("{tried} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::classify::{Breakage, answer, breakage};
    use crate::family::fault::Fault;

    const PATIENCE: Patience = Patience { attempts_max: 3, first_byte_ms: 1000, total_ms: 4000 };

    fn seats(count: usize) -> Vec<Seat> {
        vec![Seat::default(); count]
    }

    fn failed(status: u16, retry_after_ms: Option<u64>) -> Failed {
        let verdict = answer(status, &Fault::default());
        Failed {
            provider: "p".into(),
            upstream: "u".into(),
            status: Some(status),
            verdict,
            broke: None,
            param: None,
            retry_after_ms,
            began: Millis(0),
        }
    }

    fn after(statuses: &[u16]) -> Failure {
        let mut machine = Machine::new(seats(9), Patience { attempts_max: 9, ..PATIENCE }, Millis(0));
        for status in statuses {
            machine.next(Millis(0));
            machine.on_failed(failed(*status, None), Millis(0));
        }
        machine.failure()
    }

    #[test]
    fn who_is_being_asked_is_known_only_while_that_lasts() {
        let mut machine = Machine::new(seats(3), PATIENCE, Millis(0));
        machine.next(Millis(0));
        assert_eq!(machine.asked(), None, "chosen and not sent yet");
        machine.on_sent(0);
        assert_eq!(machine.asked(), Some(0));
        machine.on_failed_at(0, failed(500, None), Millis(5));
        machine.next(Millis(5));
        assert_eq!(machine.asked(), None, "between two attempts");
        machine.on_sent(1);
        machine.hedge(Millis(6));
        machine.on_sent(2);
        machine.on_cancelled(2, "p", "u", Millis(6), Millis(7));
        assert_eq!(machine.asked(), Some(1), "the other one goes on");
        machine.on_served_at(1, ("p", "u"), 200, Millis(5), Millis(9));
        assert_eq!(machine.asked(), None);
    }

    #[test]
    fn one_after_the_other_until_nobody_is_left() {
        let mut machine = Machine::new(seats(2), PATIENCE, Millis(0));
        assert_eq!(machine.next(Millis(0)), Step::Send { candidate: 0, wait_ms: 1000 });
        machine.on_failed(failed(500, None), Millis(10));
        assert_eq!(machine.next(Millis(10)), Step::Send { candidate: 1, wait_ms: 1000 });
        machine.on_failed(failed(500, None), Millis(20));
        assert_eq!(machine.next(Millis(20)), Step::GiveUp);
        assert_eq!(machine.failure().code, Code::ProviderError);
    }

    #[test]
    fn the_next_credential_is_asked_where_one_is_busy_or_refused_and_not_where_the_host_fails() {
        let slots = crate::attempt::pool::Slots::of("KEY", |name| ["KEY_2", "KEY_3"].contains(&name));
        let pool = crate::attempt::pool::Pool::new(slots, 0, |_| None);
        let after = |statuses: &[u16]| {
            let seats = vec![Seat { pool, ..Seat::default() }, Seat::default()];
            let mut machine = Machine::new(seats, Patience { attempts_max: 9, ..PATIENCE }, Millis(0));
            let mut asked = Vec::new();
            for status in statuses.iter().map(Some).chain([None]) {
                let Step::Send { candidate, .. } = machine.next(Millis(0)) else { break };
                asked.push((candidate, machine.slot(candidate)));
                if let Some(status) = status {
                    machine.on_failed(failed(*status, None), Millis(0));
                }
            }
            (asked, machine)
        };
        let first = pool.slot();
        let (second, third) = (first % 3 + 1, (first + 1) % 3 + 1);
        for (statuses, expected) in [
            (&[429, 401, 403][..], vec![(0, first), (0, second), (0, third), (1, 1)]),
            (&[429, 500], vec![(0, first), (0, second), (1, 1)]),
            (&[500], vec![(0, first), (1, 1)]),
            (&[429, 429, 429, 429], vec![(0, first), (0, second), (0, third), (1, 1)]),
        ] {
            assert_eq!(after(statuses).0, expected, "{statuses:?}");
        }
        let rows = after(&[429, 429]).1.into_rows();
        let slot = |slot: u8| (slot > 1).then_some(slot);
        assert_eq!(rows.iter().map(|row| row.slot).collect::<Vec<_>>(), [slot(first), slot(second)]);
    }

    #[test]
    fn an_attempt_is_hurried_only_where_the_request_took_its_time() {
        let little = Patience { first_byte_ms: 200, total_ms: 200, ..PATIENCE };
        for (patience, count, expected) in [(PATIENCE, 2, false), (little, 2, true), (little, 1, true)] {
            let mut machine = Machine::new(seats(count), patience, Millis(0)).hurried(PATIENCE);
            machine.next(Millis(0));
            assert_eq!(machine.is_hurried(), expected, "{patience:?}");
        }
        // What is useful ends it before the request's own limit does.
        let quick = Seat { first_byte_max_ms: Some(150), ..Seat::default() };
        let mut machine =
            Machine::new(vec![quick, quick], Patience { total_ms: 2000, ..PATIENCE }, Millis(0)).hurried(PATIENCE);
        machine.next(Millis(0));
        assert!(!machine.is_hurried());
    }

    #[test]
    fn the_credential_that_asked_for_a_moment_is_the_one_asked_again() {
        let slots = crate::attempt::pool::Slots::of("KEY", |name| name == "KEY_2");
        let pool = crate::attempt::pool::Pool::new(slots, 0, |_| None);
        let first = pool.slot();
        let mut machine = Machine::new(vec![Seat { pool, ..Seat::default() }], PATIENCE, Millis(0));
        machine.next(Millis(0));
        machine.on_failed(failed(429, Some(500)), Millis(0));
        machine.next(Millis(0));
        machine.on_failed(failed(401, None), Millis(0));
        assert_eq!(machine.next(Millis(0)), Step::Wait { ms: 500 });
        assert!(matches!(machine.next(Millis(500)), Step::Send { candidate: 0, .. }));
        assert_eq!(machine.slot(0), first);
    }

    #[test]
    fn attempts_and_time_are_capped() {
        let mut machine = Machine::new(seats(9), PATIENCE, Millis(0));
        for _ in 0..3 {
            assert!(matches!(machine.next(Millis(0)), Step::Send { .. }));
            machine.on_failed(failed(500, None), Millis(0));
        }
        assert_eq!(machine.next(Millis(0)), Step::GiveUp, "three attempts");
        let mut machine = Machine::new(seats(2), PATIENCE, Millis(0));
        assert_eq!(machine.next(Millis(3000)), Step::Send { candidate: 0, wait_ms: 500 }, "half of what is left");
        assert_eq!(machine.next(Millis(3600)), Step::Send { candidate: 1, wait_ms: 400 }, "all of it for the last");
        assert_eq!(machine.next(Millis(4000)), Step::GiveUp);
    }

    #[test]
    fn a_clients_mistake_ends_it_at_once() {
        let mut machine = Machine::new(seats(3), PATIENCE, Millis(0));
        machine.next(Millis(0));
        machine.on_failed(failed(400, None), Millis(0));
        assert_eq!(machine.next(Millis(0)), Step::GiveUp);
        assert_eq!(machine.failure().code, Code::InvalidInput);
    }

    #[test]
    fn the_decisive_attempt_gives_the_code() {
        for (statuses, code) in [
            (vec![401], Code::ProviderUnavailable),
            (vec![500, 401], Code::ProviderError),
            (vec![401, 500], Code::ProviderError),
            (vec![429, 429], Code::ProviderBusy),
            (vec![500, 429], Code::ProviderUnavailable),
            (vec![503, 503], Code::ProviderUnavailable),
            (vec![504], Code::ProviderTimeout),
            (vec![], Code::ProviderTimeout),
        ] {
            assert_eq!(after(&statuses).code, code, "{statuses:?}");
        }
    }

    #[test]
    fn what_decides_says_why() {
        let mut machine = Machine::new(seats(2), PATIENCE, Millis(0));
        let verdict = Verdict { code: Code::UnsupportedParameter, ..answer(400, &Fault::default()) };
        machine.on_unwritable(verdict, Some("n".to_owned()), Some("two choices cannot be sent".to_owned()));
        let failure = machine.failure();
        assert_eq!((failure.message.as_str(), failure.param.as_deref()), ("two choices cannot be sent", Some("n")));
        let verdict = answer(400, &Fault { code: "content_filter".to_owned(), ..Fault::default() });
        machine.on_failed(Failed { verdict, ..failed(400, None) }, Millis(0));
        assert!(machine.failure().message.contains("content filter"));
    }

    #[test]
    fn the_wait_is_the_smallest_anybody_asked_for() {
        let mut machine = Machine::new(seats(3), PATIENCE, Millis(0));
        machine.on_failed(failed(429, Some(9000)), Millis(0));
        machine.on_failed(failed(429, Some(2000)), Millis(0));
        machine.on_failed(failed(429, None), Millis(0));
        assert_eq!(machine.failure().retry_after_ms, Some(2000));
        assert_eq!(after(&[503]).retry_after_ms, Some(RETRY_AFTER_MS));
        assert_eq!(after(&[400]).retry_after_ms, None);
        let details = machine.failure().details.unwrap();
        assert_eq!(details["attempts"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_refused_connection_is_unavailable() {
        let mut machine = Machine::new(seats(1), PATIENCE, Millis(0));
        let verdict = breakage(Breakage::Connect);
        machine.on_failed(Failed { status: None, verdict, ..failed(500, None) }, Millis(0));
        assert_eq!(machine.failure().code, Code::ProviderUnavailable);
    }

    #[test]
    fn a_connection_that_fails_at_once_is_tried_once_more() {
        let connect = |began: u64| Failed {
            status: None,
            verdict: breakage(Breakage::Connect),
            broke: Some(Breakage::Connect),
            began: Millis(began),
            ..failed(500, None)
        };
        let sent = |machine: &mut Machine, at: u64| match machine.next(Millis(at)) {
            Step::Send { candidate, .. } => candidate,
            step => panic!("{step:?}"),
        };
        let mut machine = Machine::new(seats(2), Patience { attempts_max: 9, ..PATIENCE }, Millis(0));
        assert_eq!(sent(&mut machine, 0), 0);
        machine.on_failed(connect(0), Millis(5));
        assert_eq!(sent(&mut machine, 5), 1, "the next, where there is one");
        machine.on_failed(connect(5), Millis(9));
        assert_eq!(sent(&mut machine, 9), 1, "the last one once more");
        machine.on_failed(connect(9), Millis(12));
        assert_eq!(machine.next(Millis(12)), Step::GiveUp);
        let mut machine = Machine::new(seats(1), Patience { attempts_max: 9, ..PATIENCE }, Millis(0));
        assert_eq!(sent(&mut machine, 0), 0);
        machine.on_failed(connect(0), Millis(CONNECT_AGAIN_MS_MAX + 1));
        assert_eq!(machine.next(Millis(2_000)), Step::GiveUp, "it took long to fail");
    }

    #[test]
    fn a_busy_sole_candidate_is_waited_for_once_and_not_for_long() {
        let mut machine = Machine::new(seats(1), PATIENCE, Millis(0));
        machine.next(Millis(0));
        machine.on_failed(failed(429, Some(400)), Millis(10));
        assert_eq!(machine.next(Millis(10)), Step::Wait { ms: 400 });
        assert!(matches!(machine.next(Millis(410)), Step::Send { candidate: 0, .. }));
        machine.on_failed(failed(429, Some(400)), Millis(420));
        assert_eq!(machine.next(Millis(420)), Step::GiveUp);
        let mut machine = Machine::new(seats(1), PATIENCE, Millis(0));
        machine.next(Millis(0));
        machine.on_failed(failed(429, Some(BUSY_WAIT_MS_MAX + 1)), Millis(10));
        assert_eq!(machine.next(Millis(10)), Step::GiveUp);
    }

    #[test]
    fn a_trial_waits_less_while_others_could_answer() {
        let quick = Seat { first_byte_max_ms: Some(300), hedge_ms: Some(80), ..Seat::default() };
        let mut machine = Machine::new(vec![quick, quick], PATIENCE, Millis(0));
        assert_eq!(machine.hedge_ms(0), Some(80));
        assert_eq!(machine.next(Millis(0)), Step::Send { candidate: 0, wait_ms: 300 });
        assert_eq!(machine.next(Millis(0)), Step::Send { candidate: 1, wait_ms: 1000 }, "the last has its time");
    }

    #[test]
    fn a_hedge_is_the_next_candidate_and_counts_as_an_attempt() {
        let mut machine = Machine::new(seats(3), PATIENCE, Millis(0));
        machine.next(Millis(0));
        assert_eq!(machine.hedge(Millis(100)), Some((1, 1000)));
        assert!(matches!(machine.next(Millis(200)), Step::Send { candidate: 2, .. }));
        assert_eq!(machine.hedge(Millis(300)), None, "nobody is left");
    }
}
