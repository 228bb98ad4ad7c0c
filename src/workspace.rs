//! One workspace as a single-writer machine: ledger, limits, keys and the outbox of activity rows. Command in, reply
//! and effects out; the object around it stores effects in the same turn, which the platform makes one transaction.
//!
//! The journal is the durable truth. A journal row holds the balance and the ceiling after it, the ledger entries it
//! adds, and with each charge its activity row, so a charge without its row (or a row without its charge) cannot be
//! stored. Rows up to `flushed` are in D1. One settle call writes one journal row, however many requests it ends.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::policy::{KeyState, Limits, Policy};
use crate::activity::row::Row;
use crate::error::Code;
use crate::id::{EntryId, KeyId, RequestId, WorkspaceId};
pub use crate::ledger::account::settled_memory_ms;
use crate::ledger::account::{Account, Admission, Ghost, Settled};
pub use crate::ledger::entry::{Entry, EntryKind, Totals};
use crate::limits::budget::{self, Budgets, Period, Spend};
use crate::limits::gate::{Allowance, Gate, Limit, Refusal, tighter};
use crate::money::Nanos;
use crate::time::Millis;
use crate::webhook::alert::{Alerts, Told};
use crate::webhook::event::Event;

mod watch;

/// How often holds are looked through for expired ones, in milliseconds.
const SWEEP_MS: u64 = 1000;
/// How long activity rows wait for company before they are flushed, in milliseconds.
pub const FLUSH_MS: u64 = 2000;
/// A settlement sent longer after its admission than this is stale, in milliseconds (one day).
const STALE_MS: u64 = 24 * 3600 * 1000;

/// Ask for one request to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admit {
    /// The request.
    pub id: RequestId,
    /// The key that calls.
    pub key: KeyId,
    /// The model asked for, for the row of a request nobody hears of again.
    pub model: String,
    /// The hold that covers the worst case.
    pub most: Nanos,
    /// The least hold worth starting with.
    pub least: Nanos,
    /// Tokens it will probably use.
    pub tokens: u64,
    /// Which of its secrets, as in [`Policy::secret`].
    #[serde(default)]
    pub secret: u64,
    /// The key's limits as the edge knows them; the object's own copy has the last word.
    #[serde(default)]
    pub limits: Limits,
    /// How long the hold lasts, in milliseconds.
    pub hold_ms: u64,
    /// The hold outlives a crash: what it is for does too.
    #[serde(default)]
    pub is_durable: bool,
    /// How many requests a minute may go to free offers, where this one is to.
    #[serde(default)]
    pub free_per_minute: Option<u64>,
}

/// One request's end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settlement {
    /// The request.
    pub id: RequestId,
    /// The key that called.
    pub key: KeyId,
    /// When it was admitted.
    pub admitted: Millis,
    /// What was held for it.
    pub held: Nanos,
    /// What it costs.
    pub cost: Nanos,
    /// Tokens it used.
    pub tokens: u64,
    /// Whether the cost is the fee of a request that an own credential paid.
    #[serde(default)]
    pub is_fee: bool,
    /// Its activity row.
    pub row: Box<RawValue>,
    /// Its hold was durable: where there is none any more, it was settled before.
    #[serde(default)]
    pub is_durable: bool,
}

/// Prepaid money to add, or (with `adjusts`) a mistake to put right; below zero, to take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whether it is an adjustment, and of which request.
    #[serde(default)]
    pub adjusts: Option<Adjusts>,
    /// The entry to write.
    pub entry: EntryId,
    /// How much.
    pub nanos: Nanos,
    /// Why.
    pub reason: String,
    /// A second grant with the same key changes nothing and gets the first one's answer.
    pub idempotency_key: String,
}

/// What an adjustment is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjusts {
    /// The account as a whole.
    Account,
    /// One request.
    Request(RequestId),
}

