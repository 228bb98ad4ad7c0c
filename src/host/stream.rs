//! Bodies: a provider's answer, the stream to the client, and the two ways of moving bytes between them.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortController, Response};

use super::alarm::Alarm;
use super::glue::{self, Blocks};
use super::soon::soon;
use crate::attempt::classify::Breakage;
use crate::relay::{Amend, Relay, Stop};
use crate::serve::ports::{Answer, Client, Left, Waits};
use crate::sse::KEEP_ALIVE;

fn method(object: &JsValue, name: &str) -> Result<Function, JsValue> {
    Reflect::get(object, &JsValue::from_str(name))?.dyn_into::<Function>()
}

fn call(object: &JsValue, name: &str) -> Result<JsValue, JsValue> {
    method(object, name)?.call0(object)
}

/// Aborts a call when dropped, unless it ended by itself.
pub struct AbortOnDrop {
    control: AbortController,
    ended: bool,
}

impl AbortOnDrop {
    /// A call that can be aborted.
    pub fn new() -> Result<AbortOnDrop, JsValue> {
        Ok(AbortOnDrop { control: AbortController::new()?, ended: false })
    }

    /// The controller.
    pub fn control(&self) -> &AbortController {
        &self.control
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if !self.ended {
            self.control.abort();
        }
    }
}

/// A provider's answer.
pub struct Upstream {
    response: Response,
    reader: Option<JsValue>,
    blocks: Option<Blocks>,
    abort: AbortOnDrop,
    /// What gives the body's pieces: as long as the call goes on, the host may still read.
    #[expect(dead_code, reason = "it is held, not read")]
    feed: Option<Closure<dyn FnMut() -> Option<Uint8Array>>>,
}

impl Upstream {
    /// An answer whose headers have come.
    pub fn new(response: Response, abort: AbortOnDrop) -> Upstream {
        Upstream { response, reader: None, blocks: None, abort, feed: None }
    }

    /// The same, whose body comes from there.
    pub fn fed_by(self, feed: Closure<dyn FnMut() -> Option<Uint8Array>>) -> Upstream {
        Upstream { feed: Some(feed), ..self }
    }

    /// Its body, which from now on ends by itself or with its reader.
    pub fn into_body(mut self) -> JsValue {
        self.abort.ended = true;
        self.response.body().map_or(JsValue::NULL, Into::into)
    }

    fn reader(&mut self) -> Result<JsValue, JsValue> {
        if let Some(reader) = &self.reader {
            return Ok(reader.clone());
        }
        let body = self.response.body().ok_or(JsValue::NULL)?;
        let reader = call(&body, "getReader")?;
        self.reader = Some(reader.clone());
        Ok(reader)
    }
}

impl Answer for Upstream {
    fn status(&self) -> u16 {
        self.response.status()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }

    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Breakage> {
        let read = async {
            let reader = self.reader()?;
            soon(Promise::from(call(&reader, "read")?)).await
        };
        let result = read.await.map_err(|_| Breakage::Cut)?;
        let done = Reflect::get(&result, &JsValue::from_str("done")).is_ok_and(|done| done.is_truthy());
        if done {
            self.abort.ended = true;
            return Ok(None);
        }
        let value = Reflect::get(&result, &JsValue::from_str("value")).map_err(|_| Breakage::Cut)?;
        Ok(Some(value.unchecked_into::<Uint8Array>().to_vec()))
    }

    async fn block(&mut self) -> Result<Option<Vec<u8>>, Breakage> {
        if self.reader.is_some() {
            return self.chunk().await;
        }
        if self.blocks.is_none() {
            let Some(body) = self.response.body() else { return Ok(None) };
            self.blocks = Some(Blocks::new(&body).map_err(|_| Breakage::Cut)?);
        }
        let Some(blocks) = &self.blocks else { return Ok(None) };
        match soon(blocks.next()).await {
            Ok(block) if block.is_undefined() => {
                self.abort.ended = true;
                Ok(None)
            }
            Ok(block) => Ok(Some(block.unchecked_into::<Uint8Array>().to_vec())),
            Err(_) => Err(Breakage::Cut),
        }
    }

