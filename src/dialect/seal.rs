//! What must come back with reasoning, inside one opaque value that clients carry along without looking at it: the
//! `encrypted_content` of a reasoning item, the `data` of a redacted block of thinking.
//!
//! Behind the issuer's mark stands `{id length}-{signature length}.{id}{signature}{sealed}`, or
//! `call-{length}.{call id}{signature}` for a signature over a tool call, which has no field of its own here.

use std::borrow::Cow;

use crate::text::issuer;
use crate::text::prompt::{Reasoning, Text};

/// What an `encrypted_content` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    /// Reasoning, its text not among it.
    Reasoning(Reasoning<'a>),
    /// A signature over the call of that id, and whose it is.
    Call { id: Text<'a>, signature: Text<'a>, issuer: Text<'a> },
}

/// Reasoning's opaque parts as one value; `None` where there are none, or nobody to send them back to.
pub(super) fn reasoning(
    id: Option<&str>,
    signature: Option<&str>,
    sealed: Option<&str>,
    issuer: Option<&str>,
) -> Option<String> {
    let issuer = issuer?;
    if signature.is_none() && sealed.is_none() {
        return None;
    }
    let [id, signature, sealed] = [id, signature, sealed].map(Option::unwrap_or_default);
    let value = format!("{}-{}.{id}{signature}{sealed}", id.len(), signature.len());
    Some(issuer::marked(issuer, &value, None))
}

/// A signature over a call.
pub(super) fn call(id: &str, signature: &str, issuer: &str) -> String {
    issuer::marked(issuer, &format!("call-{}.{id}{signature}", id.len()), None)
}

/// Takes a value apart. One that is not ours is somebody's sealed reasoning.
pub(super) fn open(value: Text<'_>) -> Opened<'_> {
    match value {
        Cow::Borrowed(value) => open_str(value),
        Cow::Owned(value) => match open_str(&value) {
            Opened::Call { id, signature, issuer } => {
                Opened::Call { id: owned(id), signature: owned(signature), issuer: owned(issuer) }
            }
            Opened::Reasoning(Reasoning { signature, sealed, id, issuer, .. }) => Opened::Reasoning(Reasoning {
                text: None,
                signature: signature.map(owned),
                sealed: sealed.map(owned),
                id: id.map(owned),
                issuer: issuer.map(owned),
            }),
        },
    }
}

fn owned<'a>(text: Text<'_>) -> Text<'a> {
    Cow::Owned(text.into_owned())
}

fn open_str(value: &str) -> Opened<'_> {
    let (issuer, bare) = issuer::unmarked(value, None);
    issuer.and_then(|issuer| ours(issuer, bare)).unwrap_or_else(|| {
        Opened::Reasoning(Reasoning {
            sealed: Some(bare.into()),
            issuer: issuer.map(Cow::from),
            ..Reasoning::default()
        })
    })
}

fn ours<'a>(issuer: &'a str, bare: &'a str) -> Option<Opened<'a>> {
    let (head, rest) = bare.split_once('.')?;
    let (first, second) = head.split_once('-')?;
    let second: usize = second.parse().ok()?;
    if first == "call" {
        let (id, signature) = rest.split_at_checked(second)?;
        return Some(Opened::Call { id: id.into(), signature: signature.into(), issuer: issuer.into() });
    }
    let (id, rest) = rest.split_at_checked(first.parse().ok()?)?;
    let (signature, sealed) = rest.split_at_checked(second)?;
    let stated = |text: &'a str| (!text.is_empty()).then_some(Cow::from(text));
    Some(Opened::Reasoning(Reasoning {
        text: None,
        signature: stated(signature),
        sealed: stated(sealed),
        id: stated(id),
        issuer: Some(issuer.into()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for (id, signature, sealed) in [
            (None, Some("s.i-g="), None),
            (Some("rs.1"), None, Some("AAA.B")),
            (Some("rs"), Some("sig"), Some("sealed")),
        ] {
            let value = reasoning(id, signature, sealed, Some("x-v1")).unwrap();
            for text in [Cow::Borrowed(value.as_str()), Cow::Owned(value.clone())] {
                let Opened::Reasoning(back) = open(text) else { panic!("{value}") };
                assert_eq!(
                    (back.id.as_deref(), back.signature.as_deref(), back.sealed.as_deref(), back.issuer.as_deref()),
                    (id, signature, sealed, Some("x-v1"))
                );
            }
        }
        let Opened::Call { id, signature, issuer } = open(call("c.1", "S==", "x-v1").into()) else { panic!() };
        assert_eq!((id.as_ref(), signature.as_ref(), issuer.as_ref()), ("c.1", "S==", "x-v1"));
    }

    #[test]
    fn what_is_not_ours_is_sealed_reasoning_of_somebody() {
        for value in ["gAAAA", "gw1.", "1-2.abc", "", "call-1.ab"] {
            let Opened::Reasoning(back) = open(value.into()) else { panic!("{value}") };
            assert_eq!((back.sealed.as_deref(), back.issuer), (Some(value), None));
        }
        let Opened::Reasoning(back) = open("gw1.x.9-9.short".into()) else { panic!() };
        assert_eq!((back.sealed.as_deref(), back.issuer.as_deref()), (Some("9-9.short"), Some("x")));
        assert_eq!(reasoning(None, Some("s"), None, None), None);
        assert_eq!(reasoning(Some("i"), None, None, Some("x")), None);
    }
}
