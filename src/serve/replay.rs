//! `Idempotency-Key`: one dispatch, one charge, the same answer. See [`crate::replay`] for what becomes of a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::channel::oneshot;

use crate::access::key;
use crate::access::policy::Policy;
use crate::error::{Code, Failure};
use crate::media::multipart::Part;
use crate::replay::{ANSWER_BYTES_MAX, Answer, Command, KEY_BYTES_MAX, Reply as Said};
use crate::seal::SealKey;
use crate::serve::ports::Ports;
use crate::serve::reply::{Body, Reply};
use crate::serve::settings::Source;
use crate::serve::{Head, fault};

/// How long a call waits for one with the same key, in milliseconds; then it is told to come again.
const WAIT_MS: u64 = 5_000;
/// How often it looks, in milliseconds.
const LOOK_MS: u64 = 200;
/// What a call is told to wait, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;
/// Headers of an answer that are kept with it.
const KEPT: &[&str] = &[
    "content-type",
    "x-gateway-provider",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-paid-by",
    "x-gateway-cost",
    "x-gateway-max-tokens",
    "x-gateway-warning",
    "x-gateway-prompt-logging",
];

/// A first call under way.
#[derive(Debug, Clone)]
pub struct Ticket {
    name: String,
    fingerprint: String,
}

/// What a call with a key may do.
pub enum Begun<P: Ports> {
    /// Run; with a ticket where it has a key.
    Run(Option<Ticket>),
    /// Nothing: this is its answer.
    Answered(Reply<P>),
}

/// An answer as its client got it.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; a stream's bytes without comments. `None` where it was too long to be held.
    pub body: Option<Vec<u8>>,
}

fn pepper<P: Ports>(ports: &P) -> Result<String, Failure> {
    ports
        .secret("KEY_HASH_SECRET")
        .ok_or_else(|| Failure::new(Code::Internal, "the secret KEY_HASH_SECRET is not set on this gateway"))
}

/// What two calls with one key must have in common. Of a form that is its parts: whoever sends it again draws a new
/// boundary.
pub fn print_of(source: &Source) -> Vec<Bytes> {
    let parts = match source {
        Source::Json(bytes, _) => return vec![bytes.clone()],
        Source::Form(parts, _) => parts,
    };
    let piece = |part: &Part| {
        let of = |text: Option<&String>| text.map(|text| format!("{}:{text}", text.len())).unwrap_or_default();
        let (filename, kind) = (of(part.filename.as_ref()), of(part.content_type.as_ref()));
        let head = format!("{}:{}\n{filename}\n{kind}\n{}\n", part.name.len(), part.name, part.bytes.len());
        [Bytes::from(head.into_bytes()), part.bytes.clone()]
    };
    parts.iter().flat_map(piece).collect()
}

/// Lets a call with a key go on when its client leaves, as long as this is kept: a key that has begun must be told how the
/// call ended, from its first step on.
pub fn go_on<P: Ports>(ports: &P, head: &Head) -> Option<oneshot::Sender<()>> {
    head.idempotency_key.as_ref()?;
    let (kept, over) = oneshot::channel();
    ports.in_background(async move {
        let _ = over.await;
    });
    Some(kept)
}

/// Begins a call. `run_ms` is when it will be over at the latest.
pub async fn begin<P: Ports>(
    ports: &P,
    head: &Head,
    policy: &Policy,
    body: &[impl AsRef<[u8]>],
    run_ms: u64,
) -> Result<Begun<P>, Failure> {
    let Some(asked) = &head.idempotency_key else { return Ok(Begun::Run(None)) };
    let asked = asked.trim();
    if asked.is_empty() || asked.len() > KEY_BYTES_MAX {
        let message = format!("must have 1 to {KEY_BYTES_MAX} bytes");
        return Err(Failure::invalid("Idempotency-Key", message));
    }
    let pepper = pepper(ports)?;
    let mut request = vec![head.method.as_bytes(), b" ", head.path.as_bytes(), b"\n"];
    request.extend(body.iter().map(AsRef::as_ref));
    let ticket = Ticket {
        name: format!("{}/{}", policy.workspace, key::hash(asked, pepper.as_bytes())),
        fingerprint: key::hash_of(&request, pepper.as_bytes()),
    };
    let command = Command::Begin { fingerprint: ticket.fingerprint.clone(), run_ms };
    let mut waited_ms = 0;
    loop {
        match ports.replay(&ticket.name, &command).await.map_err(|error| fault(ports, &error))? {
            Said::Run => return Ok(Begun::Run(Some(ticket))),
            Said::Again(answer) => {
                // Nobody asks the workspace for admission here: an isolate may remember a key that was revoked meanwhile.
                super::standing(ports, policy).await?;
                return again(ports, &ticket, &pepper, answer).map(Begun::Answered);
            }
            Said::Conflict => return Err(conflict("the key was used for another request")),
            Said::TooLarge => return Err(conflict("the request was served; its answer was too large to be kept")),
            Said::Running if waited_ms >= WAIT_MS => {
                let failure = conflict("a request with this key is still running");
                return Err(failure.retry_after(Some(RETRY_AFTER_MS)));
            }
            Said::Running => {
                ports.sleep(LOOK_MS).await;
                waited_ms = waited_ms.saturating_add(LOOK_MS);
            }
            Said::Done => return Err(Failure::new(Code::Internal, "the record of the key gave no answer")),
        }
    }
}

