//! Where the platform calls in.

use std::rc::Rc;

use js_sys::Uint8Array;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Response;

use super::cache;
use super::glue;
use super::soon;
use super::world::World;
use crate::id::RequestId;
use crate::serve::ports::Ports;
use crate::serve::reply::Body;
use crate::serve::{Head, handle, schedule};

/// Runs once per isolate: a panic then leaves its message in the log.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
    soon::listen();
}

/// One HTTP request.
#[wasm_bindgen]
pub async fn fetch(request: web_sys::Request, env: JsValue, context: JsValue) -> Result<Response, JsValue> {
    let raw = glue::head(&request);
    let parts: Vec<&str> = raw.split(glue::SEPARATOR).collect();
    let text = |at: usize| parts.get(at).filter(|part| !part.is_empty()).map(|part| (*part).to_owned());
    let url = parts.get(1).copied().unwrap_or_default();
    // scheme://host/path?query
    let target = url.splitn(4, '/').nth(3).unwrap_or_default();
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let world = Rc::new(World::new(env, context, request, text(7)));
    let now = world.now();
    let head = Head {
        id: RequestId::new(now, cache::chance()),
        arrived: now,
        method: text(0).unwrap_or_default(),
        path: format!("/{path}"),
        query: query.to_owned(),
        origin: url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"),
        authorization: text(2),
        api_key: text(3),
        content_type: text(4),
        timeout_ms: text(5),
        session: text(6),
        if_none_match: text(8),
        explains: parts.get(9).is_some_and(|value| matches!(*value, "1" | "true")),
        idempotency_key: text(10),
        title: text(11),
        referer: text(12),
        trace: text(13),
        if_match: text(14),
        accept: text(15),
        betas: text(16),
    };
    let reply = handle(world, head).await;
    let headers = glue::flat(reply.headers.iter().map(|(name, value)| (*name, value.as_str())));
    let body = match reply.body {
        Body::Empty => JsValue::NULL,
        Body::Bytes(bytes) => Uint8Array::from(bytes.as_slice()).into(),
        Body::Stream(readable) => readable,
    };
    Ok(glue::respond(reply.status, &headers, &body))
}

/// A run of the schedule.
#[wasm_bindgen]
pub async fn scheduled(_event: JsValue, env: JsValue, context: JsValue) -> Result<(), JsValue> {
    let request = web_sys::Request::new_with_str("https://schedule/")?;
    let world = World::new(env, context, request, None);
    schedule::run(&world).await;
    Ok(())
}
