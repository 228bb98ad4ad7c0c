//! What the object of a job is told, and what it answers.

use serde::{Deserialize, Serialize};

use super::order::Order;
use super::state::Job;
use crate::id::WorkspaceId;

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// A host has it, or it ended.
    Started,
    /// It ended.
    Ended,
}

impl Until {
    /// Whether that is so.
    pub fn is_met(self, job: &Job) -> bool {
        job.status.is_end() || self == Until::Started && job.started.is_some()
    }
}

/// A command. All but the first are of the job's owner: for anybody else there is no such job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Keep this, and begin.
    Create(Box<Job>, Box<Order>),
    /// Say where it is, at the latest after `wait_ms`.
    Look {
        /// Whose it is said to be.
        workspace: WorkspaceId,
        /// What is waited for.
        until: Until,
        /// How long.
        wait_ms: u64,
    },
    /// It is wanted no more.
    Cancel(WorkspaceId),
    /// Nothing of it is to be left.
    Delete(WorkspaceId),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The job as it is.
    Job(Box<Job>),
    /// There is none, or not for that workspace.
    Unknown,
}
