use super::*;
use crate::health::share::{parse_report, write_report};

const A: Place<'static> = Place { provider: "p", upstream: "a", credential: None };
const B: Place<'static> = Place { provider: "p", upstream: "b", credential: None };
const OTHER: Place<'static> = Place { provider: "q", upstream: "a", credential: None };

fn served(ms: u64) -> Sample {
    Sample::Served { first_byte_ms: Some(ms), prompt_tokens: 0 }
}

fn fail(board: &mut Board, place: &Place<'_>, times: u64, from: u64) {
    (0..times).for_each(|i| board.on_sample(place, Sample::Failed, Millis(from + i)));
}

fn is_broken(board: &Board, place: &Place<'_>, at: u64) -> bool {
    matches!(board.score(place, Millis(at)).standing, Standing::Broken(_))
}

#[test]
fn a_new_offer_is_trusted_and_failures_count_and_fade() {
    let mut board = Board::default();
    assert_eq!(board.score(&A, Millis(0)), Score::UNKNOWN);
    fail(&mut board, &A, 1, 0);
    let failed = board.score(&A, Millis(0)).reliability;
    assert!(failed < 0.85, "{failed}");
    assert!(board.score(&A, Millis(1_200_000)).reliability > 0.98, "old failures fade");
}

#[test]
fn twenty_failures_open_the_breaker_of_that_offer_and_of_nothing_else() {
    let mut board = Board::default();
    fail(&mut board, &A, 4, 0);
    assert!(!is_broken(&board, &A, 5));
    fail(&mut board, &A, 16, 5);
    assert!(is_broken(&board, &A, 30));
    assert_eq!(board.score(&B, Millis(30)), Score::UNKNOWN, "another offer of the provider");
    assert_eq!(board.score(&OTHER, Millis(30)), Score::UNKNOWN);
}

#[test]
fn a_provider_whose_offers_all_fail_is_broken_as_a_whole() {
    let mut board = Board::default();
    let c = Place::new("p", "c");
    (0..5).for_each(|i| [A, B].iter().for_each(|place| board.on_sample(place, Sample::Failed, Millis(i))));
    assert!(is_broken(&board, &c, 10), "an offer nobody tried");
    assert!(!is_broken(&board, &OTHER, 10));
    board.on_sample(&c, served(10), Millis(20));
    assert!(!is_broken(&board, &c, 21));
}

#[test]
fn a_trial_is_one_request_with_the_trust_of_a_new_offer() {
    let mut board = Board::default();
    fail(&mut board, &A, 5, 0);
    let Standing::Broken(until) = board.score(&A, Millis(10)).standing else { panic!("broken") };
    let trial = board.score(&A, until);
    assert_eq!((trial.standing, trial.reliability), (Standing::Trial(TRIAL_SHARE), PRIOR_RELIABILITY));
    board.on_sent(&A, None, until);
    assert!(is_broken(&board, &A, until.0), "the next request does not try as well");
    board.on_sample(&A, served(10), until.plus(50));
    assert!(matches!(board.score(&A, until.plus(50)).standing, Standing::Ramping(_)));
    assert!(board.score(&A, until.plus(50)).reliability > 0.98, "the past does not count");
}

#[test]
fn a_busy_offer_cools_down_as_long_as_it_said_and_is_not_blamed() {
    let mut board = Board::default();
    board.on_sample(&A, Sample::Busy { wait_ms: Some(700) }, Millis(0));
    assert_eq!(board.score(&A, Millis(699)).standing, Standing::Cooling(Millis(700)));
    assert_eq!(board.score(&A, Millis(700)), Score::UNKNOWN, "busy is not broken");
    board.on_sample(&A, Sample::Busy { wait_ms: Some(86_400_000) }, Millis(1_000));
    assert_eq!(board.score(&A, Millis(1_001)).standing, Standing::Cooling(Millis(1_000 + COOL_MS_MAX)));
}

#[test]
fn without_a_wait_the_cool_down_doubles_once_per_cool_down() {
    let mut board = Board::default();
    (0..9).for_each(|i| board.on_sample(&A, Sample::Busy { wait_ms: None }, Millis(i)));
    assert_eq!(board.score(&A, Millis(9)).standing, Standing::Cooling(Millis(COOL_MS)));
    board.on_sample(&A, Sample::Busy { wait_ms: None }, Millis(COOL_MS));
    assert_eq!(board.score(&A, Millis(COOL_MS)).standing, Standing::Cooling(Millis(3 * COOL_MS)));
}

