//! One upstream call: the family it is made in, its bytes, where they go and with which credential.

use crate::access::byok::{Credential, OwnKey};
use crate::access::variables;
use crate::attempt::classify::{Class, Verdict};
use crate::attempt::pool;
use crate::catalog::{Offer, Provider};
use crate::dialect::foreign;
use crate::error::{Blame, Code, Failure};
use crate::family::target::Target;
use crate::family::{Family, openai_chat};
use crate::id::WorkspaceId;
use crate::relay;
use crate::routing::filter::family_of;
use crate::routing::plan::Candidate;
use crate::serve::byok;
use crate::serve::credential::{self, Secrets, Subject};
use crate::serve::infer::Generation;
use crate::serve::ports::{Call, Ports};
use crate::text::custom;
use crate::text::request::Body;

/// A call that can be sent.
pub struct Prepared {
    /// The call.
    pub call: Call,
    /// The family it is made in.
    pub family: Family,
    /// Whether the client's bytes go out and the provider's come back.
    pub is_pass: bool,
    /// Parameters of the client that are not sent, by name.
    pub dropped: Vec<String>,
    /// The client's tools that take free text, where they went out as functions.
    pub customs: Vec<String>,
    /// The region that prices know the call by, where its address tells it.
    pub region: Option<&'static str>,
}

/// Why a call cannot be made: the candidate is passed over without being asked.
pub struct Unwritable {
    /// What it means.
    pub verdict: Verdict,
    /// The field at fault.
    pub param: Option<String>,
    /// Why, in the gateway's own words.
    pub says: Option<String>,
}

impl From<Failure> for Unwritable {
    fn from(failure: Failure) -> Unwritable {
        // What one family has no words for, another may have.
        let next = failure.code != Code::InvalidInput;
        let verdict = Verdict { class: Class::Request, code: failure.code, next, says: None };
        let says = (failure.code.blame() == Blame::Client).then_some(failure.message);
        Unwritable { verdict, param: failure.param, says }
    }
}

/// No credential could be made: the offer cannot be asked, which is nobody's mistake but the operator's.
fn no_credential() -> Unwritable {
    let verdict = Verdict { class: Class::Credential, code: Code::ProviderUnavailable, next: true, says: None };
    Unwritable { verdict, param: None, says: None }
}

/// Prepares the call of a candidate. `limit` is the output limit that must be sent in place of the client's own; `slot`
/// that of the gateway's credential.
pub async fn prepare<P: Ports>(
    ports: &P,
    generation: &Generation,
    candidate: &Candidate,
    limit: Option<u64>,
    slot: u8,
) -> Result<Prepared, Unwritable> {
    let unusable = || Unwritable::from(Failure::new(Code::ProviderUnavailable, "the offer cannot be asked"));
    let (Some(offer), Some(provider)) = (candidate.offer(), candidate.provider()) else { return Err(unusable()) };
    let family = family_of(generation.dialect, offer, provider).ok_or_else(unusable)?;
    let is_pass = relay::is_pass(generation.dialect, family);
    let Parts { path, headers, body, mut dropped, customs } = match is_pass {
        true => pass(generation, candidate, offer, provider, family, limit),
        false => translate(generation, candidate, offer, provider, family, limit)?,
    };
    if generation.request.provider.require_parameters && !dropped.is_empty() {
        let param = dropped.into_iter().next();
        let failure =
            Failure::new(Code::UnsupportedParameter, "is not taken by this provider, and require_parameters is set");
        return Err(Unwritable { param, ..failure.into() });
    }
    let secrets = SecretsOf::new(ports, generation, candidate)?.in_slot(generation, candidate, slot);
    let url = url(&secrets, provider, family.name(), &path).ok_or_else(unusable)?;
    let body = of_account(&secrets, provider, body).ok_or_else(unusable)?;
    let region = region_of(&url);
    let call = authorized(ports, &secrets, family.name(), url, "application/json", headers, body).await?;
    dropped.extend(generation.request.provider.unknown.iter().cloned());
    Ok(Prepared { call, family, is_pass, dropped, customs, region })
}

/// The region that prices know a call by whose address names a location: every one is regional but that of all.
fn region_of(url: &str) -> Option<&'static str> {
    let (_, location) = url.split_once("/locations/")?;
    Some(if location.split('/').next() == Some("global") { "global" } else { "regional" })
}