    async fn whole(&mut self, max: usize) -> Result<Vec<u8>, Breakage> {
        let max = glue::js_ms(u64::try_from(max).unwrap_or(u64::MAX));
        let bytes = soon(glue::whole_body(self.response.as_ref(), max)).await;
        let bytes = bytes.map_err(|_| Breakage::Cut)?;
        if bytes.is_null() {
            return Err(Breakage::Malformed);
        }
        self.abort.ended = true;
        Ok(view(bytes).to_vec())
    }
}

/// Bytes of a large body that cross at once.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// A request's body from which on it is large: to have a smaller one twice for a moment costs less than its chunks do.
pub const LARGE_BYTES: usize = 1024 * 1024;

/// Bytes of JavaScript, whether they come as such or as a buffer; they are not copied there.
pub fn view(bytes: JsValue) -> Uint8Array {
    bytes.dyn_into::<Uint8Array>().unwrap_or_else(|buffer| Uint8Array::new(&buffer))
}

/// A body in pieces, given out in chunks.
pub struct Feed {
    pieces: std::vec::IntoIter<bytes::Bytes>,
    now: bytes::Bytes,
    desk: Desk,
}

impl Feed {
    /// Of these.
    pub fn new(pieces: Vec<bytes::Bytes>) -> Feed {
        Feed { pieces: pieces.into_iter(), now: bytes::Bytes::new(), desk: Desk::default() }
    }

    /// The next chunk; none at the end.
    pub fn next(&mut self) -> Option<Uint8Array> {
        while self.now.is_empty() {
            self.now = self.pieces.next()?;
        }
        let chunk = self.now.split_to(CHUNK_BYTES.min(self.now.len()));
        Some(self.desk.lay(&chunk))
    }
}

/// A body of a stated size, taken in chunk by chunk: it is here once, and not a second time in JavaScript. Each chunk is a
/// turn of the event loop, so it is filled before it is given.
pub async fn large_body(request: &web_sys::Request, size: usize) -> Option<Vec<u8>> {
    let reader = glue::bytes_of(request.body()?.as_ref());
    let mut whole = Vec::with_capacity(size);
    let mut buffer = js_sys::ArrayBuffer::new(u32::try_from(CHUNK_BYTES).ok()?);
    loop {
        let result = soon(glue::read_full(&reader, &buffer)).await.ok()?;
        let chunk = Reflect::get(&result, &JsValue::from_str("value")).ok()?.unchecked_into::<Uint8Array>();
        let at = whole.len();
        whole.resize(at.checked_add(usize::try_from(chunk.length()).ok()?)?, 0);
        chunk.copy_to(whole.get_mut(at..)?);
        if whole.len() >= size || chunk.length() == 0 {
            return (whole.len() == size).then_some(whole);
        }
        buffer = chunk.buffer();
    }
}

/// Memory of JavaScript for bytes on their way out, one piece after the other: a stream has copied what it took.
#[derive(Default)]
struct Desk(Option<Uint8Array>);

impl Desk {
    fn lay(&mut self, bytes: &[u8]) -> Uint8Array {
        let Ok(length) = u32::try_from(bytes.len()) else { return Uint8Array::from(bytes) };
        if length < SMALL_BYTES {
            return Uint8Array::from(bytes);
        }
        let desk = match self.0.take().filter(|desk| desk.length() >= length) {
            Some(desk) => desk,
            None => Uint8Array::new_with_length(length.next_power_of_two()),
        };
        let laid = desk.subarray(0, length);
        laid.copy_from(bytes);
        self.0 = Some(desk);
        laid
    }
}

/// Fewer bytes than that get memory of their own.
const SMALL_BYTES: u32 = 16 * 1024;

/// The writing end of a stream to the client.
pub struct Downstream {
    writable: JsValue,
    writer: Option<JsValue>,
    desk: Desk,
    left: Promise,
    stall_ms: u64,
    /// It took nothing for so long. What is still written waits for it, and nobody waits for that.
    is_stalled: bool,
}

