//! `/v1/generations` and `/v1/videos`: jobs at the front. A job passes the same checks as any paid request; then an object
//! of its own has it, and a request only looks.

pub mod call;
pub mod drive;
mod list;
mod output;
pub mod shown;

pub use list::list;
pub use output::content;

use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::pin_mut;
use serde_json::{Value, json};

use crate::access::policy::Policy;
use crate::dialect::common;
use crate::error::{Code, Failure};
use crate::id::{RequestId, WorkspaceId};
use crate::job::command::{Command, Reply as Said, Until};
use crate::job::family::family_of;
use crate::job::form::{self, Parsed};
use crate::job::order::{Front, Order};
use crate::job::state::{About, Job, Seat};
use crate::limits::gate::Allowance;
use crate::media::Work;
use crate::media::multipart;
use crate::money::Nanos;
use crate::preset::Preset;
use crate::preset::fields::Layout;
use crate::routing::explain::{ASKED_CANDIDATES, ROW_CANDIDATES, explain};
use crate::serve::infer::{Generation, admit, planned_for};
use crate::serve::ports::Ports;
use crate::serve::prompts::{self, Record};
use crate::serve::replay::{self, Captured};
use crate::serve::reply::{Body, Reply, warning};
use crate::serve::room::{Copies, Taken, read_body};
use crate::serve::settings::{self, Source};
use crate::serve::settlement::{Closing, settle};
use crate::serve::{Head, fault, query};
use crate::ssrf::Loopback;
use crate::text::request::Request;
use crate::workspace::Admitted;

/// Largest body of an order, in bytes: its images are kept until a host has them.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the answer to an order waits for a host to take it, in milliseconds. Then the job goes on alone.
const START_MS: u64 = 20_000;
/// The model of a video whose request names none, as OpenAI has it.
const VIDEO_MODEL: &str = "sora-2";

type Allowances = (Option<Allowance>, Option<Allowance>);
/// What becomes of an order: let in and with its object, or not.
type Begun = Result<Allowances, (Failure, Option<Allowance>, Option<Allowance>)>;

/// What may be said of this machine, see [`crate::ssrf`].
pub(crate) fn loopback<P: Ports>(ports: &P) -> Loopback {
    if ports.settings().allows_loopback { Loopback::Allowed } else { Loopback::Refused }
}

/// `POST /v1/generations` and `POST /v1/videos`.
pub async fn create<P: Ports>(
    ports: &Rc<P>,
    head: &Head,
    policy: Rc<Policy>,
    front: Front,
) -> Result<Reply<P>, Failure> {
    ports.count_request();
    let Taken { bytes, stay } = read_body(ports, Copies::Three).await?;
    let bytes = bytes::Bytes::from(bytes);
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Failure::new(Code::PayloadTooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes")));
    }
    let source = source(head, &bytes, front)?;
    let print = replay::print_of(&source);
    let (source, preset) = settings::with_preset_in(ports.as_ref(), &policy.workspace, source).await?;
    let parsed = parse(source)?;
    form::check_references(&parsed.order, loopback(ports.as_ref()))?;
    let _going_on = replay::go_on(ports.as_ref(), head);
    let ticket = match replay::begin(ports.as_ref(), head, &policy, &print, ports.settings().hold_ms).await? {
        replay::Begun::Answered(reply) => return Ok(reply),
        replay::Begun::Run(ticket) => ticket,
    };
    drop((bytes, print));
    let Some(ticket) = ticket else { return ordered(ports, head, policy, (parsed, preset), front).await };
    // A job is made whether or not its client waits: the key must know of it also when the client has left.
    let (tell, told) = oneshot::channel();
    let (own, head) = (Rc::clone(ports), head.clone());
    ports.in_background(async move {
        let outcome = ordered(&own, &head, policy, (parsed, preset), front).await;
        drop(stay);
        let captured = match &outcome {
            Ok(Reply { status: 200, headers, body: Body::Bytes(body) }) => {
                Some(Captured { headers: headers.clone(), body: Some(body.clone()) })
            }
            _ => None,
        };
        replay::end(own.as_ref(), Some(ticket), captured).await;
        drop(tell.send(outcome));
    });
    match told.await {
        Ok(outcome) => outcome,
        Err(oneshot::Canceled) => Err(Failure::new(Code::Internal, "the request was given up")),
    }
}

