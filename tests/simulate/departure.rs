//! How traffic leaves an offer that fails hard, and how it comes back.

use std::ops::Range;

use ai_stats_gateway::health::breaker::{OPEN_AFTER, OPEN_MS, OPEN_MS_MAX};

use crate::engine::{ISOLATES, Run, Sent, run};
use crate::policy::Ours;
use crate::traces::{self, Trace};

/// After its fifth failure an isolate has this long to take its traffic away.
const LEAVES_MS: u64 = 2_000;
/// After the recovery all traffic is back by then.
const RETURNS_MS: u64 = 60_000;
/// Part of the traffic that it has where nothing happens, which counts as being back.
/// Low, because near-equals trade places all the time.
const BACK: f64 = 0.5;
/// The busiest second of the return, in busiest seconds of that minute where nothing happens.
const FLOOD: f64 = 1.5;

/// Requests a second, for a plot and for the busiest second.
pub fn per_second(run: &Run, offer: usize, seconds: u64) -> Vec<u32> {
    let mut counts = vec![0; seconds as usize + 1];
    for sent in run.sent.iter().filter(|sent| sent.offer == offer) {
        if let Some(count) = counts.get_mut((sent.at_ms / 1000) as usize) {
            *count += 1;
        }
    }
    counts
}

fn mean(counts: &[u32]) -> f64 {
    f64::from(counts.iter().sum::<u32>()) / counts.len() as f64
}

/// When the offer's fifth failure in a row came, as an isolate saw it.
fn fifth_in_a_row<'a>(sent: impl Iterator<Item = &'a Sent>, when: Range<u64>) -> Option<u64> {
    let mut ends: Vec<(u64, bool)> = sent.filter_map(|sent| Some((sent.ended_at_ms?, sent.is_served))).collect();
    ends.sort_unstable();
    let mut in_a_row = 0;
    ends.into_iter().filter(|(at, _)| when.contains(at)).find_map(|(at, is_served)| {
        in_a_row = if is_served { 0 } else { in_a_row + 1 };
        (in_a_row == OPEN_AFTER).then_some(at)
    })
}

/// Where one offer that was down from `from` to `to` (ms) got more, or less, than it should have.
fn wrong(run: &Run, calm: &Run, trace: &Trace, offer: usize, (from, to): (u64, u64)) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = trace.providers[offer].name;
    for isolate in 0..ISOLATES {
        let to_it = run.sent.iter().filter(|sent| sent.offer == offer && sent.isolate == isolate);
        let Some(fifth) = fifth_in_a_row(to_it.clone(), from..to) else { continue };
        // What still comes are trials, at intervals that double; two requests may be ranked before the first is sent.
        let late = to_it.filter(|sent| (fifth + LEAVES_MS..to).contains(&sent.at_ms)).count() as u64;
        let trials = u64::from((OPEN_MS_MAX / OPEN_MS).ilog2()) + (to - fifth).div_ceil(OPEN_MS_MAX) + 1;
        if late > trials {
            wrong.push(format!("{name}: isolate {isolate} sent {late} after it had failed, {trials} trials at most"));
        }
    }
    let [now, usual] = [run, calm].map(|run| per_second(run, offer, trace.seconds));
    let minute = |counts: &[u32], from: u64| counts[(from / 1000) as usize..][..60].to_vec();
    let (back, was) = (mean(&minute(&now, to + RETURNS_MS)), mean(&minute(&usual, to + RETURNS_MS)));
    if back < BACK * was {
        wrong.push(format!("{name}: {back:.2}/s a minute after it recovered, {was:.2} where nothing happened"));
    }
    let [most, usual] = [now, usual].map(|counts| minute(&counts, to).into_iter().max().unwrap_or(0));
    if f64::from(most) > FLOOD * f64::from(usual) {
        wrong.push(format!("{name}: {most} in a second of its return, {usual} where nothing happened"));
    }
    wrong
}

#[test]
fn traffic_leaves_an_offer_that_fails_hard_and_comes_back_without_a_flood() {
    let traces = traces::standard();
    let in_mode = |trace: &Trace, mode| {
        run(trace, &mut Ours::new(mode, &trace.providers, ISOLATES, crate::seed()), crate::seed())
    };
    let (mut found, mut checked) = (Vec::new(), 0);
    for (mode, name) in crate::MODES {
        let calm = in_mode(traces.iter().find(|trace| trace.name == "calm").unwrap(), mode);
        for trace in traces.iter().filter(|trace| matches!(trace.name, "outage" | "refused" | "garbage")) {
            let run = in_mode(trace, mode);
            for (offer, provider) in trace.providers.iter().enumerate() {
                // An offer that a mode hardly uses tells nothing about how it is left.
                let is_used = mean(&per_second(&calm, offer, trace.seconds)) >= 1.0;
                for episode in provider.episodes.iter().filter(|_| is_used) {
                    checked += 1;
                    let wrong = wrong(&run, &calm, trace, offer, (episode.from_s * 1000, episode.to_s * 1000));
                    found.extend(wrong.into_iter().map(|what| format!("{} / {name}: {what}", trace.name)));
                }
            }
        }
    }
    assert!(checked >= 12, "{checked}");
    assert!(found.is_empty(), "seed {}:\n{}", crate::seed(), found.join("\n"));
}
