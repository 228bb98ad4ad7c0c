//! Events on their way to a workspace's courier.

use serde_json::json;
use wasm_bindgen::JsValue;

use super::glue;
use super::soon::soon;
use crate::id::WorkspaceId;
use crate::serve::ports::PortError;
use crate::webhook::event::Event;

/// Hands events over; the courier has them for good when this resolves. An event that it has already is not told twice.
pub async fn tell(env: &JsValue, workspace: &WorkspaceId, events: &[Event]) -> Result<(), PortError> {
    let body = json!({"workspace": workspace, "events": events}).to_string();
    ask(env, workspace, "tell", &body).await.map(drop)
}

/// Asks the courier of a workspace (`tell`, `deliveries`, `depth`).
pub async fn ask(env: &JsValue, workspace: &WorkspaceId, what: &str, body: &str) -> Result<String, PortError> {
    let namespace = js_sys::Reflect::get(env, &JsValue::from_str("COURIER")).unwrap_or(JsValue::UNDEFINED);
    let asked = glue::ask(&namespace, workspace.as_str(), what, body);
    let text = soon(asked).await.map_err(|error| PortError(glue::words(&error)))?;
    Ok(text.as_string().unwrap_or_default())
}
