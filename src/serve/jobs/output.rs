//! What a job made, through the gateway: bytes as the provider has them, fetched with its credential where it wants one.

use super::call::{asked, fetched, prepared};
use super::{id_of, look};
use crate::access::policy::Policy;
use crate::error::{Code, Failure};
use crate::job::command::Until;
use crate::job::family::Source;
use crate::job::order::{Front, Kind};
use crate::job::reach::To;
use crate::job::state::Status;
use crate::serve::ports::{Answer, Ports};
use crate::serve::query;
use crate::serve::reply::{Body, Reply};

/// How long a host may take to repeat what is inside of its answer, in milliseconds.
const ASK_MS: u64 = 60_000;

/// Media types that go on as they are: what a browser would not take for a page.
const TYPES: &[&str] = &["video/", "image/", "audio/", "application/octet-stream"];

/// `GET /v1/generations/{id}/content?index=` and `GET /v1/videos/{id}/content?variant=`.
pub async fn content<P: Ports>(
    ports: &P,
    asked_for: &str,
    policy: &Policy,
    path: &str,
    front: Front,
) -> Result<Reply<P>, Failure> {
    let id = id_of(path)?;
    let place = match front {
        Front::Generations => match query::value(asked_for, "index") {
            None => 0,
            Some(text) => text.parse().map_err(|_| Failure::invalid("index", "must be a whole number"))?,
        },
        Front::Videos => match query::value(asked_for, "variant").as_deref() {
            None | Some("video") => 0usize,
            Some("thumbnail" | "spritesheet") => {
                let message = "only the video itself is kept by every provider";
                return Err(Failure::new(Code::UnsupportedParameter, message).about("variant"));
            }
            Some(_) => return Err(Failure::invalid("variant", "must be video")),
        },
    };
    let job = look(ports, &id, &policy.workspace, Until::Ended, 0).await?;
    if job.status != Status::Completed {
        let message = format!("there is no output: the job is {}", job.status.name());
        return Err(Failure::new(Code::NotFound, message).about("id"));
    }
    let media = job.media();
    let missing = || Failure::new(Code::NotFound, "there is no output at that place").about("index");
    let (part, one) = *media.get(place).ok_or_else(missing)?;
    let seat = job.seat().ok_or_else(missing)?;
    let unavailable = || Failure::new(Code::ProviderError, "the provider does not give the output any more");
    let usual = if one.kind == Kind::Video { "video/mp4" } else { "image/png" };
    let to = match &one.source {
        Source::Link(url) => To::Url(url.clone()),
        Source::Own(to) => to.clone(),
        Source::Inside(inner) => {
            let handle = &job.parts.get(part).ok_or_else(missing)?.handle;
            let question = seat.family.poll(handle, &seat.offer.upstream);
            let call = prepared(ports, &job.about, seat, question).await.map_err(|_| unavailable())?;
            let told = asked(ports, call, ASK_MS).await.map_err(|_| unavailable())?;
            let (bytes, kind) = seat.family.inside(&told.value, *inner).ok_or_else(unavailable)?;
            return Ok(reply(&kind, usual, Body::Bytes(bytes)));
        }
    };
    let answer = fetched(ports, &job.about, seat, to).await?;
    let kind = answer.header("content-type").unwrap_or_default();
    let length = answer.header("content-length").filter(|_| answer.header("content-encoding").is_none());
    let reply = reply(&kind, usual, Body::Stream(ports.body_of(answer)));
    Ok(match length {
        Some(length) => reply.with_header("content-length", length),
        None => reply,
    })
}

fn reply<P: Ports>(kind: &str, usual: &str, body: Body<P>) -> Reply<P> {
    let is_known = TYPES.iter().any(|known| kind.to_ascii_lowercase().starts_with(known)) && !kind.contains("svg");
    let kind = if is_known { kind } else { usual };
    let headers = vec![("content-type", kind.to_owned()), ("x-content-type-options", "nosniff".to_owned())];
    Reply { status: 200, headers, body }
}
