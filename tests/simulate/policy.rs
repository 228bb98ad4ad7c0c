//! The policies compared. Ours is the gateway's own code: `health`, `routing`, and (in the engine) `attempt`.

use std::rc::Rc;

use ai_stats_gateway::access::policy::{Limits, Policy as KeyPolicy};
use ai_stats_gateway::attempt::machine::Seat;
use ai_stats_gateway::catalog::ModelEntry;
use ai_stats_gateway::health::board::Board;
use ai_stats_gateway::health::sample::{Place, Sample};
use ai_stats_gateway::health::share::{Snapshot, parse_report, shard, write_report};
use ai_stats_gateway::id::{KeyId, WorkspaceId};
use ai_stats_gateway::routing::filter::Conditions;
use ai_stats_gateway::routing::plan::{Outlook, Target, plan};
use ai_stats_gateway::text::request::{Mode, Request};
use ai_stats_gateway::time::Millis;
use serde_json::json;

use crate::chance::Chance;
use crate::world::{Load, Provider};

/// When the simulated world begins.
pub const BEGIN_MS: u64 = 1_795_000_000_000;

/// One request as a policy sees it.
pub struct Turn<'a> {
    pub id: u64,
    pub isolate: usize,
    pub prompt: u64,
    pub now_ms: u64,
    pub providers: &'a [Provider],
    /// For the oracle alone.
    pub loads: &'a [Load],
}

pub trait Policy {
    /// Offers in order, with what is known of their times.
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)>;
    fn sent(&mut self, _isolate: usize, _offer: usize, _late_ms: Option<u64>, _now_ms: u64) -> u64 {
        0
    }
    fn ended(&mut self, _isolate: usize, _offer: usize, _ticket: u64) {}
    fn sample(&mut self, _isolate: usize, _offer: usize, _sample: Sample, _now_ms: u64) {}
    /// Time passes: messages arrive.
    fn advance(&mut self, _now_ms: u64) {}
}

fn plain(order: Vec<usize>) -> Vec<(usize, Seat)> {
    order.into_iter().map(|offer| (offer, Seat::default())).collect()
}

/// Ours, in one mode.
pub struct Ours {
    mode: Mode,
    names: Vec<&'static str>,
    entry: Rc<ModelEntry>,
    key: KeyPolicy,
    boards: Vec<Board>,
    objects: Vec<Board>,
    dirty: Vec<bool>,
    published_ms: u64,
    mail: Vec<(u64, Mail)>,
    chance: Chance,
}

enum Mail {
    Report(usize, String),
    Snapshot(usize, Rc<str>),
}

/// One message in ten is lost; a report takes up to 300 ms, a snapshot 1 to 30 s.
const LOST: f64 = 0.1;
/// How often an object publishes what has changed.
const PUBLISH_MS: u64 = 5_000;
const SHARDS: usize = 8;

impl Ours {
    pub fn new(mode: Mode, providers: &[Provider], isolates: usize, seed: u64) -> Ours {
        let nanos = |dollars: f64| (dollars * 1e9) as i64;
        let entry = json!({
            "id": "org/m", "name": "M", "organisation": "org", "kind": "chat", "input": ["text"], "output": ["text"],
            "created": 0, "capabilities": {},
            "providers": providers.iter().map(|p| (p.name.to_owned(), json!({
                "id": p.name, "name": p.name, "base_url": "http://x", "families": ["openai-chat"],
                "auth": {"header": "Authorization", "prefix": "Bearer "}}))).collect::<serde_json::Map<_, _>>(),
            "offers": providers.iter().map(|p| json!({
                "provider": p.name, "upstream": "u", "kind": "chat", "is_free": false, "context": 200_000,
                "card": {"as_of": "2026-11-25", "prices": {"input_tokens": nanos(p.price.0), "output_tokens": nanos(p.price.1)}}}))
                .collect::<Vec<_>>(),
        });
        let key = KeyPolicy {
            key: KeyId::new(Millis(0), [0; 10]),
            workspace: WorkspaceId::new(Millis(0), [0; 10]),
            name: String::new(),
            hint: String::new(),
            expires_at: None,
            disabled: false,
            revoked: false,
            allowed_models: Vec::new(),
            limits: Limits::default(),
            created_at: Millis(0),
            ..KeyPolicy::default()
        };
        Ours {
            mode,
            names: providers.iter().map(|p| p.name).collect(),
            entry: Rc::new(ModelEntry::parse(entry.to_string().as_bytes()).unwrap()),
            key,
            boards: (0..isolates as u64).map(|i| Board::new(Chance::of(&[seed, 7, i]).bits())).collect(),
            objects: (0..SHARDS as u64).map(Board::new).collect(),
            dirty: vec![false; SHARDS],
            published_ms: 0,
            mail: Vec::new(),
            chance: Chance::of(&[seed, 8]),
        }
    }

