//! What the isolate remembers between requests: variables, secrets, policies, the snapshot in use, models.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::access::policy::Policy;
use crate::attempt::pool::Slots;
use crate::auth::token::Tokens;
use crate::catalog::ModelEntry;
use crate::health::board::Board;
use crate::limits::room::Room;
use crate::routing::sticky::Affinity;
use crate::serve::ports::Settings;
use crate::time::Millis;

/// How long "there is no such key / model" is believed, in milliseconds.
const ABSENT_MS: u64 = 5_000;
/// A remembered fact is used while it is refreshed, up to this many times its refresh age.
const STALE_FACTOR: u64 = 10;
/// Entries of one kind; more, and the kind is forgotten as a whole.
const ENTRIES_MAX: usize = 2_000;
/// Lists of the catalog; each may be some megabytes.
const LISTS_MAX: usize = 6;

/// How a remembered fact may be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// As it is.
    Fresh(T),
    /// As it is, while somebody reads it again in the background.
    Stale(T),
    /// Not at all.
    Unknown,
}

/// Facts by name, with the moment they were read. `None` is a fact too: there is no such thing.
#[derive(Debug)]
pub struct Facts<T> {
    entries: HashMap<String, (Option<Rc<T>>, Millis)>,
}

impl<T> Default for Facts<T> {
    fn default() -> Facts<T> {
        Facts { entries: HashMap::new() }
    }
}

impl<T> Facts<T> {
    /// What is remembered of `name`.
    pub fn recall(&mut self, name: &str, refresh_ms: u64, now: Millis) -> Known<Option<Rc<T>>> {
        let Some((fact, at)) = self.entries.get_mut(name) else { return Known::Unknown };
        let age = now.since(*at);
        let found = fact.clone();
        match &found {
            None if age < ABSENT_MS => Known::Fresh(None),
            None => Known::Unknown,
            Some(_) if age < refresh_ms => Known::Fresh(found),
            Some(_) if age < refresh_ms.saturating_mul(STALE_FACTOR) => {
                // Whoever sees it stale refreshes it; the others go on with it meanwhile.
                *at = Millis(now.0.saturating_sub(refresh_ms / 2));
                Known::Stale(found)
            }
            Some(_) => Known::Unknown,
        }
    }

    /// Remembers.
    pub fn remember(&mut self, name: &str, fact: Option<Rc<T>>, now: Millis) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        self.entries.insert(name.to_owned(), (fact, now));
    }

    /// Forgets.
    pub fn forget(&mut self, name: &str) {
        self.entries.remove(name);
    }
}

/// All of it.
#[derive(Default)]
pub struct Isolate {
    /// Variables, read once.
    pub settings: Option<Rc<Settings>>,
    /// Secrets by name.
    pub secrets: HashMap<String, Option<String>>,
    /// Slots of secrets by name.
    pub slots: HashMap<String, Slots>,
    /// Policies by key hash.
    pub policies: Facts<Policy>,
    /// Read copies of settings by their KV keys.
    pub copies: Facts<String>,
    /// The snapshot in use, under one name.
    pub snapshot: Facts<str16::Id>,
    /// The last snapshot that was in use, however long ago.
    pub last_snapshot: Option<Rc<str>>,
    /// Models by snapshot and name.
    pub models: Facts<ModelEntry>,
    /// When what others saw of providers was last read; zero is never.
    pub health_at: Millis,
    /// Lists of snapshots by their keys, the last ones read.
    lists: Vec<(String, Rc<str>)>,
}

impl Isolate {
    /// A list that was read before.
    pub fn list(&self, key: &str) -> Option<Rc<str>> {
        self.lists.iter().find(|(known, _)| known == key).map(|(_, list)| Rc::clone(list))
    }

    /// Remembers a list, and forgets the oldest of too many.
    pub fn remember_list(&mut self, key: &str, list: &Rc<str>) {
        if self.lists.len() >= LISTS_MAX {
            self.lists.remove(0);
        }
        self.lists.push((key.to_owned(), Rc::clone(list)));
    }
}

/// A snapshot id.
pub mod str16 {
    /// Its text.
    #[derive(Debug, PartialEq, Eq)]
    pub struct Id(pub std::rc::Rc<str>);
}

/// Bytes of chance that are asked for at once.
const CHANCE_BYTES: usize = 640;

thread_local! {
    static CHANCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static ISOLATE: RefCell<Isolate> = RefCell::new(Isolate::default());
    static AFFINITY: Rc<RefCell<Affinity>> = Rc::new(RefCell::new(Affinity::default()));
    static TOKENS: Rc<RefCell<Tokens>> = Rc::new(RefCell::new(Tokens::default()));
    static ROOM: RefCell<Option<Rc<RefCell<Room>>>> = const { RefCell::new(None) };
    static BOARD: Rc<RefCell<Board>> = Rc::new(RefCell::new(Board::default()));
}

/// Looks at (or changes) what the isolate remembers.
pub fn with<T>(f: impl FnOnce(&mut Isolate) -> T) -> T {
    ISOLATE.with(|isolate| f(&mut isolate.borrow_mut()))
}

/// Chance for a request's id, from a stock: each call of the platform's source costs more than the bytes. Not for secrets.
pub fn chance() -> [u8; 10] {
    CHANCE.with(|stock| {
        let mut stock = stock.borrow_mut();
        if stock.is_empty() {
            stock.resize(CHANCE_BYTES, 0);
            // The platform's source does not fail; were it to, an all-zero id would be refused as a duplicate.
            let _ = getrandom::fill(&mut stock);
        }
        std::array::from_fn(|_| stock.pop().unwrap_or(0))
    })
}

/// Where the isolate saw conversations go.
pub fn affinity() -> Rc<RefCell<Affinity>> {
    AFFINITY.with(Rc::clone)
}

/// The isolate's room for large bodies, of that size at its first use.
pub fn room(bytes: u64) -> Rc<RefCell<Room>> {
    ROOM.with(|room| Rc::clone(room.borrow_mut().get_or_insert_with(|| Rc::new(RefCell::new(Room::new(bytes))))))
}

/// The isolate's access tokens.
pub fn tokens() -> Rc<RefCell<Tokens>> {
    TOKENS.with(Rc::clone)
}

/// The isolate's health board.
pub fn board() -> Rc<RefCell<Board>> {
    BOARD.with(Rc::clone)
}
