//! Which opened breakers are news. A breaker that opens and closes again and again is one outage until it has been quiet.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::time::Millis;
use crate::webhook::event::{Event, Kind};

/// Open again within this time, it is the same outage, in milliseconds.
const QUIET_MS: u64 = 10 * 60 * 1000;
/// Most offers that are remembered.
const OUTAGES_MAX: usize = 2_000;

/// An offer whose breaker was seen open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Its provider.
    pub provider: String,
    /// The model's name there.
    pub upstream: String,
    /// When it was seen open last.
    pub at: Millis,
}

/// Adds what is open at `now` (provider and upstream) to what is known; returns one event for each provider with news.
pub fn note(known: &mut Vec<Outage>, open: &[(String, String)], now: Millis) -> Vec<Event> {
    known.retain(|outage| now.since(outage.at) < QUIET_MS);
    let mut news: Vec<(&str, Vec<&str>)> = Vec::new();
    for (provider, upstream) in open {
        let has_room = known.len() < OUTAGES_MAX;
        match known.iter_mut().find(|outage| outage.provider == *provider && outage.upstream == *upstream) {
            Some(outage) => outage.at = now,
            None if has_room => {
                known.push(Outage { provider: provider.clone(), upstream: upstream.clone(), at: now });
                match news.iter_mut().find(|(name, _)| name == provider) {
                    Some((_, upstreams)) => upstreams.push(upstream),
                    None => news.push((provider, vec![upstream])),
                }
            }
            None => {}
        }
    }
    let event = |(provider, upstreams): (&str, Vec<&str>)| {
        let data = json!({"provider": provider, "upstream_models": upstreams});
        Event::new(Kind::ProviderOutage, &[provider, &now.0.to_string()], now, data)
    };
    news.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_until_it_was_quiet() {
        let open = |names: &[&str]| names.iter().map(|name| ("p".to_owned(), (*name).to_owned())).collect::<Vec<_>>();
        let mut known = Vec::new();
        let mut told = |names: &[&str], at: u64| {
            note(&mut known, &open(names), Millis(at))
                .iter()
                .map(|event| event.data["upstream_models"].to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&["a", "b"], 1_000), [r#"["a","b"]"#]);
        assert!(told(&["a"], 2_000).is_empty() && told(&[], 3_000).is_empty());
        assert_eq!(told(&["a", "c"], 500_000), [r#"["c"]"#]);
        assert!(told(&["a"], 1_000_000).is_empty(), "seen less than ten minutes ago");
        assert_eq!(told(&["b", "a"], 1_100_000), [r#"["b"]"#]);
        assert_eq!(told(&["a"], 2_000_000), [r#"["a"]"#]);
    }
}