/// What a workspace is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Set up or change the workspace itself.
    SetWorkspace(Settings),
    /// Make a key known, or change it.
    SetKey(Box<Policy>),
    /// What is told of it, and from where on.
    SetAlerts(Alerts),
    /// Let a request in.
    Admit(Admit),
    /// A durable hold is somebody's: it lasts until then.
    Prolong(RequestId, Millis),
    /// End requests.
    Settle(Vec<Settlement>),
    /// Add credits.
    Grant(Grant),
    /// Say what there is.
    Credits,
    /// Say what a key has spent.
    Spend(KeyId),
    /// Say what each of these keys has spent.
    Spends(Vec<KeyId>),
    /// Say whether this secret of a key is good for anything.
    Standing(KeyId, u64),
}

/// The workspace's own record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Which workspace this is.
    pub id: WorkspaceId,
    /// Limits over all its keys.
    #[serde(default)]
    pub limits: Limits,
    /// What all its keys may spend together.
    #[serde(default, skip_serializing_if = "Budgets::is_none")]
    pub budgets: Budgets,
    /// Nothing is admitted.
    #[serde(default)]
    pub suspended: bool,
    /// How often it was changed: of two copies the higher one is the newer.
    #[serde(default, skip_serializing_if = "is_first")]
    pub version: u64,
    /// Deleted: no key of it is good for anything, until it is restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_first(version: &u64) -> bool {
    *version == 0
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Let in.
    Admitted(Admitted),
    /// Not let in; nothing was counted.
    Refused(Refused),
    /// Done.
    Done,
    /// A grant was booked (now or before).
    Granted(Entry),
    /// The state of the account.
    Credits(Credits),
    /// What a key, and its workspace, have spent.
    Spend(Spend, Spend),
    /// What the keys have spent, in the order asked.
    Spends(Vec<Spend>),
    /// The state of a key's secret.
    Standing(KeyState),
}

/// A request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// What is held.
    pub held: Nanos,
    /// When, by the workspace's clock.
    pub at: Millis,
    /// The tighter request allowance of key and workspace.
    pub requests: Option<Allowance>,
    /// The tighter token allowance.
    pub tokens: Option<Allowance>,
}

/// A request was not let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The name of the error code.
    pub code: String,
    /// Why, for a person.
    pub message: String,
    /// Which limit, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// How long to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Credits not held by anybody.
    pub available: Nanos,
    /// As in [`Admitted`].
    pub requests: Option<Allowance>,
    /// As in [`Admitted`].
    pub tokens: Option<Allowance>,
}

/// Balance and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credits {
    /// Prepaid money left, holds included.
    pub balance: Nanos,
    /// Set aside.
    pub held: Nanos,
    /// Not set aside.
    pub available: Nanos,
    /// Sums of all entries there ever were.
    #[serde(default)]
    pub totals: Totals,
}

/// A ledger entry and, where a request made it, the activity row that goes with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The entry.
    pub entry: Entry,
    /// The activity row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<Box<RawValue>>,
}

/// One row of the journal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JournalRow {
    /// When it was written.
    pub at: Millis,
    /// The balance after it.
    pub balance: Nanos,
    /// The ceiling after it.
    pub ceiling: Nanos,
    /// What of that crashes have left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ghosts: Vec<Ghost>,
    /// What it adds.
    #[serde(default)]
    pub entries: Vec<JournalEntry>,
    /// The sums of all entries up to this row; older rows may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// What must be stored before the reply leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append to the journal under this number.
    Journal {
        /// Its place.
        seq: u64,
        /// A [`JournalRow`] in JSON.
        body: String,
    },
    /// Set a named value.
    Put {
        /// Its name.
        name: String,
        /// Its JSON.
        value: String,
    },
    /// Keep an event until it was told.
    Tell(Box<Event>),
    /// Forget a named value.
    Drop {
        /// Its name.
        name: String,
    },
    /// Wake up at the latest then.
    Wake(Millis),
}

