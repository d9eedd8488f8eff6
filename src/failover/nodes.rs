//! What comes of asking the cloud of the source for its nodes: what of it is remembered, and what is said. Pure.
//!
//! No node that is left is evidence that nobody writes, and says nothing of what had been received: a store of such a source
//! is as complete as one of which a person says that it is fenced.

use jiff::{SignedDuration, Timestamp};

use super::outcome::{Done, Of};
use super::status;
use super::view::{ASSERT, Wait, command};
use crate::api::FailoverStatus;
use crate::api::conditions::{cut, short};
use crate::api::failover::{FenceLevel, NodesRecord, PoolRecord};
use crate::api::failovergroup::NodePools;
use crate::api::step::Step;
use crate::clouds::nodes::{MOST_POOLS, Nodes, Other, Pool, Set, Verdict};

/// What is said before a person is asked.
const SAY_SO: &str = "Make sure that nobody writes there, and say so";
/// The longest that is kept of the name of a cluster, and of a command.
const LONGEST_CLUSTER: usize = 512;
const LONGEST_COMMAND: usize = 2048;

/// For how long it is tried to close the databases of a source before its nodes are stopped: its operator closes what it can
/// within seconds of reading the claim, and a dead source may take that long.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// What came of asking: the nodes, or why nothing was told, with the remedy.
pub type Asked = Result<Nodes, Other>;

fn number(number: u32) -> i64 {
    i64::from(number)
}

fn noted(pool: &Pool) -> PoolRecord {
    PoolRecord {
        name: pool.name.clone(),
        nodes: number(pool.nodes),
        least: number(pool.least),
        most: number(pool.most),
        scales: pool.scales.then_some(true),
        at_zero: pool.is_at_zero(),
        restore: (!pool.is_at_zero()).then(|| cut(pool.restore.clone(), LONGEST_COMMAND)),
    }
}

/// Takes down what stands. Sizes are noted once: what is found later may be this order's own doing.
fn note(of: &Of<'_>, nodes: &Nodes, status: &mut FailoverStatus) {
    let record = status.nodes.get_or_insert_with(|| NodesRecord {
        site: of.source.to_owned(),
        cluster: cut(nodes.cluster.clone(), LONGEST_CLUSTER),
        ..NodesRecord::default()
    });
    record.error = None;
    for known in &mut record.pools {
        // One that is gone has no node that could be scaled.
        let now = nodes.pools.iter().find(|pool| pool.name == known.name);
        known.at_zero = now.is_none_or(Pool::is_at_zero);
    }
    for pool in &nodes.pools {
        if record.pools.len() < MOST_POOLS && !record.pools.iter().any(|known| known.name == pool.name) {
            record.pools.push(noted(pool));
        }
    }
}

fn says(status: &mut FailoverStatus, words: &str) {
    if let Some(record) = &mut status.nodes {
        record.message = Some(short(words));
    }
}

/// The stores of the source of which it is not known otherwise that nobody writes there.
fn unfenced(of: &Of<'_>, status: &FailoverStatus) -> Vec<String> {
    let level =
        |name: &str| status.stores.iter().find(|store| store.name == name).and_then(|store| store.level);
    let names = of.known.stores.iter().map(|(name, _)| name);
    names.filter(|name| level(name).is_none()).cloned().collect()
}

/// When the nodes of the source may be stopped.
fn stops_at(status: &FailoverStatus, now: Timestamp) -> Timestamp {
    let fence = status.steps.iter().find(|step| step.name == Step::Fence.as_str());
    let since = fence.map_or(now, |step| step.started_at.0);
    since.checked_add(GRACE).unwrap_or(Timestamp::MAX)
}

/// The cloud was asked at `now` for the nodes of the source, since `waits` would be waited for otherwise. `mode` is what the
/// group asks of it.
pub fn looked(
    of: &Of<'_>,
    (mode, waits): (NodePools, Wait),
    asked: Asked,
    status: &mut FailoverStatus,
    now: Timestamp,
) -> Done {
    let base = waits.message.trim_end_matches(SAY_SO).trim_end_matches([' ', '.']).to_owned();
    let person = |words: &str, remedy: &str| {
        Done::NotYet(Wait {
            message: format!("{base}. Its cloud: {words}; {remedy}. {SAY_SO}"),
            ..waits.clone()
        })
    };
    let nodes = match asked {
        Ok(nodes) => nodes,
        Err(why) => {
            says(status, &why.message);
            return person(&why.message, &why.remedy);
        }
    };
    note(of, &nodes, status);
    match nodes.verdict() {
        Verdict::Never(other) => {
            says(status, &other.message);
            person(&other.message, &other.remedy)
        }
        Verdict::Gone(words) => {
            says(status, &words);
            let stores = unfenced(of, status);
            for name in &stores {
                let record = status::store(status, name);
                (record.level, record.evidence) = (Some(FenceLevel::Stopped), Some(short(words.clone())));
                record.error = None;
            }
            Done::Yes(format!("{words}; so nobody writes to {} at {}", stores.join(", "), of.source))
        }
        Verdict::Going(words) => {
            says(status, &words);
            going(of, words)
        }
        Verdict::Up(words) => {
            says(status, &words);
            match mode {
                NodePools::Stop if stops_at(status, now) <= now => {
                    status.nodes.iter_mut().for_each(|nodes| nodes.due = Some(true));
                    Done::Yes(format!("{words}; they are scaled to zero"))
                }
                NodePools::Stop => {
                    let at = stops_at(status, now).strftime("%H:%M:%S");
                    let words = format!(
                        "{base}. Its cloud: {words}; they are scaled to zero at {at} UTC, unless its databases are closed before"
                    );
                    going(of, words)
                }
                NodePools::Confirm => person(
                    &words,
                    "scale them to zero, with nothing that scales them up: then it is confirmed by itself",
                ),
            }
        }
    }
}

