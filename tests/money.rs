//! Money as a whole: a million settlements through the workspace's machine, and any usage on any price card of the catalog.

use std::fs;
use std::path::Path;

use ai_stats_gateway::access::policy::{Limits, Policy};
use ai_stats_gateway::activity::row::Row;
use ai_stats_gateway::catalog::{ModelEntry, PriceCard, Situation, Source, compile, model_key};
use ai_stats_gateway::family::openai_chat;
use ai_stats_gateway::id::{EntryId, KeyId, RequestId, WorkspaceId};
use ai_stats_gateway::ledger::charge::{ChargeError, receipt};
use ai_stats_gateway::ledger::entry::EntryKind;
use ai_stats_gateway::money::{Nanos, Unrounded};
use ai_stats_gateway::relay::{Relay, UsageView};
use ai_stats_gateway::time::Millis;
use ai_stats_gateway::usage::{Meter, Usage};
use ai_stats_gateway::workspace::{
    Admit, Command, Effect, Grant, JournalRow, Reply, Settings, Settlement, Stored, Workspace,
};
use serde_json::value::RawValue;

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const HOLD_MS: u64 = 60_000;
/// Requests that are under way at once, and settled by one call.
const BATCH: u64 = 100;

fn request(n: u64) -> RequestId {
    let mut chance = [0; 10];
    chance[2..].copy_from_slice(&n.to_be_bytes());
    RequestId::new(Millis(n), chance)
}

/// What a store would hold, in sums: a million rows need not be kept to be added up.
#[derive(Default)]
struct Books {
    ledger: i64,
    activity: i64,
    lost: i64,
    charges: u64,
    rows: u64,
    balance: i64,
    last: Option<(u64, JournalRow)>,
}

impl Books {
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Journal { seq, body } = effect else { continue };
            let row: JournalRow = serde_json::from_str(&body).unwrap();
            for one in &row.entries {
                assert_eq!(self.balance + one.entry.nanos.0, one.entry.balance.0, "the running balance");
                assert!(one.entry.balance.0 >= 0);
                self.balance = one.entry.balance.0;
                self.ledger += one.entry.nanos.0;
                self.lost += one.entry.lost.0;
                if one.entry.kind.has_row() {
                    self.charges += 1;
                    self.activity -= one.entry.nanos.0;
                    self.rows += u64::from(one.row.is_some());
                }
            }
            assert_eq!(row.balance.0, self.balance);
            self.last = Some((seq, JournalRow { entries: Vec::new(), ..row }));
        }
    }
}

