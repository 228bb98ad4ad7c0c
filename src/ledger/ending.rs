//! How a generation can end, and what each ending costs: the table.

use serde::{Deserialize, Serialize};

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The provider finished.
    Finished,
    /// The provider finished without any output and without a reason.
    Empty,
    /// Every attempt failed before the first content.
    AttemptsFailed,
    /// The provider failed after the first content.
    UpstreamFailed,
    /// The client left.
    ClientLeft,
    /// The hold ran out without a word.
    Expired,
    /// The owner of a job wanted it no more.
    Cancelled,
}

/// What is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What the provider reported; where it reported nothing, an estimate of what was sent and delivered, flagged.
    ReportedOrEstimate,
    /// Nothing.
    Nothing,
}

impl Ending {
    /// Every ending.
    pub const ALL: &'static [Ending] = &[
        Ending::Finished,
        Ending::Empty,
        Ending::AttemptsFailed,
        Ending::UpstreamFailed,
        Ending::ClientLeft,
        Ending::Expired,
        Ending::Cancelled,
    ];

    /// What it costs.
    pub const fn rule(self) -> Rule {
        match self {
            Ending::Finished | Ending::ClientLeft => Rule::ReportedOrEstimate,
            Ending::Empty | Ending::AttemptsFailed | Ending::UpstreamFailed | Ending::Expired | Ending::Cancelled => {
                Rule::Nothing
            }
        }
    }

    /// The name in activity rows.
    pub const fn name(self) -> &'static str {
        match self {
            Ending::Finished => "finished",
            Ending::Empty => "empty",
            Ending::AttemptsFailed => "attempts_failed",
            Ending::UpstreamFailed => "upstream_failed",
            Ending::ClientLeft => "client_left",
            Ending::Expired => "expired",
            Ending::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_endings() {
        let table: Vec<String> = Ending::ALL.iter().map(|e| format!("{}: {:?}", e.name(), e.rule())).collect();
        assert_eq!(
            table,
            [
                "finished: ReportedOrEstimate",
                "empty: Nothing",
                "attempts_failed: Nothing",
                "upstream_failed: Nothing",
                "client_left: ReportedOrEstimate",
                "expired: Nothing",
                "cancelled: Nothing",
            ]
        );
    }
}
