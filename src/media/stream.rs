//! Streamed answers of media hosts: their events in, the client's bytes out.

use super::meter::Told;
use super::shape::malformed;
use crate::family::fault::{self, Fault};
use crate::sse::Frames;

/// What reads a host's events, one after the other.
pub trait Fold {
    /// One event; writes what the client gets of it. Whether it was the last one.
    fn on(&mut self, event: &serde_json::Value, out: &mut Vec<u8>) -> Result<bool, Fault>;
    /// What was counted so far.
    fn told(&self) -> Told;
}

/// The events of one answer.
pub struct Events {
    frames: Frames,
    fold: Box<dyn Fold>,
    is_over: bool,
    fault: Option<Fault>,
}

impl Events {
    /// Read by that.
    pub fn new(fold: Box<dyn Fold>) -> Events {
        Events { frames: Frames::default(), fold, is_over: false, fault: None }
    }

    /// Takes a chunk, writes what the client gets.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Events { frames, fold, is_over, fault } = self;
        let result = frames.push(bytes, |frame| {
            let Some(data) = frame.data.filter(|data| !data.is_empty() && *data != "[DONE]") else { return };
            if *is_over || fault.is_some() {
                return;
            }
            let step = match crate::json::from_str::<serde_json::Value>(data) {
                Ok(event) if event.get("type").and_then(|kind| kind.as_str()) == Some("error") => {
                    Err(fault::from_value(&event).unwrap_or_else(malformed))
                }
                Ok(event) => match fault::from_value(&event) {
                    Some(fault) => Err(fault),
                    None => fold.on(&event, out),
                },
                Err(_) => Err(malformed()),
            };
            match step {
                Ok(last) => *is_over = last,
                Err(told) => *fault = Some(told),
            }
        });
        if result.is_err() {
            self.fault = Some(malformed());
        }
    }

    /// Whether the last event has come.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What went wrong.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What was counted.
    pub fn told(&self) -> Told {
        self.fold.told()
    }
}

/// Writes an event with a name, as OpenAI's media streams have it: the name is also the `type`.
pub fn event(value: &serde_json::Value, out: &mut Vec<u8>) {
    let name = value.get("type").and_then(serde_json::Value::as_str).unwrap_or("message");
    out.extend_from_slice(format!("event: {name}\ndata: {value}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::usage::Meter;

    struct Count(u64);

    impl Fold for Count {
        fn on(&mut self, value: &Value, out: &mut Vec<u8>) -> Result<bool, Fault> {
            self.0 += 1;
            event(value, out);
            Ok(value["type"] == "last")
        }

        fn told(&self) -> Told {
            Told::default().with(Meter::Requests, self.0)
        }
    }

    #[test]
    fn events_are_read_however_they_are_cut_and_end_with_the_last() {
        let text = "data: {\"type\":\"a\"}\n\ndata: {\"type\":\"last\"}\n\ndata: {\"type\":\"b\"}\n\ndata: [DONE]\n\n";
        for size in [1, 7, text.len()] {
            let (mut events, mut out) = (Events::new(Box::new(Count(0))), Vec::new());
            text.as_bytes().chunks(size).for_each(|chunk| events.push(chunk, &mut out));
            assert!(events.is_over() && events.fault().is_none());
            assert_eq!(events.told().get(Meter::Requests), Some(2));
            let expected = "event: a\ndata: {\"type\":\"a\"}\n\nevent: last\ndata: {\"type\":\"last\"}\n\n";
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn an_error_ends_it() {
        for data in [r#"{"error":{"message":"m","code":"c"}}"#, r#"{"type":"error","error":{"code":"c"}}"#, "nonsense"]
        {
            let mut events = Events::new(Box::new(Count(0)));
            events.push(format!("data: {data}\n\ndata: {{\"type\":\"a\"}}\n\n").as_bytes(), &mut Vec::new());
            assert!(events.fault().is_some() && events.told().get(Meter::Requests) == Some(0), "{data}");
        }
    }
}
