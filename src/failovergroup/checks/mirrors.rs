//! Topics that MirrorMaker 2 copies to this site: whether it copies, and how far it is behind. Pure.

use super::found::{Found, Looked, MAX_LAG, Step, names};
use crate::api::store::Store;
use crate::api::units::display;
use crate::stores::kafka::{Copying, Flow, MirrorReading};

/// Checks the mirrors.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    let mirrors = looked.spec.stores().iter().filter(|store| store.kafka_mirror.is_some());
    mirrors.flat_map(|store| one(looked, store)).collect()
}

fn one(looked: &Looked<'_>, store: &Store) -> Vec<Found> {
    let (name, site) = (&store.name, &looked.seen.site);
    let check = format!("store {name} at {site}");
    match looked.seen.asked.mirrors.get(name) {
        None => vec![Found::unknown(
            Step::Promote,
            check,
            "NotAsked",
            format!("the mirror of {name} has not been asked yet"),
            "wait some seconds",
        )],
        Some(Err(error)) => vec![Found::failed(
            Step::Promote,
            check,
            "StoreUnreadable",
            format!("the mirror of {name} cannot be read: {error}"),
            error.remedy(),
        )],
        Some(Ok(reading)) => {
            let mut found = vec![prepared(check, name, reading)];
            // Where this site has authority, its mirror has nothing to copy.
            if !looked.holds(site) {
                found.push(behind(looked, store, reading));
            }
            found
        }
    }
}

fn prepared(check: String, name: &str, reading: &MirrorReading) -> Found {
    match reading.mirroring.problems.first() {
        Some(problem) => Found::failed(
            Step::Promote,
            check,
            "NotPrepared",
            format!("the mirror of {name}: {}", problem.message),
            problem.remedy.clone(),
        ),
        None => Found::passed(Step::Promote, check, "Prepared", format!("the mirror of {name} is prepared")),
    }
}

fn behind(looked: &Looked<'_>, store: &Store, reading: &MirrorReading) -> Found {
    let name = &store.name;
    let check = format!("lag of {name} at {}", looked.seen.site);
    let most = store.max_lag().unwrap_or(MAX_LAG);
    let (mirroring, words) = (&reading.mirroring, display(most));
    if mirroring.asked != Copying::Running || !mirroring.astray.is_empty() {
        let astray = if mirroring.astray.is_empty() {
            String::new()
        } else {
            format!(" ({})", names(&mirroring.astray))
        };
        return Found::failed(
            Step::Promote,
            check,
            "NotCopying",
            format!("the mirror of {name} does not copy{astray}"),
            "set the state of its source connector to running, and see the status of the KafkaMirrorMaker2",
        );
    }
    match (&reading.flow, reading.flow.behind(looked.now)) {
        (Flow::Unknown(why), _) => Found::unknown(
            Step::Promote,
            check,
            "LagUnknown",
            format!("how far the mirror of {name} is behind is not known: {why}"),
            "let the heartbeat connector of MirrorMaker 2 run, and its metrics be reached",
        ),
        (_, Some(behind)) if behind <= most => Found::passed(
            Step::Promote,
            check,
            "Follows",
            format!("the mirror of {name} follows within {words}"),
        ),
        _ => Found::failed(
            Step::Promote,
            check,
            "Behind",
            format!("the mirror of {name} is behind by more than {words} (maxLag), or has stopped"),
            format!("find out why: load, network or a stopped task; or raise spec.stores[{name}].maxLag"),
        ),
    }
}
