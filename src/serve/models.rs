//! Models: the list with its filters, one model, its offers; and whether the gateway is ready.

use serde_json::json;

use crate::catalog::Row;
use crate::discovery::{filter, page};
use crate::error::{Code, Failure};
use crate::serve::discovery::Asked;
use crate::serve::ports::Ports;
use crate::serve::query::path_value;
use crate::serve::reply::Reply;
use crate::serve::{Head, fault};

/// `GET /v1/models`: an OpenAI list; all of it unless `limit` says less.
pub async fn list<P: Ports>(ports: &P, head: &Head) -> Result<Reply<P>, Failure> {
    let asked = Asked::parse(ports, head).await?;
    let paging = asked.paging(page::MODELS)?;
    if let Some(reply) = asked.unchanged() {
        return Ok(reply);
    }
    let conditions = asked.conditions(&[filter::MODELS]).await?;
    let models = asked.list("list/models").await?;
    let list = asked.listed(&mut Row::all(&models), &conditions, &paging, false)?;
    Ok(asked.reply(list, false))
}

/// `GET /v1/models/{id}`: its entry in that list, by id, alias or unique bare name.
pub async fn one<P: Ports>(ports: &P, head: &Head, path: &str) -> Result<Reply<P>, Failure> {
    let asked = Asked::parse(ports, head).await?;
    let rows = asked.model(&path_value(path)).await?;
    if let Some(reply) = asked.unchanged() {
        return Ok(reply);
    }
    let model = Row::all(&rows).next().map(|row| row.json.to_owned()).unwrap_or_default();
    Ok(asked.reply(model, false))
}

/// `GET /v1/models/{id}/endpoints`: its offers, with everything that is known of them.
pub async fn endpoints<P: Ports>(ports: &P, head: &Head, path: &str) -> Result<Reply<P>, Failure> {
    let asked = Asked::parse(ports, head).await?;
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(&[filter::OFFERS]).await?;
    let rows = asked.model(&path_value(path)).await?;
    let list = asked.listed(&mut Row::all(&rows).skip(1), &conditions, &paging, true)?;
    Ok(asked.reply(list, true))
}

/// `GET /v1/health`: ready when a catalog is published.
pub async fn health<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    match ports.snapshot().await {
        Ok(Some(snapshot)) => Ok(Reply::json(200, &json!({"status": "ok", "catalog": &*snapshot}))),
        Ok(None) => {
            Err(Failure::new(Code::ProviderUnavailable, "no catalog is published yet").retry_after(Some(5_000)))
        }
        Err(error) => Err(fault(ports, &error)),
    }
}
