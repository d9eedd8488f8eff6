use expect_test::expect;
use serde_json::{Value, json};

use super::*;

fn rollout(status: Value) -> CanaryRollout {
    let mut object = json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": "transaction", "namespace": "payments", "generation": 2},
        "spec": {
            "service": "transaction",
            "strategy": {"canary": {"steps": [{"weight": 1}, {"weight": 10}, {"weight": 50}, {"weight": 100}]}},
            "gates": [
                {"at": 50, "approval": {}},
                {"at": 50, "promql": {"query": "sum(mismatch) == 0", "for": "48h"}},
                {"at": 100, "webhook": {"url": "https://change.example"}},
            ],
        },
    });
    if !status.is_null() {
        object["status"] = status;
    }
    serde_json::from_value(object).expect("a CanaryRollout")
}

fn analysing() -> Value {
    json!({
        "observedGeneration": 2, "phase": "Gated", "step": "2/4", "verdict": "Pass",
        "message": "the gate before 50 % waits for a person: run `kubectl banyan canary approve transaction -n payments`",
        "weight": {"asked": 10, "observed": 8}, "release": "transaction:1.5", "stable": "7c9d5", "canary": "b41f2",
        "metrics": [
            {"name": "error-rate", "verdict": "Pass", "message": "the increase lies under 0.5 %",
                "canaryRequests": 1200, "stableRequests": 10_800, "increase": "0.02 % (-0.11 % to 0.31 %)", "evidence": "0.40 of 100"},
            {"name": "latency", "verdict": "Insufficient", "message": "too few slow requests",
                "canaryRequests": 1200, "stableRequests": 10_800, "evidence": "1.00 of 100",
                "neededRequests": 900, "neededUntil": "2026-11-25T10:30:00Z"},
        ],
        "problems": [{"source": "spec.analysis.errorRate.maxIncrease", "severity": "Warning",
            "message": "it is above the error budget", "remedy": "lower it"}],
        "history": [{"release": "transaction:1.4", "revision": "7c9d5", "outcome": "Promoted", "message": "passed all steps",
            "startedAt": "2026-11-24T10:00:00Z", "endedAt": "2026-11-24T11:00:00Z"}],
        "memory": {"attempt": 3, "rollout": {
            "canary": "b41f2", "stable": "7c9d5", "release": "transaction:1.5", "startedAt": "2026-11-25T10:00:00Z", "weight": 10,
            "gates": [{"what": "approval 50", "reachedAt": "2026-11-25T10:10:00Z"},
                {"what": "promql 50 516a88ef7ed38e63", "reachedAt": "2026-11-25T10:10:00Z", "trueSince": "2026-11-25T10:11:00Z"}],
        }},
    })
}

#[test]
fn a_status_has_all_that_is_known() {
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          phase    Gated
          step     2/4
          weight   10 % asked, 8 % observed
          release  transaction:1.5
          stable   7c9d5
          canary   b41f2
          verdict  Pass
          why      the gate before 50 % waits for a person: run `kubectl banyan canary approve transaction -n payments`
        evidence (written at each change, and once a minute in between)
          error-rate  Pass          increase 0.02 % (-0.11 % to 0.31 %)  1200 canary and 10800 stable requests  evidence 0.40 of 100  the increase lies under 0.5 %
          latency     Insufficient  increase not known yet               1200 canary and 10800 stable requests  evidence 1.00 of 100  needs 900 more requests, until 2026-11-25T10:30:00Z; too few slow requests
        gates
          before 50 %   approval                    waits since 2026-11-25T10:10:00Z
          before 50 %   sum(mismatch) == 0 for 48h  true since 2026-11-25T10:11:00Z
          before 100 %  https://change.example      not reached
        problems
          Warning  spec.analysis.errorRate.maxIncrease  it is above the error budget → lower it
        history
          2026-11-24T11:00:00Z  transaction:1.4  Promoted  passed all steps
    "#]].assert_eq(&status(&rollout(analysing()), Ok(Vec::new()), None));
}

