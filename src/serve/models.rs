//! Models: the list with its filters, one model, its offers; and whether the gateway is ready.

use serde_json::json;

use crate::catalog::Row;
use crate::discovery::{filter, page};
use crate::error::{Code, Failure};
use crate::serve::discovery::{Asked, Texts};
use crate::serve::fault;
use crate::serve::ports::Ports;
use crate::serve::reply::Reply;

/// `GET /v1/models`: an OpenAI list; all of it unless `limit` says less.
pub fn list(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let paging = asked.paging(page::MODELS)?;
    let conditions = asked.conditions(texts, &[filter::MODELS])?;
    asked.listed(&mut Row::all(&texts.rows), &conditions, &paging, false)
}

/// `GET /v1/models/{id}`: its entry in that list, by id, alias or unique bare name.
pub fn one(texts: &Texts) -> String {
    Row::all(&texts.rows).next().map(|row| row.json.to_owned()).unwrap_or_default()
}

/// `GET /v1/models/{id}/endpoints`: its offers, with everything that is known of them.
pub fn offers(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(texts, &[filter::OFFERS])?;
    asked.listed(&mut *texts.offers(), &conditions, &paging, true)
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
