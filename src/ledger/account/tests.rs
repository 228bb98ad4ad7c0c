#![allow(clippy::arithmetic_side_effects, reason = "sums of a test")]

use proptest::prelude::*;

use super::*;

const HOLD_MS: u64 = 1000;

fn account(balance: i64) -> Account<u32> {
    let mut account = Account::open(Nanos::ZERO, Nanos::ZERO, &[], Millis(0), HOLD_MS);
    account.grant(Nanos(balance));
    account
}

fn check(account: &Account<u32>) {
    assert!(account.balance() >= Nanos::ZERO, "{account:?}");
    assert!(account.held() <= account.balance(), "{account:?}");
    assert!(account.held() <= account.ceiling() || account.held() == Nanos::ZERO, "{account:?}");
}

fn held(admission: Admission) -> i64 {
    match admission {
        Admission::Held { nanos, .. } => nanos.0,
        Admission::Short { .. } => -1,
    }
}

#[test]
fn a_hold_is_what_is_wanted_or_what_there_is_but_not_under_the_least() {
    let mut a = account(100);
    assert_eq!(held(a.admit(1, Nanos(60), Nanos(60), Millis(0), HOLD_MS)), 60);
    assert_eq!(held(a.admit(2, Nanos(60), Nanos(10), Millis(0), HOLD_MS)), 40);
    assert_eq!(a.admit(3, Nanos(60), Nanos(10), Millis(0), HOLD_MS), Admission::Short { available: Nanos(0) });
    check(&a);
}

#[test]
fn a_settlement_is_final() {
    let mut a = account(100);
    a.admit(1, Nanos(60), Nanos(60), Millis(0), HOLD_MS);
    let first = a.settle(&1, Nanos(25), Nanos(60), Millis(0), Millis(1));
    assert_eq!(first, Settled::Charged { charged: Nanos(25), lost: Nanos(0) });
    assert_eq!(a.settle(&1, Nanos(50), Nanos(60), Millis(0), Millis(2)), Settled::Again);
    assert_eq!((a.balance(), a.available()), (Nanos(75), Nanos(75)));
}

#[test]
fn what_exceeds_hold_and_balance_is_a_loss_and_other_holds_are_safe() {
    let mut a = account(100);
    a.admit(1, Nanos(30), Nanos(30), Millis(0), HOLD_MS);
    a.admit(2, Nanos(60), Nanos(60), Millis(0), HOLD_MS);
    assert_eq!(
        a.settle(&1, Nanos(70), Nanos(30), Millis(0), Millis(1)),
        Settled::Charged { charged: Nanos(40), lost: Nanos(30) }
    );
    assert_eq!(
        a.settle(&2, Nanos(60), Nanos(60), Millis(0), Millis(1)),
        Settled::Charged { charged: Nanos(60), lost: Nanos(0) }
    );
    assert_eq!(a.balance(), Nanos(0));
}

#[test]
fn an_expired_hold_is_final_and_late_news_are_a_loss() {
    let mut a = account(100);
    a.admit(1, Nanos(60), Nanos(60), Millis(0), HOLD_MS);
    assert!(a.expire(Millis(999)).is_empty());
    assert_eq!(a.expire(Millis(1000)), [1]);
    assert_eq!(a.available(), Nanos(100));
    assert_eq!(a.settle(&1, Nanos(5), Nanos(60), Millis(0), Millis(1001)), Settled::Late { lost: Nanos(5) });
    assert_eq!(a.settle(&1, Nanos(5), Nanos(60), Millis(0), Millis(1002)), Settled::Again, "and once");
    assert_eq!(a.settle(&9, Nanos(5), Nanos(60), Millis(0), Millis(1001)), Settled::Late { lost: Nanos(5) });
    assert_eq!(a.balance(), Nanos(100));
}

