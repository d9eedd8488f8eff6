//! What a look at a store finds, and what follows from the looks at two sites. Pure.
//!
//! What is not known is `None`, and is never taken for zero or for good.

use std::time::Duration;

use jiff::Timestamp;

use super::{Ballot, Position};
use crate::api::Problem;

/// Which part a server plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It accepts writes.
    Primary,
    /// It replays what another one writes.
    Standby,
}

/// The authority row of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The claim that was here last.
    pub ballot: Ballot,
    /// The epoch that it was opened for last; zero if it never was.
    pub opened_at: Ballot,
    /// Whether applications may log in.
    pub open: bool,
    /// Whether that claim has begun to close it, which takes several orders, and is not done: it may be open meanwhile.
    pub closing: bool,
    /// Where the log stood once it was closed and no session was left. Whoever has replayed this row with a position has
    /// replayed all that was acknowledged before.
    pub sealed: Option<Position>,
}

/// The link from a primary to one of its standbys, as the primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// Its `application_name`.
    pub name: String,
    /// `streaming`, `catchup` and the like.
    pub state: String,
    /// Whether commits may wait for it: its `sync_state` is `sync` or `quorum`.
    pub synchronous: bool,
    /// How far it has replayed.
    pub replayed: Option<Position>,
}

/// The link of a standby to its primary, as the standby sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it receives from.
    pub host: Option<String>,
    /// At which port.
    pub port: Option<i32>,
    /// Whether it is streaming, rather than starting or waiting.
    pub streaming: bool,
    /// How long ago it last heard of its sender, when this was read.
    pub heard: Option<Duration>,
    /// The end of the sender's log when it last said so.
    pub sender_end: Option<Position>,
}

/// A sign of life of the primary, as it was replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The site whose operator wrote it.
    pub site: String,
    /// When, by the clock of the primary's server.
    pub at: Timestamp,
}

/// Archiving and restoring of the log. Two sites that share an archive overwrite each other's log after a promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Whether it archives (`archive_mode` is not `off`).
    pub archives: bool,
    /// `archive_command` or `archive_library`, as far as it may be read.
    pub archive: Option<String>,
    /// `restore_command`, as far as it may be read. A standby that has one may receive by another way than streaming.
    pub restore: Option<String>,
}

/// All that one look at a store finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was looked at, by our own clock. The age of what follows.
    pub measured_at: Timestamp,
    /// What the server's clock said then.
    pub server_time: Timestamp,
    /// The version, such as `15.14`.
    pub version: String,
    /// Which part it plays.
    pub role: Role,
    /// What tells a cluster of servers from all others; standbys have that of their primary.
    pub system: u64,
    /// The timeline; each promotion begins another.
    pub timeline: u32,
    /// The end of the log: at a primary what is written, at a standby what is received.
    pub position: Option<Position>,
    /// At a standby: what is replayed.
    pub replayed: Option<Position>,
    /// At a standby: its link to the primary, while there is one.
    pub upstream: Option<Upstream>,
    /// At a primary: those who receive from it.
    pub downstream: Vec<Downstream>,
    /// `synchronous_standby_names`; empty where no commit waits.
    pub waits_for: String,
    /// Whether `pg_rewind` can bring it back: data checksums or `wal_log_hints`, and `full_page_writes`.
    pub can_rewind: bool,
    /// Archiving and restoring.
    pub archive: Archive,
    /// The authority row; `None` if there is none, which is so before the first fence.
    pub row: Option<Row>,
    /// The last sign of life of the primary.
    pub heartbeat: Option<Heartbeat>,
    /// Of `roles`: those that may log in.
    pub open_roles: Vec<String>,
    /// Roles that may log in and write, and are not in `roles`; superusers aside.
    pub unlisted_writers: Vec<String>,
    /// Superusers that may log in, other than the operator's own role. No fence over the wire keeps them out.
    pub superusers: Vec<String>,
    /// Whether the standby was told to receive nothing, by the operator.
    pub frozen: bool,
    /// What must be set or granted before this store can be failed over.
    pub problems: Vec<Problem>,
}

impl Reading {
    /// Whether all is the same but what moves with every look: times, positions, and what follows from them.
    pub fn is_in_the_state_of(&self, other: &Self) -> bool {
        let still = |reading: &Self| Self {
            measured_at: Timestamp::UNIX_EPOCH,
            server_time: Timestamp::UNIX_EPOCH,
            position: None,
            replayed: None,
            upstream: reading.upstream.clone().map(|link| Upstream { heard: None, sender_end: None, ..link }),
            downstream: Vec::new(),
            heartbeat: None,
            ..reading.clone()
        };
        still(self) == still(other)
    }
}

/// How far a standby is behind. Each is `None` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// In bytes of log that are not replayed.
    pub bytes: Option<u64>,
    /// In time, by the primary's heartbeats: what was committed longer ago than that is here.
    pub time: Option<Duration>,
    /// How old the older of the measurements is.
    pub age: Duration,
}