/// What tells the credential of a call from the provider's others: tokens are made of it, and cool-downs are its own. An
/// own credential that is sealed anew is another one.
pub fn name(generation: &Generation, candidate: &Candidate, slot: u8) -> String {
    match candidate.own.and_then(|place| generation.own.get(place)) {
        Some(own) => name_of(own),
        None => pool::label(slot).unwrap_or_default().to_owned(),
    }
}

fn name_of(own: &OwnKey) -> String {
    format!("{} {}", own.id, own.sealed.get(own.sealed.len().saturating_sub(16)..).unwrap_or_default())
}

/// Where the credential of a candidate comes from: the gateway's environment, or the workspace's own.
pub struct SecretsOf<'a, P: Ports> {
    ports: &'a P,
    provider: &'a Provider,
    own: Option<Credential>,
    slot: u8,
    name: String,
}

impl<'a, P: Ports> SecretsOf<'a, P> {
    /// Opens the workspace's own credential where the candidate is asked with one.
    pub fn new(
        ports: &'a P,
        generation: &'a Generation,
        candidate: &'a Candidate,
    ) -> Result<SecretsOf<'a, P>, Unwritable> {
        let provider = candidate.provider().ok_or_else(no_credential)?;
        let own = match candidate.own {
            None => None,
            Some(place) => {
                let own = generation.own.get(place).ok_or_else(no_credential)?;
                let credential = own.open(&byok::secrets(ports), &generation.policy.workspace);
                // What was kept under another catalog must not lead to a host that is not the provider's.
                let credential = credential.filter(|one| variables::check(provider, &one.variables).is_ok());
                Some(credential.ok_or_else(no_credential)?)
            }
        };
        let slot = candidate.pool.slot();
        Ok(SecretsOf { ports, provider, own, slot, name: name(generation, candidate, slot) })
    }

    /// The same with the gateway's credential in another slot.
    #[must_use]
    pub fn in_slot(self, generation: &Generation, candidate: &Candidate, slot: u8) -> SecretsOf<'a, P> {
        SecretsOf { slot, name: name(generation, candidate, slot), ..self }
    }

    /// For a provider, with a credential of the workspace or the gateway's in that slot.
    pub fn of(
        ports: &'a P,
        provider: &'a Provider,
        own: Option<&OwnKey>,
        slot: u8,
        workspace: &WorkspaceId,
    ) -> Result<SecretsOf<'a, P>, Unwritable> {
        let name = own.map_or_else(|| pool::label(slot).unwrap_or_default().to_owned(), name_of);
        let open = |own: &OwnKey| {
            let credential = own.open(&byok::secrets(ports), workspace);
            let credential = credential.filter(|one| variables::check(provider, &one.variables).is_ok());
            credential.ok_or_else(no_credential)
        };
        Ok(SecretsOf { ports, provider, own: own.map(open).transpose()?, slot, name })
    }

    fn value(&self, name: &str) -> Option<String> {
        match &self.own {
            None if self.slot <= 1 => self.ports.secret(name),
            None => {
                let base = self.provider.base_secret(&|name| self.ports.secret(name).is_some()).unwrap_or_default();
                let others = self.provider.credential_secrets();
                pool::part(self.slot, base, &others, name, &|name| self.ports.secret(name))
            }
            Some(credential) => credential.value(self.provider, name),
        }
    }
}

/// The call with its credential.
pub async fn authorized<P: Ports>(
    ports: &P,
    secrets: &SecretsOf<'_, P>,
    family: &str,
    url: String,
    content_type: &str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
) -> Result<Call, Unwritable> {
    let call = Call { method: "POST", url, headers, body };
    signed(ports, secrets, family, content_type, call).await
}

/// A call of any method with its credential.
pub async fn signed<P: Ports>(
    ports: &P,
    secrets: &SecretsOf<'_, P>,
    family: &str,
    content_type: &str,
    call: Call,
) -> Result<Call, Unwritable> {
    let Call { method, url, headers, body } = call;
    let subject = Subject { family, method, url: &url, content_type, body: &body };
    let is_operators = secrets.own.is_none();
    let parts = Secrets { value: &|name| secrets.value(name), is_operators, name: &secrets.name };
    let made = credential::headers(ports, secrets.provider, parts, subject).await.ok_or_else(no_credential)?;
    let kind = [("content-type".to_owned(), content_type.to_owned())];
    let headers = kind.into_iter().chain(made).chain(headers).collect();
    Ok(Call { method, url, headers, body })
}

/// The header that names betas of the messages dialect.
const BETAS: &str = "anthropic-beta";

/// A request in the provider's words.
#[derive(Default)]
struct Parts {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    dropped: Vec<String>,
    customs: Vec<String>,
}

