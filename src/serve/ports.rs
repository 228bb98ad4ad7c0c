//! What the path needs of the world. `host` answers with the platform, tests with fakes.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use crate::access::policy::{Limits, Policy};
use crate::attempt::classify::Breakage;
use crate::attempt::pool::Slots;
use crate::auth::token::Tokens;
use crate::catalog::ModelEntry;
use crate::health::board::Board;
use crate::id::{RequestId, WorkspaceId};
use crate::job::command as job;
use crate::job::pace::Pace;
use crate::limits::room::Room;
use crate::relay::{Amend, Relay, Stop};
use crate::replay;
use crate::routing::sticky::Affinity;
use crate::time::Millis;
use crate::webhook::event::Event;
use crate::workspace::{Command, Entry, JournalEntry, Reply, Settlement};

/// Something outside failed. The words are for the log and hold nothing private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortError(pub String);

/// The body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than allowed.
    TooLarge,
    /// The client broke off.
    Broken,
}

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left;

/// Times and limits, from Worker variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Streamed: until the headers of one attempt.
    pub connect_timeout_ms: u64,
    /// Streamed: until the first content of one attempt.
    pub first_byte_timeout_ms: u64,
    /// Plain: until the whole answer of one attempt.
    pub plain_timeout_ms: u64,
    /// Between two chunks of a stream.
    pub idle_timeout_ms: u64,
    /// The whole request.
    pub total_timeout_ms: u64,
    /// Silence before a stream's headers go out early, with a comment.
    pub keep_alive_first_ms: u64,
    /// Silence between comments after that.
    pub keep_alive_ms: u64,
    /// Most attempts.
    pub attempts_max: usize,
    /// Largest request body, in bytes.
    pub body_bytes_max: u64,
    /// Bytes of large bodies that one isolate holds at the same time.
    pub body_room_bytes: u64,
    /// How long a large body waits for room, in milliseconds.
    pub body_wait_ms: u64,
    /// Limits of a workspace that has none of its own.
    pub default_limits: Limits,
    /// What a request with an own credential costs, in basis points of its price.
    pub byok_fee_basis_points: u64,
    /// How long a hold lasts.
    pub hold_ms: u64,
    /// Times of jobs.
    pub pace: Pace,
    /// How many requests a minute of a workspace may go to free offers.
    pub free_per_minute: u64,
    /// How long what is in D1 too stays in a workspace's own journal.
    pub journal_keep_ms: u64,
    /// Age at which the isolate looks for a new catalog snapshot.
    pub catalog_refresh_ms: u64,
    /// Age at which the isolate reads a key's policy again.
    pub key_refresh_ms: u64,
    /// Days after which activity rows are swept where a workspace says nothing; 0: never.
    pub retention_days: u64,
    /// Whether addresses on this machine may be called where a client names them: in tests alone.
    pub allows_loopback: bool,
    /// How long a webhook's receiver may take.
    pub webhook_timeout_ms: u64,
    /// The first wait before a delivery is tried again; later ones are multiples of it.
    pub webhook_retry_ms: u64,
    /// Age at which it reads again what other isolates saw of providers, and what the operator switched.
    pub health_refresh_ms: u64,
}

/// A model, and the snapshot it was read from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The snapshot's id.
    pub snapshot: Rc<str>,
    /// The model.
    pub entry: Rc<ModelEntry>,
}

/// One upstream call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// Where to; from the catalog alone.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body; a GET has none.
    pub body: Vec<u8>,
}

/// A provider's answer. Dropping it before its end closes the connection.
pub trait Answer {
    /// HTTP status.
    fn status(&self) -> u16;
    /// A header.
    fn header(&self, name: &str) -> Option<String>;
    /// The next chunk; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, Breakage>>;
    /// The same in pieces as large as they come, for answers of many megabytes. Who began with one goes on with it.
    fn block(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, Breakage>>;
    /// All of the rest, at most `max` bytes.
    fn whole(&mut self, max: usize) -> impl Future<Output = Result<Vec<u8>, Breakage>>;
}

/// The writing end of a stream to the client.
pub trait Client {
    /// Writes; resolves when the bytes are taken.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Left>>;
    /// Ends the stream.
    fn close(self) -> impl Future<Output = ()>;
    /// Breaks it off: the client sees that something is missing.
    fn cut(self) -> impl Future<Output = ()>;
}

/// How a pump is to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Silence that ends the stream.
    pub idle_ms: u64,
    /// Silence before a comment.
    pub keep_alive_ms: u64,
    /// Time left for the whole.
    pub total_ms: u64,
}

/// What a [`PortError`] says where the catalog in use is not whole (yet).
pub const CATALOG_NOT_WHOLE: &str = "the catalog in use is not whole";

/// One value of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sql {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
    /// NULL.
    Null,
}

