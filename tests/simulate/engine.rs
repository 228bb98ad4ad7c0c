//! One policy on one trace: a clock that jumps from event to event, requests that go through the gateway's own attempt
//! machine, and what came of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ai_stats_gateway::attempt::classify::{Breakage, Verdict, answer, breakage};
use ai_stats_gateway::attempt::machine::{Failed, Machine, Patience, Step};
use ai_stats_gateway::family::fault::Fault;
use ai_stats_gateway::health::sample::Sample;
use ai_stats_gateway::time::Millis;

use crate::chance::Chance;
use crate::policy::{Policy, Turn};
use crate::traces::Trace;
use crate::world::{Failure, Load, Outcome};

pub const ISOLATES: usize = 16;
const PATIENCE: Patience = Patience { attempts_max: 6, first_byte_ms: 30_000, total_ms: 120_000 };

/// An attempt, for the record.
#[derive(Clone, Copy)]
pub struct Sent {
    pub at_ms: u64,
    pub isolate: usize,
    pub offer: usize,
    pub ended_at_ms: Option<u64>,
    pub is_served: bool,
}

/// A request that ended.
#[derive(Clone, Copy)]
pub struct Done {
    pub at_ms: u64,
    /// To its first content; `None` when everybody failed.
    pub first_ms: Option<u64>,
    pub cost: f64,
    pub pace_ms: f64,
    pub attempts: u64,
}

#[derive(Default)]
pub struct Run {
    pub done: Vec<Done>,
    pub sent: Vec<Sent>,
}

struct Flight {
    id: u64,
    isolate: usize,
    arrived_ms: u64,
    prompt: u64,
    output: u64,
    order: Vec<usize>,
    machine: Machine,
}

enum Event {
    Arrives(u64),
    Goes(Box<Flight>),
    Ends { flight: Box<Flight>, offer: usize, ticket: u64, began_ms: u64, result: Ended },
    Finished { isolate: usize, offer: usize, output: u64, ms: u64 },
}

#[derive(Clone, Copy)]
enum Ended {
    Served { first_ms: u64, rest_ms: u64 },
    Failed(Failure),
    Busy(u64),
}

/// Events in the order of time, and of their making.
#[derive(Default)]
struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    made: u64,
}

impl Agenda {
    fn at(&mut self, ms: u64, event: Event) {
        self.made += 1;
        self.heap.push(Reverse((ms, self.made)));
        self.events.insert(self.made, event);
    }

    fn next(&mut self) -> Option<(u64, Event)> {
        let Reverse((ms, number)) = self.heap.pop()?;
        Some((ms, self.events.remove(&number).unwrap()))
    }
}

