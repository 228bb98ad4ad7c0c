//! Numbers for the tool calls of a chat stream whose host gives them none. The dialect ties the pieces of a call together
//! by its number alone, and its official clients refuse a call without one.

use serde_json::Value;

/// The calls of a stream so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The choice and the id of each.
    calls: Vec<(u64, Option<String>)>,
}

impl Numbers {
    /// The frame with a number in each call; `None` where none is missing.
    pub(super) fn give(&mut self, data: &str) -> Option<String> {
        memchr::memmem::find(data.as_bytes(), b"\"tool_calls\"")?;
        let mut frame: Value = crate::json::from_str(data).ok()?;
        let mut is_changed = false;
        for choice in frame.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
            let at = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            let calls = choice.get_mut("delta").and_then(|delta| delta.get_mut("tool_calls"));
            for call in calls.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
                if call.get("index").is_some_and(Value::is_u64) {
                    continue;
                }
                let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
                let has_name =
                    call.get("function").and_then(|function| function.get("name")).is_some_and(Value::is_string);
                call.insert("index".to_owned(), self.number(at, id, has_name).into());
                is_changed = true;
            }
        }
        is_changed.then(|| frame.to_string())
    }

    /// A known id goes on with its call, a piece without id and name with the last one; anything else begins one.
    fn number(&mut self, choice: u64, id: Option<String>, has_name: bool) -> u64 {
        let mut own = (0u64..).zip(self.calls.iter().filter(|(known, _)| *known == choice));
        let last = own.clone().last().map(|(number, _)| number);
        let known = match &id {
            Some(id) => own.find(|(_, (_, known))| known.as_ref() == Some(id)).map(|(number, _)| number),
            None if has_name => None,
            None => last,
        };
        known.unwrap_or_else(|| {
            self.calls.push((choice, id));
            last.map_or(0, |number| number.saturating_add(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_without_numbers_get_them() {
        let mut numbers = Numbers::default();
        let frame = |calls: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{calls}]}}}}]}}"#);
        let mut given = |calls: &str| -> Option<Vec<u64>> {
            let frame: Value = serde_json::from_str(&numbers.give(&frame(calls))?).unwrap();
            let calls = frame["choices"][0]["delta"]["tool_calls"].as_array().unwrap().clone();
            Some(calls.iter().map(|call| call["index"].as_u64().unwrap()).collect())
        };
        let call =
            |id: &str, name: &str| format!(r#"{{"id":"{id}","function":{{"name":"{name}","arguments":"{{}}"}}}}"#);
        assert_eq!(given(&[call("a", "f"), call("b", "f")].join(",")), Some(vec![0, 1]));
        assert_eq!(given(r#"{"function":{"arguments":"1"}}"#), Some(vec![1]));
        assert_eq!(given(&[call("a", "f"), call("", "g")].join(",")), Some(vec![0, 2]));
        assert_eq!(given(r#"{"index":0,"function":{"arguments":"1"}}"#), None);
        assert_eq!(numbers.give(r#"{"choices":[{"delta":{"content":"x"}}]}"#), None);
    }
}
