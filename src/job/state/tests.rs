use serde_json::json;

use super::*;
use crate::attempt::classify::{Breakage, answer, breakage};
use crate::family::fault::Fault;
use crate::job::family::Source;
use crate::job::order::Kind;

const PACE: Pace = Pace { first_ms: 2_000, most_ms: 10_000, watched_ms: 700, life_ms: 100_000, keep_ms: 1_000_000 };

fn seat(id: &str, family: Family, parts: u64) -> Seat {
    let provider = serde_json::from_value(json!({
        "id": id, "name": id, "base_url": "https://p.dev/v1", "families": ["runway"], "auth": {"header": "Authorization", "prefix": "Bearer "},
    }));
    let offer = serde_json::from_value(json!({
        "provider": id, "upstream": "up", "kind": "video", "card": {"as_of": "", "prices": {"output_video_seconds": 100_000_000_000_000i64}},
        "is_free": false,
    }));
    let terms = Terms { kind: Kind::Video, seconds: 5, resolution: None, ratio: None, size: (16, 9), parts, each: 1 };
    Seat {
        provider: provider.unwrap(),
        offer: offer.unwrap(),
        model: "a/b".into(),
        family_name: "runway".into(),
        family,
        own: None,
        slot: 1,
        slots: Vec::new(),
        terms,
    }
}

fn job(seats: Vec<Seat>) -> Job {
    Job { is_claimed: true, ..unclaimed(seats) }
}

fn unclaimed(seats: Vec<Seat>) -> Job {
    Job::new(About {
        id: RequestId::new(Millis(1), [1; 10]),
        workspace: WorkspaceId::new(Millis(1), [2; 10]),
        key: KeyId::new(Millis(1), [3; 10]),
        front: Front::Generations,
        arrived: Millis(0),
        admitted: Millis(0),
        held: Nanos(2_000_000_000),
        deadline: Millis(PACE.life_ms),
        model_asked: "a/b".into(),
        snapshot: "s".into(),
        fee_basis_points: 0,
        quality: None,
        references: 0,
        session: None,
        user: None,
        origin: Origin::default(),
        why: None,
        seats,
        pace: PACE,
    })
}

fn handle(id: &str) -> Handle {
    Handle { id: id.into(), ..Handle::default() }
}

fn made(seconds: u64) -> Progress {
    let media = vec![Media { kind: Kind::Video, source: Source::Link("https://f".into()) }];
    Progress::Made(media, Usage::default().with(crate::usage::Meter::OutputVideoSeconds, seconds))
}

fn waiting(is_running: bool) -> Progress {
    Progress::Waiting { is_running, percent: None }
}

fn refused(status: u16) -> Refused {
    Refused { verdict: answer(status, &Fault::default()), status: Some(status), retry_after_ms: None }
}

/// What is left to do at the end, until there is nothing.
fn rest(job: &mut Job, now: Millis) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let step = job.next(now);
        match step {
            Step::Wait(_) | Step::Forget => return [steps, vec![step]].concat(),
            Step::Settle => job.on_settled(),
            Step::List => job.on_listed(job.version),
            Step::Cancel(part) => job.on_cancelled(part),
            Step::Claim | Step::Submit(_) | Step::Poll(_) => panic!("{step:?} after the end"),
        }
        steps.push(step);
    }
}

#[test]
fn from_order_to_settlement() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    assert_eq!(job.next(Millis(10)), Step::Submit(0));
    job.on_started(handle("h"), 201, Millis(10), Millis(20));
    assert_eq!((job.status, job.next(Millis(20))), (Status::Queued, Step::Wait(Millis(2_020))));
    assert_eq!(job.next(Millis(2_020)), Step::Poll(0));
    job.on_progress(0, waiting(true), false, Millis(2_030));
    assert_eq!((job.status, job.next(Millis(2_030))), (Status::Running, Step::Wait(Millis(5_030))));
    assert_eq!(job.next(Millis(5_030)), Step::Poll(0));
    job.on_progress(0, made(6), false, Millis(5_040));
    assert_eq!((job.status, job.cost()), (Status::Completed, Nanos(600_000_000)));
    assert_eq!(rest(&mut job, Millis(5_040)), [Step::Settle, Step::List, Step::Wait(Millis(1_005_040))]);
    let row = job.row(Millis(9_000));
    assert_eq!((row.status, row.ending, row.total_ms, row.attempts.len()), (200, Ending::Finished, 5_040, 1));
    assert_eq!(job.next(Millis(1_005_040)), Step::Forget);
}

