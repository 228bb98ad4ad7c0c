//! Worker variables with their defaults. A variable that is no whole number counts as absent, and is named.

use std::cell::RefCell;

use wasm_bindgen::JsValue;

use super::glue::text_of;
use crate::access::policy::Limits;
use crate::job::pace::Pace;
use crate::otel::export::Export;
use crate::serve::ports::Settings;
use crate::webhook::retry;

/// Reads the variables of `env`.
pub fn read(env: &JsValue) -> Settings {
    read_and_name(env).0
}

/// The same, with the names of those that are set to something else than a whole number.
pub fn read_and_name(env: &JsValue) -> (Settings, Vec<String>) {
    let unclear = RefCell::new(Vec::new());
    let number = |name: &str, default: u64| {
        let value = js_sys::Reflect::get(env, &JsValue::from_str(name)).ok();
        let text = value.as_ref().and_then(|value| value.as_string().or_else(|| value.as_f64().map(|n| n.to_string())));
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return default };
        text.trim().parse().unwrap_or_else(|_| {
            unclear.borrow_mut().push(name.to_owned());
            default
        })
    };
    let total_timeout_ms = number("TOTAL_TIMEOUT_MS", 600_000);
    let hold_ms = number("HOLD_MS", total_timeout_ms.saturating_add(60_000));
    let settings = Settings {
        connect_timeout_ms: number("CONNECT_TIMEOUT_MS", 30_000),
        first_byte_timeout_ms: number("FIRST_BYTE_TIMEOUT_MS", 30_000),
        plain_timeout_ms: number("PLAIN_TIMEOUT_MS", 120_000),
        idle_timeout_ms: number("IDLE_TIMEOUT_MS", 60_000),
        total_timeout_ms,
        keep_alive_first_ms: number("KEEP_ALIVE_FIRST_MS", 5_000),
        keep_alive_ms: number("KEEP_ALIVE_MS", 1_000),
        attempts_max: usize::try_from(number("ATTEMPTS_MAX", 6)).unwrap_or(6),
        body_bytes_max: number("BODY_BYTES_MAX", 32 * 1024 * 1024),
        body_room_bytes: number("BODY_ROOM_BYTES", 64 * 1024 * 1024),
        body_wait_ms: number("BODY_WAIT_MS", 60_000),
        default_limits: Limits {
            requests_per_minute: Some(number("DEFAULT_REQUESTS_PER_MINUTE", 60_000)),
            tokens_per_minute: Some(number("DEFAULT_TOKENS_PER_MINUTE", 100_000_000)),
            parallel_requests: Some(number("DEFAULT_PARALLEL_REQUESTS", 2_000)),
        },
        byok_fee_basis_points: number("BYOK_FEE_BASIS_POINTS", 0).min(10_000),
        hold_ms,
        free_per_minute: number("FREE_REQUESTS_PER_MINUTE", 60),
        journal_keep_ms: number("JOURNAL_KEEP_MS", 25 * 3600 * 1000).max(hold_ms),
        pace: Pace {
            first_ms: number("JOB_POLL_MS", 2_000),
            most_ms: number("JOB_POLL_MAX_MS", 10_000),
            watched_ms: number("JOB_WATCHED_POLL_MS", 700),
            life_ms: number("JOB_LIFE_MS", 3_600_000),
            keep_ms: number("JOB_KEEP_MS", 7 * 86_400_000),
        },
        catalog_refresh_ms: number("CATALOG_REFRESH_MS", 30_000),
        health_refresh_ms: number("HEALTH_REFRESH_MS", 20_000),
        retention_days: number("RETENTION_DAYS", 30).min(3_650),
        allows_loopback: number("ALLOW_LOOPBACK", 0) == 1,
        webhook_timeout_ms: number("WEBHOOK_TIMEOUT_MS", 15_000),
        webhook_retry_ms: number("WEBHOOK_RETRY_MS", retry::UNIT_MS),
        key_refresh_ms: number("KEY_REFRESH_MS", 30_000),
    };
    (settings, unclear.into_inner())
}

/// Where traces go; `None`: nowhere.
pub fn export(env: &JsValue) -> Option<Export> {
    let text = |name: &str| secret(env, name);
    Export::read(
        text("OTEL_EXPORTER_OTLP_ENDPOINT").as_deref(),
        text("OTEL_EXPORTER_OTLP_HEADERS").as_deref(),
        text("OTEL_TRACES_SAMPLER_ARG").as_deref(),
    )
}

/// A secret or variable as text; empty counts as absent.
pub fn secret(env: &JsValue, name: &str) -> Option<String> {
    text_of(env, name).filter(|text| !text.is_empty())
}