/// Everything that was stored.
#[derive(Debug, Default)]
pub struct Stored {
    /// Named values.
    pub values: Vec<(String, String)>,
    /// The newest journal row and its number.
    pub last: Option<(u64, JournalRow)>,
    /// Journal rows as far back as [`settled_memory_ms`], oldest first.
    pub recent: Vec<JournalRow>,
    /// The sums of all entries, where the newest row is of a time before they were kept.
    pub totals: Totals,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flight {
    key: KeyId,
    model: String,
    held: Nanos,
    tokens: u64,
    entered: Millis,
    /// When its hold expires, where that is stored.
    expires: Option<Millis>,
    #[serde(default)]
    is_free: bool,
}

/// The name under which a durable hold is stored.
fn hold_name(id: &RequestId) -> String {
    format!("hold/{id}")
}

/// What was spent, what is held now, and whether the former is stored.
#[derive(Debug, Clone, Copy, Default)]
struct Spending {
    spend: Spend,
    held: Nanos,
    is_unstored: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Workspace {
    settings: Option<Settings>,
    defaults: Limits,
    account: Account<RequestId>,
    keys: HashMap<KeyId, Policy>,
    gates: HashMap<KeyId, Gate>,
    gate: Gate,
    free: Gate,
    flights: HashMap<RequestId, Flight>,
    spends: HashMap<KeyId, Spending>,
    spend: Spending,
    grants: HashMap<String, Entry>,
    alerts: Alerts,
    told: HashMap<KeyId, Told>,
    told_own: Told,
    totals: Totals,
    seq: u64,
    /// Journal rows up to this number are in D1.
    flushed: u64,
    /// Whether the journal has activity rows beyond that.
    has_unflushed_rows: bool,
    swept: Millis,
    wakes: Option<Millis>,
    /// The last admission.
    admitted: Millis,
}

impl Workspace {
    /// Opens the workspace from what was stored. `defaults` are the limits of whoever has none of its own; `hold_ms` is
    /// how long a hold made before a crash may still be settled.
    pub fn open(stored: Stored, defaults: Limits, hold_ms: u64, now: Millis) -> Workspace {
        let (seq, last) = stored.last.unwrap_or_default();
        let mut account = Account::open(last.balance, last.ceiling, &last.ghosts, now, hold_ms);
        for row in &stored.recent {
            for entry in &row.entries {
                if let Some(id) = RequestId::parse(&entry.entry.id) {
                    account.remember(id, row.at);
                }
            }
        }
        let mut workspace = Workspace {
            settings: None,
            defaults,
            account,
            keys: HashMap::new(),
            gates: HashMap::new(),
            gate: Gate::default(),
            free: Gate::default(),
            flights: HashMap::new(),
            spends: HashMap::new(),
            spend: Spending::default(),
            grants: HashMap::new(),
            alerts: Alerts::default(),
            told: HashMap::new(),
            told_own: Told::default(),
            totals: last.totals.unwrap_or(stored.totals),
            seq,
            flushed: 0,
            has_unflushed_rows: true,
            swept: now,
            wakes: None,
            admitted: Millis(0),
        };
        for (name, value) in &stored.values {
            workspace.load(name, value);
        }
        workspace
    }

    /// Takes up a hold that outlived a crash: it is no ghost.
    fn restore(&mut self, id: RequestId, flight: Flight) {
        let Some(expires) = flight.expires else { return };
        if !self.account.restore(id.clone(), flight.held, expires) {
            return;
        }
        self.gates.entry(flight.key.clone()).or_default().enter(flight.tokens, flight.entered);
        self.gate.enter(flight.tokens, flight.entered);
        for spending in [self.spends.entry(flight.key.clone()).or_default(), &mut self.spend] {
            spending.held = Nanos(spending.held.0.saturating_add(flight.held.0));
        }
        self.flights.insert(id, flight);
    }

