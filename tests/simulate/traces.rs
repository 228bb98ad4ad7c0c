//! The standard traces: who serves, what happens to them, and how much traffic comes.

use crate::world::{Episode, Provider, What};

pub struct Trace {
    pub name: &'static str,
    pub about: &'static str,
    pub providers: Vec<Provider>,
    /// Requests a second, on average, and how much they swing over the trace.
    pub rate: f64,
    pub swing: f64,
    pub seconds: u64,
}

const USUAL: f64 = 0.000_2;

fn provider(name: &'static str, price: (f64, f64), first_ms: (f64, f64), pace_ms: f64) -> Provider {
    Provider { name, price, first_ms, pace_ms, limit: None, capacity: None, error: USUAL, episodes: Vec::new() }
}

/// Five providers of one model: the cheap one is slow, the fast one is dear, as it is.
fn five() -> Vec<Provider> {
    vec![
        provider("cheap", (0.20, 0.60), (900.0, 0.45), 28.0),
        provider("middle", (0.30, 0.90), (520.0, 0.40), 18.0),
        provider("fast", (0.60, 1.80), (210.0, 0.30), 12.0),
        provider("quick", (0.90, 2.70), (320.0, 0.35), 4.0),
        provider("slow", (0.45, 1.40), (1400.0, 0.60), 40.0),
    ]
}

fn during(providers: &mut [Provider], names: &[&str], from_s: u64, to_s: u64, what: What) {
    for provider in providers.iter_mut().filter(|provider| names.contains(&provider.name)) {
        provider.episodes.push(Episode { from_s, to_s, what });
    }
}

fn trace(name: &'static str, about: &'static str, change: impl Fn(&mut Vec<Provider>)) -> Trace {
    let mut providers = five();
    change(&mut providers);
    Trace { name, about, providers, rate: 24.0, swing: 0.0, seconds: 1200 }
}

const BEST: &[&str] = &["cheap", "fast", "quick"];

pub fn standard() -> Vec<Trace> {
    vec![
        trace("calm", "Nothing happens; latencies have tails.", |_| ()),
        Trace {
            swing: 0.8,
            ..trace("diurnal", "Load swings by 80 %, and the best slow down under it.", |p| {
                p.iter_mut().filter(|p| BEST.contains(&p.name)).for_each(|p| p.capacity = Some(60.0));
            })
        },
        trace("limits", "The best of each kind answer 429 past 6 requests a second.", |p| {
            p.iter_mut().filter(|p| BEST.contains(&p.name)).for_each(|p| p.limit = Some(6.0));
        }),
        trace("brown-out", "The best fail 30 % of requests for four minutes.", |p| {
            during(p, BEST, 120, 360, What::Errs(0.3));
        }),
        trace("outage", "The best answer 500 for two minutes.", |p| during(p, BEST, 120, 240, What::Errs(1.0))),
        trace("refused", "All but one refuse connections for two minutes.", |p| {
            during(p, &["cheap", "fast", "quick", "slow"], 120, 240, What::Refuses);
        }),
        trace("silence", "The best take requests for a minute and never answer.", |p| {
            during(p, BEST, 120, 180, What::Hangs(1.0));
        }),
        trace("flapping", "The best are down for 20 of every 60 seconds.", |p| {
            during(p, BEST, 60, 1200, What::Flaps { period_ms: 60_000, down: 0.34 });
        }),
        trace("slow death", "The best get slower for six minutes, until they say nothing, and come back.", |p| {
            during(p, BEST, 120, 480, What::Dies(60.0));
        }),
        trace("garbage", "The best answer at once with garbage for three minutes.", |p| {
            during(p, BEST, 120, 300, What::Garbage);
        }),
        trace("price war", "Two are nearly the same: 4 % dearer, and 8 % slower.", |p| {
            let mut twin = p[0].clone();
            (twin.name, twin.price) = ("cheap twin", (0.208, 0.624));
            let mut other = p[2].clone();
            (other.name, other.first_ms) = ("fast twin", (226.0, 0.30));
            p.extend([twin, other]);
            during(p, &["fast"], 200, 400, What::Slow(2.0));
        }),
    ]
}
