//! One inference request from its body to its settlement. Read from top to bottom; it is the way of a request.
//!
//! Everything after admission runs in background work, so that it is settled and logged also when the client leaves.

use std::cell::RefCell;
use std::rc::Rc;

use futures::channel::oneshot;

use crate::access::byok::OwnKey;
use crate::access::policy::Policy;
use crate::access::prompts::Keeping;
use crate::access::routing::Narrowing;
use crate::activity::origin::Origin;
use crate::attempt::machine::{Machine, Patience};
use crate::attempt::pool::Slots;
use crate::attempt::timeouts::Timeouts;
use crate::catalog::{ModelName, Provider, Suffix};
use crate::dialect::Dialect;
use crate::dialect::common::{LABEL_BYTES_MAX, read};
use crate::error::{Code, Failure};
use crate::id::RequestId;
use crate::limits::gate::{Allowance, Limit};
use crate::media::Work;
use crate::money::Nanos;
use crate::preset::Preset;
use crate::relay::Stop;
use crate::routing::filter::Conditions;
use crate::routing::plan::{Candidate, Outlook, Plan, Target, nobody, plan, unknown_model};
use crate::routing::sticky::Conversation;
use crate::serve::ports::Ports;
use crate::serve::prompts::{self, Heard};
use crate::serve::replay::{self, Begun, Captured, Ticket};
use crate::serve::reply::Reply;
use crate::serve::room::{Copies, Stay, Taken, read_body};
use crate::serve::{Head, byok, deliver, fault, settings};
use crate::text::request::Request;
use crate::time::Millis;
use crate::workspace::{self, Admit, Admitted, Command};

/// Output tokens that count towards the rate limit while nobody knows how many it will be.
const OUTPUT_TOKENS_COUNTED: u64 = 1_000;

/// One request on its way, after planning.
#[derive(Debug)]
pub struct Generation {
    /// Its id.
    pub id: RequestId,
    /// When it arrived.
    pub arrived: Millis,
    /// Who calls.
    pub policy: Rc<Policy>,
    /// In which words.
    pub dialect: Dialect,
    /// What for.
    pub request: Request,
    /// Who may serve.
    pub plan: Plan,
    /// Which snapshot said so.
    pub snapshot: Rc<str>,
    /// How long, and how often.
    pub patience: Patience,
    /// Each span by itself.
    pub timeouts: Timeouts,
    /// The same if the request had lowered none.
    pub timeouts_max: Timeouts,
    /// Which conversation it is a turn of, where that can be told.
    pub conversation: Option<Conversation>,
    /// The application that calls, and the trace it is part of.
    pub origin: Origin,
    /// What a client of the messages dialect asks for that is not for everybody yet: names by comma, for hosts that speak
    /// the dialect.
    pub betas: Option<String>,
    /// Whether the answer is to say why.
    pub explains: bool,
    /// The workspace's own credentials.
    pub own: Rc<Vec<OwnKey>>,
    /// Basis points of the price that a request with one of them costs.
    pub fee_basis_points: u64,
    /// The work, where it is no text.
    pub work: Option<Work>,
    /// The record of its idempotency key, where it has one.
    pub replay: Option<Ticket>,
    /// Its answer, where that is to be kept.
    pub captured: RefCell<Option<Captured>>,
    /// Whether the workspace keeps it with its answer.
    pub keeping: Keeping,
    /// Its answer as far as the workspace keeps it.
    pub heard: RefCell<Option<Heard>>,
    /// The room of its body, where that is large.
    pub stay: Option<Stay>,
}

impl Generation {
    /// The machine of its attempts.
    pub fn machine(&self) -> Machine {
        let most = patience(self.patience.attempts_max, &self.timeouts_max);
        Machine::new(self.plan.seats(), self.patience, self.arrived).hurried(most)
    }

    /// Whether a stream stopped because the client wanted it so soon.
    pub fn is_own_stop(&self, stop: Stop) -> bool {
        self.timeouts.is_own(&self.timeouts_max, stop)
    }

