//! The stores: how far standbys are, whether they descend from the primary, and what else would be in the way. Pure.

use std::time::Duration;

use super::found::{Found, Looked, MAX_LAG, Step, names};
use crate::api::conditions::{Says, State};
use crate::api::failovergroup::CheckState;
use crate::api::store::Store;
use crate::api::units::display;
use crate::api::{Problem, Severity};
use crate::stores::reading::{Ancestry, Role, ancestry, lag};
use crate::stores::{Reading, StoreError};

/// How old a measurement may be: several rounds in which nothing was heard.
const STALE: Duration = Duration::from_secs(60);

/// Checks them.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    let databases = looked.spec.stores().iter().filter(|store| store.kafka_mirror.is_none());
    databases.flat_map(|store| one(looked, store)).collect()
}

fn one(looked: &Looked<'_>, store: &Store) -> Vec<Found> {
    let name = &store.name;
    let mut found = Vec::new();
    let mut readings: Vec<(&str, &Reading)> = Vec::new();
    for site in &looked.spec.sites {
        let check = format!("store {name} at {site}");
        match looked.seen.asked.stores.get(&(name.clone(), site.clone())) {
            None => found.push(Found::unknown(
                Step::Promote,
                check,
                "NotAsked",
                format!("store {name} at {site} has not been asked yet"),
                "wait some seconds",
            )),
            Some(Err(error)) => found.push(unread(check, name, site, error)),
            Some(Ok(reading)) => {
                found.push(well(check, name, site, reading));
                readings.push((site.as_str(), reading));
            }
        }
    }
    // What was closed for a move stays a primary until it follows.
    let open: Vec<(&str, &Reading)> = readings.iter().filter(|(_, one)| takes_writes(one)).copied().collect();
    if let [(one, _), (other, _), ..] = open.as_slice() {
        found.push(Found::failed(
            Step::Promote,
            format!("store {name}"),
            "TwoPrimaries",
            format!("store {name} accepts writes at {one} and at {other}"),
            "find out which of both applications write to, and close the other before anything is moved",
        ));
    }
    let primary = leading(readings.iter().copied(), |(_, one)| one);
    for (site, standby) in readings.iter().filter(|(_, reading)| reading.role == Role::Standby) {
        found.push(behind(looked, store, primary.map(|(_, reading)| reading), site, standby));
        // The object of a Cluster tells the system, and no position: strangers are known, and nothing else.
        let tells =
            store.cloudnativepg.is_none() || primary.is_some_and(|(_, one)| one.system != standby.system);
        if let Some((at, primary)) = primary.filter(|_| tells) {
            found.push(descends(name, at, primary, site, standby));
            found.extend(archives(name, at, primary, site, standby));
        }
    }
    found
}

/// Whether it is a primary that applications may write to.
fn takes_writes(reading: &Reading) -> bool {
    reading.role == Role::Primary && reading.row.is_none_or(|row| row.open)
}

/// The primary by which standbys are measured: the one that is open, if any is.
fn leading<T>(all: impl Iterator<Item = T>, reading: impl Fn(&T) -> &Reading) -> Option<T> {
    all.filter(|one| reading(one).role == Role::Primary).min_by_key(|one| !takes_writes(reading(one)))
}

fn unread(check: String, name: &str, site: &str, error: &StoreError) -> Found {
    let message = format!("store {name} at {site} cannot be read: {error}");
    Found::failed(Step::Promote, check, "StoreUnreadable", message, error.remedy())
}

