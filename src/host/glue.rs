//! Bindings of `glue.js`, and small conversions.

use js_sys::{Array, Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, AbortSignal, Response};

#[wasm_bindgen(module = "/src/host/glue.js")]
extern "C" {
    pub fn head(request: &web_sys::Request) -> Array;
    pub fn leaving(request: &web_sys::Request) -> Promise;
    pub fn sleep(ms: f64) -> Promise;
    #[wasm_bindgen(js_name = wholeBody)]
    pub fn whole_body(holder: &JsValue, length: &JsValue, max: f64) -> Promise;
    pub fn send(url: &str, headers: &JsValue, body: &Uint8Array, signal: &AbortSignal) -> Promise;
    pub fn respond(status: u16, headers: &Array, body: &JsValue) -> Response;
    pub fn ask(namespace: &JsValue, name: &str, path: &str, body: &str) -> Promise;
    pub fn identity() -> JsValue;
    #[wasm_bindgen(js_name = pumpSeen)]
    #[allow(clippy::too_many_arguments)]
    pub fn pump_seen(
        reader: &JsValue,
        writer: &JsValue,
        push: &Function,
        comment: &Uint8Array,
        waits: &Array,
        left: &Promise,
        control: &AbortController,
    ) -> Promise;
    #[wasm_bindgen(js_name = pumpNative)]
    #[allow(clippy::too_many_arguments)]
    pub fn pump_native(
        body: &JsValue,
        writable: &JsValue,
        observe: &Function,
        at_border: &Function,
        comment: &Uint8Array,
        waits: &Array,
        left: &Promise,
        control: &AbortController,
    ) -> Promise;
}

/// Milliseconds as JavaScript counts them.
#[allow(clippy::cast_precision_loss, reason = "spans of milliseconds fit a float")]
pub fn js_ms(ms: u64) -> f64 {
    ms as f64
}

/// An array of numbers.
pub fn numbers(values: &[u64]) -> Array {
    values.iter().map(|value| JsValue::from_f64(js_ms(*value))).collect()
}

/// A string property of an object, `None` where it is absent or no string.
pub fn text_of(object: &JsValue, name: &str) -> Option<String> {
    js_sys::Reflect::get(object, &JsValue::from_str(name)).ok()?.as_string()
}

/// The words of a JavaScript error; for the log, never for a client.
pub fn words(error: &JsValue) -> String {
    text_of(error, "message").unwrap_or_else(|| "unknown error".to_owned())
}