    fn load(&mut self, name: &str, value: &str) {
        if name == "settings" {
            self.settings = crate::json::from_str(value).ok();
        } else if name == "flushed" {
            self.flushed = value.parse().unwrap_or(0);
        } else if name.starts_with("key/") {
            if let Ok(policy) = crate::json::from_str::<Policy>(value) {
                self.keys.insert(policy.key.clone(), policy);
            }
        } else if let Some(id) = name.strip_prefix("hold/").and_then(RequestId::parse) {
            if let Ok(flight) = crate::json::from_str::<Flight>(value) {
                self.restore(id, flight);
            }
        } else if name == "spend" {
            self.spend.spend = crate::json::from_str(value).unwrap_or_default();
        } else if let Some(key) = name.strip_prefix("spend/").and_then(KeyId::parse) {
            self.spends.entry(key).or_default().spend = crate::json::from_str(value).unwrap_or_default();
        } else if let Some(key) = name.strip_prefix("grant/")
            && let Ok(entry) = crate::json::from_str(value)
        {
            self.grants.insert(key.to_owned(), entry);
        } else {
            self.load_told(name, value);
        }
    }

    /// Which workspace this is, once it was set up.
    pub fn id(&self) -> Option<&WorkspaceId> {
        self.settings.as_ref().map(|settings| &settings.id)
    }

    /// The journal number up to which rows are in D1.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// The number of the newest journal row.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Carries out one command.
    pub fn apply(&mut self, command: Command, now: Millis) -> (Reply, Vec<Effect>) {
        let mut effects = Vec::new();
        if now.since(self.swept) >= SWEEP_MS {
            self.sweep(now, &mut effects);
        }
        let reply = match command {
            // News of two changes may arrive in the wrong order; the newer one is what the record says.
            Command::SetWorkspace(settings) => {
                if self.settings.as_ref().is_none_or(|known| known.version <= settings.version) {
                    effects.push(put("settings", &settings));
                    self.settings = Some(settings);
                }
                Reply::Done
            }
            Command::SetAlerts(alerts) => {
                self.set_alerts(alerts, now, &mut effects);
                Reply::Done
            }
            Command::SetKey(policy) => {
                if self.keys.get(&policy.key).is_none_or(|known| known.version <= policy.version) {
                    self.watch_key(&policy, now, &mut effects);
                    effects.push(put(&format!("key/{}", policy.key), &policy));
                    self.keys.insert(policy.key.clone(), *policy);
                }
                Reply::Done
            }
            Command::Admit(admit) => self.admit(admit, now, &mut effects),
            Command::Prolong(id, until) => self.prolong(&id, until, &mut effects),
            Command::Settle(settlements) => {
                self.settle(settlements, now, &mut effects);
                Reply::Done
            }
            Command::Grant(grant) => self.grant(grant, now, &mut effects),
            Command::Credits => Reply::Credits(self.credits()),
            Command::Spend(key) => {
                Reply::Spend(self.spends.get(&key).map_or(Spend::default(), |own| own.spend), self.spend.spend)
            }
            Command::Spends(keys) => {
                let of = |key: &KeyId| self.spends.get(key).map_or(Spend::default(), |own| own.spend);
                Reply::Spends(keys.iter().map(of).collect())
            }
            Command::Standing(key, secret) => Reply::Standing(self.standing(&key, secret, now)),
        };
        (reply, effects)
    }

    /// The state of the account.
    pub fn credits(&self) -> Credits {
        Credits {
            balance: self.account.balance(),
            held: self.account.held(),
            available: self.account.available(),
            totals: self.totals,
        }
    }

    /// An alarm: ends what expired, and lowers the ceiling when nobody came for a while. The object flushes the outbox besides.
    pub fn wake(&mut self, now: Millis) -> Vec<Effect> {
        self.wakes = None;
        let mut effects = Vec::new();
        self.sweep(now, &mut effects);
        self.store_spending(|_| true, &mut effects);
        let is_quiet = now.since(self.admitted) >= FLUSH_MS;
        if is_quiet && self.account.tighten_ceiling() {
            self.journal(Vec::new(), now, &mut effects);
        }
        if self.has_unflushed_rows || !is_quiet {
            self.wake_at(now.plus(FLUSH_MS), &mut effects);
        } else if let Some(at) = self.account.next_expiry() {
            self.wake_at(at.plus(1), &mut effects);
        }
        effects
    }