/// What its own reading says of a server.
fn well(check: String, name: &str, site: &str, reading: &Reading) -> Found {
    if !reading.unlisted_writers.is_empty() {
        return Found::failed(
            Step::Promote,
            check,
            "UnlistedRoles",
            format!(
                "roles may write to store {name} at {site} that a fence would not close: {}",
                names(&reading.unlisted_writers)
            ),
            format!(
                "add them to spec.stores[{name}].postgres.roles, or take their right to write or to log in"
            ),
        );
    }
    let worst = reading.problems.iter().min_by_key(|problem| problem.severity);
    if let Some(Problem { severity, message, remedy, .. }) =
        worst.filter(|problem| problem.severity != Severity::Info)
    {
        let message = format!("store {name} at {site}: {message}");
        let remedy = remedy.clone();
        return match severity {
            Severity::Error => Found::failed(Step::Promote, check, "NotPrepared", message, remedy),
            _ => Found::warning(Step::Promote, check, "NotPrepared", message, remedy),
        };
    }
    if !reading.can_rewind {
        return Found::warning(
            Step::Reprotect,
            check,
            "NoRewind",
            format!(
                "after a failover store {name} at {site} could not be rewound, and would have to be copied anew"
            ),
            "set wal_log_hints = on and full_page_writes = on and restart the server, or enable data checksums with pg_checksums",
        );
    }
    Found::passed(
        Step::Promote,
        check,
        "Prepared",
        format!("store {name} at {site} answers, and is prepared"),
    )
}

/// How far a standby is behind.
fn behind(
    looked: &Looked<'_>,
    store: &Store,
    primary: Option<&Reading>,
    site: &str,
    standby: &Reading,
) -> Found {
    let name = &store.name;
    let check = format!("lag of {name} at {site}");
    if store.cloudnativepg.is_some() {
        let before = primary.filter(|primary| standby.timeline < primary.timeline);
        if let Some(primary) = before {
            return Found::unknown(
                Step::Promote,
                check,
                "NotFollowing",
                format!(
                    "store {name} at {site} was on timeline {} at its last checkpoint, and its primary is on {}: whether it follows is not known",
                    standby.timeline, primary.timeline
                ),
                "wait for its next checkpoint (checkpoint_timeout, 5 minutes if it is not set), or have one made: kubectl cnpg psql CLUSTER -- -c checkpoint",
            );
        }
        return Found::warning(
            Step::Promote,
            check,
            "NotTold",
            format!("how far store {name} at {site} is behind is not told by its Cluster"),
            "watch cnpg_pg_replication_lag of its pods; a Switchover waits for the demotion token, which loses nothing",
        );
    }
    let most = store.max_lag().unwrap_or(MAX_LAG);
    let lag = lag(primary, standby, looked.now);
    let most_words = display(most);
    if lag.age > STALE {
        return Found::unknown(
            Step::Promote,
            check,
            "MeasuredLongAgo",
            format!("how far store {name} at {site} is behind was last measured more than a minute ago"),
            "see whether this operator reaches the servers of the store",
        );
    }
    if !standby.upstream.as_ref().is_some_and(|upstream| upstream.streaming) {
        return Found::failed(
            Step::Promote,
            check,
            "NotStreaming",
            format!("store {name} at {site} receives nothing from its primary"),
            "see primary_conninfo and the log of the standby, and pg_hba.conf and max_wal_senders of the primary",
        );
    }
    match lag.time {
        None => Found::unknown(
            Step::Promote,
            check,
            "NoHeartbeat",
            format!(
                "how far store {name} at {site} is behind in time is not known: no heartbeat of the site with authority has arrived"
            ),
            "wait until a site has authority; then see whether its operator may write banyan.heartbeat",
        ),
        Some(behind) if behind > most => Found::failed(
            Step::Promote,
            check,
            "Behind",
            format!("store {name} at {site} is behind by more than {most_words} (maxLag)"),
            format!(
                "find out why: load, network or a long query at the standby; or raise spec.stores[{name}].maxLag"
            ),
        ),
        Some(_) => Found::passed(
            Step::Promote,
            check,
            "Follows",
            format!("store {name} at {site} follows within {most_words}"),
        ),
    }
}

