//! Whom a request is written for, and what came of writing it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Failure};
use crate::family::quirk::Quirk;
use crate::text::prompt::Param;

/// How reasoning is asked for, one variant for each row of the reasoning controls in the wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningStyle {
    /// `reasoning_effort`, clipped to what the model lists.
    ReasoningEffort,
    /// `thinking: {type: enabled | disabled}`.
    ThinkingType,
    /// `thinking: {type}`, and `reasoning_effort` beside it.
    ThinkingTypeAndEffort,
    /// `enable_thinking` and `thinking_budget`.
    EnableThinking,
    /// `reasoning: {enabled, effort, max_tokens}`.
    ReasoningObject,
    /// `reasoning: {enabled}`, and `reasoning_effort` beside it.
    ReasoningEnabledAndEffort,
    /// `chat_template_kwargs: {enable_thinking}`.
    ChatTemplateKwargs,
    /// `thinking` and `output_config`, as Anthropic Messages has them.
    ThinkingOutputConfig,
    /// `thinkingConfig`, as Gemini has it.
    ThinkingConfig,
    /// `thinking: {type, token_budget}`, as Cohere has it.
    ThinkingTokenBudget,
}

/// What is known of a model as this offer serves it, where it changes what may be sent. `None` is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traits {
    /// Whether `temperature`, `top_p` and their like are taken.
    pub sampling_params: Option<bool>,
    /// Whether the conversation may end with the beginning of the answer.
    pub assistant_prefill: Option<bool>,
    /// Whether a tool call can be demanded.
    pub forced_tool_choice: Option<bool>,
    /// Whether it reasons.
    pub reasoning: Option<bool>,
    /// Whether it always reasons.
    pub reasoning_always_on: bool,
    /// Whether it decides by itself how much to reason, steered by an effort.
    pub adaptive_thinking: bool,
    /// Whether answers follow a schema.
    pub structured_output: Option<bool>,
    /// The efforts it knows; empty is not known.
    pub efforts: Vec<String>,
    /// Least and most tokens of a reasoning budget, where it takes one.
    pub budget_tokens: Option<(Option<u64>, Option<u64>)>,
    /// How its provider is asked for reasoning.
    pub reasoning_style: Option<ReasoningStyle>,
}

impl Traits {
    /// The effort nearest to the wanted one among those the model knows: the same, else the next higher, else the highest.
    pub fn effort<'a>(&'a self, wanted: &'a str) -> &'a str {
        const ORDER: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
        let place = |effort: &str| ORDER.iter().position(|known| *known == effort);
        if self.efforts.is_empty() || self.efforts.iter().any(|known| known == wanted) {
            return wanted;
        }
        let Some(at) = place(wanted) else { return wanted };
        let known = || self.efforts.iter().filter_map(|effort| Some((place(effort)?, effort.as_str())));
        let higher = known().filter(|(place, _)| *place > at).min();
        // Asked for none, a model that cannot be switched off reasons as little as it can.
        higher.or_else(|| known().max()).map_or(wanted, |(_, effort)| effort)
    }
}

/// The offer a request is written for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name at the provider.
    pub upstream: &'a str,
    /// The provider's id, which is also the issuer of what it seals.
    pub provider: &'a str,
    /// The provider's deviations from its family.
    pub quirks: &'a [Quirk],
    /// What the model takes.
    pub traits: &'a Traits,
    /// The output limit to send: the client's own, or what its credits cover. `None`: the client gave none and the
    /// offer's own limit bounds the charge.
    pub limit: Option<u64>,
    /// The offer's own output limit, where known.
    pub own_limit: Option<u64>,
}

impl Target<'_> {
    /// The limit for a family that must be given one.
    pub fn limit_or_own(&self) -> u64 {
        /// Where nobody knows a limit; every model of a family that demands one can do this much.
        const UNSTATED: u64 = 4096;
        self.limit.or(self.own_limit).unwrap_or(UNSTATED)
    }
}