fn source(head: &Head, bytes: &bytes::Bytes, front: Front) -> Result<Source, Failure> {
    let kind = head.content_type.as_deref().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let unsupported = |wanted: &str| {
        Failure::new(Code::UnsupportedMediaType, format!("the body must be {wanted}")).about("content-type")
    };
    let is_json = essence.is_empty() || essence.ends_with("json") || essence == "text/plain";
    match front {
        Front::Generations if is_json => Ok(Source::Json(bytes.clone(), Layout::Nested(form::ON_TOP))),
        Front::Generations => Err(unsupported("JSON (content-type: application/json)")),
        Front::Videos if is_json => Ok(Source::Json(bytes.clone(), Layout::Flat("model"))),
        Front::Videos => {
            let boundary = multipart::boundary(kind).ok_or_else(|| unsupported("JSON or multipart/form-data"))?;
            let parts = multipart::parse(bytes, &boundary)
                .ok_or_else(|| Failure::new(Code::InvalidInput, "the body is not what multipart/form-data is"))?;
            Ok(Source::Form(parts, "model"))
        }
    }
}

fn parse(source: Source) -> Result<Parsed, Failure> {
    match source {
        Source::Json(bytes, Layout::Nested(_)) => form::generation(&bytes),
        Source::Json(bytes, Layout::Flat(_)) => form::video(&bytes, Some(VIDEO_MODEL)),
        Source::Form(parts, _) => form::video_parts(parts, Some(VIDEO_MODEL)),
    }
}

/// From the parsed order to the answer.
async fn ordered<P: Ports>(
    ports: &Rc<P>,
    head: &Head,
    policy: Rc<Policy>,
    (parsed, preset): (Parsed, Option<Preset>),
    front: Front,
) -> Result<Reply<P>, Failure> {
    let workspace = policy.workspace.clone();
    let Parsed { order, common, wait_ms, dropped } = parsed;
    let (generation, record) = planned(ports.as_ref(), head, policy, &order, common.body, preset).await?;
    let keeping = generation.keeping;
    let dropped = [dropped, generation.request.provider.unknown.clone()].concat();
    let reply = begun(ports, head, (generation, order), (workspace, front), (wait_ms, dropped)).await?;
    let reply = prompts::told(reply, keeping);
    if let Some(record) = record {
        let (record, ports_then) = (record.answered(&reply, keeping), Rc::clone(ports));
        ports.in_background(async move { prompts::keep(ports_then.as_ref(), Some(record)).await });
    }
    Ok(reply)
}

/// Hands the order over, and waits for what becomes of it as long as the client wants to.
async fn begun<P: Ports>(
    ports: &Rc<P>,
    head: &Head,
    (generation, order): (Generation, Order),
    (workspace, front): (WorkspaceId, Front),
    (wait_ms, dropped): (u64, Vec<String>),
) -> Result<Reply<P>, Failure> {
    let (tell, told) = oneshot::channel();
    ports.in_background(begin(Rc::clone(ports), generation, order, tell));
    let allowances: Allowances = match told.await {
        Ok(Ok(allowances)) => allowances,
        Ok(Err((failure, requests, tokens))) => {
            return Ok(Reply::failure(&failure, head.id.as_str()).with_allowances(requests, tokens));
        }
        Err(oneshot::Canceled) => return Err(Failure::new(Code::Internal, "the request was given up")),
    };
    let started = {
        let looked = look(ports.as_ref(), &head.id, &workspace, Until::Started, START_MS.max(wait_ms));
        patient(ports.as_ref(), looked).await
    };
    // The client has left: whoever asks again with its key learns whether a host took the job.
    let started = match started {
        Some(started) => started?,
        None => look(ports.as_ref(), &head.id, &workspace, Until::Started, START_MS).await?,
    };
    let waited_ms = ports.now().since(head.arrived);
    let job = match wait_ms.saturating_sub(waited_ms) {
        left if left > 0 && !started.status.is_end() => {
            let looked = look(ports.as_ref(), &head.id, &workspace, Until::Ended, left);
            patient(ports.as_ref(), looked).await.unwrap_or(Ok(started))?
        }
        _ => started,
    };
    if job.status == crate::job::state::Status::Failed && job.parts.is_empty() {
        let failure = job.failure();
        return Ok(Reply::failure(&failure, head.id.as_str()).with_allowances(allowances.0, allowances.1));
    }
    let mut reply = shown_as(&job, front, head).with_allowances(allowances.0, allowances.1);
    if !dropped.is_empty() {
        reply.headers.push(("x-gateway-warning", warning(&dropped)));
    }
    Ok(reply)
}

/// What a wait comes to, as long as the client waits too.
async fn patient<P: Ports, T>(ports: &P, waiting: impl Future<Output = T>) -> Option<T> {
    let left = ports.left();
    pin_mut!(waiting, left);
    match select(waiting, left).await {
        Either::Left((found, _)) => Some(found),
        Either::Right(_) => None,
    }
}

