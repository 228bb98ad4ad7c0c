//! What a client wants made.

use serde::{Deserialize, Serialize};

use super::family::family_of;
use super::terms::Terms;
use crate::catalog::{Offer, Provider};
use crate::error::Failure;

/// Which words a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Front {
    /// `/v1/generations`.
    #[default]
    Generations,
    /// `/v1/videos`, as OpenAI has it.
    Videos,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A film.
    Video,
    /// A picture.
    Image,
}

impl Kind {
    /// The kind of offer that makes it.
    pub fn of(kind: &str) -> Option<Kind> {
        match kind {
            "video" => Some(Kind::Video),
            "image" => Some(Kind::Image),
            _ => None,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Image => "image",
        }
    }
}

/// What a reference image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The film begins with it; the picture is made of it.
    FirstFrame,
    /// The film ends with it.
    LastFrame,
    /// It shows what is to be seen.
    Reference,
}

/// A reference image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// A URL, or a data URL with the image in it.
    pub url: String,
    /// What for.
    pub role: Role,
}

impl Reference {
    /// Media type and base64 of an image that is in its URL.
    pub fn inline(&self) -> Option<(&str, &str)> {
        let (kind, data) = self.url.strip_prefix("data:")?.split_once(',')?;
        kind.strip_suffix(";base64").map(|kind| (kind, data))
    }
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Order {
    /// In whose words errors name fields.
    pub front: Front,
    /// Names of models in order, at least one.
    pub models: Vec<String>,
    /// What is to be seen.
    pub prompt: String,
    /// What is not.
    pub negative_prompt: Option<String>,
    /// How long.
    pub seconds: Option<u64>,
    /// Width to height.
    pub ratio: Option<(u32, u32)>,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// `720p`, `1080p`, `4k`, lower-case.
    pub resolution: Option<String>,
    /// The quality that prices depend on.
    pub quality: Option<String>,
    /// Where chance begins.
    pub seed: Option<u64>,
    /// Images to go by.
    pub references: Vec<Reference>,
    /// How many.
    pub count: u64,
}

/// A field that may be at fault, by the name it has at each front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The length.
    Seconds,
    /// The resolution.
    Resolution,
    /// The ratio.
    Ratio,
    /// Width and height.
    Size,
    /// Reference images.
    References,
    /// The number.
    Count,
}

impl Field {
    /// Its name.
    pub const fn name(self, front: Front) -> &'static str {
        match (front, self) {
            (Front::Generations, Field::Seconds) => "input.duration",
            (Front::Generations, Field::Resolution) => "input.resolution",
            (Front::Generations, Field::Ratio) => "input.aspect_ratio",
            (Front::Generations, Field::Size) => "input.size",
            (Front::Generations, Field::References) => "input.reference_images",
            (_, Field::Count) => "n",
            (Front::Videos, Field::Seconds) => "seconds",
            (Front::Videos, Field::Resolution | Field::Ratio | Field::Size) => "size",
            (Front::Videos, Field::References) => "input_reference",
        }
    }
}

impl Order {
    /// A refusal of one of its fields.
    pub fn refuse(&self, field: Field, message: impl Into<String>) -> Failure {
        Failure::invalid(field.name(self.front), message)
    }

    /// What the host of an offer is asked for; `None` where it is not asked for such things, `Err` where it cannot do
    /// what is wanted.
    pub fn terms(&self, offer: &Offer, provider: &Provider) -> Option<Result<Terms, Failure>> {
        let kind = Kind::of(&offer.kind).filter(|kind| self.front == Front::Generations || *kind == Kind::Video)?;
        let (_, family) = family_of(offer, provider)?;
        Some(Terms::of(self, kind, family.manner(), &offer.upstream, offer.variant.as_deref()))
    }

    /// The first image of a role.
    pub fn first(&self, role: Role) -> Option<&Reference> {
        self.references.iter().find(|reference| reference.role == role)
    }

    /// All of a role.
    pub fn all(&self, role: Role) -> Vec<&str> {
        self.references.iter().filter(|one| one.role == role).map(|one| one.url.as_str()).collect()
    }
}
