//! What a decision over 64 candidates costs: `npm run bench` builds this for wasm32 and calls it under V8.

#![allow(unsafe_code, reason = "an export that has no glue")]

use std::cell::RefCell;
use std::rc::Rc;

use ai_stats_gateway::access::policy::Policy;
use ai_stats_gateway::attempt::pool::Slots;
use ai_stats_gateway::catalog::{Channel, ModelEntry};
use ai_stats_gateway::health::board::Board;
use ai_stats_gateway::health::sample::{Place, Sample};
use ai_stats_gateway::routing::filter::Conditions;
use ai_stats_gateway::routing::plan::{Outlook, Target, plan};
use ai_stats_gateway::routing::rank::{Ask, Facts, rank};
use ai_stats_gateway::text::request::{Mode, Request};
use ai_stats_gateway::time::Millis;
use serde_json::{Value, json};

const CANDIDATES: usize = 64;
const NOW: Millis = Millis(1_795_000_000_000);

struct World {
    entry: Rc<ModelEntry>,
    board: Board,
    facts: Vec<Facts>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn name(i: usize) -> String {
    format!("host-{i}")
}

/// A model with as many offers, of which the board has seen something.
fn world() -> Option<World> {
    let provider = |i: usize| {
        let auth = json!({"header": "Authorization", "prefix": "Bearer "});
        let value =
            json!({"id": name(i), "name": name(i), "base_url": "http://x", "families": ["openai-chat"], "auth": auth});
        (name(i), value)
    };
    let offer = |i: usize| {
        let prices = json!({"input_tokens": 100_000_000 + 7_000_000 * i, "output_tokens": 400_000_000 + 9_000_000 * i});
        json!({"provider": name(i), "upstream": "u", "kind": "chat", "is_free": false, "context": 200_000,
            "card": {"as_of": "2026-11-25", "prices": prices}})
    };
    let entry = json!({
        "id": "org/m", "name": "M", "organisation": "org", "kind": "chat", "input": ["text"], "output": ["text"],
        "created": 0, "capabilities": {},
        "providers": (0..CANDIDATES).map(provider).collect::<serde_json::Map<_, _>>(),
        "offers": (0..CANDIDATES).map(offer).collect::<Vec<Value>>(),
    });
    let mut board = Board::new(1);
    for i in 0..CANDIDATES {
        let provider = name(i);
        for n in 0..20 {
            let first_byte_ms = Some(200 + 11 * i as u64 + n);
            board.on_sample(&Place::new(&provider, "u"), Sample::Served { first_byte_ms, prompt_tokens: 300 }, NOW);
        }
    }
    let facts = (0..CANDIDATES).map(|i| Facts {
        key: i as u64,
        price_nanos: 100_000 + 7_000 * i as i64,
        prompt_tokens: 300,
        cached_tokens: 0,
        score: board.score(&Place::new(&name(i), "u"), NOW),
        order: None,
        model: 0,
        is_behind: false,
    });
    Some(World { entry: Rc::new(ModelEntry::parse(entry.to_string().as_bytes()).ok()?), facts: facts.collect(), board })
}

fn with<T>(f: impl FnOnce(&World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|known| {
        if known.is_none() {
            *known = world();
        }
        known.as_ref().map(f)
    })
}

/// Ranks them `times` times, each time for another request; the places of all winners together.
#[unsafe(no_mangle)]
pub extern "C" fn rank_again(times: u32) -> u32 {
    let of = |world: &World| {
        let ask = |seed| Ask { mode: Mode::Balanced, is_stream: true, seed };
        let winners =
            (0..times).filter_map(|i| rank(&world.facts, &ask(u64::from(i))).first().map(|one| one.index as u32));
        winners.fold(0, u32::wrapping_add)
    };
    with(of).unwrap_or(u32::MAX)
}

/// Does the whole decision `times` times: filters, bounds, facts, ranking.
#[unsafe(no_mangle)]
pub extern "C" fn plan_again(times: u32) -> u32 {
    let of = |world: &World| {
        let mut request = Request { models: vec!["org/m".to_owned()], stream: true, ..Request::default() };
        (request.demand.text_bytes, request.demand.choices) = (1_200, 1);
        let policy = Policy::default();
        let conditions = Conditions {
            request: &request,
            policy: &policy,
            pinned: None,
            free_only: false,
            has_secret: &|_| true,
            slots: &|_| Slots::default(),
            own: &[],
            fallback_to_credits: false,
            fee_basis_points: 0,
            work: None,
            narrowings: &[],
            channel: Channel::Stable,
            now: NOW,
        };
        let mut seen = 0_u32;
        for seed in 0..u64::from(times) {
            let outlook = Outlook { board: &world.board, conversation: None, seed };
            let target = Target { entry: Rc::clone(&world.entry), pinned: None, suffix: None };
            seen = seen.wrapping_add(plan(&[target], &conditions, &outlook).candidates.len() as u32);
        }
        seen
    };
    with(of).unwrap_or(u32::MAX)
}
