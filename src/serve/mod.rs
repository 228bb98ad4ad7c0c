//! The path of a request: the table of endpoints, who may call them, and what every answer carries.

pub mod account;
pub mod act;
pub mod activity;
pub mod admin;
pub mod analytics;
pub mod attempts;
pub mod audit;
pub mod byok;
pub mod call;
pub mod credential;
pub mod deliver;
pub mod departure;
pub mod discovery;
pub mod drain;
pub mod etag;
pub mod health;
pub mod infer;
pub mod jobs;
pub mod keys;
pub mod leaked;
pub mod ledger;
pub mod management;
pub mod media;
pub mod metrics;
pub mod models;
pub mod ports;
pub mod pricing;
pub mod prometheus;
pub mod prompts;
pub mod providers;
pub mod query;
pub mod reference;
pub mod repair;
pub mod replay;
pub mod reply;
pub mod retention;
pub mod room;
pub mod schedule;
pub mod settings;
pub mod settlement;
pub mod takeout;
pub mod verify;
pub mod webhooks;

use std::cell::RefCell;
use std::rc::Rc;

use futures::future::{LocalBoxFuture, ready};

use crate::access::key;
use crate::access::management::Access::{self, Read, Write};
use crate::access::management::Resource::{self, self as Of};
use crate::access::policy::{KeyState, Policy};
use crate::dialect::Dialect;
use crate::error::{Code, Failure};
use crate::id::RequestId;
use crate::job::order::Front;
use crate::serve::act::{Act, Actor};
use crate::serve::ports::Ports;
use crate::serve::reply::Reply;
use crate::time::Millis;
use crate::workspace::{self, Command};

/// What is known of a request before its body is read.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its id.
    pub id: RequestId,
    /// When it arrived.
    pub arrived: Millis,
    /// The method, upper-case.
    pub method: String,
    /// The path, percent-decoding left undone.
    pub path: String,
    /// The query, without its `?`.
    pub query: String,
    /// Where the gateway was called: scheme and host.
    pub origin: String,
    /// `authorization`.
    pub authorization: Option<String>,
    /// `x-api-key`.
    pub api_key: Option<String>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `x-gateway-timeout-ms`.
    pub timeout_ms: Option<String>,
    /// `x-session-id`.
    pub session: Option<String>,
    /// `if-none-match`.
    pub if_none_match: Option<String>,
    /// `x-gateway-explain`: the answer is to say why it came from where it came from.
    pub explains: bool,
    /// `idempotency-key`.
    pub idempotency_key: Option<String>,
    /// `x-title`: the name of the calling application.
    pub title: Option<String>,
    /// `http-referer`, else `referer`: where the application lives.
    pub referer: Option<String>,
    /// `traceparent`.
    pub trace: Option<String>,
    /// `if-match`.
    pub if_match: Option<String>,
    /// `accept`.
    pub accept: Option<String>,
    /// `anthropic-beta`.
    pub betas: Option<String>,
}

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Anyone.
    Anyone,
    /// The holder of an API key.
    Key,
    /// The operator.
    Operator,
    /// The operator, and whoever holds a management key of the path's workspace with that scope.
    Manager(Resource, Access),
}

/// Whether an endpoint costs money: then it must pass admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Credits are held and charged.
    Paid,
    /// Nothing is charged.
    Free,
}

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its path in the table")]
pub enum Does {
    Chat,
    Responses,
    Messages,
    CountTokens,
    Embeddings,
    Moderations,
    Rerank,
    ImageGenerations,
    ImageEdits,
    Speech,
    Synthesize,
    Transcriptions,
    Translations,
    Transcribe,
    CreateGeneration,
    Generation,
    GenerationContent,
    DeleteGeneration,
    CreateVideo,
    Videos,
    Video,
    VideoContent,
    DeleteVideo,
    Models,
    Model,
    ModelOffers,
    Providers,
    Provider,
    Pricing,
    Estimate,
    Health,
    Metrics,
    OpenApi,
    Docs,
    Reader,
    OwnKey,
    OwnCredits,
    OwnActivity,
    OwnGeneration,
    CreateWorkspace,
    Workspaces,
    Workspace,
    ChangeWorkspace,
    DeleteWorkspace,
    RestoreWorkspace,
    Export,
    Audit,
    AuditOf,
    Credential,
    CreateKey,
    Keys,
    Key,
    RotateKey,
    LeakedKey,
    ChangeKey,
    RevokeKey,
    CreateManagementKey,
    ManagementKeys,
    ManagementKey,
    RevokeManagementKey,
    Grant,
    Ledger,
    Adjust,
    Reconcile,
    OwnCredentials,
    CredentialsOf,
    CreateCredential,
    ChangeCredential,
    DeleteCredential,
    RotateCredentials,
    Settings,
    ChangeSettings,
    Presets,
    Preset,
    PutPreset,
    RollPreset,
    DeletePreset,
    Snapshots,
    UseSnapshot,
    Counters,
    Activity,
    Analytics,
    Switch,
    ChangeSwitch,
    CreateWebhook,
    Webhooks,
    Webhook,
    ChangeWebhook,
    DeleteWebhook,
    RotateWebhook,
    TestWebhook,
    Deliveries,
    Prometheus,
    Prompt,
    DeletePrompt,
    Retention,
    PutRetention,
}

