//! What the schedule does. Each duty answers for itself: one that fails does not keep the next one from its turn.

use crate::serve::ports::Ports;
use crate::serve::{departure, prompts, repair, retention};

/// All of it.
pub async fn run<P: Ports>(ports: &P) {
    departure::erase_due(ports).await;
    prompts::sweep(ports).await;
    repair::run(ports).await;
    retention::sweep(ports).await;
}
