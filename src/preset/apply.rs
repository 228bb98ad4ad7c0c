//! A preset's place in the bytes of a request.

use crate::dialect::Dialect;
use crate::error::Failure;
use crate::json::ObjectEdits;
use crate::json::view::Node;
use crate::json::write::{Writer, quoted};
use crate::preset::Preset;
use crate::text::request::Body;

/// What of a request names a preset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The slug.
    pub slug: String,
    /// The model without it; `None` where the preset alone is named.
    pub model: Option<String>,
    /// The field that names it.
    pub param: &'static str,
}

/// The preset that a body names: in `model` (`@slug`, `model@slug`) or in the field `preset`.
///
/// # Errors
/// 400 about `preset` where it is no text, or the second one: a preset that was passed over would not narrow.
pub fn named(body: &Body) -> Result<Option<Named>, Failure> {
    let node = |key: &str| body.value(key).map(Node::of).filter(|node| !node.is_null());
    let model = node("model").and_then(Node::text);
    let field = node("preset").map(|field| field.text().ok_or_else(|| Failure::invalid("preset", "must be a string")));
    named_in(model.as_deref(), field.transpose()?.as_deref(), "model")
}

/// The same of the two fields.
///
/// # Errors
/// 400 about `preset` where both name one.
pub fn named_in(model: Option<&str>, field: Option<&str>, param: &'static str) -> Result<Option<Named>, Failure> {
    let in_model = model.and_then(|model| model.rsplit_once('@')).filter(|(rest, _)| !rest.ends_with(':'));
    match (in_model, field) {
        (Some(_), Some(_)) => Err(Failure::invalid("preset", "a preset is named in `model` or in `preset`, and once")),
        (Some((rest, after)), None) => {
            // `org/model@slug:fast`: the suffix belongs to the model.
            let (slug, suffix) = after.split_once(':').map_or((after, ""), |(slug, suffix)| (slug, suffix));
            let model = if suffix.is_empty() { rest.to_owned() } else { format!("{rest}:{suffix}") };
            let model = Some(model).filter(|_| !rest.is_empty());
            Ok(Some(Named { slug: slug.to_owned(), model, param }))
        }
        (None, Some(slug)) => {
            let slug = slug.strip_prefix('@').unwrap_or(slug).to_owned();
            Ok(Some(Named { slug, model: model.map(str::to_owned), param: "preset" }))
        }
        (None, None) => Ok(None),
    }
}

/// The fields that state an output limit, the one to write first.
fn limits(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Chat => &["max_completion_tokens", "max_tokens"],
        Dialect::Responses => &["max_output_tokens"],
        Dialect::Messages => &["max_tokens"],
    }
}

/// A parameter as the dialect calls it: an output limit has three names.
fn own_name(dialect: Dialect, name: &str) -> &str {
    let is_limit = matches!(name, "max_tokens" | "max_completion_tokens" | "max_output_tokens");
    match limits(dialect).first() {
        Some(own) if is_limit && !limits(dialect).contains(&name) => own,
        _ => name,
    }
}

/// The body with the preset in it; `None` where its prompt has no place for one.
pub fn apply(dialect: Dialect, body: &Body, named: &Named, preset: &Preset) -> Option<Vec<u8>> {
    let value = |key: &str| body.value(key).filter(|text| *text != "null");
    let mut edits = ObjectEdits::new(&body.bytes, &body.members);
    edits.remove("preset");
    if let Some(model) = named.model.as_ref().or(preset.model.as_ref()) {
        edits.set("model", &quoted(model));
    }
    // Two names of one thing: a client that states either has stated it.
    let names = |name: &str| if limits(dialect).contains(&name) { limits(dialect).to_vec() } else { vec![] };
    for (name, default) in &preset.parameters {
        let name = own_name(dialect, name);
        let is_stated = value(name).is_some() || names(name).into_iter().any(|other| value(other).is_some());
        if !is_stated {
            edits.set(name, &default.to_string());
        }
    }
    let by_name = |field: &str| preset.parameters.iter().find(|(name, _)| own_name(dialect, name) == field);
    if let Some(cap) = preset.max_tokens {
        let stated = limits(dialect).iter().find(|name| value(name).is_some());
        let by_preset = limits(dialect).iter().find(|name| by_name(name).is_some());
        let field = stated.or(by_preset).copied().or(limits(dialect).first().copied())?;
        let asked = value(field).and_then(|text| text.parse::<u64>().ok());
        let asked = asked.or_else(|| by_name(field).and_then(|(_, value)| value.as_u64()));
        if asked.is_none_or(|asked| asked > cap) {
            edits.set(field, &cap.to_string());
        }
    }
    if let Some(system) = preset.system.as_deref().filter(|text| !text.is_empty()) {
        let (field, text) = with_system(dialect, system, &value)?;
        edits.set(field, &text);
    }
    Some(edits.finish())
}

