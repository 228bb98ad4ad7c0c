use std::collections::BTreeMap;

use super::*;
use crate::time::Millis;

fn spread(ms: f64, n: f64) -> Spread {
    Spread { mean: ms.ln(), deviation: 0.3, n }
}

fn facts(key: u64, price_nanos: i64, latency_ms: Option<f64>, reliability: f64) -> Facts {
    let latency = latency_ms.map(|ms| spread(ms, 200.0));
    let score = Score { reliability, weight: 500.0, latency, ..Score::UNKNOWN };
    Facts { key, price_nanos, prompt_tokens: 500, cached_tokens: 0, score, order: None, model: 0, is_behind: false }
}

fn ask(mode: Mode, seed: u64) -> Ask {
    Ask { mode, is_stream: true, seed }
}

/// How often each candidate goes first, of a thousand seeds.
fn firsts(facts: &[Facts], mode: Mode) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for seed in 0..1000 {
        *counts.entry(rank(facts, &ask(mode, seed))[0].index).or_default() += 1;
    }
    counts
}

fn mostly(facts: &[Facts], mode: Mode) -> usize {
    firsts(facts, mode).into_iter().max_by_key(|(_, count)| *count).unwrap().0
}

#[test]
fn modes_prefer_what_they_say() {
    let mut list = [
        facts(1, 100, Some(2000.0), 0.99),
        facts(2, 400, Some(100.0), 0.99),
        facts(3, 400, Some(2000.0), 0.99),
        facts(4, 160, Some(600.0), 0.99),
    ];
    for (index, ms) in [50.0, 50.0, 5.0, 20.0].into_iter().enumerate() {
        list[index].score.pace = Some(spread(ms, 200.0));
    }
    for (mode, wanted) in [(Mode::Price, 0), (Mode::Latency, 1), (Mode::Throughput, 2), (Mode::Balanced, 3)] {
        assert_eq!(mostly(&list, mode), wanted, "{mode:?}");
    }
    let plain = Ask { is_stream: false, ..ask(Mode::Latency, 3) };
    assert_eq!(rank(&list, &plain)[0].index, 2, "a plain answer is soonest where tokens come quickest");
}

#[test]
fn an_unreliable_offer_loses_even_when_cheap() {
    let list = [facts(1, 80, None, 0.6), facts(2, 100, None, 0.99)];
    for mode in [Mode::Balanced, Mode::Price, Mode::Latency, Mode::Throughput] {
        assert_eq!(mostly(&list, mode), 1, "{mode:?}");
    }
}

#[test]
fn the_order_before_the_score() {
    let of = |change: &dyn Fn(&mut [Facts; 4])| {
        let mut list = [1, 2, 3, 4].map(|key| facts(key, 100 * key as i64, None, 0.99));
        change(&mut list);
        rank(&list, &ask(Mode::Price, 1)).into_iter().map(|r| r.index).collect::<Vec<_>>()
    };
    assert_eq!(of(&|_| ()), [0, 1, 2, 3]);
    assert_eq!(of(&|l| l[2].order = Some(0)), [2, 0, 1, 3]);
    assert_eq!(of(&|l| l[0].is_behind = true), [1, 2, 3, 0]);
    assert_eq!(of(&|l| l[0].model = 1), [1, 2, 3, 0]);
    assert_eq!(of(&|l| l[0].score.standing = Standing::Broken(Millis(9))), [1, 2, 3, 0]);
    let last = |l: &mut [Facts; 4]| {
        l[0].score.standing = Standing::Broken(Millis(9));
        l[1].score.standing = Standing::Cooling(Millis(9));
        l[1].order = Some(0);
        l[2].model = 1;
    };
    assert_eq!(of(&last), [3, 2, 1, 0], "another model before a last resort");
}

#[test]
fn equals_share_the_load_and_a_tenth_worse_gets_a_tenth() {
    let equal: Vec<Facts> = (0..4).map(|key| facts(key, 100, Some(300.0), 0.99)).collect();
    let counts = firsts(&equal, Mode::Balanced);
    assert!(counts.len() == 4 && counts.values().all(|count| (180..320).contains(count)), "{counts:?}");
    let near = [facts(1, 100, None, 1.0), facts(2, 110, None, 1.0)];
    let second = firsts(&near, Mode::Balanced).get(&1).copied().unwrap_or(0);
    assert!((50..140).contains(&second), "{second}");
}

#[test]
fn what_is_little_known_is_tried_and_what_is_known_to_be_worse_is_not() {
    let mut list = [facts(1, 100, Some(300.0), 0.99), facts(2, 100, Some(450.0), 0.99)];
    assert_eq!(firsts(&list, Mode::Latency).get(&1), None, "known");
    list[1].score.latency = Some(spread(450.0, 0.4));
    let tries = firsts(&list, Mode::Latency).get(&1).copied().unwrap_or(0);
    assert!((10..300).contains(&tries), "{tries}");
    list[1].score.latency = None;
    assert!(firsts(&list, Mode::Latency).get(&1).copied().unwrap_or(0) > 200, "unknown: as good as the rest");
}

#[test]
fn a_warm_cache_keeps_a_conversation_while_it_pays() {
    let mut list = [facts(1, 100, Some(300.0), 0.99), facts(2, 100, Some(330.0), 0.99)];
    list[0].prompt_tokens = 8_000;
    (list[1].prompt_tokens, list[1].cached_tokens) = (8_000, 7_000);
    let long = ask(Mode::Latency, 1);
    assert_eq!(rank(&list, &long)[0].index, 1);
    list[1].score.latency = Some(spread(3000.0, 200.0));
    assert_eq!(rank(&list, &long)[0].index, 0, "too slow to be worth it");
}

#[test]
fn a_ramp_gives_its_share() {
    let mut list = [facts(1, 50, None, 0.99), facts(2, 100, None, 0.99)];
    list[0].score.standing = Standing::Ramping(0.3);
    let first = firsts(&list, Mode::Price)[&0];
    assert!((250..350).contains(&first), "{first}");
}

#[test]
fn a_seed_can_be_replayed_and_a_candidate_more_does_not_shuffle_the_others() {
    let mut list: Vec<Facts> = (0..6).map(|key| facts(key, 100, Some(300.0), 0.99)).collect();
    let order = |list: &[Facts]| -> Vec<u64> {
        rank(list, &ask(Mode::Balanced, 5)).into_iter().map(|r| list[r.index].key).collect()
    };
    let before = order(&list);
    assert_eq!(before, order(&list));
    list.insert(0, facts(77, 100, Some(300.0), 0.99));
    let after: Vec<u64> = order(&list).into_iter().filter(|key| *key != 77).collect();
    assert_eq!(before, after);
}

#[test]
fn free_offers_and_no_candidates_do_no_harm() {
    assert!(rank(&[], &ask(Mode::Price, 1)).is_empty());
    let ranked = rank(&[facts(1, 0, Some(1.0), 0.0)], &ask(Mode::Price, 1));
    assert!(ranked[0].factors.score().is_finite() && ranked[0].factors.score() > 0.0);
}
