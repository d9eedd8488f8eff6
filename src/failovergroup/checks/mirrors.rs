//! Topics that MirrorMaker 2 copies to this site: whether it copies, or has stopped, and how far it is behind. Pure.

use super::found::{Found, Looked, MAX_LAG, Step, names};
use crate::api::Severity;
use crate::api::failovergroup::CheckState;
use crate::api::store::{KafkaMirror, Store};
use crate::api::units::display;
use crate::failovergroup::mirrors::would_go_round;
use crate::stores::kafka::{Copying, Flow, MirrorReading};

/// Checks the mirrors.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    let mirrors = looked.spec.stores().iter().filter_map(|store| Some((store, store.kafka_mirror.as_ref()?)));
    mirrors.flat_map(|(store, mirror)| one(looked, store, mirror)).collect()
}

fn one(looked: &Looked<'_>, store: &Store, mirror: &KafkaMirror) -> Vec<Found> {
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
            // Where this site has authority, its mirror has nothing to copy; where every site has, each has.
            if !looked.holds(site) {
                found.push(behind(looked, store, mirror, reading));
            } else if !looked.spec.is_active_everywhere() {
                found.push(intake(looked, name, mirror, reading));
            }
            found
        }
    }
}

fn prepared(check: String, name: &str, reading: &MirrorReading) -> Found {
    match reading.mirroring.problems.iter().min_by_key(|problem| problem.severity) {
        Some(problem) => {
            let error = problem.severity == Severity::Error;
            let state = if error { CheckState::Failed } else { CheckState::Warning };
            let words = format!("the mirror of {name}: {}", problem.message);
            Found::new(Step::Promote, check, state, "NotPrepared", words, problem.remedy.clone())
        }
        None => Found::passed(Step::Promote, check, "Prepared", format!("the mirror of {name} is prepared")),
    }
}

/// The command that shows the object of a mirror.
fn shows(mirror: &KafkaMirror) -> String {
    let (namespace, object) = mirror.connect();
    format!("kubectl get kafkamirrormaker2 {object} -n {namespace} -o yaml")
}

/// Whether nothing is copied to the site that has authority: the operator there stops it.
fn intake(looked: &Looked<'_>, name: &str, mirror: &KafkaMirror, reading: &MirrorReading) -> Found {
    let check = format!("intake of {name} at {}", looked.seen.site);
    if reading.mirroring.is_frozen() {
        let words = format!("the mirror of {name} copies nothing to this site, which has authority");
        return Found::passed(Step::Reprotect, check, "Stopped", words);
    }
    let words = match reading.mirroring.asked {
        Copying::Running => format!("the mirror of {name} still copies to this site, which has authority"),
        _ => format!("the mirror of {name} was told to stop, and does not say that it has"),
    };
    let remedy = format!(
        "the operator pauses it, and that of the other site waits for it; see what its connector does: {}",
        shows(mirror)
    );
    Found::warning(Step::Reprotect, check, "StillCopies", words, remedy)
}

fn behind(looked: &Looked<'_>, store: &Store, mirror: &KafkaMirror, reading: &MirrorReading) -> Found {
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
        let own = looked.authority.own(&looked.seen.knowledge);
        let waits = own.and_then(|own| would_go_round(looked.seen, own, name, mirror));
        let waits = waits.filter(|_| mirroring.asked != Copying::Running);
        let (words, remedy) = match waits {
            Some(site) => (
                format!(
                    "the mirror of {name} does not copy: it is not known that the one at {site} has stopped, and both would send records to and fro"
                ),
                format!("see why that one does not stop, at {site}: {}", shows(mirror)),
            ),
            None => (
                format!("the mirror of {name} does not copy{astray}"),
                format!("see what its connector does: {}", shows(mirror)),
            ),
        };
        return Found::failed(Step::Promote, check, "NotCopying", words, remedy);
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