#[test]
fn a_host_that_is_busy_or_refuses_the_credential_is_asked_with_another_one_and_one_at_fault_is_not() {
    let mut job = job(vec![Seat { slots: vec![3, 2], ..seat("p", Family::Luma, 1) }, seat("q", Family::Luma, 1)]);
    let asked = |job: &Job| (job.place, job.seat().map_or(0, |seat| seat.slot));
    assert_eq!((job.next(Millis(0)), asked(&job)), (Step::Submit(0), (0, 1)));
    for (status, then) in [(429, (0, 3)), (401, (0, 2)), (503, (1, 1))] {
        job.on_refused(&refused(status), Millis(0), Millis(1));
        assert_eq!(asked(&job), then);
        assert_eq!(job.next(Millis(1)), Step::Submit(then.0));
    }
    job.on_started(handle("h"), 201, Millis(1), Millis(2));
    let slots: Vec<Option<u8>> = job.attempts.iter().map(|row| row.slot).collect();
    assert_eq!(slots, [None, Some(3), Some(2), None]);
}

#[test]
fn the_next_host_is_asked_until_one_has_it() {
    let mut job = job(vec![seat("p", Family::Luma, 1), seat("q", Family::Luma, 1)]);
    assert_eq!(job.next(Millis(0)), Step::Submit(0));
    job.on_refused(&refused(500), Millis(0), Millis(5));
    assert_eq!((job.status, job.next(Millis(5))), (Status::Queued, Step::Submit(1)));
    job.on_started(handle("h"), 200, Millis(5), Millis(6));
    job.on_progress(0, Progress::Failed(Code::ProviderError), false, Millis(2_100));
    assert_eq!(
        (job.status, job.cost(), job.ending()),
        (Status::Failed, Nanos::ZERO, Ending::UpstreamFailed),
        "after the start nobody else is asked"
    );
    assert_eq!(job.attempts.iter().map(|row| row.provider.as_str()).collect::<Vec<_>>(), ["p", "q"]);
}

#[test]
fn a_clients_mistake_asks_nobody_else_and_everybodys_refusal_ends_it() {
    let mut one = job(vec![seat("p", Family::Luma, 1), seat("q", Family::Luma, 1)]);
    one.next(Millis(0));
    one.on_refused(&refused(400), Millis(0), Millis(5));
    assert_eq!(
        (one.status, one.failure().code, one.ending()),
        (Status::Failed, Code::InvalidInput, Ending::AttemptsFailed)
    );
    let mut all = job(vec![seat("p", Family::Luma, 1), seat("q", Family::Luma, 1)]);
    for status in [429, 401] {
        all.next(Millis(0));
        all.on_refused(&refused(status), Millis(0), Millis(5));
    }
    assert_eq!(
        (all.status, all.failure().code),
        (Status::Failed, Code::ProviderBusy),
        "a credential of ours decides over nothing"
    );
    assert_eq!(rest(&mut all, Millis(5)), [Step::Settle, Step::List, Step::Wait(Millis(1_000_005))]);
}