/// A stream to the client: its writing and its reading end. `left` resolves when the client has left; one that takes
/// nothing for `stall_ms` is as good as gone.
pub fn open(left: Promise, stall_ms: u64) -> (Downstream, JsValue) {
    let pair = glue::identity();
    let end = |name: &str| Reflect::get(&pair, &JsValue::from_str(name)).unwrap_or(JsValue::NULL);
    (
        Downstream {
            writable: end("writable"),
            writer: None,
            desk: Desk::default(),
            left,
            stall_ms,
            is_stalled: false,
        },
        end("readable"),
    )
}

impl Downstream {
    fn writer(&mut self) -> Result<JsValue, JsValue> {
        if let Some(writer) = &self.writer {
            return Ok(writer.clone());
        }
        let writer = call(&self.writable, "getWriter")?;
        self.writer = Some(writer.clone());
        Ok(writer)
    }

    fn stalls(&mut self) {
        self.is_stalled = true;
        self.stall_ms = 0;
    }

    fn release(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = call(&writer, "releaseLock");
        }
    }
}

impl Client for Downstream {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Left> {
        if bytes.is_empty() {
            return Ok(());
        }
        let write = async {
            let writer = self.writer()?;
            soon(glue::written(&writer, &self.desk.lay(bytes), &self.left, glue::js_ms(self.stall_ms))).await
        };
        match write.await {
            Ok(is_taken) if is_taken.is_truthy() => Ok(()),
            Ok(nothing) if nothing.is_null() => {
                self.stalls();
                Err(Left)
            }
            _ => Err(Left),
        }
    }

    async fn cut(mut self) {
        let cut = async {
            let writer = self.writer()?;
            soon(glue::cut(&writer, &self.left, glue::js_ms(self.stall_ms))).await
        };
        let _ = cut.await;
    }

    async fn close(mut self) {
        let close = async {
            let writer = self.writer()?;
            soon(glue::closed(&writer, &self.left, glue::js_ms(self.stall_ms))).await
        };
        let _ = close.await;
    }
}

fn stop_of(answer: Result<JsValue, JsValue>) -> Stop {
    match answer.ok().and_then(|value| value.as_string()).as_deref() {
        Some("eof") => Stop::Eof,
        Some("idle") => Stop::Idle,
        Some("deadline") => Stop::Deadline,
        Some("left") => Stop::Left,
        Some("stalled") => Stop::Stalled,
        _ => Stop::Broken,
    }
}

/// Moves the rest of an answer to the client.
pub async fn pump(
    mut answer: Upstream,
    client: &mut Downstream,
    relay: &Rc<RefCell<Relay>>,
    amend: Amend<'_>,
    waits: Waits,
    left: &Promise,
) -> (Stop, bool) {
    let (stop, native) = moved(&mut answer, client, relay, amend, waits, left).await;
    if stop == Stop::Stalled {
        client.stalls();
    }
    (stop, native)
}

async fn moved(
    answer: &mut Upstream,
    client: &mut Downstream,
    relay: &Rc<RefCell<Relay>>,
    amend: Amend<'_>,
    waits: Waits,
    left: &Promise,
) -> (Stop, bool) {
    let (native, sees_price) = {
        let relay = relay.borrow();
        (relay.can_be_native(), relay.is_priced())
    };
    if native {
        return (natively(answer, client, relay, waits, left).await, true);
    }
    if sees_price {
        return (priced(answer, client, relay, amend, waits, left).await, false);
    }
    (seen(answer, client, relay, waits, left).await, false)
}

async fn natively(
    answer: &mut Upstream,
    client: &mut Downstream,
    relay: &Rc<RefCell<Relay>>,
    waits: Waits,
    left: &Promise,
) -> Stop {
    if let Some(reader) = answer.reader.take() {
        let _ = call(&reader, "releaseLock");
    }
    client.release();
    let Some(body) = answer.response.body() else { return Stop::Eof };
    let observed = Rc::clone(relay);
    let observe = Closure::<dyn FnMut(Uint8Array)>::new(move |bytes: Uint8Array| {
        observed.borrow_mut().push(&bytes.to_vec(), None, &|_, _, _| None);
    });
    let asked = Rc::clone(relay);
    let at_border = Closure::<dyn FnMut() -> bool>::new(move || asked.borrow().is_at_border());
    let waits = glue::numbers(&[waits.idle_ms, waits.keep_alive_ms, waits.total_ms]);
    let pumped = glue::pump_native(
        body.as_ref(),
        &client.writable,
        observe.as_ref().unchecked_ref(),
        at_border.as_ref().unchecked_ref(),
        &Uint8Array::from(KEEP_ALIVE),
        &waits,
        left,
        answer.abort.control(),
    );
    let stop = stop_of(soon(pumped).await);
    answer.abort.ended = stop == Stop::Eof;
    stop
}