/// One endpoint. `{name}` in a path stands for one segment, `{name*}` for as many as there are before what follows it.
/// Of two rows that fit the first one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// Who may call.
    pub caller: Caller,
    /// Whether it costs money.
    pub cost: Cost,
    /// What it does.
    pub does: Does,
}

impl Endpoint {
    /// What it is about, in one word: the segment that names it, singular as the thing in a workspace's path is.
    pub fn resource(&self) -> &'static str {
        if let Caller::Manager(resource, _) = self.caller {
            return resource.name();
        }
        let below = self.path.strip_prefix("/v1/admin/workspaces/{id}/");
        let below = below
            .or(self.path.strip_prefix("/v1/admin/"))
            .or(self.path.strip_prefix("/v1/"))
            .or(self.path.strip_prefix("/v2/"));
        match below.and_then(|path| path.split('/').next()).unwrap_or_default() {
            "workspaces" | "restore" => Resource::Workspace.name(),
            other => other,
        }
    }
}

const fn endpoint(method: &'static str, path: &'static str, caller: Caller, cost: Cost, does: Does) -> Endpoint {
    Endpoint { method, path, caller, cost, does }
}

/// An endpoint of a workspace that a management key with the scope may call.
const fn scoped(method: &'static str, path: &'static str, of: Resource, access: Access, does: Does) -> Endpoint {
    endpoint(method, path, Caller::Manager(of, access), Cost::Free, does)
}