/// How far the standby is behind, by a look at it and, where there is one, at the primary.
pub fn lag(primary: Option<&Reading>, standby: &Reading, now: Timestamp) -> Lag {
    let ends = [
        primary.filter(|primary| primary.role == Role::Primary).and_then(|primary| primary.position),
        standby.upstream.as_ref().and_then(|upstream| upstream.sender_end),
        // What was received and not replayed is a lag that needs no primary to be known, and is only a part of it.
    ];
    let end = ends.into_iter().flatten().max();
    let bytes = end.zip(standby.replayed).map(|(end, replayed)| end.bytes_since(replayed));
    let time = standby.heartbeat.as_ref().map(|beat| between(beat.at, standby.server_time));
    let oldest = primary.map_or(standby.measured_at, |primary| primary.measured_at.min(standby.measured_at));
    Lag { bytes, time, age: between(oldest, now) }
}

/// How one log descends from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// The standby is a part of the primary's history, and can follow.
    Follows,
    /// They are two clusters that were never one: the standby must be copied anew.
    Strangers,
    /// The standby has log that the primary never had, or left it on another timeline: it must be rewound.
    Diverged,
    /// The timelines differ, and whether the standby left before or after its primary's fork cannot be told from here.
    Unknown,
}

/// How the standby's log descends from the primary's.
pub fn ancestry(primary: &Reading, standby: &Reading) -> Ancestry {
    if primary.system != standby.system {
        return Ancestry::Strangers;
    }
    // Positions grow while one looks: what streams is not ahead, even if it was read a moment later.
    if standby.upstream.as_ref().is_some_and(|upstream| upstream.streaming)
        && standby.timeline == primary.timeline
    {
        return Ancestry::Follows;
    }
    let ahead = match (standby.replayed, primary.position) {
        (Some(replayed), Some(end)) => replayed > end,
        _ => return Ancestry::Unknown,
    };
    match standby.timeline.cmp(&primary.timeline) {
        std::cmp::Ordering::Greater => Ancestry::Diverged,
        std::cmp::Ordering::Equal if ahead => Ancestry::Diverged,
        std::cmp::Ordering::Equal => Ancestry::Follows,
        std::cmp::Ordering::Less if ahead => Ancestry::Diverged,
        std::cmp::Ordering::Less => Ancestry::Unknown,
    }
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(role: Role, timeline: u32, at: u64) -> Reading {
        let now = Timestamp::UNIX_EPOCH;
        Reading {
            measured_at: now,
            server_time: now,
            version: "15.0".to_owned(),
            role,
            system: 7,
            timeline,
            position: Some(Position(at)),
            replayed: (role == Role::Standby).then_some(Position(at)),
            upstream: None,
            downstream: Vec::new(),
            waits_for: String::new(),
            can_rewind: true,
            archive: Archive::default(),
            row: None,
            heartbeat: None,
            open_roles: Vec::new(),
            unlisted_writers: Vec::new(),
            superusers: Vec::new(),
            frozen: false,
            problems: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let (primary, standby) = (reading(Role::Primary, 1, 500), reading(Role::Standby, 1, 200));
        let later = Timestamp::from_second(9).expect("a time");
        let age = Duration::from_secs(9);
        assert_eq!(lag(None, &standby, later), Lag { bytes: None, time: None, age });
        assert_eq!(lag(Some(&primary), &standby, later), Lag { bytes: Some(300), time: None, age });
        // Two standbys tell nothing of a primary.
        assert_eq!(lag(Some(&reading(Role::Standby, 1, 500)), &standby, later).bytes, None);
    }

    #[test]
    fn the_heartbeat_counts_by_the_clocks_of_the_servers() {
        let mut standby = reading(Role::Standby, 1, 200);
        standby.heartbeat = Some(Heartbeat { site: "a".to_owned(), at: Timestamp::UNIX_EPOCH });
        standby.server_time = Timestamp::from_second(4).expect("a time");
        assert_eq!(lag(None, &standby, standby.measured_at).time, Some(Duration::from_secs(4)));
        // A primary whose clock is ahead is no lag below zero.
        standby.server_time = Timestamp::from_second(-4).expect("a time");
        assert_eq!(lag(None, &standby, standby.measured_at).time, Some(Duration::ZERO));
    }

    #[test]
    fn a_log_that_went_on_by_itself_has_diverged() {
        let primary = reading(Role::Primary, 2, 500);
        assert_eq!(ancestry(&primary, &reading(Role::Standby, 2, 500)), Ancestry::Follows);
        assert_eq!(ancestry(&primary, &reading(Role::Standby, 2, 501)), Ancestry::Diverged);
        assert_eq!(ancestry(&primary, &reading(Role::Standby, 3, 100)), Ancestry::Diverged);
        assert_eq!(ancestry(&primary, &reading(Role::Standby, 1, 501)), Ancestry::Diverged);
        assert_eq!(ancestry(&primary, &reading(Role::Standby, 1, 100)), Ancestry::Unknown);
        let other = Reading { system: 8, ..reading(Role::Standby, 2, 500) };
        assert_eq!(ancestry(&primary, &other), Ancestry::Strangers);
        let mut unknown = reading(Role::Standby, 2, 500);
        unknown.replayed = None;
        assert_eq!(ancestry(&primary, &unknown), Ancestry::Unknown);
    }
}