#[test]
fn a_status_says_what_is_missing() {
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          nothing is known of it yet: no operator has looked at it
    "#]]
    .assert_eq(&status(&rollout(Value::Null), Ok(Vec::new()), None));
    let stalled = json!({"type": "Stalled", "status": "True", "reason": "RolledBack", "message": "it failed",
        "lastTransitionTime": "2026-11-25T10:00:00Z"});
    let old = json!({"observedGeneration": 1, "phase": "RolledBack", "conditions": [stalled]});
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          what follows is about an older spec: the operator has not seen the newest yet
          phase    RolledBack
          step     -
          weight   -
          release  -
          stable   -
          canary   -
          verdict  -
          why      -
          stalled  RolledBack: it failed
        gates
          before 50 %   approval                    not reached
          before 50 %   sum(mismatch) == 0 for 48h  not reached
          before 100 %  https://change.example      not reached
    "#]]
    .assert_eq(&status(&rollout(old), Ok(Vec::new()), None));
}

#[test]
fn a_list_has_a_line_for_each() {
    let mut settled = rollout(json!({"phase": "Settled", "step": "0/4", "release": "ledger:7",
        "weight": {"asked": 0, "observed": 0, "approximate": true}}));
    settled.metadata.name = Some("ledger".into());
    let all = [rollout(analysing()), settled, rollout(Value::Null)];
    expect![[r#"
        NAMESPACE  NAME         SERVICE      PHASE    STEP  WEIGHT                    VERDICT  RELEASE          WHY
        payments   transaction  transaction  Gated    2/4   10 % asked, 8 % observed  Pass     transaction:1.5  the gate before 50 % waits for a person: run `kubectl banyan canary approve transaction -n payments`
        payments   ledger       transaction  Settled  0/4   -                         -        ledger:7         -
        payments   transaction  transaction  -        -     -                         -        -                -
    "#]].assert_eq(&list(&all, true, None));
    expect![[r#"
        NAME  SERVICE  PHASE  STEP  WEIGHT  VERDICT  RELEASE  WHY
    "#]]
    .assert_eq(&list(&[], false, None));
}

#[test]
fn faults_6_15_reason_and_command_stay_whole_at_80_and_120_columns() {
    let all = [rollout(analysing()), rollout(Value::Null)];
    for width in [80, 120] {
        for text in
            [list(&all, true, Some(width)), status(&rollout(analysing()), Ok(Vec::new()), Some(width))]
        {
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            let command = "`kubectl banyan canary approve transaction -n payments`";
            assert!(text.contains(command), "{width}:\n{text}");
        }
    }
    expect![[r#"
        NAMESPACE  NAME         PHASE  STEP  WEIGHT                    RELEASE
            WHY
        payments   transaction  Gated  2/4   10 % asked, 8 % observed  transaction:1.5
            the gate before 50 % waits for a person: run
            `kubectl banyan canary approve transaction -n payments`
        payments   transaction  -      -     -                         -
    "#]]
    .assert_eq(&list(&all, true, Some(80)));
    expect![[r#"
        NAMESPACE  NAME         SERVICE      PHASE  STEP  WEIGHT                    VERDICT  RELEASE
            WHY
        payments   transaction  transaction  Gated  2/4   10 % asked, 8 % observed  Pass     transaction:1.5
            the gate before 50 % waits for a person: run `kubectl banyan canary approve transaction -n payments`
        payments   transaction  transaction  -      -     -                         -        -
    "#]].assert_eq(&list(&all, true, Some(120)));
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          phase    Gated
          step     2/4
          weight   10 % asked, 8 % observed
          release  transaction:1.5
          stable   7c9d5
          canary   b41f2
          verdict  Pass
          why      the gate before 50 % waits for a person: run
                   `kubectl banyan canary approve transaction -n payments`
        evidence (written at each change, and once a minute in between)
          error-rate, Pass, increase 0.02 % (-0.11 % to 0.31 %), 1200 canary and 10800
              stable requests, evidence 0.40 of 100, the increase lies under 0.5 %
          latency, Insufficient, increase not known yet, 1200 canary and 10800 stable
              requests, evidence 1.00 of 100, needs 900 more requests, until
              2026-11-25T10:30:00Z; too few slow requests
        gates
          before 50 %   approval                    waits since 2026-11-25T10:10:00Z
          before 50 %   sum(mismatch) == 0 for 48h  true since 2026-11-25T10:11:00Z
          before 100 %  https://change.example      not reached
        problems
          Warning  spec.analysis.errorRate.maxIncrease
              it is above the error budget → lower it
        history
          2026-11-24T11:00:00Z  transaction:1.4  Promoted  passed all steps
    "#]]
    .assert_eq(&status(&rollout(analysing()), Ok(Vec::new()), Some(80)));
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          phase    Gated
          step     2/4
          weight   10 % asked, 8 % observed
          release  transaction:1.5
          stable   7c9d5
          canary   b41f2
          verdict  Pass
          why      the gate before 50 % waits for a person: run `kubectl banyan canary approve transaction -n payments`
        evidence (written at each change, and once a minute in between)
          error-rate, Pass, increase 0.02 % (-0.11 % to 0.31 %), 1200 canary and 10800 stable requests, evidence 0.40 of 100,
              the increase lies under 0.5 %
          latency, Insufficient, increase not known yet, 1200 canary and 10800 stable requests, evidence 1.00 of 100, needs 900
              more requests, until 2026-11-25T10:30:00Z; too few slow requests
        gates
          before 50 %   approval                    waits since 2026-11-25T10:10:00Z
          before 50 %   sum(mismatch) == 0 for 48h  true since 2026-11-25T10:11:00Z
          before 100 %  https://change.example      not reached
        problems
          Warning  spec.analysis.errorRate.maxIncrease  it is above the error budget → lower it
        history
          2026-11-24T11:00:00Z  transaction:1.4  Promoted  passed all steps
    "#]].assert_eq(&status(&rollout(analysing()), Ok(Vec::new()), Some(120)));
}

#[test]
fn faults_6_15_a_status_says_why_the_canary_does_not_start() {
    let mut preparing = rollout(json!({
        "observedGeneration": 2, "phase": "Preparing", "step": "0/4", "release": "transaction:1.5", "stable": "7c9d5",
        "canary": "b41f2", "message": "0 of 1 pods of revision b41f2 are Ready, which 1 % needs",
    }));
    preparing.spec.gates = None;
    let service: FinService = serde_json::from_value(json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService", "metadata": {"name": "transaction"},
        "spec": {"owner": "team", "image": "transaction:1.5"},
        "status": {"problems": [
            {"source": "spec.image", "severity": "Error",
                "message": "pod transaction-b41f2-x of revision b41f2: ErrImagePull: manifest unknown",
                "remedy": "Correct spec.image. Revision 7c9d5 serves on."},
            {"source": "spec.access", "severity": "Warning", "message": "a ring", "remedy": "Break it."},
        ]},
    }))
    .expect("a FinService");
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          phase    Preparing
          step     0/4
          weight   -
          release  transaction:1.5
          stable   7c9d5
          canary   b41f2
          verdict  -
          why      0 of 1 pods of revision b41f2 are Ready, which 1 % needs
        the canary's pods
          Error  spec.image  pod transaction-b41f2-x of revision b41f2: ErrImagePull:
                             manifest unknown → Correct spec.image. Revision 7c9d5
                             serves on.
    "#]]
    .assert_eq(&status(&preparing, Ok(of_canary(&preparing, &service)), Some(80)));
    let refused = "FinService transaction cannot be read, which says why pods do not start: it is forbidden";
    expect![[r#"
        CanaryRollout payments/transaction of FinService transaction
          phase    Preparing
          step     0/4
          weight   -
          release  transaction:1.5
          stable   7c9d5
          canary   b41f2
          verdict  -
          why      0 of 1 pods of revision b41f2 are Ready, which 1 % needs
        the canary's pods
          FinService transaction cannot be read, which says why pods do not start: it is
          forbidden
    "#]]
    .assert_eq(&status(&preparing, Err(refused.to_owned()), Some(80)));
}

#[test]
fn a_rollout_that_is_blocked_is_told_nothing_that_would_go_forward_later() {
    let of = |phase: &str| {
        let memory = json!({"rollout": {"canary": "b", "stable": "a", "release": "app:2", "attempt": 1,
            "startedAt": "2026-01-01T00:00:00Z", "weight": 10}});
        rollout(json!({"phase": phase, "memory": memory, "problems": [
            {"source": "spec.strategy", "severity": "Info", "message": "weights hold", "remedy": "Nothing."},
            {"source": "spec.analysis.interval", "severity": "Error", "message": "20s is too long", "remedy": "Set it to 5s."},
        ]}))
    };
    let say = |phase, verb| meant(&of(phase), verb, None);
    assert_eq!(
        say("Blocked", Verb::Promote),
        Err("nothing goes forward: spec.analysis.interval: 20s is too long (Set it to 5s); correct that, and say it again"
            .to_owned())
    );
    assert_eq!(say("Blocked", Verb::Abort), Ok("app:2".to_owned()));
    assert_eq!(say("Analysing", Verb::Promote), Ok("app:2".to_owned()));
}

#[test]
fn words_are_meant_for_the_release_that_is_here() {
    let here = rollout(analysing());
    let says = |verb, gate| meant(&here, verb, gate);
    for verb in [Verb::Abort, Verb::Promote, Verb::Pause, Verb::SkipStep, Verb::Approve] {
        assert_eq!(says(verb, None), Ok("transaction:1.5".to_owned()), "{verb:?}");
    }
    assert_eq!(says(Verb::Approve, Some(50)), Ok("transaction:1.5".to_owned()));
    let refused = |result: Result<String, String>| result.unwrap_err();
    assert_eq!(refused(says(Verb::Approve, Some(100))), "no gate before 100 % waits for a person");
    assert_eq!(refused(says(Verb::Resume, None)), "it is not paused");
    assert_eq!(refused(says(Verb::SkipAfter, None)), "it does not wait for other clusters any more");
    assert_eq!(refused(says(Verb::Retry, None)), "the revision that the FinService asks for has not failed");
    assert_eq!(
        refused(says(Verb::AssertFenced, None)),
        "assert-fenced is for a Failover, not for a CanaryRollout"
    );
}

#[test]
fn what_makes_no_sense_is_refused_before_it_is_said() {
    let refused = |status: Value, verb| meant(&rollout(status), verb, None).unwrap_err();
    assert!(refused(Value::Null, Verb::Abort).contains("no operator has looked at it"));
    let settled = || json!({"phase": "Settled", "release": "transaction:1.4"});
    assert_eq!(refused(settled(), Verb::Promote), "nothing is rolling out");
    assert_eq!(refused(settled(), Verb::Abort), "nothing is rolling out, and no rollback window is open");
    let failed = json!({"phase": "RolledBack", "release": "transaction:1.5", "memory": {"failed": [{"revision": "b41f2",
        "release": "transaction:1.5", "weight": 10, "message": "it fails", "at": "2026-11-25T10:00:00Z"}]}});
    assert_eq!(
        refused(failed.clone(), Verb::Promote),
        "transaction:1.5 was rolled back; run `kubectl banyan canary retry transaction -n payments` first"
    );
    assert_eq!(meant(&rollout(failed), Verb::Retry, None), Ok("transaction:1.5".to_owned()));
    let warm = json!({"phase": "Warm", "memory": {"warm": {"old": "7c9d5", "new": "b41f2", "release": "transaction:1.5",
        "startedAt": "2026-11-25T10:00:00Z", "promotedAt": "2026-11-25T11:00:00Z", "until": "2026-11-25T11:15:00Z"}}});
    assert_eq!(meant(&rollout(warm), Verb::Abort, None), Ok("transaction:1.5".to_owned()));
    let mut paused = analysing();
    paused["memory"]["rollout"]["paused"] = "ann: lunch".into();
    paused["memory"]["rollout"]["gates"][0]["open"] = true.into();
    assert_eq!(refused(paused.clone(), Verb::Pause), "it is paused already");
    assert_eq!(refused(paused.clone(), Verb::Approve), "no gate waits for a person");
    assert!(status(&rollout(paused), Ok(Vec::new()), None).contains("paused   by ann: lunch"));
}
