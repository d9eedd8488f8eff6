//! Mirrors copy to who stands by, and never both ways at once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tests::{authority, change_spec, decided, well};
use super::*;
use crate::authority::known::Known;
use crate::failovergroup::index::Intake;
use crate::failovergroup::mirrors::owed;
use crate::stores::kafka::{Copying, Flow, MirrorReading, Mirroring};

/// A group with a mirror of that policy, at `gcp`, whose holder is that site; the mirror here does what is given.
fn mirrored(policy: &str, holder: &str, copying: Copying) -> Observed {
    of(policy, holder, copying, |_| ())
}

/// The same, whose group asks for something else beside.
fn of(policy: &str, holder: &str, copying: Copying, change: impl FnOnce(&mut Value)) -> Observed {
    let mut seen = well();
    change_spec(&mut seen, |spec| {
        change(spec);
        spec["stores"] = json!([{"name": "events", "kafkaMirror": {"connect": "kafka/mirror", "policy": policy,
            "metrics": {"url": "http://mirror.kafka:9404/metrics"}}}]);
    });
    seen.knowledge.own = Some(authority(holder));
    seen.knowledge.peers = vec![("aws".to_owned(), Known::Read(Some(authority(holder))))];
    seen.knowledge.stores.clear();
    let mirroring = Mirroring {
        source: Some("aws".to_owned()),
        asked: copying,
        does: Some(copying),
        astray: Vec::new(),
        problems: Vec::new(),
    };
    let flow = Flow::Unknown("nobody asks".to_owned());
    let (measured_at, offsets) = (Timestamp::now(), BTreeMap::new());
    let reading = MirrorReading { measured_at, flow, offsets, mirroring };
    seen.asked.mirrors.insert("events".to_owned(), Ok(reading));
    seen
}

/// What is done with the mirror here: let on, stopped, or nothing.
fn steered(seen: &Observed) -> Option<bool> {
    let decision = decided(seen).authority.expect("a decision");
    let owed = owed(seen, seen.spec().expect("a spec"), &decision);
    owed.first().map(|steer| steer.copies)
}

/// The other site tells that its mirror has stopped in that epoch.
fn told(seen: &mut Observed, epoch: i64) {
    seen.peers[0].intake = Some(Intake { epoch, stopped: vec!["events".to_owned()] });
}

#[test]
fn who_has_authority_takes_nothing_in() {
    assert_eq!(steered(&mirrored("Identity", "gcp", Copying::Running)), Some(false));
    for stopped in [Copying::Paused, Copying::Stopped] {
        assert_eq!(steered(&mirrored("Identity", "gcp", stopped)), None);
    }
}

#[test]
fn who_stands_by_takes_in_once_the_other_one_does_not() {
    let mut seen = mirrored("Identity", "aws", Copying::Paused);
    let epoch = seen.knowledge.own.as_ref().expect("an Authority").epoch;
    assert_eq!(steered(&seen), None, "nobody has told");
    let lag = |seen: &Observed| {
        let checks = decided(seen).checks;
        checks.into_iter().find(|found| found.name == "lag of events at gcp").expect("it is checked").message
    };
    assert!(lag(&seen).contains("it is not known that the one at aws has stopped"), "{}", lag(&seen));
    told(&mut seen, epoch - 16);
    assert_eq!(steered(&seen), None, "that was in another epoch");
    told(&mut seen, epoch);
    assert_eq!(steered(&seen), Some(true));
    assert_eq!(lag(&seen), "the mirror of events does not copy");
    assert_eq!(steered(&mirrored("Identity", "aws", Copying::Running)), None, "it copies already");
    // MirrorMaker knows its own topics by their names.
    assert_eq!(steered(&mirrored("Default", "aws", Copying::Paused)), Some(true));
}

#[test]
fn what_is_not_certain_changes_nothing() {
    let mut unread = mirrored("Default", "aws", Copying::Paused);
    unread.asked.mirrors.clear();
    assert_eq!(steered(&unread), None);
    let mut several = mirrored("Identity", "gcp", Copying::Running);
    let read = several.asked.mirrors.get_mut("events").expect("a mirror").as_mut().expect("a reading");
    read.mirroring.source = None;
    assert_eq!(steered(&several), None, "which one is meant cannot be told");
    let mut nobody = mirrored("Identity", "gcp", Copying::Running);
    nobody.knowledge.own = None;
    nobody.knowledge.peers.clear();
    assert_eq!(steered(&nobody), None, "nobody ever had authority");
}

#[test]
fn where_every_site_serves_all_copy() {
    for copying in [Copying::Running, Copying::Paused] {
        let seen = of("Default", "gcp", copying, |spec| {
            spec["active"] = json!("All");
            spec.as_object_mut().expect("a spec").remove("initialSite");
        });
        assert_eq!(steered(&seen), None);
        assert!(decided(&seen).checks.iter().all(|found| !found.name.starts_with("intake of")));
    }
}

#[test]
fn an_intake_that_goes_on_is_a_warning() {
    let found = |copying: Copying| {
        let checks = decided(&mirrored("Identity", "gcp", copying)).checks;
        checks.into_iter().find(|found| found.name == "intake of events at gcp").map(|found| found.reason)
    };
    assert_eq!([Copying::Running, Copying::Paused].map(found), [Some("StillCopies"), Some("Stopped")]);
}
