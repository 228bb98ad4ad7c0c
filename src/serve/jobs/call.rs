//! One call of a job's host: where it goes, and whether a credential goes with it.

use crate::attempt::classify::{self, Breakage, Class, Verdict};
use crate::error::{Code, Failure};
use crate::family::wait;
use crate::job::family::{Call as Asked, Family};
use crate::job::reach::{To, is_own, may_fetch};
use crate::job::state::{About, Refused, Seat};
use crate::serve::byok;
use crate::serve::call::{SecretsOf, Unwritable, signed, url};
use crate::serve::ports::{Answer, Call, Ports};

/// Longest answer about a job, in bytes: some hosts put the film into it.
const ANSWER_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Most redirects that are followed for a film.
const HOPS_MAX: usize = 3;

/// An answer.
pub struct Told {
    /// Its status.
    pub status: u16,
    /// Its JSON; null where it is none.
    pub value: serde_json::Value,
    /// The wait it asks for, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Told {
    /// Whether it says that all is well.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What it means where it does not, in the words of its family.
    pub fn refused(&self, family: Family) -> Refused {
        let fault = family.fault(&self.value).unwrap_or_default();
        let retry_after_ms = self.retry_after_ms.or(fault.retry_after_ms);
        Refused { verdict: classify::answer(self.status, &fault), status: Some(self.status), retry_after_ms }
    }
}

/// A breakage as a refusal.
pub fn broke(how: Breakage) -> Refused {
    Refused { verdict: classify::breakage(how), status: None, retry_after_ms: None }
}

fn unusable() -> Refused {
    let verdict = Verdict { class: Class::Credential, code: Code::ProviderUnavailable, next: true, says: None };
    Refused { verdict, status: None, retry_after_ms: None }
}

impl From<Unwritable> for Refused {
    fn from(unwritable: Unwritable) -> Refused {
        Refused { verdict: unwritable.verdict, status: None, retry_after_ms: None }
    }
}

/// The call as it is sent. An address that a host answered with gets the credential only where it is the host's own, and
/// is called at all only where the gateway may go.
pub async fn prepared<P: Ports>(ports: &P, about: &About, seat: &Seat, asked: Asked) -> Result<Call, Refused> {
    let Asked { method, to, headers, content_type, body } = asked;
    let all = match seat.own {
        Some(_) => byok::of(ports, &about.workspace).await.map_err(|_| unusable())?,
        None => Default::default(),
    };
    let own = match &seat.own {
        None => None,
        // One that was deleted meanwhile is used no more.
        Some(id) => Some(all.iter().find(|own| own.id == *id && own.about.enabled).ok_or_else(unusable)?),
    };
    let secrets = SecretsOf::of(ports, &seat.provider, own, seat.slot, &about.workspace)?;
    let base = url(&secrets, &seat.provider, &seat.family_name, "").ok_or_else(unusable)?;
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let url = match to {
        To::Path(path) => url(&secrets, &seat.provider, &seat.family_name, &path).ok_or_else(unusable)?,
        To::Url(url) if is_own(&url, &base, seat.family.manner().own) => url,
        To::Url(url) if may_fetch(&url, &base) && method == "GET" => {
            return Ok(Call { method, url, headers, body });
        }
        To::Url(_) => return Err(broke(Breakage::Malformed)),
    };
    let call = Call { method, url, headers, body };
    Ok(signed(ports, &secrets, &seat.family_name, &content_type, call).await?)
}

/// Sends a call and takes in its answer, within `wait_ms`.
pub async fn asked<P: Ports>(ports: &P, call: Call, wait_ms: u64) -> Result<Told, Refused> {
    let work = async {
        let mut answer = ports.send(call).await.map_err(broke)?;
        let (after_ms, after) = (answer.header("retry-after-ms"), answer.header("retry-after"));
        let retry_after_ms = wait::from_headers(after_ms.as_deref(), after.as_deref(), ports.now());
        let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(broke)?;
        let value = crate::json::from_bytes(&bytes).unwrap_or_default();
        Ok(Told { status: answer.status(), value, retry_after_ms })
    };
    let deadline = ports.sleep(wait_ms);
    futures::pin_mut!(work, deadline);
    match futures::future::select(work, deadline).await {
        futures::future::Either::Left((told, _)) => told,
        futures::future::Either::Right(_) => Err(broke(Breakage::Timeout)),
    }
}

/// Fetches an output. Redirects are followed by hand: each hop is looked at anew, and none but the host itself gets the
/// credential.
pub async fn fetched<P: Ports>(ports: &P, about: &About, seat: &Seat, to: To) -> Result<P::Answer, Failure> {
    let unavailable = || Failure::new(Code::ProviderError, "the provider does not give the output any more");
    let mut to = to;
    for _ in 0..=HOPS_MAX {
        let call = prepared(ports, about, seat, Asked::get(to.clone())).await.map_err(|_| unavailable())?;
        let from = call.url.clone();
        let answer = ports.send(call).await.map_err(|_| unavailable())?;
        match answer.status() {
            200..=299 => return Ok(answer),
            301..=303 | 307 | 308 => {
                let location = answer.header("location").ok_or_else(unavailable)?;
                to = To::Url(crate::job::reach::resolve(&from, &location).ok_or_else(unavailable)?);
            }
            _ => return Err(unavailable()),
        }
    }
    Err(unavailable())
}
