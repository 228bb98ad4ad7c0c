//! What catalog files say that only people ask for: families, dates, documentation, usual limits.
//!
//! A request needs none of it, so it is not in the entries that requests read. It is taken from the same files a second
//! time, leniently: `source` has checked them before.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::snapshot::Source;

/// All of it, by id.
#[derive(Default)]
pub(super) struct About {
    pub organisations: BTreeMap<String, Organisation>,
    pub models: BTreeMap<String, Model>,
    pub providers: BTreeMap<String, Provider>,
}

#[derive(Deserialize, Default)]
pub(super) struct Organisation {
    pub id: String,
    pub name: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct Model {
    pub id: String,
    pub family: Option<String>,
    #[serde(default)]
    pub kinds: Vec<String>,
    pub released: Option<String>,
    pub knowledge_cutoff: Option<String>,
    pub open_weights: Option<bool>,
    pub retires: Option<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct Provider {
    pub id: String,
    pub role: Option<String>,
    pub docs: Option<String>,
    pub pricing_page: Option<String>,
    #[serde(default)]
    pub endpoints: Vec<String>,
    #[serde(default)]
    pub data_policy: Policy,
    #[serde(default)]
    pub offers: Vec<Offer>,
}

#[derive(Deserialize, Default)]
pub(super) struct Policy {
    pub policy_page: Option<String>,
    pub checked: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct Offer {
    model: String,
    upstream: String,
    #[serde(default = "chat")]
    kind: String,
    variant: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    pub also: Vec<String>,
    pub limits: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    pub sources: Vec<String>,
}

fn chat() -> String {
    "chat".to_owned()
}

impl Provider {
    /// What the file says of an offer.
    pub fn offer(&self, model: &str, offer: &super::super::Offer) -> Option<&Offer> {
        self.offers.iter().find(|stated| {
            (stated.model.as_str(), &stated.upstream, &stated.kind, &stated.variant, &stated.regions)
                == (model, &offer.upstream, &offer.kind, &offer.variant, &offer.regions)
        })
    }
}

/// Reads it.
pub(super) fn read(sources: &[Source]) -> About {
    #[derive(Deserialize)]
    struct Models {
        organisation: Organisation,
        models: Vec<Model>,
    }

    fn parsed<T: DeserializeOwned>(source: &Source) -> Option<T> {
        crate::json::from_str(&source.text).ok()
    }

    let mut about = About::default();
    for source in sources {
        match source.path.rsplit(['/', '\\']).nth(1) {
            Some("models") => {
                let Some(Models { organisation, models }) = parsed(source) else { continue };
                about.models.extend(models.into_iter().map(|model| (model.id.clone(), model)));
                about.organisations.insert(organisation.id.clone(), organisation);
            }
            _ => about.providers.extend(parsed(source).map(|provider: Provider| (provider.id.clone(), provider))),
        }
    }
    about
}