/// The field that holds the instructions, with the preset's in front.
fn with_system<'a>(
    dialect: Dialect,
    system: &str,
    value: &dyn Fn(&str) -> Option<&'a str>,
) -> Option<(&'static str, String)> {
    match dialect {
        Dialect::Chat => {
            let messages = value("messages").unwrap_or("[]").trim();
            let rest = messages.strip_prefix('[')?;
            let mut first = Writer::object();
            first.text("role", "system").text("content", system);
            let comma = if rest.trim_start().starts_with(']') { "" } else { "," };
            Some(("messages", format!("[{}{comma}{rest}", first.close())))
        }
        Dialect::Responses => {
            let own = value("instructions").and_then(|text| Node::parse(text)?.text().map(|text| text.into_owned()));
            let text = own.map_or(system.to_owned(), |own| format!("{system}\n\n{own}"));
            Some(("instructions", quoted(&text)))
        }
        Dialect::Messages => {
            let own = value("system");
            let mut block = Writer::object();
            block.text("type", "text").text("text", system);
            let text = match own.map(str::trim) {
                None => quoted(system),
                Some(list) if list.starts_with('[') => {
                    let rest = list.strip_prefix('[')?;
                    let comma = if rest.trim_start().starts_with(']') { "" } else { "," };
                    format!("[{}{comma}{rest}", block.close())
                }
                Some(text) => {
                    let own = Node::parse(text)?.text().map(|text| text.into_owned()).unwrap_or_default();
                    quoted(&format!("{system}\n\n{own}"))
                }
            };
            Some(("system", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::common::read;

    fn preset() -> Preset {
        serde_json::from_value(json!({
            "model": "org/default", "system": "Be \"kind\".", "parameters": {"temperature": 0.2, "max_tokens": 50}, "max_tokens": 100,
        }))
        .unwrap()
    }

    fn applied(dialect: Dialect, body: &Value) -> Value {
        let bytes = body.to_string().into_bytes();
        let body = read(bytes).unwrap();
        let named = named(&body).unwrap().unwrap();
        serde_json::from_slice(&apply(dialect, &body, &named, &preset()).unwrap()).unwrap()
    }

    #[test]
    fn a_preset_is_named_by_model_or_field() {
        let of = |body: Value| {
            named(&read(body.to_string().into_bytes()).unwrap()).unwrap().map(|n| (n.slug, n.model, n.param))
        };
        let some = |slug: &str, model: Option<&str>, param| Some((slug.to_owned(), model.map(str::to_owned), param));
        assert_eq!(of(json!({"model": "@mine"})), some("mine", None, "model"));
        assert_eq!(of(json!({"model": "org/m@mine"})), some("mine", Some("org/m"), "model"));
        assert_eq!(of(json!({"model": "org/m@mine:fast"})), some("mine", Some("org/m:fast"), "model"));
        assert_eq!(of(json!({"model": "org/m", "preset": "mine"})), some("mine", Some("org/m"), "preset"));
        assert_eq!(of(json!({"model": "p:@cf/org/m"})), None);
        assert_eq!(of(json!({"model": "org/m", "preset": null})), None);
        let refused =
            |body: Value| named(&read(body.to_string().into_bytes()).unwrap()).map_err(|failure| failure.param);
        let preset = || Err(Some("preset".to_owned()));
        assert_eq!(refused(json!({"model": "org/m", "preset": 5})), preset());
        assert_eq!(refused(json!({"model": "org/m@one", "preset": "two"})), preset(), "neither is passed over");
    }

    #[test]
    fn the_requests_own_values_win_in_every_dialect() {
        assert_eq!(
            applied(
                Dialect::Chat,
                &json!({"model": "@p", "messages": [{"role": "user", "content": "x"}], "temperature": 1})
            ),
            json!({"model": "org/default", "messages": [{"role": "system", "content": "Be \"kind\"."}, {"role": "user", "content": "x"}],
                "temperature": 1, "max_tokens": 50})
        );
        assert_eq!(
            applied(
                Dialect::Responses,
                &json!({"model": "org/m", "preset": "p", "input": "x", "instructions": "Own.", "max_output_tokens": 500})
            ),
            json!({"model": "org/m", "input": "x", "instructions": "Be \"kind\".\n\nOwn.", "max_output_tokens": 100, "temperature": 0.2})
        );
        let message = json!({"model": "org/m@p", "max_tokens": 20, "messages": []});
        let with = |system: Value| {
            let mut body = message.clone();
            body.as_object_mut().unwrap().insert("system".to_owned(), system);
            applied(Dialect::Messages, &body)
        };
        assert_eq!(applied(Dialect::Messages, &message)["system"], json!("Be \"kind\"."));
        assert_eq!(with(json!("Own."))["system"], json!("Be \"kind\".\n\nOwn."));
        assert_eq!(
            with(json!([{"type": "text", "text": "Own."}]))["system"],
            json!([{"type": "text", "text": "Be \"kind\"."}, {"type": "text", "text": "Own."}])
        );
        assert_eq!(with(json!("Own."))["max_tokens"], json!(20));
    }

    #[test]
    fn a_cap_lowers_and_never_raises() {
        let chat = |more: Value| {
            let mut body = json!({"model": "@p", "messages": []});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            applied(Dialect::Chat, &body)
        };
        assert_eq!(chat(json!({"max_completion_tokens": 1000}))["max_completion_tokens"], json!(100));
        assert_eq!(chat(json!({"max_tokens": 7}))["max_tokens"], json!(7));
        assert_eq!(chat(json!({"max_completion_tokens": 1000})).get("max_tokens"), None, "stated under its other name");
    }

    #[test]
    fn what_a_preset_may_not_set_is_refused() {
        let check = |value: Value| serde_json::from_value::<Preset>(value).unwrap().check().map_err(|f| f.param);
        assert_eq!(check(json!({"parameters": {"messages": []}})), Err(Some("parameters.messages".to_owned())));
        assert_eq!(check(json!({"model": "@other"})), Err(Some("model".to_owned())));
        assert_eq!(check(json!({"max_tokens": 0})), Err(Some("max_tokens".to_owned())));
        assert_eq!(check(json!({"parameters": {"temperature": 1}})), Ok(()));
    }
}