#[test]
fn a_crash_delays_credits_and_creates_none() {
    let mut a = account(1_000_000_000_000);
    a.admit(1, Nanos(60), Nanos(60), Millis(0), HOLD_MS);
    let mut b: Account<u32> = Account::open(a.balance(), a.ceiling(), a.ghosts(), Millis(10), HOLD_MS);
    assert_eq!(b.available().0, a.balance().0 - a.ceiling().0);
    // The request lived on and settles against the ghost.
    let settled = b.settle(&1, Nanos(25), Nanos(60), Millis(0), Millis(11));
    assert_eq!(settled, Settled::Charged { charged: Nanos(25), lost: Nanos(0) });
    assert_eq!(b.settle(&1, Nanos(25), Nanos(60), Millis(0), Millis(12)), Settled::Again);
    b.expire(Millis(10 + HOLD_MS));
    assert_eq!(b.available().0, 1_000_000_000_000 - 25);
}

#[test]
fn the_ceiling_is_raised_in_coarse_steps() {
    let mut a = account(1_000_000_000_000);
    a.set_ceiling();
    let raises = (0..1000u32)
        .filter(|id| {
            matches!(
                a.admit(*id, Nanos(1_000_000_000), Nanos(1), Millis(0), HOLD_MS),
                Admission::Held { raised: true, .. }
            )
        })
        .count();
    assert!((1..8).contains(&raises), "{raises}");
    check(&a);
}

#[test]
fn credits_can_be_taken_back_down_to_what_is_held() {
    let mut a = account(100);
    a.admit(1, Nanos(60), Nanos(60), Millis(0), HOLD_MS);
    assert_eq!(a.grant(Nanos(-1000)), Some(Nanos(-40)));
    assert_eq!(a.balance(), Nanos(60));
    assert_eq!(a.grant(Nanos(i64::MAX)), None, "overflow is refused");
}

#[derive(Debug, Clone)]
enum Step {
    Admit { id: u32, wanted: i64, least: i64 },
    Settle { id: u32, cost: i64 },
    Grant(i64),
    Pass(u64),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..40, 0i64..500, 0i64..500).prop_map(|(id, wanted, least)| Step::Admit { id, wanted, least }),
        4 => (0u32..40, 0i64..700).prop_map(|(id, cost)| Step::Settle { id, cost }),
        1 => (-300i64..900).prop_map(Step::Grant),
        1 => (0u64..1500).prop_map(Step::Pass),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    /// Whatever happens in whatever order, with crashes between any two steps: the balance is grants less charges,
    /// never below zero, and nobody is charged twice.
    #[test]
    fn the_books_balance(steps in prop::collection::vec(step(), 0..120)) {
        let mut a = account(1000);
        a.set_ceiling();
        let (mut now, mut granted, mut charged) = (Millis(0), 1000i64, 0i64);
        let mut admitted: HashMap<u32, (Nanos, Millis)> = HashMap::new();
        let mut paid: Vec<u32> = Vec::new();
        for step in steps {
            now = now.plus(1);
            match step {
                Step::Admit { id, wanted, least } => {
                    if let Admission::Held { nanos, .. } = a.admit(id, Nanos(wanted), Nanos(least), now, HOLD_MS) {
                        admitted.insert(id, (nanos, now));
                    }
                }
                Step::Settle { id, cost } => {
                    let Some((claimed, at)) = admitted.get(&id).copied() else { continue };
                    if let Settled::Charged { charged: taken, lost } = a.settle(&id, Nanos(cost), claimed, at, now) {
                        prop_assert_eq!(taken.0 + lost.0, cost);
                        prop_assert!(!paid.contains(&id), "charged twice");
                        paid.push(id);
                        charged += taken.0;
                    }
                }
                Step::Grant(nanos) => granted += a.grant(Nanos(nanos)).unwrap().0,
                Step::Pass(ms) => now = now.plus(ms),
                Step::Crash => {
                    let known: Vec<(Millis, u32)> = a.settled_order.iter().copied().collect();
                    // Some holds are stored by themselves.
                    let durable: Vec<(u32, Hold)> =
                        a.holds.iter().filter(|(id, _)| *id % 3 == 0).map(|(id, hold)| (*id, *hold)).collect();
                    a = Account::open(a.balance(), a.ceiling(), a.ghosts(), now, HOLD_MS);
                    known.into_iter().for_each(|(at, id)| a.remember(id, at));
                    for (id, hold) in durable {
                        prop_assert!(a.restore(id, hold.nanos, hold.expires), "what was held is covered");
                    }
                }
            }
            a.expire(now);
            check(&a);
            prop_assert_eq!(a.balance().0, granted - charged);
        }
    }
}

