//! What a text request may use at most, as far as it can be read off the request itself.

/// Most tokens one image can come to with any provider we know (tiled, highest detail).
pub const IMAGE_TOKENS_MAX: u64 = 10_000;
/// Most tokens a file given by URL or id can come to; its size is not known. The context length bounds it further.
pub const REMOTE_FILE_TOKENS_MAX: u64 = 400_000;
/// Tokens that a chat template may add to each message.
const MESSAGE_TOKENS: u64 = 16;

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
}

impl Demand {
    /// Upper bound of the prompt in tokens: a token is at least one byte of text; 16 base64 characters of audio
    /// (1.5 ms of the tightest codec) and two of a file are more than any tokenizer makes of them.
    pub fn prompt_tokens_max(&self) -> u64 {
        let parts = [
            self.text_bytes,
            self.messages.saturating_mul(MESSAGE_TOKENS),
            self.images.saturating_mul(IMAGE_TOKENS_MAX),
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

    #[test]
    fn the_bound_is_above_what_is_likely() {
        let demand =
            Demand { text_bytes: 100, messages: 2, images: 1, audio_chars: 1000, file_chars: 500, ..Demand::default() };
        assert_eq!(demand.prompt_tokens_max(), 100 + 32 + 10_000 + 63 + 250);
        assert!(demand.prompt_tokens_likely() < demand.prompt_tokens_max());
        let around = Demand { around_bytes: 60, ..demand };
        assert_eq!(around.prompt_tokens_max(), demand.prompt_tokens_max());
        assert_eq!(around.prompt_tokens_likely() + 15, demand.prompt_tokens_likely());
    }
}
