//! The steps of a job, carried out one after the other until there is nothing to do now. The record decides; this asks the
//! host and brings the answer back.

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::call::{asked, broke, prepared};
use super::shown;
use crate::attempt::classify::{self, Breakage, Class, Verdict};
use crate::attempt::pool::label;
use crate::error::Code;
use crate::health::sample::{Place, Sample};
use crate::job::family::{Ask, Call, Progress};
use crate::job::order::Order;
use crate::job::state::{Job, Refused, Seat, Step};
use crate::serve::byok;
use crate::serve::ports::{Answer, Call as Sent, Ports, Sql};
use crate::time::Millis;
use crate::webhook::event::{Event, Kind};
use crate::workspace::{Command, Reply as Said, Settlement};

/// Most steps of one turn.
const STEPS_MAX: usize = 64;
/// How long a host may take to answer a question, in milliseconds.
const ASK_MS: u64 = 60_000;
/// How long an image may take, in milliseconds, and its most bytes.
const IMAGE_MS: u64 = 20_000;
const IMAGE_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Where the record is kept. What `change` did is stored before it returns.
pub trait Shelf {
    /// Changes the record; `None` where there is none.
    fn change<T>(&self, f: impl FnOnce(&mut Job) -> T) -> Option<T>;
    /// The order, while it is needed.
    fn order(&self) -> Option<Order>;
    /// Whether somebody waits for the job's end.
    fn is_watched(&self) -> bool;
    /// Forgets everything.
    fn forget(&self) -> impl Future<Output = ()>;
}

/// Carries out what is due; when to come again.
pub async fn drive<P: Ports, S: Shelf>(ports: &P, shelf: &S) -> Option<Millis> {
    for _ in 0..STEPS_MAX {
        let (step, job) = shelf.change(|job| (job.next(ports.now()), job.clone()))?;
        match step {
            Step::Wait(at) => return Some(at),
            Step::Claim => claim(ports, shelf, &job).await?,
            Step::Submit(_) => submit(ports, shelf, &job).await?,
            Step::Poll(part) => poll(ports, shelf, &job, part).await?,
            Step::Cancel(part) => cancel(ports, shelf, &job, part).await?,
            Step::Forget => {
                unlist(ports, &job).await;
                shelf.forget().await;
                return None;
            }
            step => {
                let done = match step {
                    Step::Settle => settle(ports, &job).await,
                    _ => list(ports, &job).await && tell(ports, &job).await,
                };
                shelf.change(|now| match (&step, done) {
                    (_, false) => now.on_trouble(&step, ports.now()),
                    (Step::Settle, true) => now.on_settled(),
                    (_, true) => now.on_listed(job.version),
                })?;
            }
        }
    }
    Some(ports.now())
}

/// Asks the workspace to hold for as long as the job may take.
async fn claim<P: Ports, S: Shelf>(ports: &P, shelf: &S, job: &Job) -> Option<()> {
    let about = &job.about;
    let until = about.admitted.plus(about.pace.hold_ms());
    let said = ports.ask(&about.workspace, &Command::Prolong(about.id.clone(), until)).await;
    shelf.change(|job| match &said {
        Ok(said) => job.on_claimed(matches!(said, Said::Done), ports.now()),
        Err(error) => {
            ports.log(&format!("the hold of a job is not claimed yet: {}", error.0));
            job.on_trouble(&Step::Claim, ports.now());
        }
    })
}

async fn submit<P: Ports, S: Shelf>(ports: &P, shelf: &S, job: &Job) -> Option<()> {
    let began = ports.now();
    let outcome = match (job.seat(), shelf.order()) {
        (Some(seat), Some(order)) => submitted(ports, job, seat, order).await,
        _ => Err(broke(Breakage::Malformed)),
    };
    let now = ports.now();
    if let Some(seat) = job.seat() {
        let credential = seat.own.as_ref().map_or_else(|| label(seat.slot), |id| Some(id.as_str()));
        let place = Place { credential, ..Place::new(&seat.provider.id, &seat.offer.upstream) };
        let sample = match &outcome {
            Ok(_) => Some(Sample::Served { first_byte_ms: None, prompt_tokens: 0 }),
            Err(refused) => sample_of(refused),
        };
        if let Some(sample) = sample {
            ports.board().borrow_mut().on_sample(&place, sample, now);
        }
        if let (Err(Refused { verdict, status, .. }), Some(own)) = (&outcome, &seat.own)
            && verdict.class == Class::Credential
        {
            byok::refused(ports, &job.about.workspace, own, *status).await;
        }
    }
    shelf.change(|job| match outcome {
        Ok((handle, status)) => job.on_started(handle, status, began, now),
        Err(refused) => job.on_refused(&refused, began, now),
    })
}

