use std::time::Duration;

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::api::failover::PoolRecord;
use crate::failover::status::{begin, did, opened, over, store, waits};
use crate::failover::view::Wait;

/// A move whose status is written step by step, as its worker does.
struct Story {
    failover: Failover,
    status: FailoverStatus,
    now: i64,
    told: String,
}

impl Story {
    fn of(action: &str) -> Self {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Failover",
            "metadata": {"name": "move", "uid": "u-1", "creationTimestamp": "1970-01-01T00:01:30Z",
                "annotations": {"banyan.dev/said-by": "jo"}},
            "spec": {"group": "payments", "action": action, "reason": "a drill", "ticket": "INC-1"},
        });
        let failover: Failover = serde_json::from_value(object).unwrap();
        let told = format!("{}\n", serde_json::to_string(&ordered(&failover)).unwrap());
        let served =
            LastServed { at: Time(at(60)), by: "the last heartbeat of aws in store db here".to_owned() };
        let status = FailoverStatus {
            digest: Some("d1".to_owned()),
            from: vec!["aws".to_owned()],
            to: Some("gcp".to_owned()),
            last_served: Some(served),
            ..FailoverStatus::default()
        };
        Self { failover, status, now: 100, told }
    }

    fn write(&mut self) {
        let old = self.failover.status.clone().unwrap_or_default();
        for event in follow(&self.failover, &old, &self.status) {
            self.told.push_str(&serde_json::to_string(&event).unwrap().replace(",\"", ", \""));
            self.told.push('\n');
        }
        self.failover.status = Some(self.status.clone());
    }

    /// Something is done in a step, which changes the status so.
    fn done(&mut self, step: Step, words: &str, change: impl Fn(&mut FailoverStatus)) {
        begin(&mut self.status, step, at(self.now));
        self.write();
        self.now += 1;
        change(&mut self.status);
        did(&mut self.status, step, words.to_owned(), Duration::from_millis(900), at(self.now));
        self.write();
    }

    fn waits(&mut self, step: Step, reason: &'static str, seconds: i64, next: Option<&str>) {
        for _ in 0..3 {
            let wait =
                Wait { reason, message: format!("because of {reason}"), next: next.map(str::to_owned) };
            waits(&mut self.status, step, &wait, at(self.now));
            self.write();
            self.now += seconds / 3;
        }
    }

    fn ends(mut self, phase: Phase, words: &str) -> String {
        over(&mut self.status, phase, words, at(self.now));
        self.write();
        // Whoever looks at it again finds nothing new.
        let told = self.told.len();
        self.write();
        assert_eq!(self.told.len(), told);
        self.told
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn commits(status: &mut FailoverStatus) {
    status.committed_at = Some(Time(at(200)));
}

#[test]
fn a_switchover_tells_who_ordered_it_and_that_nothing_was_lost() {
    let mut story = Story::of("Switchover");
    story.waits(Step::Preflight, "NotReady", 30, Some("skip"));
    story.status.skipped.push("preflight".to_owned());
    story.done(Step::Claim, "this site claims epoch 17", |status| {
        (status.ballot, status.follows) = (Some(17), Some(16));
    });
    story.waits(Step::Capacity, "NoCapacity", 9, Some("skip"));
    story.done(Step::Fence, "db closed at aws", |status| {
        let db = store(status, "db");
        (db.level, db.sealed) = (Some(FenceLevel::StoreAcknowledged), Some("0/30".to_owned()));
        db.evidence = Some("closed at 0/30, 2 sessions ended".to_owned());
    });
    story.done(Step::Claim, "aws has taken the claim", |_| {});
    story.done(Step::CatchUp, "all is here", |status| store(status, "db").complete = Some(true));
    story.done(Step::Commit, "this site has authority in epoch 17", commits);
    story.done(Step::Promote, "db promoted here", |status| store(status, "db").promoted = Some(true));
    story.done(Step::Open, "db open here", |status| {
        let db = store(status, "db");
        (db.verified, db.opened) = (Some(true), Some(true));
        opened(status, Some(at(90)), true, at(160));
    });
    let told = story.ends(Phase::Done, "gcp has authority, and serves");
    expect![[r#"
        {"event":"Ordered","by":"jo","action":"Switchover","reason":"a drill","ticket":"INC-1","orderedAt":"1970-01-01T00:01:30Z"}
        {"event":"Begun", "from":["aws"], "to":"gcp", "digest":"d1", "lastServed":{"at":"1970-01-01T00:01:00Z", "by":"the last heartbeat of aws in store db here"}}
        {"event":"StepBegan", "step":"preflight"}
        {"event":"Waits", "reason":"NotReady", "step":"preflight", "message":"because of NotReady", "person":true}
        {"event":"StepBegan", "step":"claim"}
        {"event":"Claims", "ballot":17, "follows":16}
        {"event":"StepBegan", "step":"capacity"}
        {"event":"Waits", "reason":"NoCapacity", "step":"capacity", "message":"because of NoCapacity", "person":false}
        {"event":"StepBegan", "step":"fence"}
        {"event":"Fenced", "store":"db", "level":"StoreAcknowledged", "evidence":"closed at 0/30, 2 sessions ended", "sealed":"0/30"}
        {"event":"StepBegan", "step":"catch-up"}
        {"event":"Reached", "store":"db", "complete":true, "position":"0/30", "lagMillis":null}
        {"event":"StepBegan", "step":"commit"}
        {"event":"StepEnded", "step":"preflight", "beganAt":"1970-01-01T00:01:40Z", "endedAt":"1970-01-01T00:02:10Z", "workedMillis":null, "outcome":"it waited: because of NotReady"}
        {"event":"StepEnded", "step":"claim", "beganAt":"1970-01-01T00:02:10Z", "endedAt":"1970-01-01T00:02:22Z", "workedMillis":1800, "outcome":"aws has taken the claim"}
        {"event":"StepEnded", "step":"capacity", "beganAt":"1970-01-01T00:02:11Z", "endedAt":"1970-01-01T00:02:20Z", "workedMillis":null, "outcome":"it waited: because of NoCapacity"}
        {"event":"StepEnded", "step":"fence", "beganAt":"1970-01-01T00:02:20Z", "endedAt":"1970-01-01T00:02:21Z", "workedMillis":900, "outcome":"db closed at aws"}
        {"event":"StepEnded", "step":"catch-up", "beganAt":"1970-01-01T00:02:22Z", "endedAt":"1970-01-01T00:02:23Z", "workedMillis":900, "outcome":"all is here"}
        {"event":"Committed", "epoch":17, "follows":16}
        {"event":"StepBegan", "step":"promote"}
        {"event":"Promoted", "store":"db"}
        {"event":"StepBegan", "step":"open"}
        {"event":"StoreOpened", "store":"db"}
        {"event":"Opened", "sinceOrderMillis":70000, "sinceOutageMillis":null, "outageToOrderMillis":null, "waitedForPeopleMillis":30000, "withoutWritesMillis":20000, "complete":true, "incomplete":[], "lossAcceptedBy":null}
        {"event":"StepEnded", "step":"commit", "beganAt":"1970-01-01T00:02:23Z", "endedAt":"1970-01-01T00:02:24Z", "workedMillis":900, "outcome":"this site has authority in epoch 17"}
        {"event":"StepEnded", "step":"promote", "beganAt":"1970-01-01T00:02:24Z", "endedAt":"1970-01-01T00:02:25Z", "workedMillis":900, "outcome":"db promoted here"}
        {"event":"StepEnded", "step":"open", "beganAt":"1970-01-01T00:02:25Z", "endedAt":"1970-01-01T00:02:26Z", "workedMillis":900, "outcome":"db open here"}
        {"event":"Over", "phase":"Done", "message":"gcp has authority, and serves", "committed":true, "skipped":["preflight"], "waited":[{"reason":"NotReady", "millis":30000, "person":true},{"reason":"NoCapacity", "millis":9000, "person":false}]}
    "#]].assert_eq(&told);
}

#[test]
fn a_failover_tells_what_was_asserted_and_what_was_lost_and_how_long_people_took() {
    let mut story = Story::of("Failover");
    story.done(Step::Claim, "this site claims epoch 17", |status| {
        (status.ballot, status.follows) = (Some(17), Some(16));
    });
    story.waits(Step::Fence, "NotFenced", 60, Some("assert-fenced"));
    story.done(Step::Fence, "asserted", |status| {
        let db = store(status, "db");
        (db.level, db.evidence) = (Some(FenceLevel::Asserted), Some("NodesStopped: seen".to_owned()));
    });
    story.done(Step::CatchUp, "db takes in no more", |status| {
        let db = store(status, "db");
        (db.frozen, db.lag_millis) = (Some("0/2F".to_owned()), Some(4000));
    });
    story.waits(Step::CatchUp, "DataLoss", 30, Some("accept-data-loss"));
    let said = crate::api::failover::Statement {
        by: "sam".to_owned(),
        words: "behind 0/2F".to_owned(),
        at: Time(at(190)),
    };
    story.status.accepted_loss = Some(said);
    story.done(Step::Commit, "this site has authority in epoch 17", commits);
    story.done(Step::Open, "db open here", |status| {
        let db = store(status, "db");
        (db.promoted, db.opened) = (Some(true), Some(true));
        opened(status, Some(at(90)), false, at(210));
    });
    let told = story.ends(Phase::Done, "gcp has authority, and serves");
    expect![[r#"
        {"event":"Ordered","by":"jo","action":"Failover","reason":"a drill","ticket":"INC-1","orderedAt":"1970-01-01T00:01:30Z"}
        {"event":"Begun", "from":["aws"], "to":"gcp", "digest":"d1", "lastServed":{"at":"1970-01-01T00:01:00Z", "by":"the last heartbeat of aws in store db here"}}
        {"event":"StepBegan", "step":"claim"}
        {"event":"Claims", "ballot":17, "follows":16}
        {"event":"StepBegan", "step":"fence"}
        {"event":"Waits", "reason":"NotFenced", "step":"fence", "message":"because of NotFenced", "person":true}
        {"event":"Fenced", "store":"db", "level":"Asserted", "evidence":"NodesStopped: seen", "sealed":null}
        {"event":"StepBegan", "step":"catch-up"}
        {"event":"Reached", "store":"db", "complete":null, "position":"0/2F", "lagMillis":4000}
        {"event":"Waits", "reason":"DataLoss", "step":"catch-up", "message":"because of DataLoss", "person":true}
        {"event":"StepBegan", "step":"commit"}
        {"event":"StepEnded", "step":"claim", "beganAt":"1970-01-01T00:01:40Z", "endedAt":"1970-01-01T00:01:41Z", "workedMillis":900, "outcome":"this site claims epoch 17"}
        {"event":"StepEnded", "step":"fence", "beganAt":"1970-01-01T00:01:41Z", "endedAt":"1970-01-01T00:02:42Z", "workedMillis":900, "outcome":"asserted"}
        {"event":"StepEnded", "step":"catch-up", "beganAt":"1970-01-01T00:02:42Z", "endedAt":"1970-01-01T00:03:13Z", "workedMillis":900, "outcome":"it waited: because of DataLoss"}
        {"event":"Committed", "epoch":17, "follows":16}
        {"event":"StepBegan", "step":"open"}
        {"event":"Promoted", "store":"db"}
        {"event":"StoreOpened", "store":"db"}
        {"event":"Opened", "sinceOrderMillis":120000, "sinceOutageMillis":150000, "outageToOrderMillis":30000, "waitedForPeopleMillis":91000, "withoutWritesMillis":109000, "complete":false, "incomplete":[{"store":"db", "position":"0/2F", "lagMillis":4000}], "lossAcceptedBy":"sam"}
        {"event":"StepEnded", "step":"commit", "beganAt":"1970-01-01T00:03:13Z", "endedAt":"1970-01-01T00:03:14Z", "workedMillis":900, "outcome":"this site has authority in epoch 17"}
        {"event":"StepEnded", "step":"open", "beganAt":"1970-01-01T00:03:14Z", "endedAt":"1970-01-01T00:03:15Z", "workedMillis":900, "outcome":"db open here"}
        {"event":"Over", "phase":"Done", "message":"gcp has authority, and serves", "committed":true, "skipped":[], "waited":[{"reason":"NotFenced", "millis":61000, "person":true},{"reason":"DataLoss", "millis":30000, "person":true}]}
    "#]].assert_eq(&told);
}

#[test]
fn what_is_given_up_tells_that_the_source_was_opened_again() {
    let mut story = Story::of("Switchover");
    story.done(Step::Fence, "db closed at aws", |status| {
        status.ballot = Some(17);
        store(status, "db").level = Some(FenceLevel::StoreAcknowledged);
    });
    story.status.aborted = Some(true);
    story.done(Step::Undo, "db open again at aws", |status| {
        let db = store(status, "db");
        (db.level, db.frozen, db.complete) = (None, None, None);
    });
    let told = story.ends(Phase::Aborted, "it was given up; the source serves as before");
    expect![[r#"
        {"event":"Ordered","by":"jo","action":"Switchover","reason":"a drill","ticket":"INC-1","orderedAt":"1970-01-01T00:01:30Z"}
        {"event":"Begun", "from":["aws"], "to":"gcp", "digest":"d1", "lastServed":{"at":"1970-01-01T00:01:00Z", "by":"the last heartbeat of aws in store db here"}}
        {"event":"StepBegan", "step":"fence"}
        {"event":"Claims", "ballot":17, "follows":null}
        {"event":"Fenced", "store":"db", "level":"StoreAcknowledged", "evidence":null, "sealed":null}
        {"event":"StepBegan", "step":"undo"}
        {"event":"Lifted", "store":"db"}
        {"event":"StepEnded", "step":"fence", "beganAt":"1970-01-01T00:01:40Z", "endedAt":"1970-01-01T00:01:41Z", "workedMillis":900, "outcome":"db closed at aws"}
        {"event":"StepEnded", "step":"undo", "beganAt":"1970-01-01T00:01:41Z", "endedAt":"1970-01-01T00:01:42Z", "workedMillis":900, "outcome":"db open again at aws"}
        {"event":"Over", "phase":"Aborted", "message":"it was given up; the source serves as before", "committed":false, "skipped":[], "waited":[]}
    "#]].assert_eq(&told);
}

#[test]
fn the_nodes_of_a_source_are_on_record_with_their_sizes_before_they_are_stopped() {
    let mut story = Story::of("Failover");
    let pool = |at_zero| PoolRecord {
        name: "blue".to_owned(),
        nodes: 3,
        least: 1,
        most: 9,
        at_zero,
        ..PoolRecord::default()
    };
    let nodes = |at_zero| NodesRecord {
        site: "aws".to_owned(),
        cluster: "prod".to_owned(),
        pools: vec![pool(at_zero)],
        ..NodesRecord::default()
    };
    story.done(Step::Fence, "they are found", |status| status.nodes = Some(nodes(false)));
    story.done(Step::Fence, "they are stopped", |status| {
        status.nodes = Some(NodesRecord { ordered_at: Some(Time(at(110))), ..nodes(true) });
        store(status, "db").level = Some(FenceLevel::Stopped);
    });
    story.done(Step::Fence, "they are back", |status| store(status, "db").level = None);
    let told: Vec<&str> =
        story.told.lines().filter(|line| line.contains("Node") || line.contains("Fenced")).collect();
    expect![[r#"
        {"event":"NodesFound", "site":"aws", "cluster":"prod", "pools":[{"name":"blue", "nodes":3, "least":1, "most":9, "scales":false}]}
        {"event":"NodesStopping", "site":"aws", "cluster":"prod"}
        {"event":"Fenced", "store":"db", "level":"Stopped", "evidence":null, "sealed":null}
        {"event":"NodesBack", "store":"db"}"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn a_move_that_goes_to_and_fro_makes_no_more_entries() {
    let mut story = Story::of("Failover");
    story.waits(Step::Fence, "NotFenced", 3, Some("assert-fenced"));
    story.waits(Step::Commit, "WitnessSilent", 3, Some("assert-fenced"));
    let told = story.told.len();
    for _ in 0..100 {
        story.waits(Step::Fence, "NotFenced", 3, Some("assert-fenced"));
        story.waits(Step::Commit, "WitnessSilent", 3, Some("assert-fenced"));
    }
    assert_eq!(story.told.len(), told, "{}", story.told);
}

#[test]
fn an_action_tells_who_said_what_and_what_came_of_it() {
    let action: Action = serde_json::from_value(json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "move-assert-fenced-x", "uid": "a-1", "annotations": {"banyan.dev/said-by": "sam"}},
        "spec": {"target": {"kind": "Failover", "name": "move", "uid": "u-1"}, "verb": "assert-fenced",
            "evidence": "NodesStopped", "words": "seen in the console"},
    }))
    .unwrap();
    let said = serde_json::to_string(&heard(&action, &Err("say it again".to_owned()))).unwrap();
    let expected = concat!(
        r#"{"event":"Heard","action":"move-assert-fenced-x","id":"a-1","by":"sam","verb":"assert-fenced","step":null,"store":null,"#,
        r#""evidence":"NodesStopped","position":null,"words":"seen in the console","carriedOut":false,"#,
        r#""answer":"say it again"}"#
    );
    assert_eq!(said, expected);
}

#[test]
fn a_preflight_names_each_check_and_its_length_is_bounded() {
    let all: Vec<String> = (0..200).map(|number| format!("check {number}")).collect();
    let long = "x".repeat(2000);
    let checks = all.iter().enumerate().map(|(place, name)| {
        (name.as_str(), if place % 2 == 0 { CheckState::Passed } else { CheckState::Failed }, long.as_str())
    });
    let Event::Preflight { passed, found, .. } = preflight(checks, &FailoverStatus::default()) else {
        panic!()
    };
    assert_eq!((passed.len(), found.len()), (MOST_CHECKS, MOST_CHECKS));
    assert_eq!(
        (passed[1].as_str(), found[0].name.as_str(), found[0].state),
        ("check 2", "check 1", "Failed")
    );
    assert!(found.iter().all(|found| found.message.chars().count() <= LONGEST_FOUND));
}
