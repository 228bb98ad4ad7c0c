//! The object of one job: its record and, until a host has it, its order, both sealed; an alarm for what is due; and
//! whoever waits for a change. What is to be done is the record's to say, and `serve::jobs::drive` does it.
//!
//! SQL is synchronous: what a step changes is stored before anything else runs, and no answer leaves before it is durable.
//! The alarm alone carries out steps, and the platform runs one alarm at a time; set anew before each turn, it comes again
//! when the process dies in the middle.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::channel::oneshot;
use futures::future::{Either, select};
use serde::Deserialize;
use wasm_bindgen::JsValue;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use super::super::glue::Wait;
use super::super::world::{World, log, now};
use crate::id::{RequestId, WorkspaceId};
use crate::job::command::{Command, Reply, Until};
use crate::job::order::Order;
use crate::job::state::Job;
use crate::seal::SealKey;
use crate::serve::jobs::drive::{Shelf, drive};
use crate::time::Millis;

/// Characters of a sealed text in one row; the platform takes two megabytes.
const PIECE: usize = 1_000_000;
/// A turn that is not over after this long is taken for dead, in milliseconds.
const WATCH_MS: i64 = 5_000;

/// The object.
#[durable_object(alarm)]
pub struct Generation {
    state: State,
    env: Env,
    context: JsValue,
    job: RefCell<Option<Job>>,
    is_open: Cell<bool>,
    is_driving: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
    watching: Cell<u32>,
}

#[derive(Deserialize)]
struct Piece {
    body: String,
}

/// Somebody who waits, until it is dropped.
struct Watching<'a>(&'a Cell<u32>);

