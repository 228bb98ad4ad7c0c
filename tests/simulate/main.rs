//! The simulator: the gateway's own health, routing and attempt code against providers that misbehave, compared with
//! other policies and with an oracle, on a virtual clock.
//!
//! `cargo test --test simulate` checks what the README promises; `npm run simulate` prints every number and draws the
//! plots. `SIMULATE_SEED` chooses another luck; it is printed with every result.

mod chance;
mod departure;
mod engine;
mod measure;
mod plots;
mod policy;
mod traces;
mod world;

use std::path::Path;

use ai_stats_gateway::text::request::Mode;

use crate::engine::{ISOLATES, run};
use crate::measure::Measure;
use crate::policy::{Fixed, Oracle, Ours, PeakEwma, Policy, PriceWeighted, RoundRobin};
use crate::traces::Trace;

const MODES: [(Mode, &str); 4] = [
    (Mode::Balanced, "balanced"),
    (Mode::Price, "price"),
    (Mode::Latency, "latency"),
    (Mode::Throughput, "throughput"),
];
/// What the healthiest provider fails by itself, where nobody else is left: a difference of luck.
const USUAL: f64 = 0.000_2;
const OTHERS: [&str; 4] = ["round robin", "fixed, 3 tries", "price-weighted", "peak-EWMA"];

fn seed() -> u64 {
    std::env::var("SIMULATE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn other(name: &str, trace: &Trace) -> Box<dyn Policy> {
    let n = trace.providers.len();
    match name {
        "round robin" => Box::new(RoundRobin((0..ISOLATES).collect())),
        "fixed, 3 tries" => Box::new(Fixed),
        "price-weighted" => Box::new(PriceWeighted { failed_ms: vec![vec![None; n]; ISOLATES] }),
        "peak-EWMA" => Box::new(PeakEwma { seen: vec![vec![(0.0, 0, 0.0); n]; ISOLATES] }),
        _ => panic!("{name}"),
    }
}

/// Everything on one trace.
struct Table {
    trace: Trace,
    others: Vec<(&'static str, Measure)>,
    /// Per mode: the oracle's, and ours.
    modes: Vec<(Mode, &'static str, Measure, Measure)>,
}

impl Table {
    fn of(trace: Trace) -> Table {
        let measured = |policy: &mut dyn Policy| Measure::of(&run(&trace, policy, seed()));
        let others = OTHERS.map(|name| (name, measured(&mut *other(name, &trace)))).into();
        let modes = MODES.map(|(mode, name)| {
            (
                mode,
                name,
                measured(&mut Oracle(mode)),
                measured(&mut Ours::new(mode, &trace.providers, ISOLATES, seed())),
            )
        });
        Table { others, modes: modes.into(), trace }
    }

    /// Where a promise is not kept.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (mode, name, oracle, ours) in &self.modes {
            let mut check = |holds: bool, what: String| {
                if !holds {
                    broken.push(format!("{} / {name} (seed {}): {what}", self.trace.name, seed()));
                }
            };
            if oracle.success == 1.0 {
                check(ours.success >= 0.9995, format!("success {:.3} %", ours.success * 100.0));
            }
            let regret = ours.promise(*mode) / oracle.promise(*mode) - 1.0;
            let allowed = match mode {
                Mode::Latency => 0.10,
                Mode::Price => 0.05,
                Mode::Balanced | Mode::Throughput => f64::INFINITY,
            };
            check(regret <= allowed, format!("regret {:.1} %", regret * 100.0));
            for (other, theirs) in &self.others {
                check(
                    ours.success >= theirs.success - USUAL,
                    format!("success {:.3} % behind {other}", ours.success * 100.0),
                );
                // Who does not serve is cheap and quick.
                if theirs.success < 0.995 {
                    continue;
                }
                let behind = ours.promise(*mode) / theirs.promise(*mode) - 1.0;
                check(behind <= 0.05, format!("{:.1} % behind {other}", behind * 100.0));
            }
        }
        broken
    }

    fn print(&self) {
        println!("\n{} (seed {}): {}", self.trace.name, seed(), self.trace.about);
        println!(
            "{:<18}{:>9}{:>8}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}",
            "", "success", "p50", "p95", "p99", "$/1000", "ms/tok", "wasted", "regret"
        );
        self.others.iter().for_each(|(name, measure)| line(name, measure, None));
        for (mode, name, oracle, ours) in &self.modes {
            line(&format!("oracle {name}"), oracle, None);
            line(&format!("ours {name}"), ours, Some(ours.promise(*mode) / oracle.promise(*mode) - 1.0));
        }
    }
}

fn line(name: &str, m: &Measure, regret: Option<f64>) {
    let regret = regret.map_or(String::new(), |r| format!("{:>6.1} %", r * 100.0));
    println!(
        "{name:<18}{:>8.3}%{:>8.0}{:>8.0}{:>8.0}{:>9.4}{:>8.1}{:>8.2}{regret}",
        m.success * 100.0,
        m.p50,
        m.p95,
        m.p99,
        m.cost,
        m.pace,
        m.wasted
    );
}

#[test]
fn the_standard_traces_keep_what_is_promised() {
    let tables: Vec<Table> = traces::standard().into_iter().map(Table::of).collect();
    tables.iter().for_each(Table::print);
    if let Ok(folder) = std::env::var("SIMULATE_PLOTS") {
        plots::draw(Path::new(&folder), &tables).unwrap();
    }
    let broken: Vec<String> = tables.iter().flat_map(Table::broken).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
