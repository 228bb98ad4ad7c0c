//! The headers that prove who is calling: a key as it is, a signature over the call, or a token that is asked for and kept.

use crate::auth::service_account::ServiceAccount;
use crate::auth::token::{Token, form};
use crate::auth::{hmac_jwt, sigv4};
use crate::catalog::{Provider, Scheme};
use crate::serve::ports::{Answer, Call, Ports};

/// Longest answer of a token endpoint that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// How long a token endpoint may take, in milliseconds.
const TOKEN_WAIT_MS: u64 = 10_000;

/// Where a credential's parts come from, and how far they are trusted.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// The value of a secret or a variable by its name in the environment.
    pub value: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a service account's own word about its token endpoint counts: only the operator's does.
    pub is_operators: bool,
    /// What tells credentials of one provider apart, for the tokens made of them.
    pub name: &'a str,
}

/// The call to be authorised.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The family it is made in.
    pub family: &'a str,
    /// The method.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// Its content type.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// The headers of a credential; `None` where none can be made of what there is. A provider without a key gets none.
pub async fn headers<P: Ports>(
    ports: &P,
    provider: &Provider,
    secrets: Secrets<'_>,
    subject: Subject<'_>,
) -> Option<Vec<(String, String)>> {
    let auth = &provider.auth;
    let value = secrets.value;
    let extra = auth.extra_headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    if let Some(other) = provider.alternative(&|name| value(name).is_some()) {
        let secret = value(&other.key_env)?;
        return Some([(other.header.clone(), format!("{}{secret}", other.prefix))].into_iter().chain(extra).collect());
    }
    let Some(secret) = provider.key_env.as_deref().and_then(value) else {
        return provider.key_env.is_none().then(|| extra.collect());
    };
    let part = |name: &str| provider.value(name, value);
    let credential = match auth.scheme {
        Scheme::Header => secret,
        Scheme::AwsSigv4 => {
            let (key, session, region) = (part("secret_access_key")?, part("session_token"), part("region")?);
            let service = auth.family_services.get(subject.family).or(auth.service.as_ref())?;
            let credentials = sigv4::Credentials {
                access_key_id: &secret,
                secret_access_key: &key,
                session_token: session.as_deref(),
                region: &region,
                service,
            };
            let Subject { method, url, content_type, body, .. } = subject;
            let request = sigv4::Request { method, url, content_type, body };
            return Some(sigv4::sign(&request, &credentials, ports.now())?.into_iter().chain(extra).collect());
        }
        Scheme::HmacJwt => hmac_jwt::token(&secret, &part("secret_key")?, ports.now())?,
        Scheme::GoogleServiceAccount | Scheme::IamToken | Scheme::OauthClient => {
            let name = format!("{} {}", provider.id, secrets.name);
            let kept = ports.tokens().borrow().get(&name, ports.now());
            match kept {
                Some(token) => token,
                None => {
                    let token = ask(ports, provider, secrets, &secret).await?;
                    let value = token.value.clone();
                    ports.tokens().borrow_mut().put(&name, token);
                    value
                }
            }
        }
        Scheme::Unsupported => return None,
    };
    Some([(auth.header.clone(), format!("{}{credential}", auth.prefix))].into_iter().chain(extra).collect())
}

/// Forgets the token made of a credential: its provider refused it.
pub fn forget<P: Ports>(ports: &P, provider: &Provider, name: &str) {
    ports.tokens().borrow_mut().forget(&format!("{} {name}", provider.id));
}

/// Asks a provider's token endpoint. What it answers beside a token is nobody's business.
async fn ask<P: Ports>(ports: &P, provider: &Provider, secrets: Secrets<'_>, secret: &str) -> Option<Token> {
    let declared = provider.auth.token_url.clone();
    let mut headers = vec![
        ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
        ("accept".to_owned(), "application/json".to_owned()),
    ];
    let (url, body) = match provider.auth.scheme {
        Scheme::GoogleServiceAccount => {
            let account = ServiceAccount::parse(secret)?;
            let own = secrets.is_operators.then(|| account.token_url.clone());
            let url = declared.or(own).unwrap_or_else(|| crate::auth::service_account::TOKEN_URL.to_owned());
            let text = account.to_sign(&url, ports.now());
            let signature = ports.sign_rs256(&account.key, &text).await?;
            (url, ServiceAccount::exchange(&text, &signature))
        }
        Scheme::IamToken => {
            (declared?, form(&[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", secret)]))
        }
        Scheme::OauthClient => {
            headers.push(("authorization".to_owned(), format!("Basic {secret}")));
            (declared?, form(&[("grant_type", "client_credentials")]))
        }
        Scheme::Header | Scheme::AwsSigv4 | Scheme::HmacJwt | Scheme::Unsupported => return None,
    };
    let asked = async {
        let mut answer = ports.send(Call { method: "POST", url, headers, body }).await.ok()?;
        if !(200..300).contains(&answer.status()) {
            return None;
        }
        let bytes = answer.whole(TOKEN_BYTES_MAX).await.ok()?;
        Token::read(std::str::from_utf8(&bytes).ok()?, ports.now())
    };
    let deadline = ports.sleep(TOKEN_WAIT_MS);
    futures::pin_mut!(asked, deadline);
    match futures::future::select(asked, deadline).await {
        futures::future::Either::Left((token, _)) => token,
        futures::future::Either::Right(_) => None,
    }
}
