//! Settlements on their way: one call at a time and workspace from this isolate, with everything that has come
//! meanwhile and a moment's wait for company.
//!
//! A request whose context ends in the middle of the call leaves its batch behind; after `LEADER_MS` the next request
//! takes it over. The workspace recognises what it has settled already.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};

use wasm_bindgen::JsValue;

use super::counters::count;
use super::glue;
use super::soon::soon;
use super::world::now;
use crate::id::{RequestId, WorkspaceId};
use crate::serve::ports::Due;
use crate::time::Millis;
use crate::workspace::{Command, Settlement};

/// How long settlements wait for company, in milliseconds. Nobody waits for it: readers and refused requests
/// ask for what is on its way (`settled`).
const GATHER_MS: u64 = 12;
/// Most settlements in one call.
const BATCH_MAX: usize = 200;
/// Bytes of rows from which on a call takes no more. One call becomes one row of the object's, and SQL of the platform
/// takes rows up to two megabytes.
const BATCH_BYTES: usize = 500_000;
/// After this long a batch on its way is taken over, in milliseconds.
const LEADER_MS: u64 = 10_000;
/// Tries of one request's context; the next request goes on.
const TRIES: u32 = 6;
/// Longest wait for settlements of others, in milliseconds, and the step of the wait.
const SETTLED_WAIT_MS: u64 = 2_000;
const SETTLED_STEP_MS: u64 = 3;

enum Waiting {
    Due(Due),
    Made(Settlement),
}

impl Waiting {
    fn made(self) -> Settlement {
        match self {
            Waiting::Due(due) => due(),
            Waiting::Made(settlement) => settlement,
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    on_the_way: Vec<Settlement>,
    leader_since: Option<Millis>,
}

impl Queue {
    fn take_batch(&mut self) -> Vec<Settlement> {
        let mut batch: Vec<Settlement> = Vec::new();
        let mut bytes = 0usize;
        while bytes < BATCH_BYTES
            && batch.len() < BATCH_MAX
            && let Some(next) = self.waiting.pop_front()
        {
            let settlement = next.made();
            bytes = bytes.saturating_add(settlement.row.get().len());
            batch.push(settlement);
        }
        batch
    }
}

thread_local! {
    static QUEUES: RefCell<HashMap<String, Queue>> = RefCell::new(HashMap::new());
}

fn with<T>(workspace: &WorkspaceId, f: impl FnOnce(&mut Queue) -> T) -> T {
    QUEUES.with(|queues| f(queues.borrow_mut().entry(workspace.as_str().to_owned()).or_default()))
}

/// Hands a settlement over.
pub async fn settle(env: &JsValue, workspace: &WorkspaceId, due: Due) {
    let leads = with(workspace, |queue| {
        queue.waiting.push_back(Waiting::Due(due));
        let moment = now();
        let led = queue.leader_since.is_some_and(|since| moment.since(since) < LEADER_MS);
        if !led {
            let left_behind = std::mem::take(&mut queue.on_the_way);
            queue.waiting.extend(left_behind.into_iter().map(Waiting::Made));
            queue.leader_since = Some(moment);
        }
        !led
    });
    if leads {
        lead(env, workspace).await;
    }
}

async fn lead(env: &JsValue, workspace: &WorkspaceId) {
    let mut tries = 0;
    loop {
        // Each call waits for company, the later ones too: what came while one was on its way would else leave in twos.
        if with(workspace, |queue| (1..BATCH_MAX).contains(&queue.waiting.len())) {
            let _ = soon(glue::sleep(glue::js_ms(GATHER_MS))).await;
        }
        let (sent, body) = with(workspace, |queue| {
            if queue.on_the_way.is_empty() {
                queue.on_the_way = queue.take_batch();
            }
            queue.leader_since = (!queue.on_the_way.is_empty()).then(now);
            let sent: HashSet<RequestId> = queue.on_the_way.iter().map(|settlement| settlement.id.clone()).collect();
            let command = Command::Settle(std::mem::take(&mut queue.on_the_way));
            let body = serde_json::to_string(&command).unwrap_or_default();
            if let Command::Settle(batch) = command {
                queue.on_the_way = batch;
            }
            (sent, body)
        });
        if sent.is_empty() {
            QUEUES.with(|queues| queues.borrow_mut().remove(workspace.as_str()));
            return;
        }
        let size = u64::try_from(sent.len()).unwrap_or(u64::MAX);
        count(|c| {
            c.object_calls = c.object_calls.saturating_add(1);
            c.object_settles = c.object_settles.saturating_add(1);
        });
        match soon(glue::command(env, workspace.as_str(), &body)).await {
            Ok(_) => {
                count(|c| c.settlements = c.settlements.saturating_add(size));
                // Only what was sent here: somebody may have taken the queue over meanwhile.
                with(workspace, |queue| queue.on_the_way.retain(|settlement| !sent.contains(&settlement.id)));
                tries = 0;
            }
            Err(error) => {
                super::world::log(&format!("settlement not taken, will be sent again: {}", glue::words(&error)));
                tries += 1;
                if tries >= TRIES {
                    return with(workspace, |queue| queue.leader_since = None);
                }
                let _ = soon(glue::sleep(f64::from(50u32 << tries))).await;
            }
        }
    }
}

/// Whether anything is on its way.
pub fn is_settling(workspace: &WorkspaceId) -> bool {
    QUEUES.with(|queues| queues.borrow().contains_key(workspace.as_str()))
}

/// Waits, not for long, until nothing is on its way.
pub async fn settled(workspace: &WorkspaceId) {
    for _ in 0..SETTLED_WAIT_MS / SETTLED_STEP_MS {
        if !is_settling(workspace) {
            return;
        }
        let _ = soon(glue::sleep(glue::js_ms(SETTLED_STEP_MS))).await;
    }
}
