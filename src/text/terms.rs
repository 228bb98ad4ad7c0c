//! What of a call its price hangs on, besides what was counted and when it was.
//!
//! A host that tells its terms is believed; of one that does not, a call ran under those it was sent, so what was left out
//! of the call is no term of it.

/// One of the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// The service tier.
    ServiceTier,
    /// How fast it was generated.
    Speed,
    /// Where it was processed.
    Region,
    /// How much context its web searches brought.
    SearchContextSize,
}

/// The terms of a call, in the host's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// The service tier.
    pub service_tier: Option<String>,
    /// How fast it was generated.
    pub speed: Option<String>,
    /// Where it was processed.
    pub region: Option<String>,
    /// How much context its web searches brought.
    pub search_context_size: Option<String>,
}

/// The fields of a request that state a term.
const FIELDS: &[(&str, Term)] = &[
    ("service_tier", Term::ServiceTier),
    ("speed", Term::Speed),
    ("inference_geo", Term::Region),
    ("web_search_options", Term::SearchContextSize),
];

impl Terms {
    /// Sets one of them.
    pub fn set(&mut self, term: Term, word: Option<String>) {
        *self.place(term) = word;
    }

    /// These, and where they say nothing, `others`.
    #[must_use]
    pub fn or(self, others: Terms) -> Terms {
        Terms {
            service_tier: self.service_tier.or(others.service_tier),
            speed: self.speed.or(others.speed),
            region: self.region.or(others.region),
            search_context_size: self.search_context_size.or(others.search_context_size),
        }
    }

    /// Those of them that a call is sent with, where the request's fields `dropped` are not.
    #[must_use]
    pub fn sent(&self, dropped: &[String]) -> Terms {
        let mut sent = self.clone();
        for (_, term) in FIELDS.iter().filter(|(field, _)| dropped.iter().any(|name| name == field)) {
            sent.set(*term, None);
        }
        sent
    }

    fn place(&mut self, term: Term) -> &mut Option<String> {
        match term {
            Term::ServiceTier => &mut self.service_tier,
            Term::Speed => &mut self.speed,
            Term::Region => &mut self.region,
            Term::SearchContextSize => &mut self.search_context_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(service_tier: Option<&str>, speed: Option<&str>) -> Terms {
        let own = |word: Option<&str>| word.map(str::to_owned);
        Terms { service_tier: own(service_tier), speed: own(speed), ..Terms::default() }
    }

    #[test]
    fn what_a_host_tells_goes_before_what_it_was_asked() {
        let asked = terms(Some("priority"), Some("fast"));
        assert_eq!(terms(Some("default"), None).or(asked.clone()), terms(Some("default"), Some("fast")));
        assert_eq!(Terms::default().or(asked.clone()), asked);
    }

    #[test]
    fn what_was_not_sent_is_no_term_of_the_call() {
        let asked = terms(Some("batch"), Some("fast"));
        assert_eq!(asked.sent(&["service_tier".to_owned(), "seed".to_owned()]), terms(None, Some("fast")));
        assert_eq!(asked.sent(&[]), asked);
    }
}