    /// Nobody will be asked any more: a large body that nobody keeps is let go, however long the answer takes.
    pub fn let_body_go(&mut self) {
        if self.keeping.bytes_max().is_none() && self.stay.take().is_some() {
            self.request.body = crate::text::request::Body::default();
        }
    }
}

/// What leaves the background work once: a reply, or a failure with the allowances of a refusal.
pub type Outcome<P> = Result<Reply<P>, (Failure, Option<Allowance>, Option<Allowance>)>;

/// `POST /v1/chat/completions`, `/v1/responses`, `/v1/messages`.
pub async fn text<P: Ports>(
    ports: &Rc<P>,
    head: &Head,
    policy: Rc<Policy>,
    dialect: Dialect,
) -> Result<Reply<P>, Failure> {
    ports.count_request();
    check_content_type(head.content_type.as_deref())?;
    timeouts(ports.as_ref(), head.timeout_ms.as_deref(), true)?;
    let Taken { bytes, stay } = read_body(ports, Copies::Two).await?;
    let _going_on = replay::go_on(ports.as_ref(), head);
    let ticket = match replay::begin(ports.as_ref(), head, &policy, &[&bytes], ports.settings().hold_ms).await? {
        Begun::Answered(reply) => return Ok(reply),
        Begun::Run(ticket) => ticket,
    };
    let generation = match planned(ports.as_ref(), head, policy, dialect, bytes, ticket.clone()).await {
        Ok(generation) => Generation { stay, ..generation },
        Err(failure) => {
            if let Some(ticket) = &ticket {
                replay::give_up(ports.as_ref(), ticket).await;
            }
            return Err(failure);
        }
    };
    let keeping = generation.keeping;
    let (tell, told) = oneshot::channel();
    ports.in_background(run(Rc::clone(ports), generation, tell));
    let reply = match told.await {
        Ok(Ok(reply)) => reply,
        Ok(Err((failure, requests, tokens))) => {
            Reply::failure_in(dialect, &failure, head.id.as_str()).with_allowances(requests, tokens)
        }
        Err(oneshot::Canceled) => return Err(Failure::new(Code::Internal, "the request was given up")),
    };
    Ok(prompts::told(reply, keeping))
}

/// Parses, resolves and ranks: a request that may go on to its admission.
async fn planned<P: Ports>(
    ports: &P,
    head: &Head,
    policy: Rc<Policy>,
    dialect: Dialect,
    bytes: Vec<u8>,
    ticket: Option<Ticket>,
) -> Result<Generation, Failure> {
    let (body, preset) = settings::with_preset(ports, &policy.workspace, dialect, read(bytes)?).await?;
    let request = dialect.parse_body(body)?;
    let betas = head.betas.clone().filter(|_| dialect == Dialect::Messages);
    check_betas(betas.as_deref())?;
    let generation = planned_for(ports, head, policy, request, preset, None).await?;
    Ok(Generation { dialect, betas, replay: ticket, ..generation })
}

/// Longest list of betas that is passed on, in bytes.
const BETAS_BYTES_MAX: usize = 2048;

fn check_betas(betas: Option<&str>) -> Result<(), Failure> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:, ".contains(&byte);
    match betas {
        Some(names) if names.len() > BETAS_BYTES_MAX || !names.bytes().all(is_name) => {
            Err(Failure::invalid("anthropic-beta", "is no list of names"))
        }
        _ => Ok(()),
    }
}