    /// Rows up to `through` are in D1 now.
    pub fn flushed_through(&mut self, through: u64) -> Vec<Effect> {
        self.flushed = self.flushed.max(through.min(self.seq));
        self.has_unflushed_rows = self.flushed < self.seq;
        vec![Effect::Put { name: "flushed".to_owned(), value: self.flushed.to_string() }]
    }

    fn wake_at(&mut self, at: Millis, effects: &mut Vec<Effect>) {
        if self.wakes.is_none_or(|wakes| at < wakes) {
            self.wakes = Some(at);
            effects.push(Effect::Wake(at));
        }
    }

    fn limits_of(&self, admit: &Admit) -> (Limits, Limits) {
        let own = self.keys.get(&admit.key).map_or(admit.limits, |policy| policy.limits);
        let shared = self.settings.as_ref().map_or(Limits::default(), |settings| settings.limits);
        let or = |limits: Limits, defaults: Limits| Limits {
            requests_per_minute: limits.requests_per_minute.or(defaults.requests_per_minute),
            tokens_per_minute: limits.tokens_per_minute.or(defaults.tokens_per_minute),
            parallel_requests: limits.parallel_requests.or(defaults.parallel_requests),
        };
        (own, or(shared, self.defaults))
    }

    /// The state of a key's secret. A key that the object was not told of yet is as good as the edge says.
    fn standing(&self, key: &KeyId, secret: u64, now: Millis) -> KeyState {
        match &self.settings {
            None => KeyState::Revoked,
            Some(settings) if settings.deleted => KeyState::Revoked,
            Some(_) => self.keys.get(key).map_or(KeyState::Active, |policy| policy.state_of(secret, now)),
        }
    }

    fn admit(&mut self, admit: Admit, now: Millis, effects: &mut Vec<Effect>) -> Reply {
        let (own, shared) = self.limits_of(&admit);
        let gate = self.gates.entry(admit.key.clone()).or_default();
        let checked = gate
            .check(&own, admit.tokens, now)
            .and_then(|()| self.gate.check(&shared, admit.tokens, now))
            .and_then(|()| self.free_room(&admit, now));
        let refusal = if self.standing(&admit.key, admit.secret, now) != KeyState::Active {
            Some((Code::Unauthenticated, "the key is not valid".to_owned(), None))
        } else if self.settings.as_ref().is_some_and(|settings| settings.suspended) {
            Some((Code::Forbidden, "the workspace is suspended".to_owned(), None))
        } else if let Err(refusal) = checked {
            let what = match refusal.limit {
                Limit::Requests => "requests per minute",
                Limit::Tokens => "tokens per minute",
                Limit::Parallel => "parallel requests",
                Limit::Free => "requests to free offers per minute",
            };
            Some((Code::RateLimited, format!("the limit of {what} is reached"), Some(refusal.wait_ms)))
        } else {
            None
        };
        let budget = self.budget_left(&admit.key, now);
        let most = budget.map_or(admit.most, |(left, _)| admit.most.min(left));
        let refusal = match (refusal, budget) {
            (Some(refusal), _) => refusal,
            (None, Some((left, period))) if left < admit.least => (
                Code::BudgetExceeded,
                format!(
                    "the budget of the {} does not cover this request: ${} is left of it",
                    period.name(),
                    left.to_dollars()
                ),
                Some(budget::wait_ms(period, now)),
            ),
            _ => match self.account.admit(admit.id.clone(), most, admit.least, now, admit.hold_ms) {
                Admission::Held { nanos, raised } => {
                    return Reply::Admitted(self.enter(admit, nanos, raised, (own, shared), now, effects));
                }
                Admission::Short { .. } => {
                    (Code::InsufficientCredits, "the credits do not cover this request".to_owned(), None)
                }
            },
        };
        let (requests, tokens) = self.allowances(&admit.key, &own, &shared, now);
        let (code, message, wait_ms) = refusal;
        if code == Code::BudgetExceeded {
            self.watch_budgets(BTreeSet::from([admit.key]), admit.least, now, effects);
        }
        let available = self.account.available();
        let limit = checked.err().map(|refusal| refusal.limit).filter(|_| code == Code::RateLimited);
        Reply::Refused(Refused { limit, code: code.name().to_owned(), message, wait_ms, available, requests, tokens })
    }