fn conflict(message: &str) -> Failure {
    Failure::new(Code::IdempotencyConflict, message).about("Idempotency-Key")
}

fn again<P: Ports>(ports: &P, ticket: &Ticket, pepper: &str, answer: Answer) -> Result<Reply<P>, Failure> {
    let open =
        || SealKey::derive(pepper.as_bytes(), "replay").open(&STANDARD.decode(&answer.sealed).ok()?, &ticket.name);
    let Some(body) = open() else {
        ports.log("fault: a kept answer does not open");
        return Err(Failure::new(Code::Internal, "the kept answer cannot be read"));
    };
    let header =
        |(name, value): &(String, String)| KEPT.iter().find(|kept| *kept == name).map(|kept| (*kept, value.clone()));
    let mut headers: Vec<(&'static str, String)> = answer.headers.iter().filter_map(header).collect();
    headers.push(("x-gateway-idempotent-replay", "true".to_owned()));
    Ok(Reply { status: answer.status, headers, body: Body::Bytes(body) })
}

/// The end of a first call: its answer is kept where it was served, else its key is free again.
pub async fn end<P: Ports>(ports: &P, ticket: Option<Ticket>, captured: Option<Captured>) {
    match (ticket, captured) {
        (Some(ticket), Some(captured)) => keep(ports, &ticket, &captured).await,
        (Some(ticket), None) => give_up(ports, &ticket).await,
        (None, _) => {}
    }
}

/// Keeps the answer of a call that was served.
pub async fn keep<P: Ports>(ports: &P, ticket: &Ticket, captured: &Captured) {
    let body = captured.body.as_ref().filter(|body| body.len() <= ANSWER_BYTES_MAX);
    let seal = |body: &Vec<u8>| {
        let key = SealKey::derive(pepper(ports).ok()?.as_bytes(), "replay");
        let sealed = key.seal(body, &ticket.name, ports.chance())?;
        let kept = captured.headers.iter().filter(|(name, _)| KEPT.contains(name));
        let headers = kept.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Some(Answer { status: 200, headers, sealed: STANDARD.encode(sealed) })
    };
    let command = Command::Finish { fingerprint: ticket.fingerprint.clone(), answer: body.and_then(seal) };
    if let Err(error) = ports.replay(&ticket.name, &command).await {
        ports.log(&format!("fault: an answer was not kept: {}", error.0));
    }
}

/// Gives the key of a call free that was not served.
pub async fn give_up<P: Ports>(ports: &P, ticket: &Ticket) {
    let command = Command::Abort { fingerprint: ticket.fingerprint.clone() };
    if let Err(error) = ports.replay(&ticket.name, &command).await {
        ports.log(&format!("fault: a key was not given free: {}", error.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::multipart;

    #[test]
    fn a_form_is_the_same_whatever_its_boundary_and_another_with_other_parts() {
        let print = |boundary: &str, filename: &str, value: &str| {
            let file = Part { filename: Some(filename.to_owned()), ..Part::text("file", "SOUND") };
            let (_, pieces) = multipart::write(&[Part::text("model", value), file], boundary);
            let parts = multipart::parse(&Bytes::from(pieces.concat()), boundary).unwrap();
            print_of(&Source::Form(parts, "model")).concat()
        };
        assert_eq!(print("a", "x.mp3", "m"), print("b", "x.mp3", "m"));
        assert_ne!(print("a", "x.mp3", "m"), print("a", "y.mp3", "m"));
        assert_ne!(print("a", "x.mp3", "m"), print("a", "x.mp3", "n"));
    }
}