impl<'a> Watching<'a> {
    fn new(count: &'a Cell<u32>) -> Watching<'a> {
        count.set(count.get().saturating_add(1));
        Watching(count)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl DurableObject for Generation {
    fn new(state: State, env: Env) -> Generation {
        let inner = state._inner();
        let context = JsValue::from(inner.clone());
        Generation {
            state: State::from(inner),
            env,
            context,
            job: RefCell::new(None),
            is_open: Cell::new(false),
            is_driving: Cell::new(false),
            waiting: RefCell::new(VecDeque::new()),
            watching: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let command: Command = crate::host::read(&request.text().await?)?;
        self.open()?;
        let reply = match command {
            Command::Create(job, order) => {
                if self.job.borrow().is_none() {
                    self.create(*job, &order)?;
                }
                self.wake(0).await?;
                self.reply()
            }
            Command::Look { workspace, until, wait_ms } => {
                if self.is_of(&workspace) {
                    self.look(until, wait_ms).await?;
                }
                self.reply_to(&workspace)
            }
            Command::Cancel(workspace) => {
                self.end(&workspace, |job| job.cancel(now())).await?;
                self.reply_to(&workspace)
            }
            Command::Delete(workspace) => {
                let was = self.reply_to(&workspace);
                self.end(&workspace, |job| job.delete(now())).await?;
                was
            }
        };
        Response::ok(serde_json::to_string(&reply)?)
    }

    async fn alarm(&self) -> Result<Response> {
        self.open()?;
        self.wake(WATCH_MS).await?;
        self.is_driving.set(true);
        let next = match self.world() {
            Ok(world) => drive(&world, self).await,
            Err(_) => Some(now().plus(1_000)),
        };
        self.is_driving.set(false);
        match next {
            Some(at) => self.wake_at(at).await?,
            None => self.state.storage().delete_alarm().await?,
        }
        Response::ok("")
    }
}

impl Generation {
    fn world(&self) -> std::result::Result<World, JsValue> {
        let request = web_sys::Request::new_with_str("https://job/")?;
        let env: &JsValue = self.env.as_ref();
        Ok(World::new(env.clone(), self.context.clone(), request, None))
    }

    async fn wake(&self, in_ms: i64) -> Result<()> {
        self.state.storage().set_alarm(in_ms).await
    }

    async fn wake_at(&self, at: Millis) -> Result<()> {
        self.wake(i64::try_from(at.since(now())).unwrap_or(i64::MAX)).await
    }

    fn is_of(&self, workspace: &WorkspaceId) -> bool {
        self.job.borrow().as_ref().is_some_and(|job| job.about.workspace == *workspace && !job.is_deleted)
    }

    fn reply(&self) -> Reply {
        self.job.borrow().clone().map_or(Reply::Unknown, |job| Reply::Job(Box::new(job)))
    }

    fn reply_to(&self, workspace: &WorkspaceId) -> Reply {
        if self.is_of(workspace) { self.reply() } else { Reply::Unknown }
    }

    /// Waits until what is waited for is so, or time is over.
    async fn look(&self, until: Until, wait_ms: u64) -> Result<()> {
        let is_met = || self.job.borrow().as_ref().is_none_or(|job| until.is_met(job));
        let due = self.job.borrow().as_ref().map(|job| job.due);
        // An alarm that was lost is made up for by whoever asks.
        if due.is_some_and(|due| due <= now()) && !self.is_driving.get() && !is_met() {
            self.wake(0).await?;
        }
        if wait_ms == 0 || is_met() {
            return Ok(());
        }
        let end = now().plus(wait_ms);
        let _watching = Watching::new(&self.watching);
        let sooner = self.change(|job| job.hurry(now())).flatten();
        if let Some(at) = sooner {
            self.wake_at(at).await?;
        }
        while !is_met() && now() < end {
            let (tell, told) = oneshot::channel();
            self.waiting.borrow_mut().push_back(tell);
            match select(told, Wait::new(end.since(now()))).await {
                Either::Left(_) => {}
                Either::Right(_) => break,
            }
        }
        Ok(())
    }

    async fn end(&self, workspace: &WorkspaceId, how: impl FnOnce(&mut Job)) -> Result<()> {
        if self.is_of(workspace) {
            self.change(how);
            self.wake(0).await?;
        }
        Ok(())
    }

    fn key(&self) -> Option<SealKey> {
        let secret = super::super::settings::secret(self.env.as_ref(), "KEY_HASH_SECRET")?;
        Some(SealKey::derive(secret.as_bytes(), "job"))
    }

    /// Loads the record where this is the object's first turn.
    fn open(&self) -> Result<()> {
        if self.is_open.replace(true) {
            return Ok(());
        }
        let sql = self.state.storage().sql();
        let table = "CREATE TABLE IF NOT EXISTS kept (name TEXT NOT NULL, place INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (name, place))";
        sql.exec(table, None)?;
        self.job.replace(self.read("job")?);
        Ok(())
    }

    fn create(&self, job: Job, order: &Order) -> Result<()> {
        let id = job.about.id.clone();
        let sql = self.state.storage().sql();
        sql.exec("INSERT INTO kept (name, place, body) VALUES ('id', 0, ?)", vec![id.as_str().into()])?;
        self.write("order", &id, &serde_json::to_vec(order)?)?;
        self.write("job", &id, &serde_json::to_vec(&job)?)?;
        self.job.replace(Some(job));
        Ok(())
    }

    fn pieces(&self, name: &str) -> Result<String> {
        let sql = self.state.storage().sql();
        let rows: Vec<Piece> =
            sql.exec("SELECT body FROM kept WHERE name = ? ORDER BY place", vec![name.into()])?.to_array()?;
        Ok(rows.into_iter().map(|row| row.body).collect())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(id) = RequestId::parse(&self.pieces("id")?) else { return Ok(None) };
        let sealed = self.pieces(name)?;
        if sealed.is_empty() {
            return Ok(None);
        }
        let plain = STANDARD.decode(sealed).ok().and_then(|bytes| self.key()?.open(&bytes, id.as_str()));
        let value = plain.and_then(|bytes| crate::json::from_bytes(&bytes));
        if value.is_none() {
            log("fault: the record of a job does not open");
        }
        Ok(value)
    }

    fn write(&self, name: &str, id: &RequestId, plain: &[u8]) -> Result<()> {
        let mut chance = [0; 32];
        let has_chance = getrandom::fill(&mut chance).is_ok();
        let key = self.key().filter(|_| has_chance);
        let sealed = key.and_then(|key| key.seal(plain, id.as_str(), chance));
        let sealed = sealed.ok_or_else(|| worker::Error::RustError("a job cannot be sealed".to_owned()))?;
        let sql = self.state.storage().sql();
        sql.exec("DELETE FROM kept WHERE name = ?", vec![name.into()])?;
        for (place, piece) in (0i32..).zip(STANDARD.encode(sealed).as_bytes().chunks(PIECE)) {
            let piece = String::from_utf8_lossy(piece).into_owned();
            let values = vec![name.into(), place.into(), piece.into()];
            sql.exec("INSERT INTO kept (name, place, body) VALUES (?, ?, ?)", values)?;
        }
        Ok(())
    }

    fn store(&self, job: &Job) -> Result<()> {
        self.write("job", &job.about.id, &serde_json::to_vec(job)?)?;
        if !job.needs_order() {
            self.state.storage().sql().exec("DELETE FROM kept WHERE name = 'order'", None)?;
        }
        Ok(())
    }
}

impl Shelf for Generation {
    fn change<T>(&self, f: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let (done, is_news) = {
            let mut kept = self.job.borrow_mut();
            let job = kept.as_mut()?;
            let before = job.clone();
            let done = f(job);
            if *job != before
                && let Err(error) = self.store(job)
            {
                log(&format!("fault: a job is not stored: {error}"));
                *job = before;
                return None;
            }
            let is_news = job.version != before.version;
            (done, is_news)
        };
        if is_news {
            self.waiting.take().into_iter().for_each(|one| {
                // Whoever waited may have left.
                let _ = one.send(());
            });
        }
        Some(done)
    }

    fn order(&self) -> Option<Order> {
        self.read("order").ok().flatten()
    }

    fn is_watched(&self) -> bool {
        self.watching.get() > 0
    }

    async fn forget(&self) {
        self.job.replace(None);
        self.is_open.set(false);
        if let Err(error) = self.state.storage().delete_all().await {
            log(&format!("fault: a job's record is still there: {error}"));
        }
    }
}