/// Moves the rest of an answer to the client as it is.
pub async fn pipe(mut answer: Upstream, client: &mut Downstream, waits: Waits, left: &Promise) -> Stop {
    if let Some(reader) = answer.reader.take() {
        let _ = call(&reader, "releaseLock");
    }
    if let Some(blocks) = answer.blocks.take() {
        let _ = blocks.release();
    }
    client.release();
    let Some(body) = answer.response.body() else { return Stop::Eof };
    let waits = glue::numbers(&[waits.idle_ms, waits.total_ms]);
    let pumped = glue::pump_bytes(body.as_ref(), &client.writable, &waits, left, answer.abort.control());
    let stop = stop_of(soon(pumped).await);
    answer.abort.ended = stop == Stop::Eof;
    stop
}

async fn seen(
    answer: &mut Upstream,
    client: &mut Downstream,
    relay: &Rc<RefCell<Relay>>,
    waits: Waits,
    left: &Promise,
) -> Stop {
    let (Ok(reader), Ok(writer)) = (answer.reader(), client.writer()) else { return Stop::Broken };
    let pushed = Rc::clone(relay);
    let mut out = Vec::new();
    let push = Closure::<dyn FnMut(Uint8Array) -> Option<Uint8Array>>::new(move |bytes: Uint8Array| {
        out.clear();
        pushed.borrow_mut().push(&bytes.to_vec(), Some(&mut out), &|_, _, _| None);
        (!out.is_empty()).then(|| Uint8Array::from(out.as_slice()))
    });
    let waits = glue::numbers(&[waits.idle_ms, waits.keep_alive_ms, waits.total_ms]);
    let pumped = glue::pump_seen(
        &reader,
        &writer,
        push.as_ref().unchecked_ref(),
        &Uint8Array::from(KEEP_ALIVE),
        &waits,
        left,
        answer.abort.control(),
    );
    let stop = stop_of(soon(pumped).await);
    answer.abort.ended = stop == Stop::Eof;
    stop
}

/// The rare case: the client wants the price inside the usage chunk, and the price is Rust's to say.
async fn priced(
    answer: &mut Upstream,
    client: &mut Downstream,
    relay: &Rc<RefCell<Relay>>,
    amend: Amend<'_>,
    waits: Waits,
    left: &Promise,
) -> Stop {
    use futures::future::{Either, select};
    use futures::pin_mut;
    let started = super::world::now();
    let left = soon(left.clone());
    pin_mut!(left);
    let mut out = Vec::new();
    let alarm = Alarm::default();
    loop {
        let chunk = {
            let read = answer.chunk();
            pin_mut!(read);
            let mut silent_ms = 0;
            loop {
                let tick = alarm.wait(waits.keep_alive_ms.max(10));
                match select(select(&mut read, &mut left), tick).await {
                    Either::Left((Either::Left((chunk, _)), _)) => break chunk,
                    Either::Left((Either::Right(_), _)) => return Stop::Left,
                    Either::Right(_) => {}
                }
                silent_ms += waits.keep_alive_ms.max(10);
                if silent_ms >= waits.idle_ms {
                    return Stop::Idle;
                }
                if super::world::now().since(started) >= waits.total_ms {
                    return Stop::Deadline;
                }
                if client.write(KEEP_ALIVE).await.is_err() {
                    return Stop::Left;
                }
            }
        };
        match chunk {
            Err(_) => return Stop::Broken,
            Ok(None) => return Stop::Eof,
            Ok(Some(bytes)) => {
                out.clear();
                relay.borrow_mut().push(&bytes, Some(&mut out), amend);
                if client.write(&out).await.is_err() {
                    return if client.is_stalled { Stop::Stalled } else { Stop::Left };
                }
                if super::world::now().since(started) >= waits.total_ms {
                    return Stop::Deadline;
                }
            }
        }
    }
}
