//! Bindings of `glue.js`, and small conversions.

use js_sys::{Array, ArrayBuffer, Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, AbortSignal, Response};

use super::soon::{Soon, soon};

#[wasm_bindgen(module = "/src/host/glue.js")]
extern "C" {
    pub fn head(request: &web_sys::Request) -> String;
    pub fn leaving(request: &web_sys::Request) -> Promise;
    pub fn sleep(ms: f64) -> Promise;
    pub fn listen(come: &JsValue);
    pub fn after(ms: f64, number: u32);
    pub fn watch(promise: &Promise, number: u32);
    #[wasm_bindgen(js_name = wholeBody)]
    pub fn whole_body(holder: &JsValue, max: f64) -> Promise;
    #[wasm_bindgen(js_name = bytesOf)]
    pub fn bytes_of(body: &JsValue) -> JsValue;
    #[wasm_bindgen(js_name = readFull)]
    pub fn read_full(reader: &JsValue, buffer: &ArrayBuffer) -> Promise;
    pub fn send(method: &str, url: &str, headers: &str, body: &Uint8Array, signal: &AbortSignal) -> Promise;
    pub fn archive(bucket: &JsValue, name: &str, text: &str) -> Promise;
    #[wasm_bindgen(js_name = clearBucket)]
    pub fn clear_bucket(bucket: &JsValue, prefix: &str) -> Promise;
    pub fn deliver(url: &str, headers: &str, body: &str, ms: f64) -> Promise;
    #[wasm_bindgen(js_name = sendStream)]
    pub fn send_stream(
        method: &str,
        url: &str,
        headers: &str,
        size: f64,
        next: &Function,
        signal: &AbortSignal,
    ) -> Promise;
    #[wasm_bindgen(js_name = pumpBytes)]
    pub fn pump_bytes(
        body: &JsValue,
        writable: &JsValue,
        waits: &Array,
        left: &Promise,
        control: &AbortController,
    ) -> Promise;
    #[wasm_bindgen(js_name = signRs256)]
    pub fn sign_rs256(key: &[u8], text: &str) -> Promise;
    pub fn respond(status: u16, headers: &str, body: &JsValue) -> Response;
    pub fn command(env: &JsValue, name: &str, body: &str) -> Promise;
    pub fn ask(namespace: &JsValue, name: &str, path: &str, body: &str) -> Promise;
    pub fn texts(namespace: &JsValue, keys: &js_sys::Array) -> Promise;
    pub fn clear(namespace: &JsValue, prefix: &str) -> Promise;
    pub fn hold(context: &JsValue, promise: &Promise);
    pub fn identity() -> JsValue;
    pub fn cut(writer: &JsValue, left: &Promise, stall: f64) -> Promise;
    pub fn written(writer: &JsValue, bytes: &Uint8Array, left: &Promise, stall: f64) -> Promise;
    pub fn closed(writer: &JsValue, left: &Promise, stall: f64) -> Promise;
    pub type Blocks;
    #[wasm_bindgen(constructor, catch)]
    pub fn new(body: &JsValue) -> Result<Blocks, JsValue>;
    #[wasm_bindgen(method)]
    pub fn next(this: &Blocks) -> Promise;
    #[wasm_bindgen(method, catch)]
    pub fn release(this: &Blocks) -> Result<(), JsValue>;
    pub type Timer;
    #[wasm_bindgen(constructor)]
    fn new(ms: f64) -> Timer;
    #[wasm_bindgen(method, getter)]
    fn promise(this: &Timer) -> Promise;
    #[wasm_bindgen(method)]
    fn cancel(this: &Timer);
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

/// What separates strings that cross as one.
pub const SEPARATOR: char = '\0';

/// Names and values as one string. What cannot stand in a header (the separator is such a thing) does not.
pub fn flat<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::with_capacity(256);
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(SEPARATOR);
        }
        out.push_str(name);
        out.push(SEPARATOR);
        if value.chars().any(char::is_control) {
            out.extend(value.chars().map(|c| if c.is_control() { '?' } else { c }));
        } else {
            out.push_str(value);
        }
    }
    out
}

/// A wait whose timer ends with it.
pub struct Wait {
    timer: Timer,
    promise: Soon,
}

impl Wait {
    /// Resolves after `ms`.
    pub fn new(ms: u64) -> Wait {
        let timer = Timer::new(js_ms(ms));
        let promise = soon(timer.promise());
        Wait { timer, promise }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::pin::Pin::new(&mut self.promise).poll(context).map(drop)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.timer.cancel();
    }
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