#[test]
fn cool_downs_are_the_credentials() {
    let mut board = Board::default();
    let theirs = Place { credential: Some("cred_1"), ..A };
    board.on_sample(&theirs, Sample::Busy { wait_ms: Some(700) }, Millis(0));
    board.on_sample(&A, Sample::Refused, Millis(0));
    assert_eq!(board.score(&theirs, Millis(1)).standing, Standing::Cooling(Millis(700)));
    assert_eq!(board.score(&A, Millis(1)).standing, Standing::Broken(Millis(REFUSED_MS)));
    assert_eq!(board.score(&A, Millis(1)).reliability, PRIOR_RELIABILITY, "our key is not its fault");
}

#[test]
fn latency_is_that_of_an_empty_prompt_and_pace_is_per_token() {
    let mut board = Board::default();
    for i in 0..50 {
        board.on_sample(&A, Sample::Served { first_byte_ms: Some(900), prompt_tokens: 8_000 }, Millis(i));
        board.on_sample(&B, served(300), Millis(i));
        board.on_sample(&A, Sample::Paced { output_tokens: 100, ms: 2_000 }, Millis(i));
    }
    let (a, b) = (board.score(&A, Millis(50)), board.score(&B, Millis(50)));
    assert!((a.latency.unwrap().median() - b.latency.unwrap().median()).abs() < 1.0);
    assert!((a.pace.unwrap().median() - 20.0).abs() < 0.1);
    let long = a.first_byte_p95_ms(8_000).unwrap();
    assert!(long > 900 && long < 1_500, "{long}");
}

#[test]
fn reports_add_up_and_a_cold_isolate_starts_from_the_snapshot() {
    let (mut one, mut two) = (Board::new(1), Board::new(2));
    let mut object = Board::new(3);
    for i in 0..60 {
        one.on_sample(&A, served(200), Millis(1_000 + i));
        two.on_sample(&A, served(200), Millis(1_000 + i));
    }
    fail(&mut two, &OTHER, 6, 2_000);
    for board in [&mut one, &mut two] {
        for (_, report) in board.take_report(Millis(4_000)) {
            object.merge(&parse_report(&write_report(&report), Millis(4_900)).unwrap(), Millis(4_900));
        }
        assert!(board.take_report(Millis(4_000)).is_empty(), "told once");
    }
    let text = object.snapshot(Millis(5_000)).write();
    let mut cold = Board::new(4);
    cold.adopt(Snapshot::parse(&text).unwrap(), Millis(5_001));
    let a = cold.score(&A, Millis(5_001));
    assert!((a.latency.unwrap().median() - 200.0).abs() < 2.0 && a.weight > 20.0);
    assert!(is_broken(&cold, &OTHER, 5_001));
    assert!(cold.score(&OTHER, Millis(5_001)).reliability < 0.6);
}

#[test]
fn what_an_isolate_saw_itself_wins() {
    let mut object = Board::new(3);
    let failing = Entry {
        provider: "p".into(),
        upstream: "a".into(),
        broken: 9,
        tally: Tally { bad: 9.0, ..Tally::default() },
        failed_at: Millis(9_900),
        ..Entry::default()
    };
    object.merge(&[failing], Millis(10_000));
    let mut isolate = Board::new(1);
    isolate.on_sample(&A, served(200), Millis(10_500));
    isolate.adopt(object.snapshot(Millis(11_000)), Millis(11_000));
    assert!(!is_broken(&isolate, &A, 11_000), "it served here just now");
}

#[test]
fn news_of_a_recovery_lets_the_others_try() {
    let (mut isolate, mut object) = (Board::new(1), Board::new(3));
    fail(&mut isolate, &A, 5, 10_000);
    let good = Entry {
        provider: "p".into(),
        upstream: "a".into(),
        tally: Tally { good: 3.0, ..Tally::default() },
        served_at: Millis(10_900),
        ..Entry::default()
    };
    object.merge(&[good], Millis(11_000));
    isolate.adopt(object.snapshot(Millis(11_500)), Millis(12_000));
    assert_eq!(isolate.score(&A, Millis(12_000)).standing, Standing::Trial(TRIAL_SHARE));
}

#[test]
fn a_late_report_neither_mends_nor_breaks() {
    let mut object = Board::new(3);
    let report = |good: f64, served_at: u64, bad: u64, failed_at: u64| Entry {
        provider: "p".into(),
        upstream: "a".into(),
        #[allow(clippy::cast_precision_loss)]
        tally: Tally { good, bad: bad as f64, ..Tally::default() },
        broken: bad,
        served_at: Millis(served_at),
        failed_at: Millis(failed_at),
        ..Entry::default()
    };
    object.merge(&[report(0.0, 0, 6, 9_000)], Millis(10_000));
    object.merge(&[report(40.0, 8_900, 0, 0)], Millis(11_000));
    assert!(is_broken(&object, &A, 11_000), "what was served before it broke");
    object.merge(&[report(1.0, 12_500, 0, 0)], Millis(13_000));
    assert!(!is_broken(&object, &A, 13_000), "its recovery");
    object.merge(&[report(0.0, 0, 9, 12_000)], Millis(14_000));
    assert!(!is_broken(&object, &A, 14_000), "what failed before it recovered");
    object.merge(&[report(0.0, 0, 9, 14_900)], Millis(15_000));
    assert!(is_broken(&object, &A, 15_000));
}

