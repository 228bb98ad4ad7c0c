//! What a generation used: quantities by meter, in disjoint buckets.
//!
//! Buckets never overlap: `input_tokens` holds what is neither cached nor audio nor image, `output_tokens` what is
//! neither reasoning nor audio nor image. Each family's decoder maps its own counting into this form once; the
//! difference between families stands in its part of the wire formats (cross table of token counts).

use serde::{Deserialize, Serialize};

macro_rules! meters {
    ($($variant:ident $name:literal $per:literal $doc:literal;)*) => {
        /// A kind of priced thing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Meter { $(#[doc = $doc] #[serde(rename = $name)] $variant,)* }

        impl Meter {
            /// Every meter, in the order receipts print them.
            pub const ALL: &'static [Meter] = &[$(Meter::$variant,)*];

            /// The name in catalog files, receipts and answers.
            pub const fn name(self) -> &'static str { match self { $(Meter::$variant => $name,)* } }

            /// How many units a catalog price is quoted for: a million for tokens and characters, else one.
            pub const fn per(self) -> u64 { match self { $(Meter::$variant => $per,)* } }

            /// The meter of that name.
            pub fn from_name(name: &str) -> Option<Meter> { match name { $($name => Some(Meter::$variant),)* _ => None } }
        }
    };
}

meters! {
    InputTokens "input_tokens" 1_000_000 "Prompt tokens that are neither cached nor of another modality.";
    CacheReadTokens "cache_read_tokens" 1_000_000 "Prompt tokens read from the provider's cache.";
    CacheWriteTokens "cache_write_tokens" 1_000_000 "Prompt tokens written to the cache at the shortest lifetime.";
    CacheWrite1hTokens "cache_write_1h_tokens" 1_000_000 "Prompt tokens written to the cache for an hour.";
    CacheWrite12hTokens "cache_write_12h_tokens" 1_000_000 "Prompt tokens written to the cache for twelve hours.";
    InputAudioTokens "input_audio_tokens" 1_000_000 "Audio tokens in the prompt.";
    CacheReadAudioTokens "cache_read_audio_tokens" 1_000_000 "Audio tokens read from the cache.";
    CacheWriteAudioTokens "cache_write_audio_tokens" 1_000_000 "Audio tokens written to the cache.";
    InputImageTokens "input_image_tokens" 1_000_000 "Image tokens in the prompt.";
    CacheReadImageTokens "cache_read_image_tokens" 1_000_000 "Image tokens read from the cache.";
    InputVideoTokens "input_video_tokens" 1_000_000 "Video tokens in the prompt.";
    OutputTokens "output_tokens" 1_000_000 "Generated tokens that are neither reasoning nor of another modality.";
    ReasoningTokens "reasoning_tokens" 1_000_000 "Generated reasoning tokens.";
    OutputAudioTokens "output_audio_tokens" 1_000_000 "Generated audio tokens.";
    OutputImageTokens "output_image_tokens" 1_000_000 "Generated image tokens.";
    OutputVideoTokens "output_video_tokens" 1_000_000 "Generated video tokens.";
    CitationTokens "citation_tokens" 1_000_000 "Tokens of cited sources.";
    InputCharacters "input_characters" 1_000_000 "Characters of text to speak.";
    OutputCharacters "output_characters" 1_000_000 "Characters of text written.";
    InputAudioSeconds "input_audio_seconds" 1 "Seconds of audio in.";
    OutputAudioSeconds "output_audio_seconds" 1 "Seconds of audio out.";
    InputVideoSeconds "input_video_seconds" 1 "Seconds of video in.";
    OutputVideoSeconds "output_video_seconds" 1 "Seconds of video out.";
    ComputeSeconds "compute_seconds" 1 "Seconds of compute.";
    InputImages "input_images" 1 "Images in.";
    OutputImages "output_images" 1 "Images out.";
    OutputMegapixels "output_megapixels" 1 "Megapixels out.";
    OutputVideos "output_videos" 1 "Videos out.";
    Requests "requests" 1 "Calls.";
    SearchUnits "search_units" 1 "Rerank queries.";
    WebSearches "web_searches" 1 "Web searches.";
    Pages "pages" 1 "Pages of a document.";
}

/// Quantities of one generation by meter, disjoint. A meter that is absent was reported as none; usage that nobody
/// reported is `Option::<Usage>::None`, never an empty `Usage`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(std::collections::BTreeMap<Meter, u64>);

impl Usage {
    /// The quantity of `meter`, zero where none was reported.
    pub fn quantity(&self, meter: Meter) -> u64 {
        self.0.get(&meter).copied().unwrap_or(0)
    }

    /// Sets the quantity of `meter`; zero removes it.
    pub fn set(&mut self, meter: Meter, quantity: u64) {
        if quantity == 0 {
            self.0.remove(&meter);
        } else {
            self.0.insert(meter, quantity);
        }
    }

    /// Builder form of [`Usage::set`].
    #[must_use]
    pub fn with(mut self, meter: Meter, quantity: u64) -> Usage {
        self.set(meter, quantity);
        self
    }

    /// Meters with a quantity, in [`Meter::ALL`] order.
    pub fn iter(&self) -> impl Iterator<Item = (Meter, u64)> + '_ {
        self.0.iter().map(|(meter, quantity)| (*meter, *quantity))
    }

    /// The whole prompt in tokens: every input bucket, cached parts included. This is what `input_tokens_over` rules look at.
    pub fn prompt_tokens(&self) -> u64 {
        use Meter::*;
        self.sum(&[
            InputTokens,
            CacheReadTokens,
            CacheWriteTokens,
            CacheWrite1hTokens,
            CacheWrite12hTokens,
            InputAudioTokens,
            CacheReadAudioTokens,
            CacheWriteAudioTokens,
            InputImageTokens,
            CacheReadImageTokens,
            InputVideoTokens,
        ])
    }

    /// Everything generated, in tokens, reasoning included.
    pub fn completion_tokens(&self) -> u64 {
        use Meter::*;
        self.sum(&[OutputTokens, ReasoningTokens, OutputAudioTokens, OutputImageTokens, OutputVideoTokens])
    }

    fn sum(&self, meters: &[Meter]) -> u64 {
        meters.iter().fold(0, |sum: u64, meter| sum.saturating_add(self.quantity(*meter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meter_is_found_by_its_name() {
        for meter in Meter::ALL {
            assert_eq!(Meter::from_name(meter.name()), Some(*meter));
        }
        assert_eq!(Meter::from_name("tokens"), None);
    }

    #[test]
    fn usage_json_format_is_unchanged() {
        let usage = Usage::default().with(Meter::InputTokens, 7).with(Meter::ReasoningTokens, 2);
        let json = serde_json::to_string(&usage).unwrap();
        assert_eq!(json, r#"{"input_tokens":7,"reasoning_tokens":2}"#);
        assert_eq!(serde_json::from_str::<Usage>(&json).unwrap(), usage);
    }

    #[test]
    fn buckets_add_up() {
        let usage =
            Usage::default().with(Meter::InputTokens, 7).with(Meter::CacheReadTokens, 3).with(Meter::OutputTokens, 5);
        assert_eq!((usage.prompt_tokens(), usage.completion_tokens()), (10, 5));
    }
}