#[test]
fn what_was_settled_is_never_charged_again_however_late_the_second_word_comes() {
    // Holds that last longer than the least memory.
    let hold_ms = 2 * SETTLED_MEMORY_MS;
    let minutes = |n: u64| Millis(n * 60_000);
    for crashes in [false, true] {
        let mut a: Account<u32> = Account::open(Nanos::ZERO, Nanos::ZERO, &[], Millis(0), hold_ms);
        a.grant(Nanos(1_000));
        a.admit(1, Nanos(60), Nanos(60), minutes(0), hold_ms);
        a.admit(2, Nanos(60), Nanos(60), minutes(0), hold_ms);
        a.settle(&1, Nanos(50), Nanos(60), minutes(0), minutes(1));
        if crashes {
            a = Account::open(a.balance(), a.ceiling(), a.ghosts(), minutes(2), hold_ms);
            a.remember(1, minutes(1));
        }
        for at in [12, 15, 19, 21, 25, 60] {
            a.expire(minutes(at));
            let again = a.settle(&1, Nanos(50), Nanos(60), minutes(0), minutes(at));
            assert!(matches!(again, Settled::Again | Settled::Late { .. }), "{again:?} after {at} minutes");
            assert_eq!(a.balance(), Nanos(950));
        }
    }
}

#[test]
fn a_forgotten_hold_of_nothing_is_settled_all_the_same_and_one_that_is_over_is_not() {
    let open = || Account::<u32>::open(Nanos(100), Nanos(0), &[], Millis(10), HOLD_MS);
    let nothing = Settled::Charged { charged: Nanos(0), lost: Nanos(0) };
    assert_eq!(open().settle(&1, Nanos(0), Nanos(0), Millis(5), Millis(20)), nothing);
    assert_eq!(open().settle(&1, Nanos(7), Nanos(0), Millis(5), Millis(1_005)), Settled::Late { lost: Nanos(7) });
    assert_eq!(open().settle(&1, Nanos(7), Nanos(0), Millis(15), Millis(20)), Settled::Late { lost: Nanos(7) });
}

#[test]
fn several_crashes_delay_what_was_held_before_each_and_no_more() {
    let mut a = account(100 * CEILING_LEAST);
    let share = 100 * CEILING_LEAST / CEILING_SHARE;
    for crash in 1..=5u64 {
        let now = Millis(crash * 300);
        let id = u32::try_from(crash).unwrap();
        assert!(held(a.admit(id, Nanos(1000), Nanos(1000), now, HOLD_MS)) == 1000);
        a = Account::open(a.balance(), a.ceiling(), a.ghosts(), now.plus(1), HOLD_MS);
        // Holds last a second, so those of the last four crashes count.
        a.expire(now.plus(1));
        let ghosts = i64::try_from(crash.min(4)).unwrap();
        assert_eq!(a.held(), Nanos(ghosts * share), "after {crash} crashes");
    }
    // Each settles against its own ghost, and what is left of that ends at its own time.
    a.settle(&5, Nanos(10), Nanos(1000), Millis(1500), Millis(1600));
    a.settle(&3, Nanos(10), Nanos(1000), Millis(900), Millis(1600));
    assert_eq!(a.held(), Nanos(4 * share - 2000));
    a.expire(Millis(2300));
    assert_eq!(a.held(), Nanos(share - 1000));
    a.expire(Millis(2501));
    assert_eq!((a.held(), a.balance()), (Nanos(0), Nanos(100 * CEILING_LEAST - 20)));
}