/// It goes on by itself, and a person may say that it is so already.
fn going(of: &Of<'_>, words: String) -> Done {
    Done::not_yet("NodesStopping", words, Some(command(ASSERT, of.name)))
}

/// The pools of the source that are to be set to zero. One is left alone whose size is not noted.
///
/// # Errors
/// Why none is to be: it could not be known afterwards that no node is left.
pub fn to_stop(asked: &Nodes, status: &FailoverStatus) -> Result<Vec<Pool>, Other> {
    if let Some(never) = asked.never() {
        return Err(never);
    }
    let noted = |pool: &&Pool| {
        let mut known = status.nodes.iter().flat_map(|record| &record.pools);
        known.any(|known| known.name == pool.name)
    };
    Ok(asked.up().filter(noted).cloned().collect())
}

/// Pools were to be set to zero: by name what came of each; or why nobody could be asked.
pub fn stopped(of: &Of<'_>, done: Result<Set, Other>, status: &mut FailoverStatus) -> Done {
    let done = done.unwrap_or_else(|why| vec![(String::new(), Err(why))]);
    let Some(record) = &mut status.nodes else { return Done::Again };
    let (mut ordered, mut failed) = (Vec::new(), None);
    for (name, result) in done {
        match result {
            Ok(()) => {
                // Whether it is, the next look tells.
                record.pools.iter_mut().filter(|pool| pool.name == name).for_each(|pool| pool.at_zero = true);
                ordered.push(name);
            }
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    let cluster = record.cluster.clone();
    record.error = failed.as_ref().map(|why| short(why.message.clone()));
    let words = match ordered.is_empty() {
        true => format!("the nodes of {cluster} are scaled to zero"),
        false => format!("the nodes of {cluster} are scaled to zero: {}", ordered.join(", ")),
    };
    match failed {
        None => {
            record.message = Some(short(words.clone()));
            going(of, words)
        }
        Some(why) => {
            record.message = Some(short(why.message.clone()));
            let words = format!(
                "the nodes of {cluster} cannot be scaled to zero: {}; {}. {SAY_SO}",
                why.message, why.remedy
            );
            Done::not_yet("NotFenced", words, Some(command(ASSERT, of.name)))
        }
    }
}

/// Whether it rests on the cloud's word that nobody writes at the source.
pub fn rests_on_it(status: &FailoverStatus) -> bool {
    status.stores.iter().any(|store| store.level == Some(FenceLevel::Stopped))
}

/// The cloud was asked once more, right before the commit. `None` if all nodes of the source are gone still. Where they are
/// not, its stores count as open again, and how far those here are is to be read, and accepted, again: the source may have been
/// written to.
pub fn still_gone(of: &Of<'_>, asked: Asked, status: &mut FailoverStatus) -> Option<Done> {
    let wait = |words: String| {
        Some(Done::not_yet("NotFenced", format!("{words}. {SAY_SO}"), Some(command(ASSERT, of.name))))
    };
    let nodes = match asked {
        Ok(nodes) => nodes,
        Err(why) => {
            let words =
                format!("just before the commit it is not known whether all nodes of {} are gone", of.source);
            return wait(format!("{words}: {}; {}", why.message, why.remedy));
        }
    };
    note(of, &nodes, status);
    let words = match nodes.verdict() {
        Verdict::Gone(_) => return None,
        Verdict::Going(words) | Verdict::Up(words) => words,
        Verdict::Never(other) => other.message,
    };
    says(status, &words);
    for store in status.stores.iter_mut().filter(|store| store.level == Some(FenceLevel::Stopped)) {
        (store.level, store.evidence) = (None, None);
        (store.frozen, store.lag_millis) = (None, None);
    }
    // Who accepted a loss knew of a source to which nobody wrote any more.
    status.accepted_loss = None;
    wait(format!("{} has nodes again: {words}", of.source))
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