/// Every endpoint.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("POST", "/v1/chat/completions", Caller::Key, Cost::Paid, Does::Chat),
    endpoint("POST", "/v1/responses", Caller::Key, Cost::Paid, Does::Responses),
    endpoint("POST", "/v1/messages", Caller::Key, Cost::Paid, Does::Messages),
    endpoint("POST", "/v1/messages/count_tokens", Caller::Key, Cost::Free, Does::CountTokens),
    endpoint("POST", "/v1/embeddings", Caller::Key, Cost::Paid, Does::Embeddings),
    endpoint("POST", "/v1/moderations", Caller::Key, Cost::Paid, Does::Moderations),
    endpoint("POST", "/v1/rerank", Caller::Key, Cost::Paid, Does::Rerank),
    // Where the SDK of Cohere looks for it.
    endpoint("POST", "/v2/rerank", Caller::Key, Cost::Paid, Does::Rerank),
    endpoint("POST", "/v1/images/generations", Caller::Key, Cost::Paid, Does::ImageGenerations),
    endpoint("POST", "/v1/images/edits", Caller::Key, Cost::Paid, Does::ImageEdits),
    endpoint("POST", "/v1/audio/speech", Caller::Key, Cost::Paid, Does::Speech),
    endpoint("POST", "/v1/tts/synthesize", Caller::Key, Cost::Paid, Does::Synthesize),
    endpoint("POST", "/v1/audio/transcriptions", Caller::Key, Cost::Paid, Does::Transcriptions),
    endpoint("POST", "/v1/audio/translations", Caller::Key, Cost::Paid, Does::Translations),
    endpoint("POST", "/v1/stt/transcribe", Caller::Key, Cost::Paid, Does::Transcribe),
    endpoint("POST", "/v1/generations", Caller::Key, Cost::Paid, Does::CreateGeneration),
    endpoint("GET", "/v1/generations/{id}", Caller::Key, Cost::Free, Does::Generation),
    endpoint("GET", "/v1/generations/{id}/content", Caller::Key, Cost::Free, Does::GenerationContent),
    endpoint("DELETE", "/v1/generations/{id}", Caller::Key, Cost::Free, Does::DeleteGeneration),
    endpoint("POST", "/v1/videos", Caller::Key, Cost::Paid, Does::CreateVideo),
    endpoint("GET", "/v1/videos", Caller::Key, Cost::Free, Does::Videos),
    endpoint("GET", "/v1/videos/{id}", Caller::Key, Cost::Free, Does::Video),
    endpoint("GET", "/v1/videos/{id}/content", Caller::Key, Cost::Free, Does::VideoContent),
    endpoint("DELETE", "/v1/videos/{id}", Caller::Key, Cost::Free, Does::DeleteVideo),
    endpoint("GET", "/v1/models", Caller::Anyone, Cost::Free, Does::Models),
    endpoint("GET", "/v1/models/{id*}/endpoints", Caller::Anyone, Cost::Free, Does::ModelOffers),
    endpoint("GET", "/v1/models/{id*}", Caller::Anyone, Cost::Free, Does::Model),
    endpoint("GET", "/v1/providers", Caller::Anyone, Cost::Free, Does::Providers),
    endpoint("GET", "/v1/providers/{id}", Caller::Anyone, Cost::Free, Does::Provider),
    endpoint("GET", "/v1/pricing", Caller::Anyone, Cost::Free, Does::Pricing),
    endpoint("POST", "/v1/pricing/estimate", Caller::Anyone, Cost::Free, Does::Estimate),
    endpoint("GET", "/v1/health", Caller::Anyone, Cost::Free, Does::Health),
    endpoint("GET", "/v1/metrics/models", Caller::Anyone, Cost::Free, Does::Metrics),
    endpoint("GET", "/v1/openapi.json", Caller::Anyone, Cost::Free, Does::OpenApi),
    endpoint("GET", "/docs", Caller::Anyone, Cost::Free, Does::Docs),
    endpoint("GET", "/docs/reader.js", Caller::Anyone, Cost::Free, Does::Reader),
    endpoint("GET", "/v1/key", Caller::Key, Cost::Free, Does::OwnKey),
    endpoint("POST", "/v1/keys/leaked", Caller::Anyone, Cost::Free, Does::LeakedKey),
    endpoint("GET", "/v1/credits", Caller::Key, Cost::Free, Does::OwnCredits),
    endpoint("GET", "/v1/activity", Caller::Key, Cost::Free, Does::OwnActivity),
    endpoint("GET", "/v1/generation", Caller::Key, Cost::Free, Does::OwnGeneration),
    endpoint("GET", "/v1/generations", Caller::Key, Cost::Free, Does::OwnGeneration),
    endpoint("POST", "/v1/admin/workspaces", Caller::Operator, Cost::Free, Does::CreateWorkspace),
    endpoint("GET", "/v1/admin/workspaces", Caller::Operator, Cost::Free, Does::Workspaces),
    scoped("GET", "/v1/admin/workspaces/{id}", Of::Workspace, Read, Does::Workspace),
    scoped("PATCH", "/v1/admin/workspaces/{id}", Of::Workspace, Write, Does::ChangeWorkspace),
    endpoint("DELETE", "/v1/admin/workspaces/{id}", Caller::Operator, Cost::Free, Does::DeleteWorkspace),
    endpoint("POST", "/v1/admin/workspaces/{id}/restore", Caller::Operator, Cost::Free, Does::RestoreWorkspace),
    scoped("GET", "/v1/admin/workspaces/{id}/export", Of::Workspace, Read, Does::Export),
    scoped("GET", "/v1/admin/workspaces/{id}/audit", Of::Audit, Read, Does::AuditOf),
    endpoint("GET", "/v1/admin/audit", Caller::Operator, Cost::Free, Does::Audit),
    scoped("POST", "/v1/admin/workspaces/{id}/keys", Of::Keys, Write, Does::CreateKey),
    scoped("GET", "/v1/admin/workspaces/{id}/keys", Of::Keys, Read, Does::Keys),
    scoped("GET", "/v1/admin/workspaces/{id}/keys/{key}", Of::Keys, Read, Does::Key),
    scoped("POST", "/v1/admin/workspaces/{id}/keys/{key}/rotate", Of::Keys, Write, Does::RotateKey),
    scoped("PATCH", "/v1/admin/workspaces/{id}/keys/{key}", Of::Keys, Write, Does::ChangeKey),
    scoped("DELETE", "/v1/admin/workspaces/{id}/keys/{key}", Of::Keys, Write, Does::RevokeKey),
    scoped("POST", "/v1/admin/workspaces/{id}/management-keys", Of::ManagementKeys, Write, Does::CreateManagementKey),
    scoped("GET", "/v1/admin/workspaces/{id}/management-keys", Of::ManagementKeys, Read, Does::ManagementKeys),
    scoped("GET", "/v1/admin/workspaces/{id}/management-keys/{key}", Of::ManagementKeys, Read, Does::ManagementKey),
    scoped(
        "DELETE",
        "/v1/admin/workspaces/{id}/management-keys/{key}",
        Of::ManagementKeys,
        Write,
        Does::RevokeManagementKey,
    ),
    endpoint("POST", "/v1/admin/workspaces/{id}/credits", Caller::Operator, Cost::Free, Does::Grant),
    scoped("GET", "/v1/admin/workspaces/{id}/credits", Of::Credits, Read, Does::Ledger),
    endpoint("POST", "/v1/admin/workspaces/{id}/credits/adjustments", Caller::Operator, Cost::Free, Does::Adjust),
    endpoint("POST", "/v1/admin/workspaces/{id}/reconcile", Caller::Operator, Cost::Free, Does::Reconcile),
    scoped("GET", "/v1/admin/workspaces/{id}/byok", Of::Byok, Read, Does::OwnCredentials),
    scoped("GET", "/v1/admin/workspaces/{id}/byok/{provider}", Of::Byok, Read, Does::CredentialsOf),
    scoped("POST", "/v1/admin/workspaces/{id}/byok/{provider}", Of::Byok, Write, Does::CreateCredential),
    scoped("GET", "/v1/admin/workspaces/{id}/byok/{provider}/{credential}", Of::Byok, Read, Does::Credential),
    scoped("PATCH", "/v1/admin/workspaces/{id}/byok/{provider}/{credential}", Of::Byok, Write, Does::ChangeCredential),
    scoped("DELETE", "/v1/admin/workspaces/{id}/byok/{provider}/{credential}", Of::Byok, Write, Does::DeleteCredential),
    endpoint("POST", "/v1/admin/byok/rotate", Caller::Operator, Cost::Free, Does::RotateCredentials),
    scoped("GET", "/v1/admin/workspaces/{id}/retention", Of::Retention, Read, Does::Retention),
    scoped("PUT", "/v1/admin/workspaces/{id}/retention", Of::Retention, Write, Does::PutRetention),
    scoped("GET", "/v1/admin/workspaces/{id}/settings", Of::Settings, Read, Does::Settings),
    scoped("PATCH", "/v1/admin/workspaces/{id}/settings", Of::Settings, Write, Does::ChangeSettings),
    scoped("GET", "/v1/admin/workspaces/{id}/presets", Of::Presets, Read, Does::Presets),
    scoped("GET", "/v1/admin/workspaces/{id}/presets/{slug}", Of::Presets, Read, Does::Preset),
    scoped("PUT", "/v1/admin/workspaces/{id}/presets/{slug}", Of::Presets, Write, Does::PutPreset),
    scoped("PATCH", "/v1/admin/workspaces/{id}/presets/{slug}", Of::Presets, Write, Does::RollPreset),
    scoped("DELETE", "/v1/admin/workspaces/{id}/presets/{slug}", Of::Presets, Write, Does::DeletePreset),
    scoped("GET", "/v1/admin/workspaces/{id}/activity", Of::Activity, Read, Does::Activity),
    scoped("GET", "/v1/admin/workspaces/{id}/analytics", Of::Analytics, Read, Does::Analytics),
    scoped("GET", "/v1/admin/workspaces/{id}/prompts/{request}", Of::Prompts, Read, Does::Prompt),
    scoped("DELETE", "/v1/admin/workspaces/{id}/prompts/{request}", Of::Prompts, Write, Does::DeletePrompt),
    scoped("POST", "/v1/admin/workspaces/{id}/webhooks", Of::Webhooks, Write, Does::CreateWebhook),
    scoped("GET", "/v1/admin/workspaces/{id}/webhooks", Of::Webhooks, Read, Does::Webhooks),
    scoped("GET", "/v1/admin/workspaces/{id}/webhooks/{webhook}", Of::Webhooks, Read, Does::Webhook),
    scoped("PATCH", "/v1/admin/workspaces/{id}/webhooks/{webhook}", Of::Webhooks, Write, Does::ChangeWebhook),
    scoped("DELETE", "/v1/admin/workspaces/{id}/webhooks/{webhook}", Of::Webhooks, Write, Does::DeleteWebhook),
    scoped("POST", "/v1/admin/workspaces/{id}/webhooks/{webhook}/secret", Of::Webhooks, Write, Does::RotateWebhook),
    scoped("POST", "/v1/admin/workspaces/{id}/webhooks/{webhook}/test", Of::Webhooks, Write, Does::TestWebhook),
    scoped("GET", "/v1/admin/workspaces/{id}/webhooks/{webhook}/deliveries", Of::Webhooks, Read, Does::Deliveries),
    endpoint("GET", "/v1/admin/catalog", Caller::Operator, Cost::Free, Does::Snapshots),
    endpoint("POST", "/v1/admin/catalog", Caller::Operator, Cost::Free, Does::UseSnapshot),
    endpoint("GET", "/v1/admin/health", Caller::Operator, Cost::Free, Does::Counters),
    endpoint("GET", "/v1/admin/metrics", Caller::Operator, Cost::Free, Does::Prometheus),
    endpoint("GET", "/v1/admin/providers/{id}", Caller::Operator, Cost::Free, Does::Switch),
    endpoint("PATCH", "/v1/admin/providers/{id}", Caller::Operator, Cost::Free, Does::ChangeSwitch),
];

