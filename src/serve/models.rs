//! Discovery: the list of models as the snapshot rendered it, one model, and whether the gateway is ready.

use serde_json::{Value, json};

use crate::catalog::{ModelName, models_key};
use crate::error::{Code, Failure};
use crate::money::Price;
use crate::routing::plan::unknown_model;
use crate::serve::fault;
use crate::serve::ports::Ports;
use crate::serve::query::path_value;
use crate::serve::reply::Reply;
use crate::usage::Meter;

/// How long a client may keep what discovery said.
const CACHE: &str = "public, max-age=60";

/// `GET /v1/models`: an OpenAI list.
pub async fn list<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    let snapshot = ports.snapshot().await.map_err(|error| fault(ports, &error))?;
    let list = match snapshot {
        Some(snapshot) => ports.kv_get(&models_key(&snapshot)).await.map_err(|error| fault(ports, &error))?,
        None => None,
    };
    let text = list.unwrap_or_else(|| r#"{"object":"list","data":[]}"#.to_owned());
    Ok(Reply::text(200, "application/json", text).with_header("cache-control", CACHE))
}

/// `GET /v1/models/{id}`: one entry of that list, by id or alias, with its offers.
pub async fn one<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let asked = path_value(path);
    let name = ModelName::parse(&asked).ok().and_then(|name| name.model).unwrap_or_else(|| asked.clone());
    let resolved = ports.model(&name).await.map_err(|error| fault(ports, &error))?;
    let entry = resolved.ok_or_else(|| unknown_model(&asked))?.entry;
    let offers: Vec<Value> = entry
        .offers
        .iter()
        .map(|offer| {
            let dollars = |(meter, price): (&Meter, &Price)| (meter.name(), price.to_dollars(meter.per()));
            let prices: std::collections::BTreeMap<&str, String> = offer.card.prices.iter().map(dollars).collect();
            json!({
                "provider": offer.provider, "upstream": offer.upstream, "context_length": offer.context,
                "max_output_tokens": offer.max_output, "capabilities": offer.can, "pricing": prices,
                "price_rules": offer.card.rules.len(), "priced_as_of": offer.card.as_of, "status": offer.status,
                "is_free": offer.is_free,
            })
        })
        .collect();
    let value = json!({
        "id": entry.id, "object": "model", "created": entry.created, "owned_by": entry.organisation, "name": entry.name,
        "kind": entry.kind, "context_length": entry.context, "max_output_tokens": entry.max_output,
        "input_modalities": entry.input, "output_modalities": entry.output, "capabilities": entry.capabilities,
        "offers": offers,
    });
    Ok(Reply::json(200, &value).with_header("cache-control", CACHE))
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