fn sample_of(refused: &Refused) -> Option<Sample> {
    match refused.verdict.class {
        Class::Request => None,
        Class::Credential => Some(Sample::Refused),
        Class::Busy => Some(Sample::Busy { wait_ms: refused.retry_after_ms }),
        Class::Fault if refused.verdict.code == Code::ProviderTimeout => Some(Sample::Silent),
        Class::Fault => Some(Sample::Failed),
    }
}

async fn submitted<P: Ports>(
    ports: &P,
    job: &Job,
    seat: &Seat,
    mut order: Order,
) -> Result<(crate::job::family::Handle, u16), Refused> {
    if seat.family.manner().inlines {
        for reference in &mut order.references {
            if reference.inline().is_none() {
                reference.url = image(ports, &reference.url).await?;
            }
        }
    }
    let ask = Ask { order: &order, terms: &seat.terms, upstream: &seat.offer.upstream, id: job.about.id.as_str() };
    let mut call = prepared(ports, &job.about, seat, seat.family.submit(&ask)).await?;
    // A host that knows the header starts no second job when a crash made us ask again.
    let once = format!("{}-{}-{}", job.about.id, job.place, job.parts.len());
    call.headers.push(("idempotency-key".to_owned(), once));
    let told = asked(ports, call, ports.settings().plain_timeout_ms).await?;
    if !told.is_good() {
        return Err(told.refused(seat.family));
    }
    let handle = seat.family.started(&told.value, &ask).map_err(|fault| match fault.message.as_str() {
        "malformed" => broke(Breakage::Malformed),
        _ => {
            Refused { verdict: classify::answer(told.status, &fault), status: Some(told.status), retry_after_ms: None }
        }
    })?;
    Ok((handle, told.status))
}