/// The values of a path's `{…}`, in order.
fn captures<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut found = Vec::new();
    let mut rest = path;
    for segment in pattern.split('/').skip(1) {
        rest = rest.strip_prefix('/')?;
        if segment.starts_with('{') && segment.ends_with("*}") {
            let (_, after) = pattern.split_once("*}")?;
            let value = rest.strip_suffix(after).filter(|value| !value.is_empty())?;
            found.push(value);
            return Some(found);
        }
        let end = rest.find('/').unwrap_or(rest.len());
        let (value, after) = rest.split_at(end);
        match segment.starts_with('{') {
            true if value.is_empty() => return None,
            true => found.push(value),
            false if value != segment => return None,
            false => {}
        }
        rest = after;
    }
    rest.is_empty().then_some(found)
}

/// Whether HEAD may be asked of an endpoint, as monitors and link checkers do; the platform leaves the body out.
fn takes_head(endpoint: &Endpoint) -> bool {
    endpoint.method == "GET" && endpoint.caller == Caller::Anyone
}

/// The endpoint for a method and path, with the values of its path.
pub fn find<'p>(method: &str, path: &'p str) -> Result<(Endpoint, Vec<&'p str>), Failure> {
    if method == "HEAD"
        && let Ok((endpoint, values)) = find("GET", path)
        && takes_head(&endpoint)
    {
        return Ok((endpoint, values));
    }
    // What has no variable part is found without looking at patterns: the way of most requests.
    if let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == path && endpoint.method == method) {
        return Ok((*endpoint, Vec::new()));
    }
    let of_path = ENDPOINTS.iter().filter_map(|e| captures(e.path, path).map(|values| (*e, values)));
    let known: Vec<(Endpoint, Vec<&str>)> = of_path.collect();
    if known.is_empty() {
        return Err(Failure::new(Code::NotFound, "there is no such endpoint"));
    }
    let mut methods: Vec<&str> = known.iter().map(|(endpoint, _)| endpoint.method).collect();
    if known.iter().any(|(endpoint, _)| takes_head(endpoint)) {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    methods.dedup();
    known.into_iter().find(|(endpoint, _)| endpoint.method == method).ok_or_else(|| {
        let mut failure = Failure::new(Code::MethodNotAllowed, format!("this endpoint takes {}", methods.join(", ")));
        failure.allow = Some(methods.join(", "));
        failure
    })
}