/// The client's bytes with only what must change.
fn pass(
    generation: &Generation,
    candidate: &Candidate,
    offer: &Offer,
    provider: &Provider,
    family: Family,
    limit: Option<u64>,
) -> Parts {
    let cleaned = foreign::without(generation.dialect, &generation.request, &provider.id);
    let request = cleaned.as_ref().unwrap_or(&generation.request);
    let fields = generation.dialect.gateway_fields();
    let traits = candidate.model().traits(offer, provider);
    let mut refused: Vec<&str> = Vec::new();
    if traits.sampling_params == Some(false) {
        let sampling = ["temperature", "top_p", "top_k", "min_p"];
        refused.extend(sampling.into_iter().filter(|name| request.body.value(name).is_some_and(|v| v != "null")));
    }
    let gone: Vec<&str> = fields.iter().copied().chain(refused.iter().copied()).collect();
    let (path, (body, left)) = match family {
        Family::OpenAiResponses => {
            ("/responses", (edited(&request.body, &offer.upstream, &gone, "max_output_tokens", limit), Vec::new()))
        }
        Family::Anthropic => {
            ("/messages", (edited(&request.body, &offer.upstream, &gone, "max_tokens", limit), Vec::new()))
        }
        _ => (openai_chat::PATH, openai_chat::request(request, &offer.upstream, &provider.quirks, &gone, limit)),
    };
    let dropped = refused.into_iter().map(str::to_owned).chain(left).collect();
    let headers = generation.betas.iter().map(|names| (BETAS.to_owned(), names.clone())).collect();
    Parts { path: path.to_owned(), headers, body, dropped, ..Parts::default() }
}

fn edited(body: &Body, upstream: &str, gone: &[&str], limit_field: &str, limit: Option<u64>) -> Vec<u8> {
    let mut edits = crate::json::ObjectEdits::new(&body.bytes, &body.members);
    edits.set("model", &crate::json::write::quoted(upstream));
    gone.iter().for_each(|field| edits.remove(field));
    if let Some(limit) = limit {
        edits.set(limit_field, &limit.to_string());
    }
    edits.finish()
}

fn translate(
    generation: &Generation,
    candidate: &Candidate,
    offer: &Offer,
    provider: &Provider,
    family: Family,
    limit: Option<u64>,
) -> Result<Parts, Unwritable> {
    let prompt = generation.dialect.prompt(&generation.request)?;
    let traits = candidate.model().traits(offer, provider);
    let target = Target {
        upstream: &offer.upstream,
        provider: &provider.id,
        quirks: &provider.quirks,
        traits: &traits,
        limit: limit.or(generation.request.demand.max_output),
        own_limit: Some(candidate.bound.output_tokens),
    };
    let written = family.write(&prompt, &target)?;
    let customs = if family.takes_free_text(&provider.quirks) { Vec::new() } else { custom::names(&prompt) };
    let mut dropped = written.dropped;
    dropped.extend(generation.betas.as_ref().map(|_| BETAS.to_owned()));
    Ok(Parts { path: written.path, headers: written.headers, body: written.body, dropped, customs })
}

/// The body with the members that name the account.
fn of_account<P: Ports>(secrets: &SecretsOf<'_, P>, provider: &Provider, body: Vec<u8>) -> Option<Vec<u8>> {
    if provider.body.is_empty() {
        return Some(body);
    }
    let members = crate::json::members(&body).ok()?;
    let mut edits = crate::json::ObjectEdits::new(&body, &members);
    for (name, value) in &provider.body {
        let value = provider.fill(value, &|name| secrets.value(name)).ok()?;
        edits.set(name, &crate::json::write::quoted(&value));
    }
    Some(edits.finish())
}

/// Base URL, path and the provider's own query.
pub fn url<P: Ports>(secrets: &SecretsOf<'_, P>, provider: &Provider, family: &str, path: &str) -> Option<String> {
    let lookup = |name: &str| secrets.value(name);
    let base = provider.fill(provider.base_url_of(family), &lookup).ok()?;
    let mut url = format!("{}{path}", base.trim_end_matches('/'));
    for (name, value) in &provider.query {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("{name}={}", provider.fill(value, &lookup).ok()?));
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_in_the_address_is_a_region_of_prices() {
        let at = |place: &str| region_of(&format!("https://h.example/v1/projects/p/locations/{place}/publishers/x"));
        assert_eq!((at("global"), at("europe-west1"), at("us")), (Some("global"), Some("regional"), Some("regional")));
        assert_eq!(region_of("https://api.example/v1/chat/completions"), None);
    }
}
