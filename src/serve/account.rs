//! What a key can see of itself: its policy and its workspace's credits.

use serde_json::{Value, json};

use crate::access::policy::Policy;
use crate::error::{Code, Failure};
use crate::id::WorkspaceId;
use crate::serve::fault;
use crate::serve::ports::Ports;
use crate::serve::reply::Reply;
use crate::workspace::{self, Command, Credits};

/// `GET /v1/key`.
pub fn key<P: Ports>(policy: &Policy) -> Reply<P> {
    Reply::json(200, &key_json(policy))
}

/// A key as every endpoint shows it; never with its secret.
pub fn key_json(policy: &Policy) -> Value {
    json!({
        "object": "key", "id": policy.key, "workspace": policy.workspace, "name": policy.name, "hint": policy.hint,
        "disabled": policy.disabled, "revoked": policy.revoked, "allowed_models": policy.allowed_models,
        "limits": policy.limits, "created_at": policy.created_at.to_rfc3339(),
        "expires_at": policy.expires_at.map(|at| at.to_rfc3339()),
    })
}

/// The state of an account in JSON.
pub fn credits_json(credits: &Credits) -> Value {
    json!({
        "object": "credits", "currency": "USD",
        "balance": credits.balance.to_dollars(), "held": credits.held.to_dollars(),
        "available": credits.available.to_dollars(),
        "balance_nanos": credits.balance, "held_nanos": credits.held, "available_nanos": credits.available,
    })
}

/// `GET /v1/credits`.
pub async fn credits<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Reply<P>, Failure> {
    Ok(Reply::json(200, &credits_json(&state(ports, workspace).await?)))
}

/// The state of a workspace's account, after what this isolate still has to settle.
pub async fn state<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Credits, Failure> {
    ports.settled(workspace).await;
    match ports.ask(workspace, &Command::Credits).await {
        Ok(workspace::Reply::Credits(credits)) => Ok(credits),
        Ok(_) => Err(Failure::new(Code::Internal, "the workspace gave no answer")),
        Err(error) => Err(fault(ports, &error)),
    }
}