/// Answers a request. Never fails: a failure is an answer.
pub async fn handle<P: Ports>(ports: Rc<P>, head: Head) -> Reply<P> {
    let caller = RefCell::new(None);
    let reply = match route(&ports, &head, &caller).await {
        Ok(reply) => reply,
        Err(failure) => Reply::failure_in(dialect_of(&head.path), &failure, head.id.as_str()),
    };
    let reply = match caller.take() {
        // What was served says itself whether it is kept.
        Some((policy, cost)) if cost == Cost::Free || reply.status >= 400 => {
            prompts::told_of(ports.as_ref(), &policy.workspace, reply).await
        }
        _ => reply,
    };
    let reply = match dialect_of(&head.path) {
        // Where that dialect's SDKs look for it.
        Dialect::Messages => reply.with_header("request-id", head.id.as_str()),
        _ => reply,
    };
    reply.with_common_headers(head.id.as_str())
}

/// The words in which a failure on that path is told.
fn dialect_of(path: &str) -> Dialect {
    if path.starts_with("/v1/messages") { Dialect::Messages } else { Dialect::Chat }
}

/// Whose key called, and whether what it called costs money.
type Calling = RefCell<Option<(Rc<Policy>, Cost)>>;

/// What an endpoint does, behind a pointer: each is a function of its own, and an isolate compiles what it is asked for alone.
type Work<'a, P> = LocalBoxFuture<'a, Result<Reply<P>, Failure>>;

