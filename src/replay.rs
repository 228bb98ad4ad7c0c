//! Idempotency: the record of one `Idempotency-Key` of a workspace, and what a call that carries it may do.
//!
//! The first call runs and its answer is kept, sealed, for a day; a call with the same key and the same body gets that
//! answer. A first call that failed leaves nothing behind. A first call that was never heard of again (its isolate died)
//! gives the key free when its hold has expired: what it might still have cost is then the gateway's loss, not a charge.

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// How long an answer is kept, in milliseconds.
pub const KEPT_MS: u64 = 24 * 3600 * 1000;
/// Longest answer that is kept, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What is asked of the object of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A call comes in.
    Begin {
        /// Keyed hash of its method, path and body.
        fingerprint: String,
        /// When it will be over at the latest, in milliseconds from now.
        run_ms: u64,
    },
    /// It was answered.
    Finish {
        /// As at the begin.
        fingerprint: String,
        /// The answer; `None`: it is too large to be kept.
        answer: Option<Answer>,
    },
    /// It failed.
    Abort {
        /// As at the begin.
        fingerprint: String,
    },
}

/// An answer to be given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body, sealed, in base64.
    pub sealed: String,
}

/// What the object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Go on: this is the first call.
    Run,
    /// The first call is under way.
    Running,
    /// The key belongs to another request.
    Conflict,
    /// The first call's answer was too large to be kept.
    TooLarge,
    /// The first call's answer.
    Again(Answer),
    /// Noted.
    Done,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of the first call.
    pub fingerprint: String,
    /// When the record is gone.
    pub until: Millis,
    /// What became of the call.
    pub state: State,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody knows yet.
    Running,
    /// Its answer.
    Answered(Answer),
    /// An answer that was too large.
    TooLarge,
}

/// The next record (`None`: none) and the reply.
pub fn apply(record: Option<Record>, command: Command, now: Millis) -> (Option<Record>, Reply) {
    let record = record.filter(|record| now < record.until);
    match command {
        Command::Begin { fingerprint, run_ms } => match record {
            None => (Some(Record { fingerprint, until: now.plus(run_ms), state: State::Running }), Reply::Run),
            Some(record) if record.fingerprint != fingerprint => (Some(record), Reply::Conflict),
            Some(record) => {
                let reply = match &record.state {
                    State::Running => Reply::Running,
                    State::TooLarge => Reply::TooLarge,
                    State::Answered(answer) => Reply::Again(answer.clone()),
                };
                (Some(record), reply)
            }
        },
        Command::Finish { fingerprint, answer } => match record {
            Some(record) if record.fingerprint == fingerprint && record.state == State::Running => {
                let state = answer.map_or(State::TooLarge, State::Answered);
                (Some(Record { fingerprint, until: now.plus(KEPT_MS), state }), Reply::Done)
            }
            other => (other, Reply::Done),
        },
        Command::Abort { fingerprint } => match record {
            Some(record) if record.fingerprint == fingerprint && record.state == State::Running => (None, Reply::Done),
            other => (other, Reply::Done),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(fingerprint: &str) -> Command {
        Command::Begin { fingerprint: fingerprint.to_owned(), run_ms: 100 }
    }

    fn answer() -> Answer {
        Answer { status: 200, headers: Vec::new(), sealed: "x".to_owned() }
    }

    #[test]
    fn the_first_call_runs_and_its_answer_is_given_again_for_a_day() {
        let (record, reply) = apply(None, begin("a"), Millis(0));
        assert_eq!(reply, Reply::Run);
        let (record, reply) = apply(record, begin("a"), Millis(50));
        assert_eq!(reply, Reply::Running);
        let (record, reply) = apply(record, begin("b"), Millis(50));
        assert_eq!(reply, Reply::Conflict);
        let finish = Command::Finish { fingerprint: "a".to_owned(), answer: Some(answer()) };
        let (record, _) = apply(record, finish, Millis(60));
        assert_eq!(apply(record.clone(), begin("a"), Millis(60 + KEPT_MS - 1)).1, Reply::Again(answer()));
        assert_eq!(apply(record.clone(), begin("b"), Millis(70)).1, Reply::Conflict);
        assert_eq!(apply(record, begin("b"), Millis(60 + KEPT_MS)).1, Reply::Run, "a day later the key is free");
    }

    #[test]
    fn a_failure_is_not_pinned_and_a_lost_call_gives_the_key_free() {
        let (record, _) = apply(None, begin("a"), Millis(0));
        let (gone, _) = apply(record.clone(), Command::Abort { fingerprint: "a".to_owned() }, Millis(5));
        assert_eq!(gone, None);
        assert_eq!(apply(record.clone(), begin("a"), Millis(100)).1, Reply::Run);
        // Late news of the lost call does not touch the record of the next one.
        let (next, _) = apply(record, begin("b"), Millis(100));
        let (kept, _) = apply(next.clone(), Command::Abort { fingerprint: "a".to_owned() }, Millis(110));
        assert_eq!(kept, next);
        let late = Command::Finish { fingerprint: "a".to_owned(), answer: None };
        assert_eq!(apply(next.clone(), late, Millis(110)).0, next);
    }

    #[test]
    fn an_answer_that_is_too_large_is_remembered_as_such() {
        let (record, _) = apply(None, begin("a"), Millis(0));
        let (record, _) = apply(record, Command::Finish { fingerprint: "a".to_owned(), answer: None }, Millis(5));
        assert_eq!(apply(record, begin("a"), Millis(6)).1, Reply::TooLarge);
    }
}