    /// Free offers have a limit of their own, for all keys together.
    fn free_room(&mut self, admit: &Admit, now: Millis) -> Result<(), Refusal> {
        let limits = Limits { requests_per_minute: admit.free_per_minute, ..Limits::default() };
        self.free.check(&limits, 0, now).map_err(|refusal| Refusal { limit: Limit::Free, ..refusal })
    }

    fn enter(
        &mut self,
        admit: Admit,
        held: Nanos,
        raised: bool,
        limits: (Limits, Limits),
        now: Millis,
        effects: &mut Vec<Effect>,
    ) -> Admitted {
        self.gates.entry(admit.key.clone()).or_default().enter(admit.tokens, now);
        self.gate.enter(admit.tokens, now);
        if admit.free_per_minute.is_some() {
            self.free.enter(0, now);
        }
        self.admitted = now;
        if raised {
            self.journal(Vec::new(), now, effects);
            self.wake_at(now.plus(FLUSH_MS), effects);
        }
        let (requests, tokens) = self.allowances(&admit.key, &limits.0, &limits.1, now);
        for spending in [self.spends.entry(admit.key.clone()).or_default(), &mut self.spend] {
            spending.held = Nanos(spending.held.0.saturating_add(held.0));
        }
        let expires = admit.is_durable.then(|| now.plus(admit.hold_ms));
        let is_free = admit.free_per_minute.is_some();
        let flight =
            Flight { key: admit.key, model: admit.model, held, tokens: admit.tokens, entered: now, expires, is_free };
        if admit.is_durable {
            effects.push(put(&hold_name(&admit.id), &flight));
            // Whether it is settled in time or not, somebody must look.
            self.wake_at(now.plus(FLUSH_MS), effects);
        }
        self.flights.insert(admit.id, flight);
        Admitted { held, at: now, requests, tokens }
    }

    fn allowances(
        &mut self,
        key: &KeyId,
        own: &Limits,
        shared: &Limits,
        now: Millis,
    ) -> (Option<Allowance>, Option<Allowance>) {
        let (requests, tokens) = self.gates.entry(key.clone()).or_default().allowances(own, now);
        let (all_requests, all_tokens) = self.gate.allowances(shared, now);
        (tighter(requests, all_requests), tighter(tokens, all_tokens))
    }

    fn leave(&mut self, id: &RequestId, used: u64, now: Millis) -> Option<Flight> {
        let flight = self.flights.remove(id)?;
        if let Some(gate) = self.gates.get_mut(&flight.key) {
            gate.leave(flight.tokens, used, flight.entered, now);
        }
        self.gate.leave(flight.tokens, used, flight.entered, now);
        if flight.is_free {
            self.free.leave(0, 0, flight.entered, now);
        }
        for spending in [self.spends.entry(flight.key.clone()).or_default(), &mut self.spend] {
            spending.held = Nanos(spending.held.0.saturating_sub(flight.held.0).max(0));
        }
        Some(flight)
    }

    fn prolong(&mut self, id: &RequestId, until: Millis, effects: &mut Vec<Effect>) -> Reply {
        let flight = self.flights.get_mut(id).filter(|flight| flight.expires.is_some());
        match flight {
            Some(flight) if self.account.prolong(id, until) => {
                flight.expires = flight.expires.max(Some(until));
                effects.push(put(&hold_name(id), flight));
                Reply::Done
            }
            _ => self.refused(Code::NotFound, "nothing is held for it"),
        }
    }