async fn route<P: Ports>(ports: &Rc<P>, head: &Head, caller: &Calling) -> Result<Reply<P>, Failure> {
    if head.method == "OPTIONS" {
        return match find("OPTIONS", &head.path) {
            Err(failure) if failure.code == Code::MethodNotAllowed => Ok(Reply::preflight(failure.allow)),
            _ => Err(Failure::new(Code::NotFound, "there is no such endpoint")),
        };
    }
    let (endpoint, values) = find(&head.method, &head.path)?;
    let value = |at: usize| values.get(at).copied().unwrap_or_default();
    let mut actor = Actor::Operator;
    let policy = match endpoint.caller {
        Caller::Anyone => None,
        Caller::Operator | Caller::Manager(..) => {
            actor = administrator(ports.as_ref(), head, endpoint, value(0)).await?;
            None
        }
        Caller::Key => Some(authenticate(ports.as_ref(), head).await?),
    };
    let ports_ref = ports.as_ref();
    caller.replace(policy.as_ref().map(|policy| (Rc::clone(policy), endpoint.cost)));
    if let Some(policy) = policy.as_ref().filter(|_| endpoint.cost == Cost::Free) {
        standing(ports_ref, policy).await?;
    }
    let act = Act::new(ports_ref, head, endpoint, &values, actor);
    if let Some(policy) = policy {
        let work: Work<'_, P> = match endpoint.does {
            Does::Chat => Box::pin(infer::text(ports, head, policy, Dialect::Chat)),
            Does::Responses => Box::pin(infer::text(ports, head, policy, Dialect::Responses)),
            Does::Messages => Box::pin(infer::text(ports, head, policy, Dialect::Messages)),
            Does::CountTokens => Box::pin(infer::count_tokens(ports, head)),
            Does::CreateGeneration => Box::pin(jobs::create(ports, head, policy, Front::Generations)),
            Does::CreateVideo => Box::pin(jobs::create(ports, head, policy, Front::Videos)),
            Does::Generation => Box::pin(jobs::one(ports_ref, head, &policy, value(0), Front::Generations)),
            Does::Video => Box::pin(jobs::one(ports_ref, head, &policy, value(0), Front::Videos)),
            Does::Videos => Box::pin(jobs::list(ports_ref, &policy, &head.query)),
            Does::GenerationContent => {
                Box::pin(jobs::content(ports_ref, &head.query, &policy, value(0), Front::Generations))
            }
            Does::VideoContent => Box::pin(jobs::content(ports_ref, &head.query, &policy, value(0), Front::Videos)),
            Does::DeleteGeneration => Box::pin(jobs::delete(ports_ref, head, &policy, value(0), Front::Generations)),
            Does::DeleteVideo => Box::pin(jobs::delete(ports_ref, head, &policy, value(0), Front::Videos)),
            does if endpoint.cost == Cost::Paid => Box::pin(media::answer(ports, head, policy, does)),
            Does::OwnKey => Box::pin(account::key(ports_ref, &policy)),
            Does::OwnCredits => Box::pin(account::credits(ports_ref, &policy.workspace)),
            Does::OwnActivity => Box::pin(activity::list(ports, &policy.workspace, head)),
            Does::OwnGeneration => Box::pin(activity::one(ports_ref, &policy.workspace, &head.query)),
            _ => return Err(Failure::new(Code::NotFound, "there is no such endpoint")),
        };
        return work.await;
    }
    let work: Work<'_, P> = match endpoint.does {
        does @ (Does::Models
        | Does::Model
        | Does::ModelOffers
        | Does::Providers
        | Does::Provider
        | Does::Pricing
        | Does::Metrics
        | Does::Estimate) => Box::pin(discovery::answer(ports_ref, head, does, value(0))),
        Does::Health => Box::pin(models::health(ports_ref)),
        Does::OpenApi => Box::pin(ready(reference::document(head))),
        Does::Docs => Box::pin(ready(Ok(reference::page()))),
        Does::Reader => Box::pin(reference::reader(ports.as_ref())),
        Does::CreateWorkspace => Box::pin(admin::create_workspace(&act)),
        Does::Workspaces => Box::pin(admin::workspaces(ports_ref, &head.query)),
        Does::Workspace => Box::pin(admin::workspace(&act, value(0))),
        Does::ChangeWorkspace => Box::pin(admin::change_workspace(&act, value(0))),
        Does::DeleteWorkspace => Box::pin(departure::delete(&act, value(0), &head.query)),
        Does::RestoreWorkspace => Box::pin(departure::restore(&act, value(0))),
        Does::Export => Box::pin(takeout::export(ports, act.actor.clone(), value(0))),
        Does::Audit => Box::pin(audit::list(ports_ref, None, &head.query)),
        Does::AuditOf => Box::pin(async {
            let workspace = admin::known(ports_ref, value(0)).await?.settings.id;
            audit::list(ports_ref, Some(&workspace), &head.query).await
        }),
        Does::LeakedKey => Box::pin(leaked::report(ports_ref, head, endpoint)),
        Does::CreateKey => Box::pin(keys::create(&act, value(0))),
        Does::Keys => Box::pin(keys::list(ports_ref, value(0), &head.query)),
        Does::Key => Box::pin(keys::one(&act, value(0), value(1))),
        Does::ChangeKey => Box::pin(keys::change(&act, value(0), value(1))),
        Does::RotateKey => Box::pin(keys::rotate(&act, value(0), value(1))),
        Does::RevokeKey => Box::pin(keys::revoke(&act, value(0), value(1))),
        Does::CreateManagementKey => Box::pin(management::create(&act, value(0))),
        Does::ManagementKeys => Box::pin(management::list(ports_ref, value(0), &head.query)),
        Does::ManagementKey => Box::pin(management::one(ports_ref, value(0), value(1))),
        Does::RevokeManagementKey => Box::pin(management::revoke(&act, value(0), value(1))),
        Does::Grant => Box::pin(admin::grant(ports_ref, value(0))),
        Does::Ledger => Box::pin(ledger::list(ports, value(0), head)),
        Does::Adjust => Box::pin(ledger::adjust(ports_ref, value(0))),
        Does::Reconcile => Box::pin(ledger::reconcile(ports_ref, value(0))),
        Does::OwnCredentials => Box::pin(byok::list(ports_ref, value(0), None, &head.query)),
        Does::CredentialsOf => Box::pin(byok::list(ports_ref, value(0), Some(value(1)), &head.query)),
        Does::CreateCredential => Box::pin(byok::create(&act, value(0), value(1))),
        Does::ChangeCredential => Box::pin(byok::change(&act, value(0), value(1), value(2))),
        Does::Credential => Box::pin(byok::one(&act, value(0), value(1), value(2))),
        Does::DeleteCredential => Box::pin(byok::delete(&act, value(0), value(1), value(2))),
        Does::RotateCredentials => Box::pin(byok::rotate(ports_ref, &head.query)),
        Does::Settings => Box::pin(settings::get(&act, value(0))),
        Does::ChangeSettings => Box::pin(settings::change(&act, value(0))),
        Does::Presets => Box::pin(settings::presets(ports_ref, value(0), &head.query)),
        Does::Preset => Box::pin(settings::preset(&act, value(0), value(1), &head.query)),
        Does::PutPreset => Box::pin(settings::put(&act, value(0), value(1), &head.query)),
        Does::RollPreset => Box::pin(settings::roll(&act, value(0), value(1))),
        Does::DeletePreset => Box::pin(settings::delete(&act, value(0), value(1))),
        Does::CreateWebhook => Box::pin(webhooks::create(&act, value(0))),
        Does::Webhooks => Box::pin(webhooks::list(ports_ref, value(0), &head.query)),
        Does::Webhook => Box::pin(webhooks::get(&act, value(0), value(1))),
        Does::ChangeWebhook => Box::pin(webhooks::change(&act, value(0), value(1))),
        Does::DeleteWebhook => Box::pin(webhooks::delete(&act, value(0), value(1))),
        Does::RotateWebhook => Box::pin(webhooks::rotate(&act, value(0), value(1))),
        Does::TestWebhook => Box::pin(webhooks::test(ports_ref, value(0), value(1))),
        Does::Deliveries => Box::pin(webhooks::deliveries(ports_ref, value(0), value(1), &head.query)),
        Does::Snapshots => Box::pin(admin::snapshots(ports_ref)),
        Does::UseSnapshot => Box::pin(admin::use_snapshot(ports_ref)),
        Does::Activity => {
            Box::pin(async { activity::list(ports, &admin::known(ports_ref, value(0)).await?.settings.id, head).await })
        }
        Does::Analytics => Box::pin(async {
            analytics::read(ports_ref, &admin::known(ports_ref, value(0)).await?.settings.id, &head.query).await
        }),
        Does::Counters => Box::pin(metrics::health(ports_ref)),
        Does::Retention => Box::pin(retention::get(&act, value(0))),
        Does::PutRetention => Box::pin(retention::put(&act, value(0))),
        Does::Prompt => Box::pin(prompts::read(&act, value(0), value(1))),
        Does::DeletePrompt => Box::pin(prompts::delete(&act, value(0), value(1))),
        Does::Prometheus => Box::pin(prometheus::read(ports_ref)),
        Does::Switch => Box::pin(health::provider(ports_ref, value(0))),
        Does::ChangeSwitch => Box::pin(health::switch(ports_ref, value(0))),
        _ => return Err(Failure::new(Code::NotFound, "there is no such endpoint")),
    };
    let reply = work.await?;
    act.finish(reply).await
}

