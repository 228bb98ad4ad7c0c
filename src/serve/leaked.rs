//! `POST /v1/keys/leaked`: whoever finds a key where it does not belong reports it here, in any form: what is posted is
//! searched for keys, and those that are ours are revoked. The answer is the same for every input, so that it says
//! nothing about a key to somebody who guesses.

use serde_json::json;

use crate::access::key::{found_in, hash, is_management};
use crate::access::policy::Policy;
use crate::error::Failure;
use crate::serve::act::{Act, Actor};
use crate::serve::keys::{POLICY_OF, Stored, pepper, policy_in, update_key};
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{Endpoint, Head, fault, management};

/// Largest report, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Most keys of one report that are looked up.
const KEYS_MAX: usize = 20;
/// How often a revocation is tried.
const TRIES: u32 = 3;

/// The endpoint. Keys are revoked before the answer leaves.
pub async fn report<P: Ports>(ports: &P, head: &Head, endpoint: Endpoint) -> Result<Reply<P>, Failure> {
    let bytes = ports.body(BODY_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    for key in found_in(&text).into_iter().take(KEYS_MAX) {
        let act = Act::new(ports, head, endpoint, &[], Actor::LeakReport);
        for _ in 0..TRIES {
            let done = if is_management(key) { revoke_management(&act, key).await } else { revoke(&act, key).await };
            match done {
                Ok(()) => break,
                Err(failure) => ports.log(&format!("fault: a leaked key was not revoked: {}", failure.message)),
            }
        }
    }
    Ok(Reply::json(202, &json!({"object": "leak_report", "status": "accepted"})))
}

async fn revoke_management<P: Ports>(act: &Act<'_, P>, key: &str) -> Result<(), Failure> {
    match management::of_secret(act.ports, key).await? {
        Some(own) => management::revoke_with_offspring(act, &own).await,
        None => Ok(()),
    }
}

async fn revoke<P: Ports>(act: &Act<'_, P>, key: &str) -> Result<(), Failure> {
    let hash = hash(key, pepper(act.ports)?.as_bytes());
    let rows = act.ports.sql(POLICY_OF, &[Sql::Text(hash.clone())]).await.map_err(|error| fault(act.ports, &error))?;
    let Some(found) = rows.first().and_then(|row| policy_in(row, &hash)).filter(|policy| !policy.revoked) else {
        return Ok(());
    };
    let now = act.ports.now();
    let change = |stored: &Stored| {
        // A secret that was replaced is stopped alone: the newer one is not known to the finder.
        let policy = stored.policy.clone();
        Ok(match policy.secret == found.secret {
            true => (Policy { revoked: true, ..policy }, None),
            false => (Policy { old_until: Some(now), ..policy }, None),
        })
    };
    update_key(act, &found.workspace, &found.key, change).await.map(drop)
}