fn descends(name: &str, at: &str, primary: &Reading, site: &str, standby: &Reading) -> Found {
    let check = format!("ancestry of {name} at {site}");
    match ancestry(primary, standby) {
        Ancestry::Follows => Found::passed(
            Step::Promote,
            check,
            "Follows",
            format!("store {name} at {site} is a copy of that at {at}"),
        ),
        Ancestry::Strangers => Found::failed(
            Step::Promote,
            check,
            "Strangers",
            format!(
                "store {name} at {site} was never a copy of that at {at}: their system identifiers differ"
            ),
            format!(
                "copy it anew from {at} with pg_basebackup, or correct spec.stores[{name}].postgres.sites"
            ),
        ),
        Ancestry::Diverged => Found::failed(
            Step::Promote,
            check,
            "Diverged",
            format!("store {name} at {site} has writes that {at} never had, or left its history"),
            format!("look at what it has, then rewind it with pg_rewind or copy it anew from {at}"),
        ),
        Ancestry::Unknown => Found::unknown(
            Step::Promote,
            check,
            "TimelinesDiffer",
            format!("store {name} at {site} is on an older timeline than {at}, and does not stream"),
            "let it stream again: it follows the new timeline by itself where recovery_target_timeline is latest",
        ),
    }
}

/// An archive that both would write into.
fn archives(name: &str, at: &str, primary: &Reading, site: &str, standby: &Reading) -> Option<Found> {
    let check = format!("archive of {name} at {site}");
    let [one, other] = [primary, standby].map(|reading| &reading.archive);
    let written = |archive: &crate::stores::reading::Archive| {
        archive.archive.clone().filter(|command| archive.archives && !command.is_empty())
    };
    match (written(one), written(other)) {
        (Some(one), Some(other)) if one == other => Some(Found::failed(
            Step::Reprotect,
            check,
            "SharedArchive",
            format!(
                "store {name} archives its log at {at} and {site} by the same command: after a promotion one would overwrite the other's"
            ),
            "give each site an archive of its own: another path or bucket in archive_command",
        )),
        (Some(_), _) => {
            Some(Found::passed(Step::Reprotect, check, "OwnArchive", "each site has an archive of its own"))
        }
        _ => None,
    }
}

/// A standby is on the timeline of its primary, and how far it is behind is not told: all that a Cluster's object says.
pub const LAG_NOT_TOLD: &str = "NotTold";

/// Whether a standby of each store that must not be lost follows within its lag; and what does not, in words.
pub fn protected(looked: &Looked<'_>) -> Says {
    let is_database = |store: &&Store| store.required() && store.kafka_mirror.is_none();
    let required: Vec<&Store> = looked.spec.stores().iter().filter(is_database).collect();
    if required.is_empty() {
        return Says::yes("NoStores", "the group has no store that could be lost");
    }
    let (mut open, mut untold): (Vec<String>, Vec<String>) = Default::default();
    for store in required {
        let stores = &looked.seen.asked.stores;
        let of = |site: &String| {
            stores.get(&(store.name.clone(), site.clone())).and_then(|read| read.as_ref().ok())
        };
        let primary = leading(looked.spec.sites.iter().filter_map(of), |one| one);
        let standbys = looked.spec.sites.iter().filter_map(|site| {
            let standby = of(site).filter(|reading| reading.role == Role::Standby)?;
            Some(behind(looked, store, primary.map(|primary| &**primary), site, standby).state)
        });
        match standbys.max() {
            Some(CheckState::Passed) => {}
            Some(CheckState::Warning) => untold.push(store.name.clone()),
            _ => open.push(store.name.clone()),
        }
    }
    if !open.is_empty() {
        return Says::no("NobodyFollows", format!("no standby follows: {}", names(&open)));
    }
    if !untold.is_empty() {
        let words = format!(
            "a standby of {} is on the timeline of its primary; how far it is behind is not told by its object",
            names(&untold)
        );
        return Says::new(State::Unknown, LAG_NOT_TOLD, words);
    }
    Says::yes("Follows", "a standby of every store follows")
}