pub fn run(trace: &Trace, policy: &mut dyn Policy, seed: u64) -> Run {
    let mut loads = vec![Load::default(); trace.providers.len()];
    let mut agenda = Agenda::default();
    let mut run = Run::default();
    agenda.at(0, Event::Arrives(0));
    while let Some((now_ms, event)) = agenda.next() {
        policy.advance(now_ms);
        match event {
            Event::Arrives(id) => {
                let mut luck = Chance::of(&[seed, 1, id]);
                let phase = std::f64::consts::TAU * now_ms as f64 / (trace.seconds as f64 * 1000.0);
                let rate = trace.rate * (1.0 - trace.swing * phase.cos());
                let next_ms = now_ms + (luck.exponential() / rate * 1000.0) as u64;
                if next_ms < trace.seconds * 1000 {
                    agenda.at(next_ms, Event::Arrives(id + 1));
                }
                let prompt = (600.0 * (0.8 * luck.normal()).exp()) as u64 + 20;
                let output = (300.0 * (0.5 * luck.normal()).exp()) as u64 + 5;
                let isolate = luck.below(ISOLATES);
                let turn =
                    Turn { id: luck.bits(), isolate, prompt, now_ms, providers: &trace.providers, loads: &loads };
                let (order, seats) = policy.order(&turn).into_iter().unzip();
                let machine = Machine::new(seats, PATIENCE, Millis(now_ms));
                let flight = Flight { id, isolate, arrived_ms: now_ms, prompt, output, order, machine };
                agenda.at(now_ms, Event::Goes(Box::new(flight)));
            }
            Event::Goes(mut flight) => match flight.machine.next(Millis(now_ms)) {
                Step::Wait { ms } => agenda.at(now_ms + ms, Event::Goes(flight)),
                Step::GiveUp => run.done.push(Done {
                    at_ms: flight.arrived_ms,
                    first_ms: None,
                    cost: 0.0,
                    pace_ms: 0.0,
                    attempts: flight.machine.attempts() as u64,
                }),
                Step::Send { candidate, wait_ms } => {
                    let offer = flight.order[candidate];
                    let luck = Chance::of(&[seed, 2, flight.id, offer as u64, flight.machine.attempts() as u64]);
                    let ticket = policy.sent(flight.isolate, offer, flight.machine.late_ms(candidate), now_ms);
                    run.sent.push(Sent {
                        at_ms: now_ms,
                        isolate: flight.isolate,
                        offer,
                        ended_at_ms: None,
                        is_served: false,
                    });
                    let load = &mut loads[offer];
                    let outcome = trace.providers[offer].attempt(load, flight.prompt, flight.output, luck, now_ms);
                    let (after_ms, result) = match outcome {
                        Outcome::Served { first_ms, .. } if first_ms > wait_ms => {
                            (wait_ms, Ended::Failed(Failure::Silence))
                        }
                        Outcome::Served { first_ms, rest_ms } => (first_ms, Ended::Served { first_ms, rest_ms }),
                        Outcome::Failed { after_ms, .. } if after_ms > wait_ms => {
                            (wait_ms, Ended::Failed(Failure::Silence))
                        }
                        Outcome::Failed { after_ms, failure } => (after_ms, Ended::Failed(failure)),
                        Outcome::Busy { after_ms, wait_ms } => (after_ms, Ended::Busy(wait_ms)),
                    };
                    agenda.at(now_ms + after_ms, Event::Ends { flight, offer, ticket, began_ms: now_ms, result });
                }
            },
            Event::Ends { mut flight, offer, ticket, began_ms, result } => {
                policy.ended(flight.isolate, offer, ticket);
                let (began, now, isolate) = (Millis(began_ms), Millis(now_ms), flight.isolate);
                let sample = match result {
                    Ended::Served { first_ms, .. } => {
                        Sample::Served { first_byte_ms: Some(first_ms), prompt_tokens: flight.prompt }
                    }
                    Ended::Failed(Failure::Silence) => Sample::Silent,
                    Ended::Failed(_) => Sample::Failed,
                    Ended::Busy(wait_ms) => Sample::Busy { wait_ms: Some(wait_ms) },
                };
                policy.sample(isolate, offer, sample, now_ms);
                let is_it = |s: &&mut Sent| s.at_ms == began_ms && s.isolate == isolate && s.offer == offer;
                let sent = run.sent.iter_mut().rev().find(|s| s.ended_at_ms.is_none() && is_it(s)).unwrap();
                sent.ended_at_ms = Some(now_ms);
                sent.is_served = matches!(result, Ended::Served { .. });
                let Ended::Served { rest_ms, .. } = result else {
                    flight.machine.on_failed(failed(result, began), now);
                    agenda.at(now_ms, Event::Goes(flight));
                    continue;
                };
                flight.machine.on_served("p", "u", 200, began, now);
                let provider = &trace.providers[offer];
                run.done.push(Done {
                    at_ms: flight.arrived_ms,
                    first_ms: Some(now_ms - flight.arrived_ms),
                    cost: provider.cost(flight.prompt, flight.output),
                    pace_ms: rest_ms as f64 / flight.output as f64,
                    attempts: flight.machine.attempts() as u64,
                });
                agenda.at(now_ms + rest_ms, Event::Finished { isolate, offer, output: flight.output, ms: rest_ms });
            }
            Event::Finished { isolate, offer, output, ms } => {
                policy.sample(isolate, offer, Sample::Paced { output_tokens: output, ms }, now_ms);
            }
        }
    }
    run
}

fn failed(result: Ended, began: Millis) -> Failed {
    let broken = |how: Breakage| (None, breakage(how), Some(how), None);
    let told = |status: u16, wait: Option<u64>| (Some(status), answer(status, &Fault::default()), None, wait);
    let (status, verdict, broke, retry_after_ms): (_, Verdict, _, _) = match result {
        Ended::Failed(Failure::Refused) => broken(Breakage::Connect),
        Ended::Failed(Failure::Silence) => broken(Breakage::Timeout),
        Ended::Failed(Failure::Garbage) => broken(Breakage::Malformed),
        Ended::Failed(Failure::Status(status)) => told(status, None),
        Ended::Busy(wait_ms) => told(429, Some(wait_ms)),
        Ended::Served { .. } => unreachable!("served is not failed"),
    };
    Failed {
        provider: String::new(),
        upstream: String::new(),
        status,
        verdict,
        broke,
        param: None,
        retry_after_ms,
        began,
    }
}
