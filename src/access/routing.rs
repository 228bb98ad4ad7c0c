//! What a workspace says about all its requests, and what a preset says about those that name it: both can only narrow.

use serde::{Deserialize, Serialize};

use crate::access::policy::matches;
use crate::access::prompts::PromptLogging;
use crate::catalog::Channel;
use crate::text::request::Mode;
use crate::webhook::alert::Alerts;

/// Who may serve, and what. An empty list says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// Only these providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_providers: Vec<String>,
    /// None of these providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_providers: Vec<String>,
    /// Only these models; a trailing `*` matches any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_models: Vec<String>,
    /// None of these models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_models: Vec<String>,
    /// Only in one of these regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Only providers that are known not to train on prompts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_training: bool,
    /// Only providers that are known to keep nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub zdr: bool,
    /// Only providers that are known to keep prompts no longer than so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days_max: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Narrowing {
    /// Whether the model of that canonical id is among those that may be asked.
    pub fn allows_model(&self, model: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|pattern| matches(pattern, model));
        (self.allow_models.is_empty() || is_in(&self.allow_models)) && !is_in(&self.ignore_models)
    }

    /// Whether the provider is on no list against it.
    pub fn allows_provider(&self, provider: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|id| id == provider);
        (self.allow_providers.is_empty() || is_in(&self.allow_providers)) && !is_in(&self.ignore_providers)
    }

    /// Whether nobody may keep anything.
    pub fn is_zero_retention(&self) -> bool {
        self.zdr || self.retention_days_max == Some(0)
    }
}

/// How a workspace's requests are routed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingSettings {
    /// The order of candidates, where the request says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The furthest channel of the catalog that is open.
    #[serde(default, skip_serializing_if = "Channel::is_stable")]
    pub channel: Channel,
    /// Whether credits pay where the workspace's own credentials fail.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fallback_to_credits: bool,
    /// Who may serve.
    #[serde(default)]
    pub narrowing: Narrowing,
    /// What is told by webhooks, and from where on.
    #[serde(default, skip_serializing_if = "Alerts::is_default")]
    pub alerts: Alerts,
    /// Whether requests and answers are kept.
    #[serde(default, skip_serializing_if = "PromptLogging::is_default")]
    pub prompt_logging: PromptLogging,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_narrow_and_an_empty_one_says_nothing() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let open = Narrowing::default();
        assert!(open.allows_model("a/b") && open.allows_provider("p"));
        let narrow = Narrowing {
            allow_models: list(&["a/*"]),
            ignore_models: list(&["a/secret"]),
            allow_providers: list(&["p", "q"]),
            ignore_providers: list(&["q"]),
            ..Narrowing::default()
        };
        assert!(narrow.allows_model("a/b") && !narrow.allows_model("a/secret") && !narrow.allows_model("b/a"));
        assert!(narrow.allows_provider("p") && !narrow.allows_provider("q") && !narrow.allows_provider("r"));
        assert_eq!(serde_json::to_string(&RoutingSettings::default()).unwrap(), r#"{"narrowing":{}}"#);
    }
}
