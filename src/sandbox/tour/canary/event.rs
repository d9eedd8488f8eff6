//! What happens in a tour, as programs read it. Pure.

use serde::Serialize;

use crate::api::canarystatus::MetricStatus;

/// What users saw of one release, and what the gateway counted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The release: the last part of its image; empty for what the gateway answers by itself.
    pub release: String,
    /// Answers that users had.
    pub answers: u64,
    /// Those of status 500 or more.
    pub failed: u64,
}

/// Where a rollout stands at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Its phase.
    pub phase: String,
    /// Its step, such as `1/3`.
    pub step: String,
    /// The weight that was decided, in percent.
    pub asked: i32,
    /// The weight that stands in the route, in percent.
    pub observed: Option<i32>,
    /// What the evidence says.
    pub verdict: Option<String>,
    /// Why it stands there.
    pub message: String,
    /// The evidence of each metric.
    pub metrics: Vec<MetricStatus>,
    /// What the users saw, since the load began.
    pub users: Vec<Seen>,
    /// Requests without any answer, since the load began.
    pub broken: u64,
}

impl Moment {
    /// What a line is printed for when it changes, and not for every request.
    pub fn turn(&self) -> (&str, &str, i32, Option<i32>, Option<&str>) {
        (&self.phase, &self.step, self.asked, self.observed, self.verdict.as_deref())
    }
}

/// A rollout that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// The release.
    pub release: String,
    /// How it ended: `Promoted` or `RolledBack`.
    pub outcome: String,
    /// Why.
    pub message: String,
    /// Seconds from the new image to the end.
    pub took: f64,
    /// Its requests that failed until its weight in the route was zero; none for one that was promoted.
    pub failed_until_zero: Option<u64>,
    /// Its requests that failed after that, until the gateway had heard of it.
    pub failed_after: Option<u64>,
    /// Seconds from its first failed answer until its weight in the route was zero, to a tenth.
    pub to_zero: Option<f64>,
}

/// What one release came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// What users saw of it.
    #[serde(flatten)]
    pub seen: Seen,
    /// What became of it, in a word or two.
    pub outcome: String,
    /// Answers that the gateway counted for its revision; `None` where it was not asked in time.
    pub gateway_answers: Option<u64>,
    /// Those of status 500 or more.
    pub gateway_failed: Option<u64>,
}

/// Something that happens. Times are seconds since the tour began.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// The rollout stands elsewhere than before.
    Look {
        /// When.
        at: f64,
        /// Where.
        #[serde(flatten)]
        moment: Box<Moment>,
    },
    /// A rollout is over.
    Ended {
        /// When.
        at: f64,
        /// How.
        #[serde(flatten)]
        act: Act,
    },
    /// The tour is over.
    Summary {
        /// When.
        at: f64,
        /// All releases, in the order in which they came.
        releases: Vec<Sum>,
        /// Requests that were sent.
        sent: u64,
        /// Requests that failed, or had no answer.
        failed: u64,
        /// The rollouts.
        acts: Vec<Act>,
    },
}
