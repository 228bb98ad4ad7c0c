//! What a key can see of itself: its policy and its workspace's credits.

use serde_json::{Value, json};

use crate::access::policy::Policy;
use crate::error::{Code, Failure};
use crate::id::WorkspaceId;
use crate::limits::budget::{Period, Spend};
use crate::money::Nanos;
use crate::serve::admin::budget_json;
use crate::serve::fault;
use crate::serve::ports::Ports;
use crate::serve::reply::Reply;
use crate::workspace::{self, Command, Credits};

/// `GET /v1/key`: with what it has spent.
pub async fn key<P: Ports>(ports: &P, policy: &Policy) -> Result<Reply<P>, Failure> {
    ports.settled(&policy.workspace).await;
    let spend = match ports.ask(&policy.workspace, &Command::Spend(policy.key.clone())).await {
        Ok(workspace::Reply::Spend(own, _)) => own,
        Ok(_) => return Err(Failure::new(Code::Internal, "the workspace gave no answer")),
        Err(error) => return Err(fault(ports, &error)),
    };
    Ok(Reply::json(200, &used_json(policy, &spend, ports.now())))
}

/// A key with what it has spent, how often it was used and when last.
pub fn used_json(policy: &Policy, spend: &Spend, now: crate::time::Millis) -> Value {
    let mut shown = key_json(policy);
    if let Some(object) = shown.as_object_mut() {
        object.insert("spend".to_owned(), spend_json(policy, spend, now));
        object.insert("requests".to_owned(), json!(spend.requests));
        let last = Some(spend.at).filter(|at| at.0 > 0).map(crate::time::Millis::to_rfc3339);
        object.insert("last_used_at".to_owned(), json!(last));
    }
    shown
}

/// By period what was spent, what is left of the budget where there is one, and when it starts anew; in dollars.
fn spend_json(policy: &Policy, spend: &Spend, now: crate::time::Millis) -> Value {
    let of = |period: Period| {
        let spent = spend.in_period(period, now);
        let left = policy.budgets.of(period).map(|most| Nanos(most.0.saturating_sub(spent.0).max(0)).to_dollars());
        let next = period.next(now).map(crate::time::Millis::to_rfc3339);
        let told = json!({"spent": spent.to_dollars(), "spent_nanos": spent, "remaining": left, "resets_at": next});
        (period.name().to_owned(), told)
    };
    Value::Object(Period::ALL.into_iter().map(of).collect())
}

/// A key as every endpoint shows it; never with its secret.
pub fn key_json(policy: &Policy) -> Value {
    json!({
        "object": "key", "id": policy.key, "workspace": policy.workspace, "name": policy.name, "hint": policy.hint,
        "disabled": policy.disabled, "revoked": policy.revoked, "allowed_models": policy.allowed_models,
        "limits": policy.limits, "budget": budget_json(&policy.budgets), "created_at": policy.created_at.to_rfc3339(),
        "expires_at": policy.expires_at.map(|at| at.to_rfc3339()),
        "old_secret_expires_at": policy.old_until.map(|at| at.to_rfc3339()),
    })
}

/// The state of an account in JSON.
pub fn credits_json(credits: &Credits) -> Value {
    json!({
        "object": "credits", "currency": "USD",
        "balance": credits.balance.to_dollars(), "held": credits.held.to_dollars(),
        "available": credits.available.to_dollars(),
        "settled": credits.totals.settled().to_dollars(),
        "balance_nanos": credits.balance, "held_nanos": credits.held, "available_nanos": credits.available,
        "settled_nanos": credits.totals.settled(),
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
