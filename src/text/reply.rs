//! Events folded into one whole answer.

use crate::text::event::{Event, Finish};
use crate::text::prompt::ToolKind;
use crate::usage::Usage;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Its id at the provider.
    pub id: Option<String>,
    /// The model's name at the provider.
    pub model: Option<String>,
    /// The choices, by number.
    pub choices: Vec<Choice>,
    /// The last usage report.
    pub usage: Option<Usage>,
    /// The tier that served.
    pub service_tier: Option<String>,
}

/// One choice: its blocks in the order they began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// What was said.
    pub blocks: Vec<Block>,
    /// Why it ended.
    pub finish: Option<Finish>,
    /// The stop sequence that was met.
    pub stop_sequence: Option<String>,
    /// `logprobs` of each piece of text, in the chat dialect's form.
    pub logprobs: Vec<String>,
    /// Citations, in the chat dialect's form.
    pub annotations: Vec<String>,
}

/// A stretch of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Text.
    Text(String),
    /// A refusal.
    Refusal(String),
    /// Reasoning, with what must come back with it.
    Reasoning {
        /// What may be shown.
        text: String,
        /// Proof.
        signature: Option<String>,
        /// What only the issuer can read.
        sealed: Option<String>,
        /// Its id there.
        id: Option<String>,
        /// Whose it is.
        issuer: Option<String>,
        /// Whether the block is over.
        is_over: bool,
    },
    /// A tool call.
    Call {
        /// Its number.
        call: u32,
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: String,
        /// What kind of tool.
        kind: ToolKind,
        /// Whose signature over it there is, and the signature.
        signature: Option<(String, String)>,
    },
    /// Pieces of an `audio` object.
    Audio(Vec<String>),
    /// An image.
    Image(String),
}

/// Most choices that are kept; no provider makes more.
const CHOICES_MAX: usize = 128;

impl Reply {
    /// All events of an answer, folded.
    pub fn fold(events: impl IntoIterator<Item = Event>) -> Reply {
        let mut reply = Reply::default();
        events.into_iter().for_each(|event| reply.push(event));
        reply
    }

    /// One more event.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Start { id, model } => {
                self.id = id.or_else(|| self.id.take());
                self.model = model.or_else(|| self.model.take());
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::ServiceTier(tier) => self.service_tier = Some(tier),
            event => {
                let Some(at) = event.choice().and_then(|at| usize::try_from(at).ok()) else { return };
                if at < CHOICES_MAX && self.choices.len() <= at {
                    self.choices.resize_with(at.saturating_add(1), Choice::default);
                }
                if let Some(choice) = self.choices.get_mut(at) {
                    choice.push(event);
                }
            }
        }
    }
}

impl Choice {
    fn push(&mut self, event: Event) {
        match (event, self.blocks.last_mut()) {
            (Event::Text { text, logprobs, .. }, last) => {
                self.logprobs.extend(logprobs);
                match last {
                    Some(Block::Text(so_far)) => so_far.push_str(&text),
                    _ if text.is_empty() => {}
                    _ => self.blocks.push(Block::Text(text)),
                }
            }
            (Event::Refusal { text, .. }, Some(Block::Refusal(so_far))) => so_far.push_str(&text),
            (Event::Refusal { text, .. }, _) => self.blocks.push(Block::Refusal(text)),
            (Event::Reasoning { text, .. }, Some(Block::Reasoning { text: so_far, is_over: false, .. })) => {
                so_far.push_str(&text);
            }
            (Event::Reasoning { text, .. }, _) => self.blocks.push(Block::Reasoning {
                text,
                signature: None,
                sealed: None,
                id: None,
                issuer: None,
                is_over: false,
            }),
            (Event::ReasoningEnd { signature, sealed, id, issuer, .. }, last) => {
                let text = match last {
                    Some(Block::Reasoning { text, is_over: false, .. }) => {
                        let text = std::mem::take(text);
                        self.blocks.pop();
                        text
                    }
                    _ => String::new(),
                };
                self.blocks.push(Block::Reasoning { text, signature, sealed, id, issuer, is_over: true });
            }
            (Event::CallStart { call, id, name, kind, signature, .. }, _) => {
                self.blocks.push(Block::Call { call, id, name, arguments: String::new(), kind, signature });
            }
            (Event::CallDelta { call: number, arguments: more, .. }, _) => {
                let found = self.blocks.iter_mut().rev().find_map(|block| match block {
                    Block::Call { call, arguments, .. } if *call == number => Some(arguments),
                    _ => None,
                });
                if let Some(arguments) = found {
                    arguments.push_str(&more);
                }
            }
            (Event::Annotation { json, .. }, _) => self.annotations.push(json),
            (Event::Audio { json, .. }, Some(Block::Audio(pieces))) => pieces.push(json),
            (Event::Audio { json, .. }, _) => self.blocks.push(Block::Audio(vec![json])),
            (Event::Image { url, .. }, _) => self.blocks.push(Block::Image(url)),
            (Event::Finish { reason, stop_sequence, .. }, _) => {
                self.finish = Some(reason);
                self.stop_sequence = stop_sequence;
            }
            _ => {}
        }
    }

    /// All text, joined.
    pub fn text(&self) -> String {
        let texts = self.blocks.iter().filter_map(|block| match block {
            Block::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Whether a tool is called.
    pub fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::Call { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_add_up_to_an_answer() {
        let text = |text: &str| Event::Text { choice: 0, text: text.to_owned(), logprobs: None };
        let call = |call: u32, id: &str| Event::CallStart {
            choice: 0,
            call,
            id: id.to_owned(),
            name: "f".to_owned(),
            kind: ToolKind::Function,
            signature: None,
        };
        let more = |call: u32, arguments: &str| Event::CallDelta { choice: 0, call, arguments: arguments.to_owned() };
        let reply = Reply::fold([
            Event::Start { id: Some("i".into()), model: None },
            Event::Reasoning { choice: 0, text: "a".into() },
            Event::Reasoning { choice: 0, text: "b".into() },
            Event::ReasoningEnd { choice: 0, signature: Some("s".into()), sealed: None, id: None, issuer: None },
            text("x"),
            text("y"),
            call(0, "one"),
            call(1, "two"),
            more(0, "{"),
            more(1, "[]"),
            more(0, "}"),
            Event::Finish { choice: 0, reason: Finish::ToolCalls, stop_sequence: None },
            Event::Text { choice: 1, text: "z".into(), logprobs: None },
        ]);
        assert_eq!(
            (reply.choices.len(), reply.choices[0].text().as_str(), reply.choices[1].text().as_str()),
            (2, "xy", "z")
        );
        assert!(reply.choices[0].has_calls() && reply.choices[0].finish == Some(Finish::ToolCalls));
        assert!(
            matches!(&reply.choices[0].blocks[0], Block::Reasoning { text, signature: Some(s), .. } if text == "ab" && s == "s")
        );
        let arguments: Vec<&str> = reply.choices[0]
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::Call { arguments, .. } => Some(arguments.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(arguments, ["{}", "[]"]);
    }
}
