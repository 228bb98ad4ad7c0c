//! Ids of tool calls, where hosts give none or the same one twice.
//!
//! Results are tied to calls by id alone, over all turns of a conversation, and some families refuse one in which an id
//! stands twice. So an answer's calls get ids that no other answer has ([`Ids`]), and a conversation in which calls share
//! an id goes out with one id for each of them ([`unique`]).

use std::borrow::Cow;
use std::collections::HashSet;

use crate::text::event::Event;
use crate::text::prompt::{Part, Prompt, Text};

/// Gives an answer's calls the ids that their host did not.
#[derive(Debug)]
pub struct Ids {
    salt: String,
    used: HashSet<(u32, String)>,
}

impl Ids {
    /// For the answer to the request of that id, which no other request has.
    pub fn new(request_id: &str) -> Ids {
        let salt = request_id.rsplit('_').next().unwrap_or_default().to_owned();
        Ids { salt, used: HashSet::new() }
    }

    /// Fills in what is empty, and replaces what an earlier call of the same choice has.
    pub fn give(&mut self, events: &mut [Event]) {
        for event in events {
            if let Event::CallStart { choice, call, id, .. } = event {
                if id.is_empty() || self.used.contains(&(*choice, id.clone())) {
                    *id = format!("call_{}_{choice}_{call}", self.salt);
                }
                self.used.insert((*choice, id.clone()));
            }
        }
    }
}

/// The same conversation with an id of its own for each call; `None` where each has one. Results go to the earliest call
/// of their id that has none.
pub fn unique<'a>(prompt: &Prompt<'a>) -> Option<Prompt<'a>> {
    let mut used = HashSet::new();
    let calls = prompt.messages.iter().flat_map(|message| &message.parts);
    let is_again = |part: &Part<'_>| matches!(part, Part::Call(call) if !used.insert(call.id.to_string()));
    if !calls.map(is_again).fold(false, |any, again| any | again) {
        return None;
    }
    let mut prompt = prompt.clone();
    let mut given: HashSet<String> = HashSet::new();
    // Calls without a result so far: the id the client knows, and the one that goes out.
    let mut open: Vec<(String, String)> = Vec::new();
    let mut last: Vec<(String, String)> = Vec::new();
    for part in prompt.messages.iter_mut().flat_map(|message| &mut message.parts) {
        match part {
            Part::Call(call) => {
                let known = call.id.to_string();
                let mut id = known.clone();
                let mut number = 1u32;
                while given.contains(&id) || (number > 1 && used.contains(&id)) {
                    number = number.saturating_add(1);
                    id = format!("{known}_{number}");
                }
                given.insert(id.clone());
                open.push((known.clone(), id.clone()));
                last.retain(|(other, _)| *other != known);
                last.push((known, id.clone()));
                call.id = Cow::Owned(id);
            }
            Part::Result { id, .. } => answer(id, &mut open, &last),
            _ => {}
        }
    }
    Some(prompt)
}

/// Points a result to its call.
fn answer(id: &mut Text<'_>, open: &mut Vec<(String, String)>, last: &[(String, String)]) {
    let at = open.iter().position(|(known, _)| *known == **id);
    let sent = match at {
        Some(at) => Some(open.remove(at).1),
        None => last.iter().find(|(known, _)| *known == **id).map(|(_, sent)| sent.clone()),
    };
    if let Some(sent) = sent {
        *id = Cow::Owned(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::text::prompt::ToolKind;

    fn start(choice: u32, call: u32, id: &str) -> Event {
        let (name, kind) = ("f".to_owned(), ToolKind::Function);
        Event::CallStart { choice, call, id: id.to_owned(), name, kind, signature: None }
    }

    #[test]
    fn every_call_of_every_answer_has_an_id_of_its_own() {
        let ids = |request: &str| -> Vec<String> {
            let mut ids = Ids::new(request);
            let mut events = [start(0, 0, ""), start(0, 1, "a"), start(0, 2, "a"), start(1, 0, "a"), start(1, 1, "")];
            // In pieces, as they come.
            events.chunks_mut(2).for_each(|some| ids.give(some));
            events
                .iter()
                .map(|event| if let Event::CallStart { id, .. } = event { id.clone() } else { panic!() })
                .collect()
        };
        assert_eq!(ids("gen_X"), ["call_X_0_0", "a", "call_X_0_2", "a", "call_X_1_1"]);
        assert_ne!(ids("gen_X")[0], ids("gen_Y")[0]);
        // OpenAI takes 40 letters.
        assert!(ids("gen_01M8GRVJME87ECVSSD205XNMQM")[0].len() <= 40);
    }

    #[test]
    fn calls_that_share_an_id_are_told_apart_and_results_follow() {
        let call = |id: &str, name: &str| {
            format!(r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{{}}"}}}}"#)
        };
        let result = |id: &str, said: &str| format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"{said}"}}"#);
        let calls = |list: &[String]| format!(r#"{{"role":"assistant","tool_calls":[{}]}}"#, list.join(","));
        let of = |turns: &[String]| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}},{}]}}"#, turns.join(","));
            Dialect::Chat.parse(body.into_bytes()).unwrap()
        };
        let request = of(&[
            calls(&[call("c", "get"), call("c_2", "other")]),
            result("c", "1"),
            result("c_2", "2"),
            calls(&[call("c", "put"), call("c", "put")]),
            result("c", "3"),
            result("c", "4"),
        ]);
        let prompt = unique(&Dialect::Chat.prompt(&request).unwrap()).unwrap();
        let parts: Vec<(String, String)> = prompt
            .messages
            .iter()
            .flat_map(|message| &message.parts)
            .filter_map(|part| match part {
                Part::Call(call) => Some((call.id.to_string(), call.name.to_string())),
                Part::Result { id, parts, .. } => Some((id.to_string(), format!("{parts:?}"))),
                _ => None,
            })
            .collect();
        let ids: Vec<&str> = parts.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["c", "c_2", "c", "c_2", "c_3", "c_4", "c_3", "c_4"]);
        assert_eq!((prompt.called("c"), prompt.called("c_3")), (Some("get"), Some("put")));
        let request = of(&[calls(&[call("c", "get")]), result("c", "1")]);
        assert_eq!(unique(&Dialect::Chat.prompt(&request).unwrap()), None);
    }
}
