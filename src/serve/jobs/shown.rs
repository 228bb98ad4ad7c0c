//! A job as its owner sees it, in the words of either front.

use serde_json::{Value, json};

use crate::job::family::{Media, Source};
use crate::job::order::Kind;
use crate::job::state::{Job, Status};
use crate::serve::settlement::price_members;
use crate::time::Millis;
use crate::usage::Meter;

/// The error of a job that has no result.
fn error(job: &Job) -> Value {
    let code = match job.status {
        Status::Failed => job.failure().code.name(),
        Status::Cancelled => "cancelled",
        Status::Expired => "expired",
        Status::Queued | Status::Running | Status::Completed => return Value::Null,
    };
    json!({"code": code, "message": job.reason()})
}

/// When the record goes.
fn expires(job: &Job) -> Option<Millis> {
    job.ended.map(|at| at.plus(job.about.pace.keep_ms))
}

/// `/v1/generations`. `origin` is where this gateway was called.
pub fn generation(job: &Job, origin: &str) -> Value {
    let media: Vec<Value> =
        job.media().into_iter().enumerate().map(|(place, (_, one))| media(job, place, one, origin)).collect();
    let seconds = |at: Option<Millis>| at.map(Millis::seconds);
    let seat = job.seat().filter(|_| !job.attempts.is_empty());
    json!({
        "id": job.about.id, "object": "generation", "status": job.status.name(), "kind": job.seat().map(|seat| seat.terms.kind.name()),
        "model": seat.map_or(job.about.model_asked.as_str(), |seat| seat.model.as_str()),
        "provider": seat.map(|seat| seat.provider.id.as_str()),
        "progress": job.percent, "created_at": job.about.arrived.seconds(),
        "started_at": seconds(job.running.or(job.started)), "completed_at": seconds(job.ended), "expires_at": seconds(expires(job)),
        "output": if job.status == Status::Completed { json!({"media": media}) } else { Value::Null },
        "error": error(job), "usage": usage(job),
    })
}

/// What was used and what it costs; null while nobody knows.
fn usage(job: &Job) -> Value {
    let Some(receipt) = job.receipt.as_ref().filter(|_| job.status == Status::Completed) else { return Value::Null };
    let members = format!("{{{}}}", price_members(receipt, &job.about.snapshot));
    let mut usage: Value = crate::json::from_str(&members).unwrap_or_default();
    if let (Some(object), Some(used)) = (usage.as_object_mut(), &job.usage) {
        for (meter, quantity) in used.iter().filter(|(meter, _)| *meter != Meter::Requests) {
            object.insert(meter.name().to_owned(), quantity.into());
        }
    }
    usage
}

fn media(job: &Job, place: usize, one: &Media, origin: &str) -> Value {
    let content = format!("{origin}/v1/generations/{}/content?index={place}", job.about.id);
    let url = match &one.source {
        Source::Link(url) => url.clone(),
        Source::Own(_) | Source::Inside(_) => content.clone(),
    };
    json!({"type": one.kind.name(), "index": place, "url": url, "content_url": content})
}

/// `/v1/videos`, as OpenAI has it. The prompt is not kept, so it is not shown.
pub fn video(job: &Job) -> Value {
    let status = match job.status {
        Status::Queued => "queued",
        Status::Running => "in_progress",
        Status::Completed => "completed",
        Status::Failed | Status::Cancelled | Status::Expired => "failed",
    };
    let terms = job.seat().map(|seat| &seat.terms).filter(|terms| terms.kind == Kind::Video);
    let model = job.seat().map_or(job.about.model_asked.as_str(), |seat| seat.model.as_str());
    let seconds = |at: Option<Millis>| at.map(Millis::seconds);
    json!({
        "id": job.about.id, "object": "video", "status": status, "progress": job.percent, "model": model,
        "created_at": job.about.arrived.seconds(), "completed_at": seconds(job.ended.filter(|_| job.status == Status::Completed)),
        "expires_at": seconds(expires(job)), "prompt": Value::Null, "remixed_from_video_id": Value::Null,
        "seconds": terms.map_or_else(String::new, |terms| terms.seconds.to_string()),
        "size": terms.map_or_else(String::new, |terms| terms.size_text('x')), "error": error(job),
    })
}
