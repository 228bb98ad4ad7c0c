//! What the catalog knows of an offer that changes what may be sent to it, in the form that families ask for.

use serde_json::Value;

use super::{ModelEntry, Offer, Provider};
use crate::family::target::Traits;

impl ModelEntry {
    /// The traits of this model as `offer` serves it.
    pub fn traits(&self, offer: &Offer, provider: &Provider) -> Traits {
        let says = |name: &str| self.capabilities.get(name).copied();
        let can = |name: &str| says(name).or_else(|| offer.can.contains(name).then_some(true));
        let controls = self.reasoning_controls.as_ref();
        let efforts = controls.and_then(|controls| controls.get("effort")).and_then(Value::as_array);
        let efforts = efforts.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let budget = controls.and_then(|controls| controls.get("budget_tokens")).filter(|budget| !budget.is_null());
        let limit = |budget: &Value, name: &str| budget.get(name).and_then(Value::as_u64);
        Traits {
            sampling_params: says("sampling_params"),
            assistant_prefill: says("assistant_prefill"),
            forced_tool_choice: says("forced_tool_choice"),
            reasoning: can("reasoning"),
            reasoning_always_on: says("reasoning_always_on") == Some(true),
            adaptive_thinking: says("adaptive_thinking") == Some(true),
            structured_output: can("structured_output"),
            efforts,
            budget_tokens: budget.map(|budget| (limit(budget, "min"), limit(budget, "max"))),
            reasoning_style: provider.reasoning,
        }
    }
}