fn presented(head: &Head) -> Option<&str> {
    let bearer = head.authorization.as_deref().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or(head.api_key.as_deref()).filter(|token| !token.is_empty())
}

fn unauthenticated() -> Failure {
    Failure::new(Code::Unauthenticated, "the API key is missing or not valid")
}

/// The policy of the calling key. Form and checksum come first, so a stranger costs no lookup.
async fn authenticate<P: Ports>(ports: &P, head: &Head) -> Result<Rc<Policy>, Failure> {
    let secret = presented(head).filter(|secret| key::is_well_formed(secret)).ok_or_else(unauthenticated)?;
    let pepper = ports
        .secret("KEY_HASH_SECRET")
        .ok_or_else(|| Failure::new(Code::Internal, "the secret KEY_HASH_SECRET is not set on this gateway"))?;
    let hash = key::hash(secret, pepper.as_bytes());
    let policy = ports.policy(&hash).await.map_err(|error| fault(ports, &error))?.ok_or_else(unauthenticated)?;
    match policy.state(ports.now()) {
        KeyState::Active => Ok(policy),
        KeyState::Expired | KeyState::Disabled | KeyState::Revoked => Err(unauthenticated()),
    }
}

/// The workspace object has the last word on a key, also where nothing is paid: an isolate may remember it a while longer.
async fn standing<P: Ports>(ports: &P, policy: &Policy) -> Result<(), Failure> {
    let command = Command::Standing(policy.key.clone(), policy.secret);
    match ports.ask(&policy.workspace, &command).await.map_err(|error| fault(ports, &error))? {
        workspace::Reply::Standing(KeyState::Active) => Ok(()),
        _ => Err(unauthenticated()),
    }
}

/// The operator, or the management key that may do what the endpoint does in the workspace of its path.
async fn administrator<P: Ports>(
    ports: &P,
    head: &Head,
    endpoint: Endpoint,
    workspace: &str,
) -> Result<Actor, Failure> {
    match presented(head).filter(|text| key::is_management(text)) {
        Some(text) => management::authenticate(ports, text, endpoint, workspace).await,
        None => authenticate_operator(ports, head).map(|()| Actor::Operator),
    }
}