/// An image as a data URL.
async fn image<P: Ports>(ports: &P, url: &str) -> Result<String, Refused> {
    use base64::Engine;
    let verdict = Verdict { class: Class::Request, code: Code::InvalidInput, next: true, says: None };
    let refused = || Refused { verdict, status: None, retry_after_ms: None };
    let loopback = super::loopback(ports);
    crate::ssrf::check(url, loopback).map_err(|_| refused())?;
    let work = async {
        let call = Sent { method: "GET", url: url.to_owned(), headers: Vec::new(), body: Vec::new() };
        let mut answer = ports.send(call).await.ok()?;
        let kind = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        if answer.status() != 200 || !kind.starts_with("image/") {
            return None;
        }
        let bytes = answer.whole(IMAGE_BYTES_MAX).await.ok()?;
        Some(format!("data:{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
    };
    let deadline = ports.sleep(IMAGE_MS);
    futures::pin_mut!(work, deadline);
    match futures::future::select(work, deadline).await {
        futures::future::Either::Left((Some(found), _)) => Ok(found),
        _ => Err(refused()),
    }
}

async fn poll<P: Ports, S: Shelf>(ports: &P, shelf: &S, job: &Job, part: usize) -> Option<()> {
    let outcome = match (job.seat(), job.parts.get(part)) {
        (Some(seat), Some(one)) => {
            progress(ports, job, seat, seat.family.poll(&one.handle, &seat.offer.upstream), part).await
        }
        _ => Err(broke(Breakage::Malformed)),
    };
    let is_watched = shelf.is_watched();
    let now = ports.now();
    shelf.change(|job| match outcome {
        Ok(progress) => job.on_progress(part, progress, is_watched, now),
        Err(refused) => {
            let is_unknown = matches!(refused.status, Some(404 | 410));
            job.on_miss(is_unknown, refused.retry_after_ms, part, now);
        }
    })
}

async fn progress<P: Ports>(ports: &P, job: &Job, seat: &Seat, call: Call, part: usize) -> Result<Progress, Refused> {
    let handle = job.parts.get(part).map(|one| one.handle.clone()).unwrap_or_default();
    let call = prepared(ports, &job.about, seat, call).await?;
    let told = asked(ports, call, ASK_MS).await?;
    if !told.is_good() {
        return Err(told.refused(seat.family));
    }
    let read = seat.family.progress(&told.value, &handle, seat.terms.kind);
    let progress = read.map_err(|_| broke(Breakage::Malformed))?;
    let Progress::Then(to) = progress else { return Ok(progress) };
    let call = prepared(ports, &job.about, seat, Call::get(to)).await?;
    let told = asked(ports, call, ASK_MS).await?;
    seat.family.result(told.status, &told.value).map_err(|_| told.refused(seat.family))
}

/// Asks the host to stop. It is asked a few times at most, and what it answers changes nothing for the owner.
async fn cancel<P: Ports, S: Shelf>(ports: &P, shelf: &S, job: &Job, part: usize) -> Option<()> {
    let call = job.seat().and_then(|seat| seat.family.cancel(&job.parts.get(part)?.handle).map(|call| (seat, call)));
    let is_done = match call {
        None => true,
        Some((seat, call)) => match prepared(ports, &job.about, seat, call).await {
            Err(_) => false,
            Ok(call) => asked(ports, call, ASK_MS).await.is_ok_and(|told| told.status < 500 && told.status != 429),
        },
    };
    shelf.change(|job| match is_done {
        true => job.on_cancelled(part),
        false => job.on_trouble(&Step::Cancel(part), ports.now()),
    })
}

/// Books it: once, however often this is said.
async fn settle<P: Ports>(ports: &P, job: &Job) -> bool {
    let about = &job.about;
    let settlement = Settlement {
        id: about.id.clone(),
        key: about.key.clone(),
        admitted: about.admitted,
        held: about.held,
        cost: job.cost(),
        tokens: 0,
        is_fee: job.receipt.as_ref().is_some_and(|receipt| receipt.fee.is_some()),
        row: to_raw_value(&job.row(ports.now())).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        is_durable: true,
    };
    let asked = ports.ask(&about.workspace, &Command::Settle(vec![settlement])).await;
    if let Err(error) = &asked {
        ports.log(&format!("the settlement of a job was not taken, will be sent again: {}", error.0));
    }
    asked.is_ok()
}

const LIST: &str = "INSERT INTO jobs (id, workspace, kind, front, created_at, status, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body";

/// Writes it into the list of its workspace.
pub async fn list<P: Ports>(ports: &P, job: &Job) -> bool {
    if job.is_deleted {
        return unlist(ports, job).await;
    }
    let kind = job.seat().map_or("video", |seat| seat.terms.kind.name());
    let front = serde_json::to_value(job.about.front).ok().and_then(|front| front.as_str().map(str::to_owned));
    let values = [
        Sql::from(job.about.id.as_str()),
        Sql::from(job.about.workspace.as_str()),
        Sql::from(kind),
        Sql::Text(front.unwrap_or_default()),
        Sql::Int(i64::try_from(job.about.arrived.0).unwrap_or(i64::MAX)),
        Sql::from(job.status.name()),
        Sql::Text(shown::video(job).to_string()),
    ];
    ports.sql(LIST, &values).await.is_ok()
}

/// Tells the workspace's webhooks of the end; told again, it is the same event.
async fn tell<P: Ports>(ports: &P, job: &Job) -> bool {
    let (Some(at), about) = (job.ended.filter(|_| !job.is_deleted), &job.about) else { return true };
    let cost = job.cost();
    let data = json!({
        "workspace": about.workspace, "key": about.key, "generation": about.id, "status": job.status.name(),
        "code": job.code, "model": about.model_asked, "session": about.session, "user": about.user,
        "cost": cost.to_dollars(), "cost_nanos": cost,
    });
    let event = Event::new(Kind::GenerationFinished, &[about.id.as_str()], at, data);
    ports.tell(&about.workspace, &event).await.is_ok()
}

async fn unlist<P: Ports>(ports: &P, job: &Job) -> bool {
    ports.sql("DELETE FROM jobs WHERE id = ?1", &[Sql::from(job.about.id.as_str())]).await.is_ok()
}