impl From<&str> for Sql {
    fn from(text: &str) -> Sql {
        Sql::Text(text.to_owned())
    }
}

/// Makes a settlement when it is to be sent.
pub type Due = Box<dyn FnOnce() -> Settlement>;

/// Entries of a journal, newest first; the number to go on from, and the oldest number that it holds.
pub type LedgerPage = (Vec<Entry>, Option<u64>, Option<u64>);

/// Counts of what the isolate did, for the bench and the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counters {
    /// Requests that reached an inference endpoint.
    pub requests: u64,
    /// KV reads.
    pub kv_reads: u64,
    /// Calls of a workspace object.
    pub object_calls: u64,
    /// Of these, admissions.
    pub object_admits: u64,
    /// Of these, settlements (each may end many requests).
    pub object_settles: u64,
    /// Requests settled.
    pub settlements: u64,
    /// D1 statements, those of the flush included.
    pub d1_calls: u64,
    /// Rows written to the objects' own storage and to D1, as the platform counts (and bills) them.
    pub sql_rows_written: u64,
    /// Bytes of the isolate's wasm memory, which never shrinks: the most that it ever needed.
    pub wasm_bytes: u64,
}

/// The world.
pub trait Ports: 'static {
    /// A provider's answer.
    type Answer: Answer + 'static;
    /// The writing end of a stream to the client.
    type Client: Client + 'static;
    /// Its reading end, for the reply.
    type Readable: 'static;

    /// The clock.
    fn now(&self) -> Millis;
    /// Chance.
    fn chance(&self) -> [u8; 32];
    /// Variables.
    fn settings(&self) -> &Settings;
    /// A secret.
    fn secret(&self, name: &str) -> Option<String>;
    /// Which slots of a secret are set.
    fn slots(&self, name: &str) -> Slots;
    /// The length of the request's body, where it is stated.
    fn body_length(&self) -> Option<u64>;
    /// The isolate's room for large bodies.
    fn room(&self) -> Rc<RefCell<Room>>;
    /// The request's body, read once.
    fn body(&self, max: u64) -> impl Future<Output = Result<Vec<u8>, BodyError>>;
    /// The policy of the key with that hash.
    fn policy(&self, hash: &str) -> impl Future<Output = Result<Option<Rc<Policy>>, PortError>>;
    /// Forgets what the isolate knows of that key.
    fn forget_policy(&self, hash: &str);
    /// The read copy of something in D1: from the isolate, else from KV, else from the column `copy` of the statement's
    /// first row.
    fn read_copy(
        &self,
        key: &str,
        statement: &str,
        values: &[Sql],
    ) -> impl Future<Output = Result<Option<Rc<String>>, PortError>>;
    /// Forgets a read copy.
    fn forget_copy(&self, key: &str);
    /// A model by its id, alias or unique bare name.
    fn model(&self, name: &str) -> impl Future<Output = Result<Option<Resolved>, PortError>>;
    /// The id of the snapshot in use.
    fn snapshot(&self) -> impl Future<Output = Result<Option<Rc<str>>, PortError>>;
    /// Forgets which snapshot is in use.
    fn forget_snapshot(&self);
    /// Tells a workspace something.
    fn ask(&self, workspace: &WorkspaceId, command: &Command) -> impl Future<Output = Result<Reply, PortError>>;
    /// Tells the object of an idempotency key something. `name` is the workspace and the key's hash.
    fn replay(&self, name: &str, command: &replay::Command) -> impl Future<Output = Result<replay::Reply, PortError>>;
    /// Tells the object of a job something.
    fn job(&self, id: &RequestId, command: &job::Command) -> impl Future<Output = Result<job::Reply, PortError>>;
    /// Hands a settlement over, to be made when it is sent; resolves when it waits with others or is done.
    fn settle(&self, workspace: &WorkspaceId, due: Due) -> impl Future<Output = ()>;
    /// Whether this isolate has settlements on their way for the workspace.
    fn is_settling(&self, workspace: &WorkspaceId) -> bool;
    /// Waits (not for long) until settlements handed over before are done.
    fn settled(&self, workspace: &WorkspaceId) -> impl Future<Output = ()>;
    /// Activity rows that are not in D1 yet.
    fn outbox(&self, workspace: &WorkspaceId) -> impl Future<Output = Result<Vec<JournalEntry>, PortError>>;
    /// How many activity rows are not in D1 yet.
    fn depth(&self, workspace: &WorkspaceId) -> impl Future<Output = Result<u64, PortError>>;
    /// Ledger entries of the journal before one of its numbers, newest first, with the number to go on from and the
    /// oldest number that the journal holds.
    fn ledger(
        &self,
        workspace: &WorkspaceId,
        before: Option<u64>,
        limit: u64,
    ) -> impl Future<Output = Result<LedgerPage, PortError>>;
    /// The rest of an answer as the body of a reply: the runtime moves it, and the client's leaving closes it.
    fn body_of(&self, answer: Self::Answer) -> Self::Readable;
    /// Calls a provider; resolves with its headers. Dropping the future closes the connection.
    fn send(&self, call: Call) -> impl Future<Output = Result<Self::Answer, Breakage>>;
    /// The same with a body in pieces in place of the call's own: a large one is not copied together.
    fn send_pieces(
        &self,
        call: Call,
        pieces: Vec<bytes::Bytes>,
    ) -> impl Future<Output = Result<Self::Answer, Breakage>>;
    /// Moves the rest of an answer to the client as it is, past everything; says how it stopped.
    fn pipe(&self, answer: Self::Answer, client: &mut Self::Client, waits: Waits) -> impl Future<Output = Stop>;
    /// Waits.
    fn sleep(&self, ms: u64) -> impl Future<Output = ()>;
    /// Resolves when the client has left.
    fn left(&self) -> impl Future<Output = ()>;
    /// A stream to the client.
    fn open_stream(&self) -> (Self::Client, Self::Readable);
    /// Moves the rest of an answer to the client, past the relay; says how it stopped, and whether the last of it was
    /// moved natively.
    fn pump(
        &self,
        answer: Self::Answer,
        client: &mut Self::Client,
        relay: &Rc<RefCell<Relay>>,
        amend: Amend<'_>,
        waits: Waits,
    ) -> impl Future<Output = (Stop, bool)>;
    /// Goes on with work when the reply has left and when the client has.
    fn in_background(&self, work: impl Future<Output = ()> + 'static);
    /// Health of offers as this isolate knows it.
    fn board(&self) -> &RefCell<Board>;
    /// Tells the health object of a shard something (`report`, `switch` or `state`).
    fn health(&self, shard: u64, what: &str, body: &str) -> impl Future<Output = Result<String, PortError>>;
    /// Whether there is an archive.
    fn has_archive(&self) -> bool;
    /// Writes text into the archive, compressed; resolves when it is there for good.
    fn archive(&self, name: &str, text: &str) -> impl Future<Output = Result<(), PortError>>;
    /// Deletes everything in the archive whose name begins so.
    fn clear_archive(&self, prefix: &str) -> impl Future<Output = Result<(), PortError>>;
    /// Tells the webhooks of a workspace of an event: resolves when the workspace's courier has it. The same event again
    /// is not told twice.
    fn tell(&self, workspace: &WorkspaceId, event: &Event) -> impl Future<Output = Result<(), PortError>>;
    /// Asks the courier of a workspace something (`tell`, `deliveries`, `depth`).
    fn courier(
        &self,
        workspace: &WorkspaceId,
        what: &str,
        body: &str,
    ) -> impl Future<Output = Result<String, PortError>>;
    /// Brings what other isolates saw, and what the operator switched, into the board. A cold isolate waits for it; a
    /// warm one looks again in the background, when it is time. Before every ranking.
    fn recall_health(&self) -> impl Future<Output = ()>;
    /// Where conversations went last, as this isolate remembers it.
    fn affinity(&self) -> &RefCell<Affinity>;
    /// Access tokens this isolate has.
    fn tokens(&self) -> &RefCell<Tokens>;
    /// An RS256 signature with a private key (PKCS#8 in DER); `None` where the key is none.
    fn sign_rs256(&self, key: &[u8], text: &str) -> impl Future<Output = Option<Vec<u8>>>;
    /// What this isolate did so far.
    fn counters(&self) -> Counters;
    /// Counts an inference request.
    fn count_request(&self);
    /// Reads from KV.
    fn kv_get(&self, key: &str) -> impl Future<Output = Result<Option<String>, PortError>>;
    /// A list of a snapshot, from the isolate where it was read before: it never changes.
    fn list_text(&self, key: &str) -> impl Future<Output = Result<Option<Rc<str>>, PortError>>;
    /// Writes to KV.
    fn kv_put(&self, key: &str, value: &str) -> impl Future<Output = Result<(), PortError>>;
    /// Deletes every key of KV with that beginning.
    fn kv_clear(&self, prefix: &str) -> impl Future<Output = Result<(), PortError>>;
    /// Empties the object of a workspace for good.
    fn erase(&self, workspace: &WorkspaceId) -> impl Future<Output = Result<(), PortError>>;
    /// Runs a statement on D1; rows as JSON objects.
    fn sql(&self, statement: &str, values: &[Sql]) -> impl Future<Output = Result<Vec<serde_json::Value>, PortError>>;
    /// Runs statements on D1 in one transaction; the rows of each.
    fn sql_batch(
        &self,
        statements: Vec<(String, Vec<Sql>)>,
    ) -> impl Future<Output = Result<Vec<Vec<serde_json::Value>>, PortError>>;
    /// A line for the operator. Never anything a client or provider wrote.
    fn log(&self, line: &str);
}
