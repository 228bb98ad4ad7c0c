//! A preset in a request that is not text: in JSON, in a form, and in the nested JSON of a job. There is no system prompt and
//! no output limit; its parameters stand where the client left them out.

use serde_json::Value;

use crate::error::Failure;
use crate::json::view::Node;
use crate::json::write::quoted;
use crate::json::{self, ObjectEdits};
use crate::media::multipart::Part;
use crate::preset::apply::named_in as named_in_texts;
use crate::preset::{Named, Preset};

/// How a body names its model and where its parameters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// On top, beside the model of that name.
    Flat(&'static str),
    /// In `input`, but for those.
    Nested(&'static [&'static str]),
}

impl Layout {
    /// The field that names the model.
    pub const fn model(self) -> &'static str {
        match self {
            Layout::Flat(name) => name,
            Layout::Nested(_) => "model",
        }
    }
}

/// The preset that a body of JSON names; one that is no JSON names none, and its parser will say so.
///
/// # Errors
/// As of [`named_in_texts`].
pub fn named_in(bytes: &[u8], layout: Layout) -> Result<Option<Named>, Failure> {
    let Some(node) = std::str::from_utf8(bytes).ok().and_then(Node::parse) else { return Ok(None) };
    let field = node.get("preset").filter(|field| !field.is_null());
    let field = field.map(|field| field.text().ok_or_else(|| Failure::invalid("preset", "must be a string")));
    named_in_texts(node.text_at(layout.model()).as_deref(), field.transpose()?.as_deref(), layout.model())
}

/// The preset that a form names.
///
/// # Errors
/// As of [`named_in_texts`].
pub fn named_in_parts(parts: &[Part], model: &'static str) -> Result<Option<Named>, Failure> {
    let text = |name: &str| std::str::from_utf8(&parts.iter().find(|part| part.name == name)?.bytes).ok();
    let text = |name: &str| text(name).filter(|text| !text.is_empty());
    named_in_texts(text(model), text("preset"), model)
}

/// A body of JSON with the preset in it; `None` where it is no object.
pub fn apply_to(bytes: &[u8], named: &Named, preset: &Preset, layout: Layout) -> Option<Vec<u8>> {
    let members = json::members(bytes).ok()?;
    let value = |key: &str| {
        let member = members.iter().find(|member| member.key == key)?;
        std::str::from_utf8(bytes.get(member.value.clone())?).ok().filter(|text| *text != "null")
    };
    let mut edits = ObjectEdits::new(bytes, &members);
    edits.remove("preset");
    if let Some(model) = named.model.as_ref().or(preset.model.as_ref()) {
        edits.set(layout.model(), &quoted(model));
    }
    let is_on_top = |name: &str| match layout {
        Layout::Flat(_) => true,
        Layout::Nested(top) => top.contains(&name),
    };
    let (top, nested): (Vec<_>, Vec<_>) = preset.parameters.iter().partition(|(name, _)| is_on_top(name));
    for (name, default) in top.into_iter().filter(|(name, _)| value(name).is_none()) {
        edits.set(name, &default.to_string());
    }
    if !nested.is_empty() {
        let input = value("input").unwrap_or("{}").as_bytes();
        let members = json::members(input).ok()?;
        let is_stated = |name: &str| {
            let stated = members.iter().find(|member| member.key == name).and_then(|one| input.get(one.value.clone()));
            stated.is_some_and(|text| text != b"null")
        };
        let mut inner = ObjectEdits::new(input, &members);
        nested
            .iter()
            .filter(|(name, _)| !is_stated(name))
            .for_each(|(name, value)| inner.set(name, &value.to_string()));
        edits.set("input", std::str::from_utf8(&inner.finish()).ok()?);
    }
    Some(edits.finish())
}

/// A form with the preset in it.
pub fn apply_to_parts(mut parts: Vec<Part>, named: &Named, preset: &Preset, model: &'static str) -> Vec<Part> {
    parts.retain(|part| part.name != "preset");
    if let Some(name) = named.model.as_ref().or(preset.model.as_ref()) {
        parts.retain(|part| part.name != model);
        parts.push(Part::text(model, name));
    }
    for (name, value) in &preset.parameters {
        if parts.iter().any(|part| part.name.trim_end_matches("[]") == name) {
            continue;
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match value {
            Value::Array(list) => parts.extend(list.iter().map(|one| Part::text(&format!("{name}[]"), &text(one)))),
            one => parts.push(Part::text(name, &text(one))),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn preset() -> Preset {
        let parameters = json!({"quality": "hd", "size": "1024x1024", "wait": 5});
        serde_json::from_value(json!({"model": "org/default", "parameters": parameters, "system": "Be kind."})).unwrap()
    }

    #[test]
    fn the_requests_own_values_win_in_json() {
        let applied = |body: Value, layout: Layout| -> Value {
            let bytes = body.to_string().into_bytes();
            let named = named_in(&bytes, layout).unwrap().unwrap();
            serde_json::from_slice(&apply_to(&bytes, &named, &preset(), layout).unwrap()).unwrap()
        };
        assert_eq!(
            applied(json!({"model": "@p", "prompt": "x", "size": "1x1"}), Layout::Flat("model")),
            json!({"model": "org/default", "prompt": "x", "size": "1x1", "quality": "hd", "wait": 5})
        );
        assert_eq!(
            applied(json!({"model_id": "org/m@p:fast", "text": "x", "quality": null}), Layout::Flat("model_id")),
            json!({"model_id": "org/m:fast", "text": "x", "size": "1024x1024", "quality": "hd", "wait": 5})
        );
        assert_eq!(
            applied(
                json!({"model": "org/m", "preset": "p", "input": {"prompt": "x", "size": "2x2"}}),
                Layout::Nested(&["wait"])
            ),
            json!({"model": "org/m", "input": {"prompt": "x", "size": "2x2", "quality": "hd"}, "wait": 5})
        );
        assert_eq!(named_in(br#"{"model":"org/m"}"#, Layout::Flat("model")), Ok(None));
        let twice = named_in(br#"{"model":"@p","preset":"q"}"#, Layout::Flat("model"));
        assert_eq!(twice.unwrap_err().param.as_deref(), Some("preset"));
        let named = named_in(br#"{"model":"@p","input":5}"#, Layout::Nested(&[])).unwrap().unwrap();
        assert_eq!(apply_to(br#"{"model":"@p","input":5}"#, &named, &preset(), Layout::Nested(&[])), None);
    }

    #[test]
    fn the_requests_own_values_win_in_a_form() {
        let parts = vec![Part::text("model", "@p"), Part::text("size", "1x1")];
        let named = named_in_parts(&parts, "model").unwrap().unwrap();
        let list: Preset =
            serde_json::from_value(json!({"model": "m", "parameters": {"size": "2x2", "n": 2, "include": ["a", "b"]}}))
                .unwrap();
        let applied = apply_to_parts(parts, &named, &list, "model");
        let texts: Vec<(&str, &str)> =
            applied.iter().map(|part| (part.name.as_str(), std::str::from_utf8(&part.bytes).unwrap())).collect();
        assert_eq!(texts, [("size", "1x1"), ("model", "m"), ("include[]", "a"), ("include[]", "b"), ("n", "2")]);
        assert_eq!(named_in_parts(&[Part::text("model", "org/m")], "model"), Ok(None));
        let by_field = [Part::text("model", "org/m"), Part::text("preset", "@p")];
        assert_eq!(
            named_in_parts(&by_field, "model").unwrap().map(|named| (named.slug, named.model)),
            Some(("p".into(), Some("org/m".into())))
        );
    }
}