/// Resolves and ranks a parsed request.
pub(super) async fn planned_for<P: Ports>(
    ports: &P,
    head: &Head,
    policy: Rc<Policy>,
    mut request: Request,
    preset: Option<Preset>,
    work: Option<Work>,
) -> Result<Generation, Failure> {
    let fee_basis_points = ports.settings().byok_fee_basis_points;
    request.session = request.session.or_else(|| head.session.clone().filter(|id| id.len() <= LABEL_BYTES_MAX));
    // A cold isolate reads all of it, and one thing does not wait for another.
    let workspace = &policy.workspace;
    let (routing, own) = (settings::routing(ports, workspace), byok::of(ports, workspace));
    let (routing, own, resolved, ()) = futures::join!(routing, own, resolve(ports, &request), ports.recall_health());
    let (routing, own, (targets, snapshot)) = (routing?, own?, resolved?);
    let now = ports.now();
    let mode = preset.as_ref().and_then(|preset| preset.mode).or(routing.mode);
    // A suffix is the request's own word.
    if !targets.first().is_some_and(|target| target.suffix.is_some_and(|suffix| suffix != Suffix::Free)) {
        request.provider.sort = request.provider.sort.or(mode);
    }
    let narrowings: Vec<&Narrowing> =
        [&routing.narrowing].into_iter().chain(preset.as_ref().map(|preset| &preset.narrowing)).collect();
    let keeping = Keeping::of(routing.prompt_logging, request.provider.zdr, &narrowings);
    let conditions = Conditions {
        own: &own,
        fallback_to_credits: routing.fallback_to_credits,
        fee_basis_points,
        work: work.as_ref(),
        narrowings: &narrowings,
        channel: routing.channel,
        request: &request,
        policy: &policy,
        pinned: None,
        free_only: false,
        has_secret: &|name| ports.secret(name).is_some(),
        slots: &|provider| slots(ports, provider),
        now,
    };
    let prompt = request.body.bytes_of("messages").or_else(|| request.body.bytes_of("input")).unwrap_or_default();
    let conversation = Conversation::of(
        policy.workspace.as_str(),
        request.session.as_deref(),
        prompt,
        request.demand.prompt_tokens_likely(),
    );
    let plan = {
        let warm = conversation.map(|one| (one, ports.affinity().borrow().recall(one, now)));
        let outlook = Outlook { board: &ports.board().borrow(), conversation: warm, seed: seed(&head.id) };
        plan(&targets, &conditions, &outlook)
    };
    if plan.candidates.is_empty() {
        let asked = request.models.first().map(String::as_str).unwrap_or_default();
        return Err(nobody(asked, &plan.removed));
    }
    let timeouts = timeouts(ports, head.timeout_ms.as_deref(), request.stream)?;
    let timeouts_max = self::timeouts(ports, None, request.stream)?;
    let patience = patience(ports.settings().attempts_max, &timeouts);
    let id = head.id.clone();
    Ok(Generation {
        id,
        arrived: head.arrived,
        policy,
        dialect: Dialect::Chat,
        request,
        plan,
        snapshot,
        patience,
        timeouts,
        timeouts_max,
        conversation,
        origin: Origin::parse(head.title.as_deref(), head.referer.as_deref(), head.trace.as_deref()),
        betas: None,
        explains: head.explains,
        replay: None,
        captured: RefCell::new(None),
        keeping,
        heard: RefCell::new(None),
        stay: None,
        work,
        own,
        fee_basis_points,
    })
}

/// Which of the gateway's credentials for a provider are there.
fn slots<P: Ports>(ports: &P, provider: &Provider) -> Slots {
    match provider.base_secret(&|name| ports.secret(name).is_some()) {
        Some(name) => ports.slots(name),
        None => Slots::default(),
    }
}

/// `POST /v1/messages/count_tokens`: what the prompt probably comes to. Nothing is sent anywhere, so it is an estimate.
pub async fn count_tokens<P: Ports>(ports: &Rc<P>, head: &Head) -> Result<Reply<P>, Failure> {
    check_content_type(head.content_type.as_deref())?;
    let Taken { bytes, stay: _stay } = read_body(ports, Copies::Two).await?;
    let request = crate::dialect::messages::parse_to_count(read(bytes)?)?;
    Ok(Reply::json(200, &serde_json::json!({"input_tokens": request.demand.prompt_tokens_likely()})))
}