/// Resolves and ranks.
async fn planned<P: Ports>(
    ports: &P,
    head: &Head,
    policy: Rc<Policy>,
    order: &Order,
    mut fields: serde_json::Map<String, Value>,
    preset: Option<Preset>,
) -> Result<(Generation, Option<Record>), Failure> {
    let logging = settings::routing(ports, &policy.workspace).await?.prompt_logging;
    let asked = logging.enabled.then(|| json!(fields).to_string());
    // In a form an object is its text.
    if let Some(Value::String(text)) = fields.get("provider")
        && let Ok(object) = crate::json::from_str(text)
    {
        fields.insert("provider".to_owned(), object);
    }
    let mut models = order.models.clone();
    let preset = match preset {
        Some(preset) => Some(preset),
        None => settings::preset_of_work(ports, &policy.workspace, &mut models, &mut fields).await?,
    };
    fields.retain(|name, _| ["model", "models", "provider", "user", "session_id"].contains(&name.as_str()));
    let body = common::read(Value::Object(fields).to_string().into_bytes())?;
    let (user, session) = (common::label(&body, "user")?, common::label(&body, "session_id")?);
    let provider = common::provider(&body)?;
    let request = Request { models, provider, user, session, body, ..Request::default() };
    let work = Work::Job(Box::new(order.clone()));
    let generation = planned_for(ports, head, policy, request, preset, Some(work)).await.map_err(named)?;
    let (of, keeping) = (&generation.policy.workspace, generation.keeping);
    let record = asked.and_then(|asked| Record::new(of, &generation.id, generation.arrived, keeping, asked.as_bytes()));
    Ok((generation, record))
}

/// Where every offer lacks what one field of the order asks for, that field is at fault.
fn named(failure: Failure) -> Failure {
    let removed = failure.details.as_ref().and_then(|details| details.get("removed")?.as_array().cloned());
    let mut told = None;
    for one in removed.into_iter().flatten() {
        let detail = one.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
        match one.get("rule").and_then(Value::as_str) {
            Some("capability") => told = told.or(Some(detail)),
            // These say nothing about the order.
            Some("unsupported" | "no_credential" | "pinned" | "retired" | "no_price") => {}
            _ => return failure,
        }
    }
    let split = told.as_deref().and_then(|text| text.split_once(' '));
    match split {
        Some((field, message)) if failure.code == Code::NoEligibleProvider => {
            let mut refusal = Failure::invalid(field, message);
            refusal.details = failure.details;
            refusal
        }
        _ => failure,
    }
}

/// Admission, and the object that has the job from then on.
async fn begin<P: Ports>(ports: Rc<P>, mut generation: Generation, order: Order, tell: oneshot::Sender<Begun>) {
    let admitted = match admit(ports.as_ref(), &mut generation).await {
        Ok(admitted) => admitted,
        Err(refusal) => return drop(tell.send(Err(refusal))),
    };
    let allowances = (admitted.requests, admitted.tokens);
    let job = job_of(ports.as_ref(), &generation, &order, &admitted);
    let id = generation.id.clone();
    let said = ports.job(&id, &Command::Create(Box::new(job.clone()), Box::new(order))).await;
    match said {
        Ok(_) => {
            drop(tell.send(Ok(allowances)));
            if !drive::list(ports.as_ref(), &job).await {
                ports.log("a job is not in the list of its workspace yet");
            }
        }
        Err(error) => {
            let failure = fault(ports.as_ref(), &error);
            drop(tell.send(Err((failure.clone(), allowances.0, allowances.1))));
            release(ports.as_ref(), generation, admitted, &failure).await;
        }
    }
}

/// Ends the hold of a job that nobody has.
async fn release<P: Ports>(ports: &P, generation: Generation, admitted: Admitted, failure: &Failure) {
    let machine = crate::attempt::machine::Machine::new(Vec::new(), generation.patience, generation.arrived);
    let closing = Closing::failed(failure, None);
    settle(ports, generation, admitted, machine, closing).await;
}

