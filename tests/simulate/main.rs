//! The simulator: the gateway's own health, routing and attempt code against providers that misbehave, compared with
//! other policies and with an oracle, on a virtual clock.
//!
//! `cargo test --test simulate` checks what the README promises; `npm run simulate` prints every number and draws the
//! plots. `SIMULATE_SEED` chooses another luck; it is printed with every result.

mod chance;
mod engine;
mod measure;
mod policy;
mod traces;
mod world;

use ai_stats_gateway::text::request::Mode;

use crate::engine::{ISOLATES, Run, run};
use crate::measure::Measure;
use crate::policy::{Fixed, Oracle, Ours, PeakEwma, Policy, PriceWeighted, RoundRobin};
use crate::traces::Trace;

const MODES: [(Mode, &str); 4] =
    [(Mode::Balanced, "balanced"), (Mode::Price, "price"), (Mode::Latency, "latency"), (Mode::Throughput, "throughput")];
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

fn ours(mode: Mode, trace: &Trace) -> Run {
    run(trace, &mut Ours::new(mode, &trace.providers, ISOLATES, seed()), seed())
}

#[test]
fn report() {
    for trace in traces::standard() {
        println!("\n{} (seed {}): {}", trace.name, seed(), trace.about);
        println!("{:<22}{:>9}{:>8}{:>8}{:>8}{:>9}{:>7}{:>8}  regret", "", "success", "p50", "p95", "p99", "$/1000", "ms/tok", "wasted");
        for name in OTHERS {
            line(name, &Measure::of(&run(&trace, &mut *other(name, &trace), seed())), None);
        }
        for (mode, name) in MODES {
            let oracle = Measure::of(&run(&trace, &mut Oracle(mode), seed()));
            let own = Measure::of(&ours(mode, &trace));
            line(&format!("oracle {name}"), &oracle, None);
            line(&format!("ours {name}"), &own, Some(own.promise(mode) / oracle.promise(mode) - 1.0));
        }
    }
}

fn line(name: &str, m: &Measure, regret: Option<f64>) {
    let regret = regret.map_or(String::new(), |r| format!("{:>6.1} %", r * 100.0));
    println!(
        "{name:<22}{:>8.3}%{:>8.0}{:>8.0}{:>8.0}{:>9.4}{:>7.1}{:>8.2}{regret}",
        m.success * 100.0, m.p50, m.p95, m.p99, m.cost, m.pace, m.wasted
    );
}