fn check_content_type(content_type: Option<&str>) -> Result<(), Failure> {
    let essence = content_type.and_then(|value| value.split(';').next()).map(|value| value.trim().to_ascii_lowercase());
    match essence.as_deref() {
        None | Some("" | "text/plain") => Ok(()),
        Some(kind) if kind.ends_with("json") => Ok(()),
        Some(_) => {
            Err(Failure::new(Code::UnsupportedMediaType, "the body must be JSON (content-type: application/json)"))
        }
    }
}

/// The variables' spans for this kind of answer, as far as the request does not lower them.
pub(super) fn timeouts<P: Ports>(ports: &P, header: Option<&str>, is_stream: bool) -> Result<Timeouts, Failure> {
    let settings = ports.settings();
    // What comes whole sends its headers when it is done.
    let (connect_ms, first_byte_ms) = match is_stream {
        true => (settings.connect_timeout_ms, settings.first_byte_timeout_ms),
        false => (settings.plain_timeout_ms, settings.plain_timeout_ms),
    };
    let (idle_ms, total_ms) = (settings.idle_timeout_ms, settings.total_timeout_ms);
    let most = Timeouts { connect_ms, first_byte_ms, idle_ms, total_ms };
    match header {
        None => Ok(most),
        Some(text) => most.lowered_by(text).map_err(|what| Failure::invalid("X-Gateway-Timeout-Ms", what)),
    }
}

fn patience(attempts_max: usize, timeouts: &Timeouts) -> Patience {
    Patience { attempts_max, first_byte_ms: timeouts.first_byte_ms, total_ms: timeouts.total_ms }
}