#[test]
fn a_million_settlements_add_up() {
    const REQUESTS: u64 = 1_000_000;
    let mut chance = Chance(7);
    let mut books = Books::default();
    let (key, id) = (KeyId::new(Millis(1), [1; 10]), WorkspaceId::new(Millis(1), [2; 10]));
    let open = |stored, now| Workspace::open(stored, Limits::default(), HOLD_MS, Millis(now));
    let mut workspace = open(Stored::default(), 0);
    let settings: Settings = serde_json::from_value(serde_json::json!({ "id": id })).unwrap();
    let policy = Policy { key: key.clone(), workspace: id, ..Policy::default() };
    let set_up = |workspace: &mut Workspace| {
        workspace.apply(Command::SetWorkspace(settings.clone()), Millis(1));
        workspace.apply(Command::SetKey(Box::new(policy.clone())), Millis(1));
    };
    set_up(&mut workspace);
    let grant = Grant {
        adjusts: None,
        entry: EntryId::new(Millis(1), [3; 10]),
        nanos: Nanos(200_000_000_000),
        reason: "prepaid".to_owned(),
        idempotency_key: "one".to_owned(),
    };
    books.take(workspace.apply(Command::Grant(grant), Millis(1)).1);
    let row = serde_json::to_string(&Row::expired("gen_x", key.as_str(), "a/b", 1, 0)).unwrap();
    let row = RawValue::from_string(row).unwrap();
    let (mut asked, mut lost_here, mut refused, mut now) = (0i64, 0i64, 0u64, 1_000u64);
    for batch in 0..REQUESTS / BATCH {
        let mut under_way = Vec::new();
        for n in batch * BATCH..(batch + 1) * BATCH {
            now += 1;
            let most = Nanos(i64::try_from(chance.below(1_000_000)).unwrap());
            let (id, limits) = (request(n), Limits::default());
            let model = String::new();
            let admit: Admit = serde_json::from_value(serde_json::json!({
                "id": id, "key": key, "model": model, "most": most, "least": most, "tokens": 1, "limits": limits, "hold_ms": HOLD_MS,
            }))
            .unwrap();
            let (reply, effects) = workspace.apply(Command::Admit(admit), Millis(now));
            books.take(effects);
            match reply {
                Reply::Admitted(admitted) => under_way.push((id, admitted)),
                Reply::Refused(refusal) => {
                    assert_eq!(refusal.code, "insufficient_credits");
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        let settlements: Vec<Settlement> = under_way
            .into_iter()
            .map(|(id, admitted)| {
                // Mostly below what was held, now and then above it.
                let cost =
                    Nanos(i64::try_from(chance.below(u64::try_from(admitted.held.0).unwrap() * 11 / 10 + 1)).unwrap());
                asked += cost.0;
                let is_fee = chance.below(10) == 0;
                Settlement {
                    id,
                    key: key.clone(),
                    admitted: admitted.at,
                    held: admitted.held,
                    cost,
                    tokens: 1,
                    is_fee,
                    row: row.clone(),
                    is_durable: false,
                }
            })
            .collect();
        let again = settlements.first().cloned();
        books.take(workspace.apply(Command::Settle(settlements), Millis(now)).1);
        // A second word about one of them, and now and then a crash in between.
        if batch % 500 == 499 {
            let last = books.last.clone();
            workspace = open(Stored { last, ..Stored::default() }, now);
            set_up(&mut workspace);
            now += HOLD_MS + 1;
            books.take(workspace.wake(Millis(now)));
        } else if let Some(again) = again {
            books.take(workspace.apply(Command::Settle(vec![again]), Millis(now)).1);
        }
        let credits = workspace.credits();
        assert_eq!((credits.balance.0, credits.totals.balance().0), (books.balance, books.balance));
        lost_here = credits.totals.lost.0;
    }
    let credits = workspace.credits();
    assert_eq!(credits.balance.0, books.ledger, "ledger and balance");
    assert_eq!(credits.balance.0, 200_000_000_000 - books.activity, "activity and balance");
    assert_eq!(credits.totals.settled().0, books.activity);
    assert_eq!((books.charges, books.rows), (REQUESTS - refused, REQUESTS - refused));
    assert_eq!(
        asked,
        books.activity + lost_here,
        "what was asked for is charged, or borne by the gateway and on the books"
    );
    assert_eq!(lost_here, books.lost);
    assert!(refused > 100_000, "{refused} were refused: the balance came to its end");
    assert_eq!((credits.held, EntryKind::Loss.has_row()), (Nanos::ZERO, false));
}

/// Every price card of the catalog.
fn cards() -> Vec<(String, PriceCard)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
    let mut sources = Vec::new();
    for part in ["providers", "models"] {
        for file in fs::read_dir(folder.join(part)).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            sources.push(Source { path: format!("catalog/{part}/{}", path.file_name().unwrap().display()), text });
        }
    }
    let snapshot = compile(&sources).unwrap();
    let prefix = model_key(&snapshot.id, "");
    let mut cards = Vec::new();
    for (key, value) in snapshot.pairs().into_iter().filter(|(key, _)| key.starts_with(&prefix)) {
        let entry = ModelEntry::parse(value.as_bytes()).unwrap();
        if key == model_key(&snapshot.id, &entry.id) {
            cards.extend(
                entry.offers.into_iter().map(|offer| (format!("{} at {}", entry.id, offer.provider), offer.card)),
            );
        }
    }
    cards
}

/// A number of tokens of any size that a provider might report.
fn quantity(chance: &mut Chance) -> u64 {
    let bits = chance.below(41);
    chance.below(1 << bits)
}

/// Usage as a chat provider reports it, with the parts of each side within their whole.
fn reported(chance: &mut Chance) -> (serde_json::Value, u64, u64) {
    let (prompt, completion) = (quantity(chance), quantity(chance));
    let cached = chance.below(prompt + 1);
    let audio_in = chance.below(prompt - cached + 1);
    let reasoning = chance.below(completion + 1);
    let audio_out = chance.below(completion - reasoning + 1);
    let usage = serde_json::json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio_in},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": audio_out},
    });
    (usage, prompt, completion)
}

