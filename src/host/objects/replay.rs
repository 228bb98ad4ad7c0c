//! The object of one `Idempotency-Key`: its record, in pieces that fit into a row, until its time is over.

use serde::Deserialize;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use super::super::world::now;
use crate::replay::{Command, Record, apply};

/// Characters of a record in one row; the platform takes two megabytes.
const PIECE: usize = 1_000_000;

/// The object.
#[durable_object(alarm)]
pub struct Replay {
    state: State,
}

#[derive(Deserialize)]
struct Piece {
    body: String,
}

impl DurableObject for Replay {
    fn new(state: State, _env: Env) -> Replay {
        Replay { state }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let command: Command = crate::host::read(&request.text().await?)?;
        let sql = self.state.storage().sql();
        sql.exec("CREATE TABLE IF NOT EXISTS record (place INTEGER PRIMARY KEY, body TEXT NOT NULL)", None)?;
        let pieces: Vec<Piece> = sql.exec("SELECT body FROM record ORDER BY place", None)?.to_array()?;
        let text: String = pieces.into_iter().map(|piece| piece.body).collect();
        let before: Option<Record> = crate::json::from_str(&text).ok();
        let (after, reply) = apply(before.clone(), command, now());
        if after != before {
            sql.exec("DELETE FROM record", None)?;
            if let Some(record) = &after {
                let text = serde_json::to_string(record)?;
                // JSON of ours with base64 in it: ASCII, so any place is a border.
                for (place, piece) in (0i32..).zip(text.as_bytes().chunks(PIECE)) {
                    let piece = String::from_utf8_lossy(piece).into_owned();
                    sql.exec("INSERT INTO record (place, body) VALUES (?, ?)", vec![place.into(), piece.into()])?;
                }
                let in_ms = i64::try_from(record.until.since(now())).unwrap_or(0);
                self.state.storage().set_alarm(in_ms.saturating_add(1)).await?;
            }
        }
        Response::ok(serde_json::to_string(&reply)?)
    }

    async fn alarm(&self) -> Result<Response> {
        self.state.storage().delete_all().await?;
        Response::ok("")
    }
}