/// The seed of every draw for this request: its id, so that a decision can be replayed from its record.
fn seed(id: &RequestId) -> u64 {
    id.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

async fn resolve<P: Ports>(ports: &P, request: &Request) -> Result<(Vec<Target>, Rc<str>), Failure> {
    let mut targets = Vec::new();
    let mut snapshot = None;
    for (place, asked) in request.models.iter().enumerate() {
        let param = if place == 0 && request.body.has("model") { "model" } else { "models" };
        let name = ModelName::parse(asked).map_err(|error| Failure::invalid(param, error.to_string()))?;
        if name.preset.is_some() {
            return Err(Failure::invalid(param, "a preset is named in `model` or in `preset`, and once"));
        }
        let Some(model) = &name.model else { continue };
        if let Some(resolved) = ports.model(model).await.map_err(|error| fault(ports, &error))? {
            snapshot = Some(resolved.snapshot);
            targets.push(Target { entry: resolved.entry, pinned: name.provider, suffix: name.suffix });
        }
    }
    match snapshot {
        Some(snapshot) => Ok((targets, snapshot)),
        None => Err(unknown_model(request.models.first().map(String::as_str).unwrap_or_default())),
    }
}

/// Admission, attempts, delivery, settlement.
async fn run<P: Ports>(ports: Rc<P>, mut generation: Generation, tell: oneshot::Sender<Outcome<P>>) {
    match admit(ports.as_ref(), &mut generation).await {
        Ok(admitted) => deliver::deliver(ports, generation, admitted, tell).await,
        Err(outcome) => {
            if let Some(ticket) = &generation.replay {
                replay::give_up(ports.as_ref(), ticket).await;
            }
            drop(tell.send(Err(outcome)));
        }
    }
}

/// Lets a request in. Where the limit of free offers is reached and others can serve, it goes to those.
pub(super) async fn admit<P: Ports>(
    ports: &P,
    generation: &mut Generation,
) -> Result<Admitted, (Failure, Option<Allowance>, Option<Allowance>)> {
    let is_free =
        |candidate: &Candidate| candidate.own.is_none() && candidate.offer().is_some_and(|offer| offer.is_free);
    let starts_free = generation.plan.candidates.first().is_some_and(is_free);
    let admitted = admit_as(ports, generation, starts_free).await;
    let is_limit = matches!(&admitted, Err((failure, ..)) if failure.details.as_deref() == Some(&free_limit()));
    if !is_limit || generation.plan.candidates.iter().all(is_free) {
        return admitted;
    }
    generation.plan.candidates.retain(|candidate| !is_free(candidate));
    admit_as(ports, generation, false).await
}

/// What a refusal by the limit of free offers names.
fn free_limit() -> serde_json::Value {
    serde_json::json!({ "limit": "FREE_REQUESTS_PER_MINUTE" })
}

async fn admit_as<P: Ports>(
    ports: &P,
    generation: &Generation,
    is_free: bool,
) -> Result<Admitted, (Failure, Option<Allowance>, Option<Allowance>)> {
    let bounds = || generation.plan.candidates.iter().map(|candidate| &candidate.bound);
    let most = bounds().filter_map(|bound| bound.most().ok()).max();
    let least = bounds().filter_map(|bound| bound.least().ok()).min();
    let (Some(most), Some(least)) = (most, least) else {
        return Err((Failure::invalid("max_tokens", "is too large"), None, None));
    };
    let demand = &generation.request.demand;
    let output = demand.max_output.map_or(0, |limit| limit.min(OUTPUT_TOKENS_COUNTED));
    let is_job = matches!(generation.work, Some(Work::Job(_)));
    let admit = Admit {
        id: generation.id.clone(),
        key: generation.policy.key.clone(),
        secret: generation.policy.secret,
        model: generation.request.models.first().cloned().unwrap_or_default(),
        most,
        least,
        tokens: demand.prompt_tokens_likely().saturating_add(output),
        limits: generation.policy.limits,
        // A job claims its hold for as long as it may take, once there is a job.
        hold_ms: ports.settings().hold_ms,
        is_durable: is_job,
        free_per_minute: is_free.then_some(ports.settings().free_per_minute),
    };
    let workspace = &generation.policy.workspace;
    let command = Command::Admit(admit);
    let mut reply = ports.ask(workspace, &command).await;
    // What a request that has ended still holds is freed by its settlement: a refusal counts only when none is on its way.
    if matches!(&reply, Ok(workspace::Reply::Refused(refused)) if may_be_lifted(refused))
        && ports.is_settling(workspace)
    {
        ports.settled(workspace).await;
        reply = ports.ask(workspace, &command).await;
    }
    match reply {
        Ok(workspace::Reply::Admitted(admitted)) => Ok(admitted),
        Ok(workspace::Reply::Refused(refused)) => {
            let code = Code::from_name(&refused.code).unwrap_or(Code::Internal);
            let mut failure = Failure::new(code, refused.message).retry_after(refused.wait_ms);
            if refused.limit == Some(Limit::Free) {
                failure = failure.with_details(free_limit());
            }
            if code == Code::InsufficientCredits {
                failure = short_of_credits(generation, least, refused.available);
            }
            Err((failure, refused.requests, refused.tokens))
        }
        Ok(_) => Err((Failure::new(Code::Internal, "the workspace gave no answer"), None, None)),
        Err(error) => Err((fault(ports, &error), None, None)),
    }
}

/// Whether the end of other requests could lift a refusal: those hold credits and places, not requests per minute.
fn may_be_lifted(refused: &workspace::Refused) -> bool {
    refused.code == Code::InsufficientCredits.name()
        || refused.code == Code::BudgetExceeded.name()
        || refused.limit == Some(Limit::Parallel)
}

/// 402, saying what is needed, what there is, and how many output tokens that would buy.
fn short_of_credits(generation: &Generation, least: Nanos, available: Nanos) -> Failure {
    let affordable = generation.plan.candidates.iter().map(|c| c.bound.tokens_for(available)).max().unwrap_or(0);
    let message = format!(
        "the credits do not cover this request: it may cost up to ${}, and ${} is available",
        least.to_dollars(),
        available.to_dollars()
    );
    Failure::new(Code::InsufficientCredits, message).with_details(serde_json::json!({
        "needed_nanos": least.0,
        "available_nanos": available.0,
        "affordable_output_tokens": affordable,
    }))
}