    fn settle(&mut self, settlements: Vec<Settlement>, now: Millis, effects: &mut Vec<Effect>) {
        // Of a workspace that was erased, or never set up, nothing is kept.
        if self.settings.is_none() {
            return;
        }
        let mut entries = Vec::new();
        let keys: BTreeSet<KeyId> = settlements.iter().map(|settlement| settlement.key.clone()).collect();
        for settlement in settlements {
            let flight = self.leave(&settlement.id, settlement.tokens, now);
            let held = flight.as_ref().map_or(Nanos::ZERO, |flight| flight.held);
            if flight.is_some_and(|flight| flight.expires.is_some()) {
                effects.push(Effect::Drop { name: hold_name(&settlement.id) });
            } else if settlement.is_durable || now.since(settlement.admitted) > STALE_MS {
                continue;
            }
            // What was not held (because it cost more, or a crash made the hold forgotten) must not pass a budget.
            let most = self.budget_left(&settlement.key, now).map_or(settlement.cost, |(left, _)| left.max(held));
            let cost = settlement.cost.min(most);
            let settled = self.account.settle(&settlement.id, cost, settlement.held, settlement.admitted, now);
            let (kind, nanos, lost, row) = match settled {
                Settled::Again => continue,
                Settled::Charged { charged, .. } => {
                    let lost = Nanos(settlement.cost.0.saturating_sub(charged.0).max(0));
                    for spending in [self.spends.entry(settlement.key.clone()).or_default(), &mut self.spend] {
                        spending.spend.add(charged, now);
                        spending.is_unstored = true;
                    }
                    let kind = if settlement.is_fee { EntryKind::Fee } else { EntryKind::Charge };
                    (kind, Nanos(charged.0.saturating_neg()), lost, Some(settlement.row))
                }
                // The request expired and its row says so; late news must not write a second one.
                Settled::Late { .. } if settlement.cost <= Nanos::ZERO => continue,
                Settled::Late { .. } => (EntryKind::Loss, Nanos::ZERO, settlement.cost, None),
            };
            let id = settlement.id.as_str();
            if kind != EntryKind::Loss {
                let entry = self.entry(id, kind, nanos, now);
                entries.push(JournalEntry { entry, row });
            }
            if lost > Nanos::ZERO || kind == EntryKind::Loss {
                let entry = Entry { lost, ..self.entry(id, EntryKind::Loss, Nanos::ZERO, now) };
                entries.push(JournalEntry { entry, row: None });
            }
        }
        if !entries.is_empty() {
            self.account.set_ceiling();
            self.journal(entries, now, effects);
            // A budget must not forget in a crash what was spent; other counters are stored with the next flush.
            self.store_spending(Budgets::is_any, effects);
            self.watch_balance(now, effects);
            self.watch_budgets(keys, Nanos::ZERO, now, effects);
        }
    }

    /// Stores what was spent where that changed and the budgets are such.
    fn store_spending(&mut self, is_due: impl Fn(&Budgets) -> bool, effects: &mut Vec<Effect>) {
        for (key, spending) in &mut self.spends {
            let budgets = self.keys.get(key).map_or(Budgets::default(), |policy| policy.budgets);
            if spending.is_unstored && is_due(&budgets) {
                spending.is_unstored = false;
                effects.push(put(&format!("spend/{key}"), &spending.spend));
            }
        }
        let budgets = self.settings.as_ref().map_or(Budgets::default(), |settings| settings.budgets);
        if self.spend.is_unstored && is_due(&budgets) {
            self.spend.is_unstored = false;
            effects.push(put("spend", &self.spend.spend));
        }
    }

    /// What the budgets of key and workspace still allow, and which of them says so.
    fn budget_left(&self, key: &KeyId, now: Millis) -> Option<(Nanos, Period)> {
        let own = self.keys.get(key).map_or(Budgets::default(), |policy| policy.budgets);
        let spending = self.spends.get(key).copied().unwrap_or_default();
        let shared = self.settings.as_ref().map_or(Budgets::default(), |settings| settings.budgets);
        let left = [(own, spending), (shared, self.spend)];
        left.iter().filter_map(|(budgets, one)| budgets.left(&one.spend, one.held, now)).min_by_key(|(left, _)| *left)
    }