fn authenticate_operator<P: Ports>(ports: &P, head: &Head) -> Result<(), Failure> {
    // Without a token nobody is the operator.
    let token = ports.secret("OPERATOR_TOKEN").filter(|token| !token.is_empty()).ok_or_else(unauthenticated)?;
    match presented(head) {
        Some(presented) if key::is_same_secret(presented, &token) => Ok(()),
        Some(presented) if key::is_well_formed(presented) => {
            Err(Failure::new(Code::Forbidden, "this endpoint needs the operator's token"))
        }
        _ => Err(unauthenticated()),
    }
}

/// A failure of a part of the gateway: logged, and told without its words.
pub(crate) fn fault<P: Ports>(ports: &P, error: &ports::PortError) -> Failure {
    ports.log(&format!("fault: {}", error.0));
    if error.0 == ports::CATALOG_NOT_WHOLE {
        return Failure::new(Code::ProviderUnavailable, "no whole catalog is published yet").retry_after(Some(5_000));
    }
    Failure::new(Code::Internal, "a part of the gateway did not answer; the request can be tried again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_their_values() {
        let found = |method: &str, path: &str| find(method, path).map(|(e, values)| (e.does, values.join("|")));
        assert_eq!(found("GET", "/v1/models"), Ok((Does::Models, String::new())));
        assert_eq!(found("GET", "/v1/models/org/name"), Ok((Does::Model, "org/name".to_owned())));
        assert_eq!(found("GET", "/v1/models/org/name/endpoints"), Ok((Does::ModelOffers, "org/name".to_owned())));
        assert_eq!(found("GET", "/v1/models/endpoints"), Ok((Does::Model, "endpoints".to_owned())));
        assert_eq!(found("PATCH", "/v1/admin/workspaces/w/keys/k"), Ok((Does::ChangeKey, "w|k".to_owned())));
        for path in ["/", "", "/v1", "/v1/models/", "/v1/chat", "/v1/key/", "/v1/admin/workspaces//keys"] {
            assert_eq!(found("GET", path).map_err(|f| f.code), Err(Code::NotFound), "{path}");
        }
        assert_eq!(found("HEAD", "/v1/models/org/name"), Ok((Does::Model, "org/name".to_owned())));
        let allow = |method: &str, path: &str| find(method, path).unwrap_err().allow.unwrap();
        assert_eq!(allow("HEAD", "/v1/key"), "GET, OPTIONS");
        assert_eq!(allow("PUT", "/v1/health"), "GET, HEAD, OPTIONS");
        let failure = find("PUT", "/v1/admin/workspaces").unwrap_err();
        assert_eq!((failure.code, failure.allow.as_deref()), (Code::MethodNotAllowed, Some("POST, GET, OPTIONS")));
    }

    #[test]
    fn every_endpoint_says_who_may_call_and_paid_ones_need_a_key() {
        for e in ENDPOINTS {
            assert_eq!(find(e.method, &e.path.replace(['{', '}', '*'], "")).map(|(found, _)| found), Ok(*e));
            let is_admin = matches!(e.caller, Caller::Operator | Caller::Manager(..));
            assert_eq!(e.path.starts_with("/v1/admin"), is_admin, "{}", e.path);
            assert!(e.cost == Cost::Free || e.caller == Caller::Key, "{}", e.path);
        }
    }

    /// What of a workspace stays with the operator: money, and its being there at all.
    const OPERATORS: &[(&str, &str)] = &[
        ("POST", "/credits"),
        ("POST", "/credits/adjustments"),
        ("POST", "/reconcile"),
        ("DELETE", ""),
        ("POST", "/restore"),
    ];

    #[test]
    fn every_route_of_a_workspace_has_the_scope_of_its_resource() {
        let of_workspaces =
            ENDPOINTS.iter().filter_map(|e| Some((e, e.path.strip_prefix("/v1/admin/workspaces/{id}")?)));
        let mut seen = Vec::new();
        for (e, rest) in of_workspaces {
            if OPERATORS.contains(&(e.method, rest)) {
                assert_eq!(e.caller, Caller::Operator, "{} {}", e.method, e.path);
                continue;
            }
            let Caller::Manager(resource, access) = e.caller else { panic!("{} {} has no scope", e.method, e.path) };
            let segment = rest.split('/').nth(1).filter(|word| *word != "export").unwrap_or("workspace");
            assert_eq!(resource.name(), segment, "{} {}", e.method, e.path);
            let is_read = e.method == "GET";
            assert_eq!(access, if is_read { Access::Read } else { Access::Write }, "{} {}", e.method, e.path);
            seen.push(resource);
        }
        let others =
            ENDPOINTS.iter().filter(|e| e.path.starts_with("/v1/admin") && !e.path.contains("workspaces/{id}"));
        assert!(others.into_iter().all(|e| e.caller == Caller::Operator), "the gateway itself is the operator's");
        for resource in [Resource::Keys, Resource::Credits, Resource::Byok, Resource::Analytics, Resource::Workspace] {
            assert!(seen.contains(&resource), "{}", resource.name());
        }
    }
}