#[test]
fn a_crash_repeats_one_step_at_most() {
    let mut job = job(vec![seat("p", Family::Luma, 1), seat("q", Family::Luma, 1)]);
    let text = |job: &Job| serde_json::to_string(job).unwrap();
    for _ in 0..2 {
        assert_eq!(job.next(Millis(0)), Step::Submit(0));
        job = serde_json::from_str(&text(&job)).unwrap();
    }
    assert_eq!(job.next(Millis(0)), Step::Submit(0));
    job = serde_json::from_str(&text(&job)).unwrap();
    assert_eq!(job.next(Millis(0)), Step::Submit(1), "a host at which it always dies is left");
    job.on_started(handle("h"), 200, Millis(0), Millis(0));
    assert_eq!(job.next(Millis(2_000)), Step::Poll(0));
    job = serde_json::from_str(&text(&job)).unwrap();
    assert_eq!(job.next(Millis(2_000)), Step::Poll(0));
    job.on_progress(0, made(0), false, Millis(2_000));
    for _ in 0..2 {
        assert_eq!(job.next(Millis(2_000)), Step::Settle);
        job = serde_json::from_str(&text(&job)).unwrap();
    }
    assert_eq!(job.cost(), Nanos(500_000_000), "what the host does not say is what it was asked for");
}

#[test]
fn a_cancelled_job_costs_nothing_and_stops_at_its_host() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    job.next(Millis(0));
    job.on_started(handle("h"), 200, Millis(0), Millis(1));
    job.cancel(Millis(50));
    job.on_progress(0, waiting(true), false, Millis(60));
    assert_eq!((job.status, job.cost(), job.ending()), (Status::Cancelled, Nanos::ZERO, Ending::Cancelled));
    assert_eq!(rest(&mut job, Millis(60)), [Step::Settle, Step::Cancel(0), Step::List, Step::Wait(Millis(1_000_050))]);
    job.cancel(Millis(99));
    job.delete(Millis(100));
    assert_eq!((job.status, rest(&mut job, Millis(100)).last()), (Status::Cancelled, Some(&Step::Forget)));
}

#[test]
fn one_that_is_cancelled_while_a_host_takes_it_is_cancelled_there_too() {
    let mut job = job(vec![seat("p", Family::Runway, 1)]);
    job.next(Millis(0));
    job.cancel(Millis(5));
    assert_eq!(job.next(Millis(5)), Step::Settle);
    job.on_settled();
    job.on_started(handle("h"), 200, Millis(0), Millis(9));
    assert_eq!(job.status, Status::Cancelled);
    assert_eq!(rest(&mut job, Millis(9)).first(), Some(&Step::Cancel(0)));
}

#[test]
fn a_host_that_knows_no_way_back_is_not_asked_to_stop() {
    let mut job = job(vec![seat("p", Family::Kling, 1)]);
    job.next(Millis(0));
    job.on_started(handle("h"), 200, Millis(0), Millis(1));
    job.cancel(Millis(50));
    assert_eq!(rest(&mut job, Millis(50)), [Step::Settle, Step::List, Step::Wait(Millis(1_000_050))]);
}

#[test]
fn a_job_expires_and_nothing_revives_it() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    job.next(Millis(0));
    job.on_started(handle("h"), 200, Millis(0), Millis(1));
    for _ in 0..100 {
        job.on_miss(false, Some(60_000), 0, Millis(90_000));
    }
    assert_eq!(job.next(Millis(90_000)), Step::Wait(Millis(100_000)), "no later than its end");
    assert_eq!(job.next(Millis(100_000)), Step::Settle);
    assert_eq!(
        (job.status, job.ending(), job.failure().code),
        (Status::Expired, Ending::Expired, Code::ProviderTimeout)
    );
    job.on_progress(0, made(5), false, Millis(100_001));
    assert_eq!((job.status, job.cost()), (Status::Expired, Nanos::ZERO));
}

#[test]
fn a_host_that_forgot_the_job_has_failed() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    job.next(Millis(0));
    job.on_started(handle("h"), 200, Millis(0), Millis(1));
    for _ in 0..3 {
        job.on_miss(true, None, 0, Millis(5_000));
        assert_eq!(job.status, Status::Queued);
    }
    job.on_miss(true, None, 0, Millis(5_000));
    assert_eq!(job.status, Status::Failed);
}