/// The usage that a plain answer and the same answer as a stream are charged for.
fn seen(usage: &serde_json::Value) -> (Usage, Usage) {
    let body = serde_json::json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "up", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    })
    .to_string();
    let plain = openai_chat::answer(body.as_bytes(), &[]).unwrap().told.usage.unwrap();
    let stream = openai_chat::as_stream(body.as_bytes()).unwrap();
    let mut relay = Relay::new(Vec::new(), UsageView::Shown);
    for piece in stream.chunks(17) {
        relay.push(piece, Some(&mut Vec::new()), &|_, _, _| None);
    }
    (plain, relay.seen().usage.clone().unwrap())
}

#[test]
fn any_usage_on_any_price_card_has_one_cost_streamed_or_plain() {
    let cards = cards();
    assert!(cards.len() > 4_000, "{}", cards.len());
    let mut chance = Chance(11);
    let mut priced = 0u64;
    for _ in 0..40 {
        let (usage, prompt, completion) = reported(&mut chance);
        let (plain, streamed) = seen(&usage);
        assert_eq!(plain, streamed, "{usage}");
        assert_eq!(
            (plain.prompt_tokens(), plain.completion_tokens()),
            (prompt, completion),
            "the buckets are disjoint: {usage}"
        );
        let tier = ["priority", "flex", "batch", ""][usize::try_from(chance.below(4)).unwrap()];
        let situation = Situation {
            service_tier: Some(tier).filter(|tier| !tier.is_empty()),
            now: Millis(chance.below(2_000_000_000_000)),
            ..Situation::default()
        };
        for (what, card) in &cards {
            let (a, b) = (receipt(&plain, card, &situation), receipt(&streamed, card, &situation));
            assert_eq!(a, b, "{what}");
            let Ok(receipt) = a else {
                assert!(matches!(a, Err(ChargeError::UnknownPrice(_) | ChargeError::Money(_))), "{what}");
                continue;
            };
            priced += 1;
            assert!(receipt.total >= Nanos::ZERO, "{what}: {receipt:?}");
            let sum =
                receipt.lines.iter().try_fold(Unrounded::default(), |sum, line| sum.with(line.quantity, line.price));
            assert_eq!(sum.unwrap().round_up().unwrap(), receipt.total, "{what}: the receipt adds up");
            let counted: u64 =
                receipt.lines.iter().filter(|line| line.meter != Meter::Requests).map(|line| line.quantity).sum();
            assert_eq!(counted, prompt + completion, "{what}: each token is charged once");
        }
    }
    assert!(priced > 40 * 2_000, "{priced}");
}

#[test]
fn any_quantities_of_any_meters_are_a_cost_or_an_error() {
    let cards = cards();
    let mut chance = Chance(13);
    let mut overflows = 0;
    for (what, card) in &cards {
        let mut usage = Usage::default();
        for meter in Meter::ALL {
            match chance.below(6) {
                0 => usage.set(*meter, u64::MAX),
                1 | 2 => usage.set(*meter, quantity(&mut chance)),
                _ => {}
            }
        }
        match receipt(&usage, card, &Situation { now: Millis(1), ..Situation::default() }) {
            Ok(receipt) => assert!(receipt.total >= Nanos::ZERO, "{what}: {receipt:?}"),
            Err(ChargeError::UnknownPrice(meter)) => assert!(usage.quantity(meter) > 0, "{what}"),
            Err(ChargeError::Money(_)) => overflows += 1,
        }
    }
    // What no price fits any more is an error, never a small number.
    let whole =
        cards.iter().filter(|(_, card)| card.prices.get(&Meter::InputTokens).is_some_and(|price| price.0 > 1_000_000));
    for (what, card) in whole {
        let usage = Usage::default().with(Meter::InputTokens, u64::MAX);
        assert!(matches!(receipt(&usage, card, &Situation::default()), Err(ChargeError::Money(_))), "{what}");
        overflows += 1;
    }
    assert!(overflows > 1_000, "{overflows}");
}