#[test]
fn the_number_of_offers_is_bounded() {
    let mut board = Board::default();
    let name = |i: usize| format!("m{i}");
    for i in 0..=OFFERS_MAX {
        board.on_sample(&Place::new("p", &name(i)), served(10), Millis(i as u64));
    }
    assert_eq!(board.views(Millis(0)).len(), OFFERS_MAX);
    assert_eq!(board.score(&Place::new("p", "m0"), Millis(9_999)).latency, None, "the oldest went");
}

#[test]
fn an_offer_that_leaves_requests_waiting_is_silent_until_it_answers() {
    let mut board = Board::default();
    board.on_sample(&A, served(200), Millis(0));
    let silent = |board: &Board, at: u64| board.score(&A, Millis(at)).standing == Standing::Silent;
    let first = board.on_sent(&A, Some(1_000), Millis(100));
    let second = board.on_sent(&A, Some(1_000), Millis(300));
    assert!(!silent(&board, 1_099), "not late yet");
    assert!(silent(&board, 1_100));
    board.on_ended(&A, first);
    assert!(!silent(&board, 1_299), "given up, and the other is not late yet");
    assert!(silent(&board, 1_300));
    board.on_sample(&A, served(900), Millis(1_301));
    assert!(!silent(&board, 1_302), "it answers somebody");
    board.on_ended(&A, second);
}

#[test]
fn three_silences_open_the_breaker() {
    let mut board = Board::default();
    (0..2).for_each(|i| board.on_sample(&A, Sample::Silent, Millis(i)));
    assert!(!is_broken(&board, &A, 5));
    board.on_sample(&A, Sample::Silent, Millis(5));
    assert!(is_broken(&board, &A, 6));
}

#[test]
fn a_wait_under_one_of_several_credentials_is_told_to_all_and_is_that_ones_alone() {
    let (mut isolate, mut object, mut other) = (Board::default(), Board::default(), Board::default());
    let wait = |ms| Sample::Busy { wait_ms: Some(ms) };
    isolate.on_sample(&A.in_slot(3), wait(60_000), Millis(1_000));
    isolate.on_sample(&A.in_slot(7), wait(30_000), Millis(1_000));
    let report = write_report(&isolate.take_report(Millis(9_000)).remove(0).1);
    object.merge(&parse_report(&report, Millis(9_000)).unwrap(), Millis(9_000));
    let snapshot = Snapshot::parse(&object.snapshot(Millis(9_000)).write()).unwrap();
    other.adopt(snapshot.clone(), Millis(10_000));
    let mut restarted = Board::default();
    restarted.restore(&snapshot, Millis(10_000));
    for board in [&isolate, &object, &other, &restarted] {
        let until = |slot| board.cools_until(&A.in_slot(slot), Millis(10_000)).map(|until| until.0);
        assert_eq!([1, 2, 3, 7].map(until), [None, None, Some(61_000), Some(31_000)]);
        assert_eq!(board.score(&A, Millis(10_000)).standing, Standing::Flowing, "the first serves");
    }
    // A workspace's own credential is nobody else's affair.
    let mut own = Board::default();
    own.on_sample(&Place { credential: Some("byok_1"), ..A }, wait(60_000), Millis(1_000));
    assert!(own.take_report(Millis(9_000)).is_empty());
}

#[test]
fn a_failing_offers_own_wait_holds_for_every_credential() {
    let (mut isolate, mut object, mut other) = (Board::default(), Board::default(), Board::default());
    isolate.on_sample(&A.in_slot(2), Sample::Paused { wait_ms: 60_000 }, Millis(1_000));
    object.merge(&isolate.take_report(Millis(9_000)).remove(0).1, Millis(9_000));
    other.adopt(object.snapshot(Millis(9_000)), Millis(10_000));
    let own = Place { credential: Some("byok_1"), ..A };
    for board in [&isolate, &object, &other] {
        for place in [A, A.in_slot(2), A.in_slot(9), own] {
            assert_eq!(board.score(&place, Millis(10_000)).standing, Standing::Cooling(Millis(61_000)), "{place:?}");
        }
        assert_eq!(board.score(&B, Millis(10_000)).standing, Standing::Flowing);
        assert_eq!(board.score(&A, Millis(61_000)).standing, Standing::Flowing);
    }
}
