use super::*;

const HOLD_MS: u64 = 60_000;

fn id(n: u8) -> RequestId {
    RequestId::new(Millis(1000), [n; 10])
}

fn key() -> KeyId {
    KeyId::new(Millis(1), [1; 10])
}

fn policy(limits: Limits) -> Policy {
    Policy {
        key: key(),
        workspace: WorkspaceId::new(Millis(1), [2; 10]),
        name: "k".to_owned(),
        hint: String::new(),
        expires_at: None,
        disabled: false,
        revoked: false,
        allowed_models: Vec::new(),
        limits,
        created_at: Millis(1),
        ..Policy::default()
    }
}

/// A workspace and what it stored.
struct Bench {
    workspace: Workspace,
    values: HashMap<String, String>,
    journal: Vec<(u64, String)>,
    wake: Option<Millis>,
    told: Vec<Event>,
}

impl Bench {
    fn new(dollars: &str) -> Bench {
        let workspace = Workspace::open(Stored::default(), Limits::default(), HOLD_MS, Millis(0));
        let mut bench = Bench { workspace, values: HashMap::new(), journal: Vec::new(), wake: None, told: Vec::new() };
        let settings = Settings {
            id: WorkspaceId::new(Millis(1), [2; 10]),
            limits: Limits::default(),
            budgets: Budgets::default(),
            suspended: false,
            version: 0,
            deleted: false,
        };
        bench.run(Command::SetWorkspace(settings), 0);
        bench.run(Command::SetKey(Box::new(policy(Limits::default()))), 0);
        bench.grant(dollars, "first");
        bench
    }

    fn run(&mut self, command: Command, now: u64) -> Reply {
        let (reply, effects) = self.workspace.apply(command, Millis(now));
        self.store(effects);
        reply
    }

    fn store(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Journal { seq, body } => self.journal.push((seq, body)),
                Effect::Put { name, value } => {
                    self.values.insert(name, value);
                }
                Effect::Tell(event) => self.told.push(*event),
                Effect::Drop { name } => drop(self.values.remove(&name)),
                Effect::Wake(at) => self.wake = Some(at),
            }
        }
    }

    fn grant(&mut self, dollars: &str, idempotency_key: &str) -> Reply {
        let grant = Grant {
            adjusts: None,
            entry: EntryId::new(Millis(0), [u8::try_from(self.journal.len()).unwrap(); 10]),
            nanos: Nanos::from_dollars(dollars).unwrap(),
            reason: "test".to_owned(),
            idempotency_key: idempotency_key.to_owned(),
        };
        self.run(Command::Grant(grant), 0)
    }

    fn admit(&mut self, n: u8, most: i64, now: u64) -> Reply {
        let limits = Limits::default();
        self.run(
            Command::Admit(Admit {
                id: id(n),
                key: key(),
                secret: 0,
                model: "a/b".to_owned(),
                most: Nanos(most),
                least: Nanos(most),
                tokens: 10,
                limits,
                hold_ms: HOLD_MS,
                is_durable: false,
                free_per_minute: None,
            }),
            now,
        )
    }

    fn settle(&mut self, n: u8, cost: i64, now: u64) {
        self.run(Command::Settle(vec![settlement_of(n, cost, now)]), now);
    }

    /// Kills the machine and opens it again from what was stored.
    fn crash(&mut self, now: u64) {
        let last = self.journal.last().map(|(seq, body)| (*seq, serde_json::from_str(body).unwrap()));
        let recent = self.journal.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
        let values = self.values.clone().into_iter().collect();
        self.workspace = Workspace::open(
            Stored { values, last, recent, ..Stored::default() },
            Limits::default(),
            HOLD_MS,
            Millis(now),
        );
    }

    fn balance(&self) -> i64 {
        self.workspace.credits().balance.0
    }
}

fn settlement_of(n: u8, cost: i64, admitted: u64) -> Settlement {
    let row = Row::expired(id(n).as_str(), key().as_str(), "a/b", 1000, 0);
    let row = RawValue::from_string(serde_json::to_string(&row).unwrap()).unwrap();
    let (held, cost) = (Nanos(cost), Nanos(cost));
    let (id, key, admitted) = (id(n), key(), Millis(admitted));
    Settlement { id, key, admitted, held, cost, tokens: 12, is_fee: false, row, is_durable: false }
}

