//! Whether a provider accepts a credential: asked by a call that costs nothing, where the catalog names one.

use futures::future::{Either, select};
use futures::pin_mut;

use crate::access::byok::Credential;
use crate::attempt::classify::{Class, answer};
use crate::catalog::Provider;
use crate::family::fault;
use crate::serve::credential::{self, Secrets, Subject};
use crate::serve::ports::{Answer, Call, Ports};

/// How long the provider may take, in milliseconds.
const WAIT_MS: u64 = 10_000;
/// Refusals that are about the credential and nothing else: with another status it may lack one permission, or funds.
const REFUSALS: &[u16] = &[400, 401, 422];

/// What the provider says of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It accepts it.
    Accepted,
    /// It refuses it.
    Refused(String),
    /// Nobody knows, and why.
    Unknown(String),
}

/// Asks the provider. `name` tells the credential from all others.
pub async fn verify<P: Ports>(ports: &P, provider: &Provider, credential: &Credential, name: &str) -> Outcome {
    let Some(path) = &provider.verify else {
        return Outcome::Unknown("the provider has no call that costs nothing".to_owned());
    };
    let value = |env: &str| credential.value(provider, env);
    let Ok(base) = provider.fill(&provider.base_url, &value) else {
        return Outcome::Unknown("the provider's address is not complete".to_owned());
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let secrets = Secrets { value: &value, is_operators: false, name };
    let family = provider.families.first().map(String::as_str).unwrap_or_default();
    let subject = Subject { family, method: "GET", url: &url, content_type: "", body: &[] };
    let Some(headers) = credential::headers(ports, provider, secrets, subject).await else {
        return Outcome::Unknown("no token could be made of it".to_owned());
    };
    credential::forget(ports, provider, name);
    let asked = async {
        let call = Call { method: "GET", url: url.clone(), headers, body: Vec::new() };
        let mut said = ports.send(call).await.ok()?;
        let body = said.whole(fault::FAULT_BYTES_MAX).await.unwrap_or_default();
        Some((said.status(), body))
    };
    let deadline = ports.sleep(WAIT_MS);
    pin_mut!(asked, deadline);
    match select(asked, deadline).await {
        Either::Left((Some((status, body)), _)) => read(status, &body),
        _ => Outcome::Unknown("the provider could not be reached".to_owned()),
    }
}

/// What an answer says.
fn read(status: u16, body: &[u8]) -> Outcome {
    match answer(status, &fault::parse(body)).class {
        _ if (200..300).contains(&status) => Outcome::Accepted,
        Class::Credential if REFUSALS.contains(&status) => Outcome::Refused(reason(Some(status))),
        _ => Outcome::Unknown(format!("the provider answered {status}")),
    }
}

/// A refusal in words; never the provider's own.
pub fn reason(status: Option<u16>) -> String {
    match status {
        Some(402) => "402: the account has no funds there".to_owned(),
        Some(403) => "403: it may not do that there".to_owned(),
        Some(status) => format!("{status}: the provider refused it"),
        None => "the provider refused it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_credential_alone_refuses_it() {
        let word = |outcome: Outcome| match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
        };
        for (status, body, expected) in [
            (200, "{}", "accepted"),
            (401, "{}", "refused"),
            (400, r#"{"error":{"message":"API key not valid. Please pass a valid API key."}}"#, "refused"),
            (400, r#"{"error":{"message":"no such thing"}}"#, "unknown"),
            (403, "{}", "unknown"),
            (402, "{}", "unknown"),
            (404, "", "unknown"),
            (429, "", "unknown"),
            (302, "", "unknown"),
            (500, "", "unknown"),
        ] {
            assert_eq!(word(read(status, body.as_bytes())), expected, "{status} {body}");
        }
    }
}