    /// An entry at the balance that is.
    fn entry(&self, id: &str, kind: EntryKind, nanos: Nanos, now: Millis) -> Entry {
        let (balance, id) = (self.account.balance(), id.to_owned());
        Entry { id, kind, nanos, balance, at: now, lost: Nanos::ZERO, reason: None, request: None }
    }

    fn refused(&self, code: Code, message: &str) -> Reply {
        Reply::Refused(Refused {
            code: code.name().to_owned(),
            message: message.to_owned(),
            limit: None,
            wait_ms: None,
            available: self.account.available(),
            requests: None,
            tokens: None,
        })
    }

    fn grant(&mut self, grant: Grant, now: Millis, effects: &mut Vec<Effect>) -> Reply {
        let (kind, request) = match &grant.adjusts {
            None => (EntryKind::Grant, None),
            Some(Adjusts::Account) => (EntryKind::Adjustment, None),
            Some(Adjusts::Request(id)) => (EntryKind::Adjustment, Some(id.as_str().to_owned())),
        };
        let name = match kind {
            EntryKind::Adjustment => format!("adjustment {}", grant.idempotency_key),
            _ => grant.idempotency_key,
        };
        if let Some(entry) = self.grants.get(&name) {
            // What was taken back may be less than was asked for.
            let is_same = entry.nanos == grant.nanos || (entry.nanos > grant.nanos && grant.nanos < Nanos::ZERO);
            return match is_same && entry.request == request {
                true => Reply::Granted(entry.clone()),
                false => self.refused(Code::IdempotencyConflict, "the idempotency key was used for something else"),
            };
        }
        let Some(nanos) = self.account.grant(grant.nanos) else {
            return self.refused(Code::InvalidInput, "the balance would be too large");
        };
        let entry = Entry { reason: Some(grant.reason), request, ..self.entry(grant.entry.as_str(), kind, nanos, now) };
        effects.push(put(&format!("grant/{name}"), &entry));
        self.grants.insert(name, entry.clone());
        self.journal(vec![JournalEntry { entry: entry.clone(), row: None }], now, effects);
        self.watch_balance(now, effects);
        Reply::Granted(entry)
    }

    fn sweep(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        self.swept = now;
        let mut entries = Vec::new();
        for id in self.account.expire(now) {
            let Some(flight) = self.leave(&id, 0, now) else { continue };
            if flight.expires.is_some() {
                effects.push(Effect::Drop { name: hold_name(&id) });
            }
            let row = Row::expired(id.as_str(), flight.key.as_str(), &flight.model, id.created().0, flight.held.0);
            let entry = self.entry(id.as_str(), EntryKind::Charge, Nanos::ZERO, now);
            entries.push(JournalEntry { entry, row: serde_json::value::to_raw_value(&row).ok() });
        }
        if !entries.is_empty() {
            self.journal(entries, now, effects);
        }
    }

    fn journal(&mut self, entries: Vec<JournalEntry>, now: Millis, effects: &mut Vec<Effect>) {
        self.seq = self.seq.saturating_add(1);
        let has_rows = entries.iter().any(|entry| entry.row.is_some());
        self.totals = entries.iter().fold(self.totals, |sums, entry| sums.with(&entry.entry));
        let (balance, ceiling) = (self.account.balance(), self.account.ceiling());
        let ghosts = self.account.ghosts().to_vec();
        let row = JournalRow { at: now, balance, ceiling, ghosts, entries, totals: Some(self.totals) };
        effects.push(Effect::Journal { seq: self.seq, body: serde_json::to_string(&row).unwrap_or_default() });
        if has_rows {
            self.has_unflushed_rows = true;
            self.wake_at(now.plus(FLUSH_MS), effects);
        }
    }
}

fn put(name: &str, value: &impl Serialize) -> Effect {
    Effect::Put { name: name.to_owned(), value: serde_json::to_string(value).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
