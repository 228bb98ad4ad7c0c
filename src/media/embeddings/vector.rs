//! A vector as the client wants it: numbers, or base64 of little-endian 32-bit floats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The vector in the wanted form; `None` where it is none.
pub fn formed(vector: Value, is_base64: bool) -> Option<Value> {
    match (vector, is_base64) {
        (Value::String(text), true) => Some(Value::String(text)),
        (Value::Array(list), false) => Some(Value::Array(list)),
        (Value::Array(list), true) => {
            let mut bytes = Vec::with_capacity(list.len().saturating_mul(4));
            for number in &list {
                #[allow(clippy::cast_possible_truncation, reason = "the wire has 32 bits")]
                bytes.extend_from_slice(&(number.as_f64()? as f32).to_le_bytes());
            }
            Some(Value::String(STANDARD.encode(bytes)))
        }
        (Value::String(text), false) => {
            let bytes = STANDARD.decode(text).ok()?;
            let float = |four: &[u8]| four.try_into().ok().map(f32::from_le_bytes).map(|number| json!(number));
            bytes.chunks(4).map(float).collect::<Option<Vec<Value>>>().map(Value::Array)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_change_their_form_without_loss() {
        let floats = json!([0.5, -1.25, 3.0]);
        let text = formed(floats.clone(), true).unwrap();
        assert_eq!(text, json!("AAAAPwAAoL8AAEBA"));
        assert_eq!(formed(text.clone(), false).unwrap(), floats);
        assert_eq!(formed(text.clone(), true).unwrap(), text);
        assert_eq!(formed(json!({"a": 1}), true), None);
        assert_eq!(formed(json!("AAAAPwA="), false), None, "five bytes");
    }
}