    fn place(&self, offer: usize) -> Place<'static> {
        Place::new(self.names[offer], "u")
    }

    fn post(&mut self, at_ms: u64, mail: Mail) {
        if self.chance.unit() >= LOST {
            self.mail.push((at_ms, mail));
        }
    }
}

fn moment(now_ms: u64) -> Millis {
    Millis(BEGIN_MS + now_ms)
}

impl Policy for Ours {
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)> {
        let mut request = Request { models: vec!["org/m".to_owned()], stream: true, ..Request::default() };
        request.demand.text_bytes = turn.prompt * 4;
        request.demand.choices = 1;
        request.provider.sort = Some(self.mode);
        let conditions = Conditions {
            request: &request,
            policy: &self.key,
            pinned: None,
            free_only: false,
            has_secret: &|_| true,
            slots: &|_| ai_stats_gateway::attempt::pool::Slots::default(),
            own: &[],
            fallback_to_credits: false,
            fee_basis_points: 0,
            work: None,
            narrowings: &[],
            channel: ai_stats_gateway::catalog::Channel::Stable,
            now: moment(turn.now_ms),
        };
        let outlook = Outlook { board: &self.boards[turn.isolate], conversation: None, seed: turn.id };
        let target = Target { entry: Rc::clone(&self.entry), pinned: None, suffix: None };
        let plan = plan(&[target], &conditions, &outlook);
        assert!(plan.removed.is_empty(), "{:?}", plan.removed);
        let offers = plan.candidates.iter().map(|candidate| {
            let provider = candidate.provider().unwrap();
            self.names.iter().position(|name| *name == provider.id).unwrap()
        });
        offers.zip(plan.seats()).collect()
    }

    fn sent(&mut self, isolate: usize, offer: usize, late_ms: Option<u64>, now_ms: u64) -> u64 {
        let place = self.place(offer);
        self.boards[isolate].on_sent(&place, late_ms, moment(now_ms))
    }

    fn ended(&mut self, isolate: usize, offer: usize, ticket: u64) {
        let place = self.place(offer);
        self.boards[isolate].on_ended(&place, ticket);
    }

    fn sample(&mut self, isolate: usize, offer: usize, sample: Sample, now_ms: u64) {
        let place = self.place(offer);
        self.boards[isolate].on_sample(&place, sample, moment(now_ms));
        for (shard, report) in self.boards[isolate].take_report(moment(now_ms)) {
            let delay = 50 + (250.0 * self.chance.unit()) as u64;
            self.post(now_ms + delay, Mail::Report(shard as usize, write_report(&report)));
        }
    }

    fn advance(&mut self, now_ms: u64) {
        let mut i = 0;
        while i < self.mail.len() {
            if self.mail[i].0 > now_ms {
                i += 1;
                continue;
            }
            match self.mail.swap_remove(i) {
                (_, Mail::Report(shard, text)) => {
                    self.objects[shard].merge(&parse_report(&text, moment(now_ms)).unwrap(), moment(now_ms));
                    self.dirty[shard] = true;
                }
                (_, Mail::Snapshot(isolate, text)) => {
                    self.boards[isolate].adopt(Snapshot::parse(&text).unwrap(), moment(now_ms));
                }
            }
        }
        if now_ms >= self.published_ms + PUBLISH_MS {
            self.published_ms = now_ms;
            for shard_number in 0..SHARDS {
                if !std::mem::take(&mut self.dirty[shard_number]) {
                    continue;
                }
                let snapshot = self.objects[shard_number].snapshot(moment(now_ms));
                assert!(snapshot.entries.iter().all(|entry| shard(&entry.provider) as usize == shard_number));
                let text: Rc<str> = snapshot.write().into();
                for isolate in 0..self.boards.len() {
                    let delay = 1_000 + (29_000.0 * self.chance.unit()) as u64;
                    self.post(now_ms + delay, Mail::Snapshot(isolate, Rc::clone(&text)));
                }
            }
        }
    }
}

/// One after the other, whoever they are.
pub struct RoundRobin(pub Vec<usize>);

impl Policy for RoundRobin {
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)> {
        let n = turn.providers.len();
        let first = self.0[turn.isolate];
        self.0[turn.isolate] += 1;
        plain((0..n).map(|i| (first + i) % n).collect())
    }
}

/// The list as it stands, each three times.
pub struct Fixed;

impl Policy for Fixed {
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)> {
        plain((0..turn.providers.len()).flat_map(|offer| [offer; 3]).collect())
    }
}

