//! Which offer has a conversation's prompt in its cache.
//!
//! Providers keep the beginning of a prompt for some minutes, per account, and charge the repeated part a fraction. So
//! the next turn of a conversation is worth more where the last one went: its cached part is cheaper and sooner there.
//! The ranking weighs that like any other difference; nothing is pinned. The isolates do not tell each other: what makes
//! them agree is that a conversation's draws come from its own key, so equals fall out alike everywhere.

use std::collections::HashMap;

use crate::health::sample::{SEED, hash, mix};
use crate::time::Millis;

/// How long a cache is believed to be warm, in milliseconds: what providers promise at least.
const WARM_MS: u64 = 300_000;
/// Shorter prompts are cached nowhere, in tokens.
const PROMPT_TOKENS_MIN: u64 = 1_024;
/// Caches work in blocks: this share of the former prompt is believed to be found again, in percent.
const FOUND_PERCENT: u64 = 90;
/// Conversations remembered at once.
const CONVERSATIONS_MAX: usize = 4_096;
/// Bytes of the prompt that tell conversations apart where the client names none.
pub const PREFIX_BYTES: usize = 2_048;

/// A conversation of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conversation(pub u64);

impl Conversation {
    /// By the client's session id, or else by the beginning of a prompt that is long enough to be cached.
    pub fn of(workspace: &str, session: Option<&str>, prompt: &[u8], prompt_tokens: u64) -> Option<Conversation> {
        let name = match session {
            Some(session) => session.as_bytes(),
            None if prompt_tokens < PROMPT_TOKENS_MIN => return None,
            None => prompt.get(..PREFIX_BYTES.min(prompt.len()))?,
        };
        // A session and a prompt of the same bytes are not the same.
        let kind = if session.is_some() { b"\n" } else { b"\t" };
        Some(Conversation(mix(hash(hash(hash(SEED, workspace.as_bytes()), kind), name))))
    }
}

/// Where the last turn of a conversation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warm {
    /// The offer, under its credential.
    pub offer: u64,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    at: Millis,
}

impl Warm {
    /// Tokens of a prompt of that length that the offer probably has.
    pub fn cached_tokens(&self, offer: u64, prompt_tokens: u64) -> u64 {
        if offer != self.offer || prompt_tokens < PROMPT_TOKENS_MIN {
            return 0;
        }
        self.prompt_tokens.min(prompt_tokens).saturating_mul(FOUND_PERCENT) / 100
    }
}

/// What an isolate remembers of conversations.
#[derive(Debug, Default)]
pub struct Affinity {
    warm: HashMap<Conversation, Warm>,
}

impl Affinity {
    /// Where the conversation's prompt is still warm at `now`.
    pub fn recall(&self, conversation: Conversation, now: Millis) -> Option<Warm> {
        self.warm.get(&conversation).filter(|warm| now.since(warm.at) < WARM_MS).copied()
    }

    /// The offer served a turn with a prompt of that length.
    pub fn remember(&mut self, conversation: Conversation, offer: u64, prompt_tokens: u64, now: Millis) {
        if self.warm.len() >= CONVERSATIONS_MAX {
            self.warm.retain(|_, warm| now.since(warm.at) < WARM_MS / 2);
            if self.warm.len() >= CONVERSATIONS_MAX {
                self.warm.clear();
            }
        }
        if prompt_tokens >= PROMPT_TOKENS_MIN {
            self.warm.insert(conversation, Warm { offer, prompt_tokens, at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_its_session_or_the_beginning_of_its_prompt() {
        let of = |workspace: &str, session, prompt: &str, tokens| {
            Conversation::of(workspace, session, prompt.as_bytes(), tokens)
        };
        let long = "x".repeat(9_000);
        assert_eq!(of("w", Some("s"), "a", 1), of("w", Some("s"), "b", 9));
        assert_ne!(of("w", Some("s"), "", 1), of("v", Some("s"), "", 1), "not across workspaces");
        assert_eq!(of("w", None, &long, 2_250), of("w", None, &format!("{long}and more"), 2_300));
        assert_ne!(of("w", None, &long, 2_250), of("w", None, &format!("y{long}"), 2_250));
        assert_ne!(of("w", None, "s", 2_000), of("w", Some("s"), "", 2_000));
        assert_eq!(of("w", None, "short", 2), None);
    }

    #[test]
    fn warm_for_a_while_and_only_where_it_was() {
        let mut affinity = Affinity::default();
        let conversation = Conversation(1);
        affinity.remember(conversation, 7, 2_000, Millis(0));
        let warm = affinity.recall(conversation, Millis(WARM_MS - 1)).unwrap();
        assert_eq!((warm.cached_tokens(7, 3_000), warm.cached_tokens(8, 3_000)), (1_800, 0));
        assert_eq!(warm.cached_tokens(7, 1_500), 1_350, "a shorter prompt");
        assert_eq!(affinity.recall(conversation, Millis(WARM_MS)), None);
        affinity.remember(Conversation(2), 7, 100, Millis(0));
        assert_eq!(affinity.recall(Conversation(2), Millis(0)), None, "too short to be cached");
    }

    #[test]
    fn memory_is_bounded() {
        let mut affinity = Affinity::default();
        (0..2 * CONVERSATIONS_MAX as u64).for_each(|i| affinity.remember(Conversation(i), 1, 2_000, Millis(i)));
        assert!(affinity.warm.len() <= CONVERSATIONS_MAX);
    }
}
