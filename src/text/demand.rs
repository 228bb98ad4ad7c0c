//! What a text request may use at most, as far as it can be read off the request itself.

/// Most tokens one image can come to with any provider we know (tiled, highest detail).
pub const IMAGE_TOKENS_MAX: u64 = 10_000;
/// Most tokens a file given by URL or id can come to; its size is not known. The context length bounds it further.
pub const REMOTE_FILE_TOKENS_MAX: u64 = 400_000;
/// Tokens that a chat template may add to each message.
const MESSAGE_TOKENS: u64 = 16;
/// Tokens that a host may write around tools: what tells the model how to call them.
const TOOLS_TOKENS: u64 = 1_024;
/// Tokens that the pages found by a host's searches may add to the prompt.
const SEARCH_TOKENS_MAX: u64 = 100_000;
/// Models, by a part of their upstream names, that count pictures for more than others, and how much more at most.
const DEAR_PICTURES: &[(&str, u64)] = &[("gpt-4o-mini", 50_000)];

/// The measurable size of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Bytes of the body that are not inline media.
    pub text_bytes: u64,
    /// Those of them that no model reads: fields that say how to answer and who may.
    pub around_bytes: u64,
    /// Messages in the prompt.
    pub messages: u64,
    /// Images, inline or by URL.
    pub images: u64,
    /// Base64 characters of inline audio.
    pub audio_chars: u64,
    /// Base64 characters of inline files.
    pub file_chars: u64,
    /// Files given by URL or id.
    pub remote_files: u64,
    /// What the client allows as output per choice, in tokens.
    pub max_output: Option<u64>,
    /// Choices asked for.
    pub choices: u64,
    /// Whether the request has tools.
    pub tools: bool,
    /// Whether it lets the host search the web.
    pub searches: bool,
}

impl Demand {
    /// Upper bound of the prompt in tokens at `upstream`: a token is at least one byte of text; 16 base64 characters of
    /// audio (1.5 ms of the tightest codec) and two of a file are more than any tokenizer makes of them.
    pub fn prompt_tokens_max(&self, upstream: &str) -> u64 {
        let dear = DEAR_PICTURES.iter().find(|(name, _)| upstream.contains(name));
        let picture = dear.map_or(IMAGE_TOKENS_MAX, |(_, tokens)| *tokens);
        let parts = [
            self.text_bytes,
            self.messages.saturating_mul(MESSAGE_TOKENS),
            self.images.saturating_mul(picture),
            if self.tools { TOOLS_TOKENS } else { 0 },
            if self.searches { SEARCH_TOKENS_MAX } else { 0 },
            self.audio_chars.div_ceil(16),
            self.file_chars.div_ceil(2),
            self.remote_files.saturating_mul(REMOTE_FILE_TOKENS_MAX),
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// What the prompt probably is, in tokens: four bytes of text a token. For ranking, rate limits, and the charge where a
    /// provider reports no usage; the same for the same prompt, plain and streamed.
    pub fn prompt_tokens_likely(&self) -> u64 {
        let parts = [
            self.text_bytes.saturating_sub(self.around_bytes).div_ceil(4),
            self.images.saturating_mul(1_000),
            self.audio_chars.div_ceil(200),
            self.file_chars.div_ceil(40),
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand_of_one() -> Demand {
        Demand { text_bytes: 10, images: 1, ..Demand::default() }
    }

    #[test]
    fn the_bound_is_above_what_is_likely() {
        let demand =
            Demand { text_bytes: 100, messages: 2, images: 1, audio_chars: 1000, file_chars: 500, ..Demand::default() };
        assert_eq!(demand.prompt_tokens_max("m"), 100 + 32 + 10_000 + 63 + 250);
        assert!(demand.prompt_tokens_likely() < demand.prompt_tokens_max("m"));
        let around = Demand { around_bytes: 60, ..demand };
        assert_eq!(around.prompt_tokens_max("m"), demand.prompt_tokens_max("m"));
        assert_eq!(around.prompt_tokens_likely() + 15, demand.prompt_tokens_likely());
        let more =
            |demand: Demand, upstream| demand.prompt_tokens_max(upstream) - demand_of_one().prompt_tokens_max("m");
        assert_eq!(more(Demand { tools: true, ..demand_of_one() }, "m"), 1_024, "what hosts write around tools");
        assert_eq!(more(Demand { searches: true, ..demand_of_one() }, "m"), 100_000, "what they find");
        assert_eq!(more(demand_of_one(), "openai/gpt-4o-mini-2024-07-18"), 40_000, "a picture at the highest detail");
    }
}
