//! One observed attempt, and the offer it was made at.
//!
//! What the client caused is no sample: its errors, and its leaving.

/// Where an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The provider's id.
    pub provider: &'a str,
    /// The model's name there.
    pub upstream: &'a str,
    /// Whose credential, where it is not the gateway's own. Limits are per credential, so cool-downs are too.
    pub credential: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// An offer under the gateway's own credential.
    pub fn new(provider: &'a str, upstream: &'a str) -> Place<'a> {
        Place { provider, upstream, credential: None }
    }

    /// The same offer under the gateway's credential in a slot, or (as [`ALL_SLOTS`]) under whatever credential.
    #[must_use]
    pub fn in_slot(self, slot: u8) -> Place<'a> {
        Place { credential: if slot == ALL_SLOTS { Some(ALL) } else { label(slot) }, ..self }
    }

    /// The slot of the gateway's credential; `None` where it is a workspace's own.
    pub fn slot(&self) -> Option<u8> {
        match self.credential {
            None => Some(1),
            Some(name) => (2..=SLOTS_MAX).find(|slot| label(*slot) == Some(name)),
        }
    }

    /// The key of the offer. 64 bits, so that looking up candidates makes no strings.
    pub fn offer_key(&self) -> u64 {
        hash(hash(self.provider_key(), b"\n"), self.upstream.as_bytes())
    }

    /// The key of the provider.
    pub fn provider_key(&self) -> u64 {
        hash(SEED, self.provider.as_bytes())
    }

    /// The key of the offer under its credential.
    pub fn credential_key(&self) -> u64 {
        match self.credential {
            None => self.offer_key(),
            Some(credential) => hash(hash(self.offer_key(), b"\n"), credential.as_bytes()),
        }
    }
}

/// The slot that stands for all of them, and for workspaces' own credentials.
pub const ALL_SLOTS: u8 = 0;
/// Its name: no credential's id.
const ALL: &str = "0";
/// The last slot of the gateway's credentials for a provider.
pub const SLOTS_MAX: u8 = 9;

/// What tells a slot apart in health records; the first goes by the provider alone.
pub fn label(slot: u8) -> Option<&'static str> {
    const LABELS: [&str; 8] = ["2", "3", "4", "5", "6", "7", "8", "9"];
    LABELS.get(usize::from(slot.checked_sub(2)?)).copied()
}

/// Where FNV-1a starts.
pub const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, continued from `seed`.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// SplitMix64's finisher: spreads the bits of a key, so that keys that differ in one bit draw unlike numbers.
pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number from 0 to below 1 out of mixed bits.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// It served.
    Served {
        /// Milliseconds to the first content of a stream. A plain answer has none: it comes as a whole.
        first_byte_ms: Option<u64>,
        /// Likely length of the prompt, in tokens: a long one is read for longer.
        prompt_tokens: u64,
    },
    /// It served so much output in so long: a stream from its first content on, a plain answer from its call.
    Paced {
        /// Tokens of output.
        output_tokens: u64,
        /// Milliseconds.
        ms: u64,
    },
    /// It is broken or unreachable, before or after the first content.
    Failed,
    /// It said nothing in time. Counts twice for the breaker: whoever waits for silence hears of it late.
    Silent,
    /// It asked to be left alone.
    Busy {
        /// For this long, in milliseconds, where it said so.
        wait_ms: Option<u64>,
    },
    /// It fails, and asked to be left alone for this long, in milliseconds, whatever the credential.
    Paused {
        /// How long.
        wait_ms: u64,
    },
    /// It refused the credential.
    Refused,
}