fn job_of<P: Ports>(ports: &P, generation: &Generation, order: &Order, admitted: &Admitted) -> Job {
    let settings = ports.settings();
    let seat = |candidate: &crate::routing::plan::Candidate| -> Option<Seat> {
        // The hold may cover a cheaper candidate and not this one.
        candidate.bound.affordable(admitted.held)?;
        let (offer, provider) = (candidate.offer()?, candidate.provider()?);
        let (family_name, family) = family_of(offer, provider)?;
        let terms = order.terms(offer, provider)?.ok()?;
        let own = candidate.own.and_then(|place| generation.own.get(place)).map(|own| own.id.clone());
        let (provider, offer) = (provider.clone(), offer.clone());
        let (model, family_name) = (candidate.model().id.clone(), family_name.to_owned());
        let slot = candidate.pool.slot();
        let slots = if own.is_none() { candidate.pool.others() } else { Vec::new() };
        Some(Seat { provider, offer, model, family_name, family, own, slot, slots, terms })
    };
    let seats: Vec<Seat> = generation.plan.candidates.iter().filter_map(seat).take(settings.attempts_max).collect();
    let shown = if generation.explains { ASKED_CANDIDATES } else { ROW_CANDIDATES };
    Job::new(About {
        id: generation.id.clone(),
        workspace: generation.policy.workspace.clone(),
        key: generation.policy.key.clone(),
        front: order.front,
        arrived: generation.arrived,
        admitted: admitted.at,
        held: admitted.held.max(Nanos::ZERO),
        deadline: settings.pace.deadline(generation.arrived),
        model_asked: generation.request.models.first().cloned().unwrap_or_default(),
        snapshot: generation.snapshot.to_string(),
        fee_basis_points: generation.fee_basis_points,
        quality: order.quality.clone(),
        references: order.references.len(),
        session: generation.request.session.clone(),
        user: generation.request.user.clone(),
        origin: generation.origin.clone(),
        why: Some(explain(&generation.plan, shown)),
        seats,
        pace: settings.pace,
    })
}

/// The job as its object has it, at the latest after `wait_ms`.
pub(super) async fn look<P: Ports>(
    ports: &P,
    id: &RequestId,
    workspace: &WorkspaceId,
    until: Until,
    wait_ms: u64,
) -> Result<Job, Failure> {
    ask(ports, id, &Command::Look { workspace: workspace.clone(), until, wait_ms }).await
}

async fn ask<P: Ports>(ports: &P, id: &RequestId, command: &Command) -> Result<Job, Failure> {
    match ports.job(id, command).await.map_err(|error| fault(ports, &error))? {
        Said::Job(job) => Ok(*job),
        Said::Unknown => Err(unknown()),
    }
}

fn unknown() -> Failure {
    Failure::new(Code::NotFound, "there is no job of that id").about("id")
}

fn id_of(path: &str) -> Result<RequestId, Failure> {
    RequestId::parse(path).ok_or_else(unknown)
}

fn shown_as<P: Ports>(job: &Job, front: Front, head: &Head) -> Reply<P> {
    let value = match front {
        Front::Generations => shown::generation(job, &head.origin),
        Front::Videos => shown::video(job),
    };
    let mut reply = Reply::json(200, &value);
    if let Some(seat) = job.seat().filter(|_| !job.attempts.is_empty()) {
        reply.headers.push(("x-gateway-provider", seat.provider.id.clone()));
        reply.headers.push(("x-gateway-model", seat.model.clone()));
        reply.headers.push(("x-gateway-attempts", job.attempts.len().to_string()));
        reply.headers.push(("x-gateway-paid-by", seat.paid_by().to_owned()));
    }
    if job.status.is_end() {
        reply.headers.push(("x-gateway-cost", job.cost().to_dollars()));
    }
    reply
}

/// `GET /v1/generations/{id}` (with `wait`) and `GET /v1/videos/{id}`.
pub async fn one<P: Ports>(
    ports: &P,
    head: &Head,
    policy: &Policy,
    path: &str,
    front: Front,
) -> Result<Reply<P>, Failure> {
    let id = id_of(path)?;
    let wait = match (front, query::value(&head.query, "wait")) {
        (Front::Generations, Some(text)) => {
            let message = format!("must be a whole number from 0 to {}", form::WAIT_S_MAX);
            let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds <= form::WAIT_S_MAX);
            seconds.ok_or_else(|| Failure::invalid("wait", message))?
        }
        _ => 0,
    };
    let wait_ms = wait.saturating_mul(1000);
    Ok(shown_as(&look(ports, &id, &policy.workspace, Until::Ended, wait_ms).await?, front, head))
}

/// `DELETE`: a job under way is cancelled; of one that has ended nothing is left. A video goes at once.
pub async fn delete<P: Ports>(
    ports: &P,
    head: &Head,
    policy: &Policy,
    path: &str,
    front: Front,
) -> Result<Reply<P>, Failure> {
    let id = id_of(path)?;
    let before = look(ports, &id, &policy.workspace, Until::Ended, 0).await?;
    if front == Front::Generations && !before.status.is_end() {
        let job = ask(ports, &id, &Command::Cancel(policy.workspace.clone())).await?;
        return Ok(shown_as(&job, front, head));
    }
    ask(ports, &id, &Command::Delete(policy.workspace.clone())).await?;
    let object = if front == Front::Videos { "video.deleted" } else { "generation.deleted" };
    Ok(Reply::json(200, &json!({"id": id, "object": object, "deleted": true})))
}