#[test]
fn several_parts_are_charged_for_what_was_made() {
    let mut job = job(vec![seat("p", Family::Luma, 3), seat("q", Family::Luma, 3)]);
    for at in 0..3 {
        assert_eq!(job.next(Millis(0)), Step::Submit(0));
        assert!(job.needs_order());
        job.on_started(handle(&format!("h{at}")), 200, Millis(0), Millis(1));
    }
    assert!(!job.needs_order() && job.attempts.len() == 1);
    job.on_progress(0, made(5), false, Millis(10));
    job.on_progress(1, Progress::Failed(Code::InvalidInput), false, Millis(10));
    assert_eq!(job.status, Status::Queued);
    job.on_progress(2, made(5), false, Millis(10));
    assert_eq!((job.status, job.cost(), job.media().len()), (Status::Completed, Nanos(1_000_000_000), 2));
    let mut half = super::tests::job(vec![seat("p", Family::Luma, 2), seat("q", Family::Luma, 2)]);
    half.next(Millis(0));
    half.on_started(handle("h"), 200, Millis(0), Millis(1));
    assert_eq!(half.next(Millis(1)), Step::Submit(0));
    half.on_refused(
        &Refused { verdict: breakage(Breakage::Connect), status: None, retry_after_ms: None },
        Millis(1),
        Millis(2),
    );
    assert_eq!((half.status, half.cost()), (Status::Failed, Nanos::ZERO), "half an order is none");
    assert_eq!(rest(&mut half, Millis(2)).get(1), Some(&Step::Cancel(0)));
}

#[test]
fn it_costs_no_more_than_is_held() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    job.next(Millis(0));
    job.on_started(handle("h"), 200, Millis(0), Millis(1));
    job.on_progress(0, made(1_000), false, Millis(10));
    assert_eq!(job.cost(), job.about.held);
}

#[test]
fn who_waits_makes_it_hurry_as_far_as_the_host_allows() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    assert_eq!(job.hurry(Millis(0)), None);
    job.next(Millis(0));
    job.on_started(handle("h"), 200, Millis(0), Millis(0));
    assert_eq!(job.hurry(Millis(100)), Some(Millis(700)));
    assert_eq!(job.hurry(Millis(100)), None, "it does already");
    assert_eq!(job.next(Millis(700)), Step::Poll(0));
    job.on_progress(0, waiting(true), true, Millis(710));
    assert_eq!(job.next(Millis(710)), Step::Wait(Millis(1_410)));
    let mut slow = super::tests::job(vec![seat("p", Family::Runway, 1)]);
    slow.next(Millis(0));
    slow.on_started(handle("h"), 200, Millis(0), Millis(0));
    assert_eq!((slow.hurry(Millis(100)), slow.next(Millis(100))), (None, Step::Wait(Millis(5_000))));
}

#[test]
fn trouble_at_home_is_tried_again_and_money_for_ever() {
    let mut job = job(vec![seat("p", Family::Luma, 1)]);
    job.next(Millis(0));
    job.cancel(Millis(0));
    let mut now = Millis(0);
    for _ in 0..50 {
        let step = job.next(now);
        assert_eq!(step, Step::Settle);
        job.on_trouble(&step, now);
        now = now.plus(1_000);
    }
    job.on_settled();
    let mut listed = 0;
    while let step @ Step::List = job.next(now) {
        listed += 1;
        job.on_trouble(&step, now);
        now = now.plus(1_000);
    }
    assert_eq!(listed, 8);
}

#[test]
fn nothing_is_made_before_the_hold_is_claimed_nor_when_it_is_gone() {
    let mut claimed = unclaimed(vec![seat("p", Family::Runway, 1)]);
    assert_eq!([claimed.next(Millis(0)), claimed.next(Millis(0))], [Step::Claim, Step::Claim], "as often as it takes");
    claimed.on_claimed(true, Millis(5));
    assert_eq!(claimed.next(Millis(5)), Step::Submit(0));
    let mut late = unclaimed(vec![seat("p", Family::Runway, 1)]);
    assert_eq!(late.next(Millis(0)), Step::Claim);
    late.on_claimed(false, Millis(9));
    assert_eq!((late.status, late.cost()), (Status::Expired, Nanos::ZERO));
    assert_eq!(rest(&mut late, Millis(9)), [Step::Settle, Step::List, Step::Wait(Millis(1_000_009))]);
}
