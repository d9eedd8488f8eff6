//! What becomes of requests that arrive here for a group, though another site has authority over it. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A header, and its value, by which a gateway answers with the pods of its own site, whoever has authority: what was sent on
/// once is sent on by nobody, and a site that is to take over is tried through its own gateway.
pub const ANSWER_HERE: (&str, &str) = ("x-banyan-answer", "here");
/// The Service of `banyan authority`, in the operator's namespace.
pub const SERVICE: &str = "banyan-authority";
/// The port of that Service for requests by HTTP/1.1 that are to be sent on.
pub const PORT: u16 = 8081;
/// The same for HTTP/2 without TLS, gRPC among it.
pub const PORT_HTTP2: u16 = 8082;

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arriving {
    /// It is sent on.
    SendOn {
        /// The group that its host is of.
        group: String,
        /// The address of the gateway of the site that has authority.
        gateway: String,
    },
    /// It is answered 503.
    Refuse {
        /// The group that its host is of.
        group: String,
        /// Why, in one sentence.
        why: String,
    },
    /// Its host is of no group.
    Unknown,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Became {
    /// They were answered by the site that has authority.
    Forwarded,
    /// They were answered 503, since the group says so, or nobody knows where to.
    Refused,
    /// They were to be sent on, and were answered 503, since that site did not answer.
    Failed,
}

impl Became {
    /// The same as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What has arrived for one group, at one process of `banyan authority`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrived {
    /// The group.
    pub group: String,
    /// How many requests arrived within the last minute.
    pub last_minute: u64,
    /// How many were answered by the site that has authority, since the process began.
    pub forwarded: u64,
    /// How many were answered 503, since the group says so, or nobody knows where to.
    pub refused: u64,
    /// How many could not be sent on, and were answered 503.
    pub failed: u64,
}

/// Seconds in the window of [`Arrived::last_minute`].
const MINUTE: u64 = 60;

/// Counts what arrives, by group. A second is one since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    groups: BTreeMap<String, Count>,
}

#[derive(Debug, Default)]
struct Count {
    total: Arrived,
    /// Requests by second, each slot with the second that it is of.
    window: BTreeMap<u64, u64>,
}

impl Counts {
    /// Takes in a request.
    pub fn note(&mut self, group: &str, became: Became, second: u64) {
        let count = self.groups.entry(group.to_owned()).or_default();
        let total = match became {
            Became::Forwarded => &mut count.total.forwarded,
            Became::Refused => &mut count.total.refused,
            Became::Failed => &mut count.total.failed,
        };
        *total += 1;
        *count.window.entry(second).or_default() += 1;
        count.window = count.window.split_off(&(second + 1).saturating_sub(MINUTE));
    }

    /// All groups of which something has arrived.
    pub fn all(&self, second: u64) -> Vec<Arrived> {
        let since = (second + 1).saturating_sub(MINUTE);
        let one = |(group, count): (&String, &Count)| Arrived {
            group: group.clone(),
            last_minute: count.window.range(since..).map(|(_, requests)| requests).sum(),
            ..count.total.clone()
        };
        self.groups.iter().map(one).collect()
    }
}

/// The same of several processes, added up by group.
pub fn together(all: impl IntoIterator<Item = Arrived>) -> Vec<Arrived> {
    let mut groups: BTreeMap<String, Arrived> = BTreeMap::new();
    for one in all {
        let sum = groups
            .entry(one.group.clone())
            .or_insert_with(|| Arrived { group: one.group.clone(), ..Arrived::default() });
        sum.last_minute += one.last_minute;
        sum.forwarded += one.forwarded;
        sum.refused += one.refused;
        sum.failed += one.failed;
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_sixty_seconds_and_totals_stay() {
        let mut counts = Counts::default();
        counts.note("pay", Became::Forwarded, 0);
        counts.note("pay", Became::Forwarded, 30);
        counts.note("pay", Became::Failed, 59);
        counts.note("cards", Became::Refused, 59);
        let of = |counts: &Counts, second| {
            let all = counts.all(second);
            let pay = all.iter().find(|one| one.group == "pay").expect("it has arrived");
            (pay.last_minute, pay.forwarded, pay.refused, pay.failed)
        };
        assert_eq!(of(&counts, 59), (3, 2, 0, 1));
        assert_eq!(of(&counts, 60), (2, 2, 0, 1));
        assert_eq!(of(&counts, 1000), (0, 2, 0, 1));
        counts.note("pay", Became::Forwarded, 1000);
        assert_eq!(counts.groups["pay"].window.len(), 1, "what is over is forgotten");
        let both = together(counts.all(1000).into_iter().chain(counts.all(1000)));
        assert_eq!(both.len(), 2);
        assert_eq!((both[1].last_minute, both[1].forwarded, both[0].refused), (2, 6, 2));
    }
}