/// A request in a family's own form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The path below the base URL, with what the family puts into the query.
    pub path: String,
    /// Headers of the family beside content type and credential.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What of the client's request could not be sent, by the names of the client's fields; a warning names them.
    pub dropped: Vec<String>,
}

/// A part of the request that a family has no words for. The next candidate may have.
pub fn cannot(path: &str, what: &str) -> Failure {
    Failure::new(Code::UnsupportedParameter, format!("{what} cannot be sent to this provider")).about(path)
}

/// The nearest number that a family takes in place of a JSON number.
pub fn clipped(json: &str, least: f64, most: f64) -> Cow<'_, str> {
    match json.trim().parse::<f64>() {
        Ok(value) if value < least => least.to_string().into(),
        Ok(value) if value > most => most.to_string().into(),
        _ => json.into(),
    }
}

/// The parameters of `prompt` that are not in `taken`, by name: dropped, with a warning. A value that means nothing
/// (`n: 1`, `store: false`, an empty list) is not worth one.
pub fn dropped(params: &[(Param, &str)], taken: &[Param]) -> Vec<String> {
    params
        .iter()
        .filter(|(param, json)| !taken.contains(param) && !is_idle(*param, json))
        .map(|(param, _)| param.name().to_owned())
        .collect()
}

/// The same of a field of a chat request, by its name.
pub fn is_idle_field(name: &str, json: &str) -> bool {
    json == "null" || Param::from_name(name).map_or(matches!(json, "[]" | "{}"), |param| is_idle(param, json))
}

/// Whether leaving the parameter out changes nothing.
fn is_idle(param: Param, json: &str) -> bool {
    match param {
        Param::N => json == "1",
        Param::Modalities => json == r#"["text"]"#,
        Param::ParallelToolCalls => json == "true",
        // What only concerns the provider's own bookkeeping.
        Param::Store | Param::User | Param::SafetyIdentifier | Param::Metadata => true,
        Param::PromptCacheKey | Param::PromptCacheOptions | Param::PromptCacheRetention => true,
        Param::ServiceTier => matches!(json, r#""auto""# | r#""default""# | r#""standard""#),
        Param::PresencePenalty | Param::FrequencyPenalty => matches!(json, "0" | "0.0"),
        Param::Logprobs => json == "false",
        Param::TopLogprobs => json == "0",
        Param::Verbosity => json == r#""medium""#,
        // It asks for a search however little it says of it.
        Param::WebSearchOptions => false,
        Param::Truncation => json == r#""disabled""#,
        _ => matches!(json, "[]" | "{}" | "null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effort_is_moved_to_one_the_model_knows() {
        let traits = |efforts: &[&str]| Traits {
            efforts: efforts.iter().map(|e| (*e).to_owned()).collect(),
            ..Traits::default()
        };
        for (known, wanted, sent) in [
            (&["low", "medium", "high"][..], "minimal", "low"),
            (&["low", "high"], "medium", "high"),
            (&["low", "high"], "max", "high"),
            (&["none", "high"], "none", "none"),
            (&["low", "high"], "none", "low"),
            (&[], "xhigh", "xhigh"),
            (&["low"], "ultra", "ultra"),
        ] {
            assert_eq!(traits(known).effort(wanted), sent, "{known:?} {wanted}");
        }
    }

    #[test]
    fn what_is_left_out_is_named_where_it_means_something() {
        let params = [(Param::Seed, "7"), (Param::N, "1"), (Param::TopP, "0.5"), (Param::User, "\"u\"")];
        assert_eq!(dropped(&params, &[Param::TopP]), ["seed"]);
        assert_eq!(dropped(&[(Param::N, "2")], &[]), ["n"]);
        assert_eq!(dropped(&[(Param::WebSearchOptions, "{}")], &[]), ["web_search_options"]);
    }
}