fn raw(row: &JournalRow) -> serde_json::Value {
    serde_json::from_str(row.entries[0].row.as_ref().unwrap().get()).unwrap()
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Refused(refused) => refused.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_from_admission_to_outbox() {
    let mut b = Bench::new("1");
    b.admit(9, 5, 5);
    let before = b.journal.len();
    assert!(matches!(b.admit(1, 500, 10), Reply::Admitted(Admitted { held: Nanos(500), .. })));
    assert_eq!(b.journal.len(), before, "admission under the ceiling writes nothing");
    b.settle(1, 200, 20);
    assert_eq!(b.journal.len(), before + 1, "settlement writes one row");
    assert_eq!(b.balance(), 1_000_000_000 - 200);
    let row: JournalRow = serde_json::from_str(&b.journal.last().unwrap().1).unwrap();
    assert_eq!(row.entries[0].entry.nanos, Nanos(-200));
    assert_eq!(raw(&row)["id"], id(1).as_str());
    assert_eq!(b.wake, Some(Millis(5 + FLUSH_MS)));
}

#[test]
fn an_idle_workspace_that_loses_its_memory_keeps_its_credits_in_reach() {
    let mut b = Bench::new("1");
    b.admit(1, 500, 10);
    b.admit(2, 700, 10);
    b.settle(1, 200, 20);
    let effects = b.workspace.wake(Millis(20 + FLUSH_MS));
    b.store(effects);
    b.crash(60_000 - 1);
    let credits = b.workspace.credits();
    assert_eq!((credits.held, credits.available), (Nanos(700), Nanos(1_000_000_000 - 200 - 700)));
    let row = RawValue::NULL.to_owned();
    let settlement = Settlement {
        id: id(2),
        key: key(),
        admitted: Millis(10),
        held: Nanos(700),
        cost: Nanos(100),
        tokens: 1,
        is_fee: false,
        row,
        is_durable: false,
    };
    b.run(Command::Settle(vec![settlement]), 60_000);
    assert_eq!(b.workspace.credits().available.0, 1_000_000_000 - 300);
}

#[test]
fn a_second_word_changes_nothing_also_after_a_crash() {
    let mut b = Bench::new("1");
    b.admit(1, 500, 10);
    b.settle(1, 200, 20);
    let rows = b.journal.len();
    b.settle(1, 300, 21);
    b.crash(30);
    b.settle(1, 300, 31);
    assert_eq!((b.balance(), b.journal.len()), (1_000_000_000 - 200, rows));
}

#[test]
fn a_crash_between_admission_and_settlement_loses_no_credit() {
    let mut b = Bench::new("1");
    b.admit(1, 500, 10);
    b.crash(20);
    assert!(b.workspace.credits().available.0 < 1_000_000_000, "the ceiling is set aside");
    b.settle(1, 200, 15);
    assert_eq!(b.balance(), 1_000_000_000 - 200);
    b.workspace.wake(Millis(20 + HOLD_MS));
    assert_eq!(b.workspace.credits().available.0, 1_000_000_000 - 200);
}

/// A job's hold, for an hour.
fn admit_job(b: &mut Bench, n: u8, most: i64, now: u64) -> Reply {
    admit_job_for(b, n, most, 3_600_000, now)
}

fn admit_job_for(b: &mut Bench, n: u8, most: i64, hold_ms: u64, now: u64) -> Reply {
    let (key, limits, model) = (key(), Limits::default(), "a/b".to_owned());
    let most = Nanos(most);
    let (least, is_durable, free_per_minute) = (most, true, None);
    let admit = Admit {
        id: id(n),
        key,
        model,
        most,
        least,
        tokens: 0,
        limits,
        hold_ms,
        is_durable,
        secret: 0,
        free_per_minute,
    };
    b.run(Command::Admit(admit), now)
}

fn settle_job(b: &mut Bench, n: u8, cost: i64, now: u64) {
    let row = Row::expired(id(n).as_str(), key().as_str(), "a/b", 1000, 0);
    let row = RawValue::from_string(serde_json::to_string(&row).unwrap()).unwrap();
    let (id, key, admitted) = (id(n), key(), Millis(10));
    let (cost, held, is_fee, is_durable) = (Nanos(cost), Nanos(500), false, true);
    let settlement = Settlement { id, key, admitted, held, cost, tokens: 0, is_fee, row, is_durable };
    b.run(Command::Settle(vec![settlement]), now);
}

#[test]
fn a_jobs_hold_outlives_crashes_and_is_settled_once() {
    let mut b = Bench::new("1");
    admit_job(&mut b, 1, 500, 10);
    b.admit(2, 700, 10);
    b.crash(20);
    b.crash(1_800_000);
    // What the crash left of the other request is gone by now, the job's hold is not.
    let effects = b.workspace.wake(Millis(1_800_000 + HOLD_MS));
    b.store(effects);
    assert_eq!(b.workspace.credits().held, Nanos(500));
    settle_job(&mut b, 1, 200, 2_000_000);
    assert_eq!((b.balance(), b.workspace.credits().held), (1_000_000_000 - 200, Nanos(0)));
    assert!(!b.values.keys().any(|name| name.starts_with("hold/")), "{:?}", b.values);
    b.crash(2_000_001);
    let rows = b.journal.len();
    for now in [2_000_002, 9_000_000] {
        settle_job(&mut b, 1, 200, now);
        b.crash(now + 1);
    }
    assert_eq!((b.balance(), b.journal.len()), (1_000_000_000 - 200, rows), "also long after its memory");
}

#[test]
fn a_jobs_hold_of_which_nobody_hears_expires() {
    let mut b = Bench::new("1");
    admit_job(&mut b, 1, 500, 10);
    b.crash(20);
    let effects = b.workspace.wake(Millis(3_600_010));
    b.store(effects);
    assert_eq!((b.balance(), b.workspace.credits().held), (1_000_000_000, Nanos(0)));
    assert!(!b.values.keys().any(|name| name.starts_with("hold/")));
}

#[test]
fn an_expired_hold_leaves_a_row_and_no_charge() {
    let mut b = Bench::new("1");
    b.admit(1, 500, 10);
    let effects = b.workspace.wake(Millis(10 + HOLD_MS));
    b.store(effects);
    let row = b
        .journal
        .iter()
        .map(|(_, body)| serde_json::from_str::<JournalRow>(body).unwrap())
        .find(|row| !row.entries.is_empty() && row.at.0 > 0);
    assert_eq!(raw(&row.unwrap())["ending"], "expired");
    assert_eq!(b.balance(), 1_000_000_000);
    b.settle(1, 200, 10);
    assert_eq!(b.balance(), 1_000_000_000, "late news change nothing");
}

#[test]
fn a_grant_is_booked_once() {
    let mut b = Bench::new("1");
    assert_eq!(refused(b.grant("7", "first")), "idempotency_conflict", "another amount is another grant");
    let again = b.grant("1", "first");
    assert!(matches!(again, Reply::Granted(Entry { nanos: Nanos(1_000_000_000), .. })));
    b.crash(5);
    b.grant("7", "first");
    b.grant("2", "second");
    assert_eq!(b.balance(), 3_000_000_000);
}

#[test]
fn a_revoked_key_stops_at_once_whatever_the_edge_still_says() {
    let mut b = Bench::new("1");
    b.run(Command::SetKey(Box::new(Policy { revoked: true, ..policy(Limits::default()) })), 1);
    assert_eq!(refused(b.admit(1, 1, 2)), "unauthenticated");
    b.crash(3);
    assert_eq!(refused(b.admit(1, 1, 4)), "unauthenticated");
}

#[test]
fn refusals_consume_nothing() {
    let mut b = Bench::new("1");
    let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
    b.run(Command::SetKey(Box::new(policy(limits))), 1);
    assert_eq!(refused(b.admit(9, 2_000_000_000, 2)), "insufficient_credits");
    assert!(matches!(b.admit(1, 1, 3), Reply::Admitted(_)));
    let Reply::Admitted(admitted) = b.admit(2, 1, 4) else { panic!() };
    assert_eq!(admitted.requests.map(|a| (a.limit, a.remaining)), Some((2, 0)));
    let Reply::Refused(refusal) = b.admit(3, 1, 5) else { panic!() };
    assert_eq!((refusal.code.as_str(), refusal.wait_ms), ("rate_limited", Some(59_995)));
    assert_eq!(b.workspace.credits().held, Nanos(2), "the refused one holds nothing");
}

#[test]
fn nothing_enters_a_workspace_that_was_never_set_up_or_is_suspended() {
    let mut fresh = Workspace::open(Stored::default(), Limits::default(), HOLD_MS, Millis(0));
    let admit = Admit {
        id: id(1),
        key: key(),
        secret: 0,
        model: String::new(),
        most: Nanos(0),
        least: Nanos(0),
        tokens: 0,
        limits: Limits::default(),
        hold_ms: 1,
        is_durable: false,
        free_per_minute: None,
    };
    assert_eq!(refused(fresh.apply(Command::Admit(admit), Millis(1)).0), "unauthenticated");
    let mut b = Bench::new("1");
    let id = b.workspace.id().unwrap().clone();
    b.run(
        Command::SetWorkspace(Settings {
            id,
            limits: Limits::default(),
            budgets: Budgets::default(),
            suspended: true,
            version: 0,
            deleted: false,
        }),
        1,
    );
    assert_eq!(refused(b.admit(1, 1, 2)), "forbidden");
}

#[test]
fn the_newest_version_of_a_key_counts_in_whatever_order_it_comes() {
    let mut b = Bench::new("1");
    let revoked = Policy { revoked: true, version: 2, ..policy(Limits::default()) };
    let renamed = Policy { name: "other".to_owned(), version: 1, ..policy(Limits::default()) };
    b.run(Command::SetKey(Box::new(revoked)), 1);
    b.run(Command::SetKey(Box::new(renamed)), 1);
    assert_eq!(refused(b.admit(1, 1, 2)), "unauthenticated");
    assert_eq!(b.run(Command::Standing(key(), 0), 2), Reply::Standing(KeyState::Revoked));
    let id = b.workspace.id().unwrap().clone();
    let of = |version, suspended| {
        let (limits, budgets) = (Limits::default(), Budgets::default());
        Command::SetWorkspace(Settings { id: id.clone(), limits, budgets, suspended, version, deleted: false })
    };
    b.run(of(5, true), 3);
    b.run(of(4, false), 3);
    b.run(Command::SetKey(Box::new(Policy { version: 3, ..policy(Limits::default()) })), 3);
    assert_eq!(refused(b.admit(1, 1, 4)), "forbidden");
}

#[test]
fn a_deleted_workspace_lets_nobody_in_until_it_is_restored() {
    let mut b = Bench::new("1");
    let id = b.workspace.id().unwrap().clone();
    let of = |deleted, version| {
        let (limits, budgets) = (Limits::default(), Budgets::default());
        Command::SetWorkspace(Settings { id: id.clone(), limits, budgets, suspended: false, version, deleted })
    };
    b.run(of(true, 1), 1);
    assert_eq!(refused(b.admit(1, 1, 2)), "unauthenticated");
    assert_eq!(b.run(Command::Standing(key(), 0), 2), Reply::Standing(KeyState::Revoked));
    b.run(of(false, 2), 3);
    assert!(matches!(b.admit(2, 1, 4), Reply::Admitted(_)));
}

#[test]
fn a_replaced_secret_is_let_in_until_its_moment() {
    let mut b = Bench::new("1");
    let rotated = Policy { secret: 1, old_until: Some(Millis(50)), version: 1, ..policy(Limits::default()) };
    b.run(Command::SetKey(Box::new(rotated)), 1);
    assert!(matches!(b.admit(1, 1, 49), Reply::Admitted(_)), "the bench calls with secret 0");
    assert_eq!(refused(b.admit(2, 1, 50)), "unauthenticated");
    let told = [(1, 50), (0, 49), (0, 50)].map(|(secret, now)| b.run(Command::Standing(key(), secret), now));
    assert_eq!(told, [KeyState::Active, KeyState::Active, KeyState::Revoked].map(Reply::Standing));
}

#[test]
fn journal_format_is_unchanged() {
    let mut b = Bench::new("1");
    b.admit(1, 500, 10);
    b.settle(1, 200, 20);
    let body = &b.journal.last().unwrap().1;
    assert!(
        body.starts_with(
            r#"{"at":20,"balance":999999800,"ceiling":250000000,"entries":[{"entry":{"id":"gen_00000000Z8040G2081040G2081","kind":"charge","nanos":-200,"balance":999999800,"at":20},"row":{"id":"#
        ),
        "{body}"
    );
}

#[test]
fn what_is_told_is_told_once_and_survives_a_crash() {
    let mut bench = Bench::new("1");
    let budgets = Budgets { day: Some(Nanos(1_000)), ..Budgets::default() };
    bench.run(Command::SetKey(Box::new(Policy { budgets, ..policy(Limits::default()) })), 0);
    let alerts = Alerts { balance_low: Some(Nanos(999_999_400)), ..Alerts::default() };
    bench.run(Command::SetAlerts(alerts), 0);
    assert!(bench.told.is_empty(), "{:?}", bench.told);
    let spend = |bench: &mut Bench, n: u8, cost: i64| {
        assert!(matches!(bench.admit(n, cost, 10), Reply::Admitted(_)));
        bench.settle(n, cost, 10);
        std::mem::take(&mut bench.told)
            .into_iter()
            .map(|event| (event.kind.name(), event.data["percent"].as_u64()))
            .collect::<Vec<_>>()
    };
    assert_eq!(spend(&mut bench, 1, 500), [("budget.reached", Some(50))]);
    assert_eq!(spend(&mut bench, 2, 100), [("balance.low", None)]);
    bench.crash(10);
    assert_eq!(spend(&mut bench, 3, 100), []);
    assert_eq!(spend(&mut bench, 4, 100), [("budget.reached", Some(80))]);
    assert_eq!(refused(bench.admit(5, 201, 30)), "budget_exceeded");
    assert_eq!(std::mem::take(&mut bench.told)[0].data["percent"], 100);
    bench.admit(6, 201, 30);
    bench.run(Command::SetKey(Box::new(Policy { revoked: true, ..policy(Limits::default()) })), 40);
    bench.run(Command::SetKey(Box::new(Policy { revoked: true, ..policy(Limits::default()) })), 50);
    assert_eq!(bench.told.iter().map(|event| event.kind.name()).collect::<Vec<_>>(), ["key.revoked"]);
}

#[test]
fn free_offers_have_a_limit_of_their_own() {
    let mut b = Bench::new("0.000000001");
    let mut admit = |n: u8, free_per_minute: Option<u64>, now: u64| {
        b.run(
            Command::Admit(Admit {
                id: id(n),
                key: key(),
                model: "a/b".to_owned(),
                secret: 0,
                most: Nanos(0),
                least: Nanos(0),
                tokens: 1,
                limits: Limits::default(),
                hold_ms: HOLD_MS,
                is_durable: false,
                free_per_minute,
            }),
            now,
        )
    };
    assert!(matches!(admit(1, Some(2), 1), Reply::Admitted(_)));
    assert!(matches!(admit(2, Some(2), 2), Reply::Admitted(_)));
    let Reply::Refused(refusal) = admit(3, Some(2), 3) else { panic!() };
    assert_eq!(
        (refusal.code.as_str(), refusal.limit, refusal.wait_ms),
        ("rate_limited", Some(Limit::Free), Some(59_997))
    );
    assert!(matches!(admit(4, None, 4), Reply::Admitted(_)), "what is paid has other limits");
    assert!(matches!(admit(5, Some(2), 120_000), Reply::Admitted(_)));
}

#[test]
fn what_the_gateway_bears_is_an_entry_of_its_own_and_sums_are_kept() {
    let mut b = Bench::new("0.000001");
    b.admit(1, 500, 10);
    b.settle(1, 2_000, 20);
    let row: JournalRow = serde_json::from_str(&b.journal.last().unwrap().1).unwrap();
    let told: Vec<_> = row.entries.iter().map(|one| (one.entry.kind, one.entry.nanos, one.entry.lost)).collect();
    assert_eq!(
        told,
        [(EntryKind::Charge, Nanos(-1_000), Nanos::ZERO), (EntryKind::Loss, Nanos::ZERO, Nanos(1_000))],
        "what the balance did not cover"
    );
    b.crash(30);
    let totals = b.workspace.credits().totals;
    assert_eq!((totals.granted, totals.charged, totals.lost), (Nanos(1_000), Nanos(1_000), Nanos(1_000)));
    assert_eq!((totals.balance(), totals.entries), (Nanos::ZERO, 3));
}

#[test]
fn an_adjustment_is_booked_once_and_names_its_request() {
    let mut b = Bench::new("1");
    let adjust = |b: &mut Bench, nanos: i64, request: u8| {
        let grant = Grant {
            adjusts: Some(Adjusts::Request(id(request))),
            entry: EntryId::new(Millis(0), [9; 10]),
            nanos: Nanos(nanos),
            reason: "charged twice".to_owned(),
            idempotency_key: "first".to_owned(),
        };
        b.run(Command::Grant(grant), 5)
    };
    for _ in 0..2 {
        let Reply::Granted(entry) = adjust(&mut b, 7, 1) else { panic!("the key of a grant is another one") };
        assert_eq!(
            (entry.kind, entry.nanos, entry.request.as_deref()),
            (EntryKind::Adjustment, Nanos(7), Some(id(1).as_str()))
        );
        b.crash(6);
    }
    assert_eq!(refused(adjust(&mut b, 7, 2)), "idempotency_conflict");
    assert_eq!((b.balance(), b.workspace.credits().totals.adjusted), (1_000_000_007, Nanos(7)));
}

#[test]
fn late_news_of_an_expired_hold_is_the_gateways_loss_once_and_its_row_stays() {
    let mut b = Bench::new("1");
    b.admit(1, 100, 1);
    b.run(Command::Credits, HOLD_MS + 10);
    b.settle(1, 70, HOLD_MS + 20);
    b.settle(1, 70, HOLD_MS + 30);
    let entries: Vec<Entry> = b
        .journal
        .iter()
        .flat_map(|(_, body)| serde_json::from_str::<JournalRow>(body).unwrap().entries)
        .map(|entry| entry.entry)
        .collect();
    let of: Vec<(EntryKind, i64, i64)> = entries
        .iter()
        .filter(|entry| entry.id == id(1).as_str())
        .map(|entry| (entry.kind, entry.nanos.0, entry.lost.0))
        .collect();
    assert_eq!(of, [(EntryKind::Charge, 0, 0), (EntryKind::Loss, 0, 70)]);
    assert_eq!(b.balance(), 1_000_000_000);
}

#[test]
fn what_a_crash_made_forgotten_passes_no_budget() {
    let mut b = Bench::new("1");
    let budgets = Budgets { total: Some(Nanos(150)), ..Budgets::default() };
    b.run(Command::SetKey(Box::new(Policy { budgets, ..policy(Limits::default()) })), 0);
    for n in 1..=2 {
        assert!(matches!(b.admit(n, 75, 1), Reply::Admitted(_)));
    }
    assert_eq!(refused(b.admit(3, 75, 1)), "budget_exceeded");
    b.crash(2);
    // The holds are forgotten, so others are let in; whoever ends later finds the budget as it is.
    for n in 3..=4 {
        assert!(matches!(b.admit(n, 75, 3), Reply::Admitted(_)));
    }
    for n in 1..=4 {
        b.run(Command::Settle(vec![settlement_of(n, 75, 1)]), 4);
    }
    let spent: i64 = 1_000_000_000 - b.balance();
    assert_eq!(spent, 150, "{:?}", b.workspace.credits());
    assert_eq!(b.workspace.credits().totals.lost, Nanos(150), "the rest is the gateway's");
}

#[test]
fn a_hold_that_no_job_claims_ends_as_any_other_and_a_claimed_one_lasts() {
    let mut b = Bench::new("1");
    let later = 10 * HOLD_MS;
    for n in 1..=2 {
        assert!(matches!(admit_job_for(&mut b, n, 100, HOLD_MS, 1), Reply::Admitted(_)));
    }
    assert_eq!(b.run(Command::Prolong(id(1), Millis(later)), 2), Reply::Done);
    b.crash(3);
    b.run(Command::Credits, 12 * HOLD_MS / 10);
    assert_eq!(b.workspace.credits().held, Nanos(100), "the claimed one");
    assert_eq!(refused(b.run(Command::Prolong(id(2), Millis(later)), 2 * HOLD_MS)), "not_found");
    settle_job(&mut b, 1, 70, 3 * HOLD_MS);
    settle_job(&mut b, 2, 70, 3 * HOLD_MS);
    assert_eq!(b.balance(), 1_000_000_000 - 70);
    assert!(b.values.keys().all(|name| !name.starts_with("hold/")), "nothing of them is stored");
}