/// Drawn by one over the price squared; who failed within thirty seconds goes last.
pub struct PriceWeighted {
    pub failed_ms: Vec<Vec<Option<u64>>>,
}

impl Policy for PriceWeighted {
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)> {
        let mut luck = Chance::of(&[turn.id, 21]);
        let failed = &self.failed_ms[turn.isolate];
        let mut keyed: Vec<(bool, f64, usize)> = (0..turn.providers.len())
            .map(|offer| {
                let is_out = failed[offer].is_some_and(|at| turn.now_ms - at < 30_000);
                let weight = turn.providers[offer].cost(turn.prompt, 400).powi(-2);
                (is_out, luck.exponential() / weight, offer)
            })
            .collect();
        keyed.sort_by(|a, b| a.partial_cmp(b).unwrap());
        plain(keyed.into_iter().map(|(_, _, offer)| offer).collect())
    }

    fn sample(&mut self, isolate: usize, offer: usize, sample: Sample, now_ms: u64) {
        if matches!(sample, Sample::Failed | Sample::Silent | Sample::Busy { .. }) {
            self.failed_ms[isolate][offer] = Some(now_ms);
        }
    }
}

/// Peak-EWMA with two choices: of two drawn, the one with the lower latency times requests under way.
pub struct PeakEwma {
    pub seen: Vec<Vec<(f64, u64, f64)>>,
}

impl PeakEwma {
    fn cost(&self, isolate: usize, offer: usize) -> f64 {
        let (ewma, _, pending) = self.seen[isolate][offer];
        ewma * (pending + 1.0)
    }

    fn observe(&mut self, isolate: usize, offer: usize, ms: f64, now_ms: u64) {
        let (ewma, at, pending) = &mut self.seen[isolate][offer];
        let weight = (-((now_ms - *at) as f64) / 10_000.0).exp();
        *ewma = if ms > *ewma { ms } else { *ewma * weight + ms * (1.0 - weight) };
        *at = now_ms;
        *pending = (*pending - 1.0).max(0.0);
    }
}

impl Policy for PeakEwma {
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)> {
        let mut luck = Chance::of(&[turn.id, 22]);
        let n = turn.providers.len();
        let a = luck.below(n);
        let b = (a + 1 + luck.below(n - 1)) % n;
        let best = if self.cost(turn.isolate, a) <= self.cost(turn.isolate, b) { a } else { b };
        let mut rest: Vec<usize> = (0..n).filter(|offer| *offer != best).collect();
        rest.sort_by(|a, b| self.cost(turn.isolate, *a).total_cmp(&self.cost(turn.isolate, *b)));
        plain(std::iter::once(best).chain(rest).collect())
    }

    fn sent(&mut self, isolate: usize, offer: usize, _late_ms: Option<u64>, _now_ms: u64) -> u64 {
        self.seen[isolate][offer].2 += 1.0;
        0
    }

    fn sample(&mut self, isolate: usize, offer: usize, sample: Sample, now_ms: u64) {
        match sample {
            Sample::Served { first_byte_ms, .. } => {
                self.observe(isolate, offer, first_byte_ms.unwrap_or(0) as f64, now_ms);
            }
            // Failures have no latency; only the count of requests under way goes down.
            Sample::Failed | Sample::Silent | Sample::Busy { .. } => self.observe(isolate, offer, 0.0, now_ms),
            Sample::Paced { .. } | Sample::Paused { .. } | Sample::Refused => {}
        }
    }
}

/// Knows every provider's true state at every moment, but not the single draw.
pub struct Oracle(pub Mode);

impl Policy for Oracle {
    fn order(&mut self, turn: &Turn<'_>) -> Vec<(usize, Seat)> {
        let mut keyed: Vec<(bool, f64, usize)> = turn
            .providers
            .iter()
            .zip(turn.loads)
            .enumerate()
            .map(|(offer, (p, load))| {
                let truth = p.truth(load, turn.now_ms);
                let price = p.cost(turn.prompt, 400);
                let p95 = p.first_ms.0 * truth.slow * (1.645 * p.first_ms.1).exp();
                let loss = match self.0 {
                    Mode::Price => price,
                    Mode::Latency => p95,
                    Mode::Throughput => p.pace_ms,
                    Mode::Balanced => price * (p.first_ms.0 * truth.slow).sqrt() * p.pace_ms.sqrt().sqrt(),
                };
                (truth.error > 0.05 || truth.is_full, loss, offer)
            })
            .collect();
        keyed.sort_by(|a, b| a.partial_cmp(b).unwrap());
        plain(keyed.into_iter().map(|(_, _, offer)| offer).collect())
    }
}
