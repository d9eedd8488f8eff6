//! Scenarios: whole lives of a FinService, step by step, with the reason of each step. The goldens
//! in `tests/goldens/finservice/` are updated by `UPDATE_EXPECT=1 cargo test`.

use crate::api::operations::Residency;
use crate::finservice::testing::sites;
use expect_test::expect_file;
use serde_json::{Value, json};

use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::plan::Phase;
use crate::finservice::testing::fake::Fake;
use crate::runtime::key::Key;

fn spec() -> Value {
    json!({
        "owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 3},
    })
}

fn golden(name: &str, fake: &Fake) {
    let path = format!("{}/tests/goldens/finservice/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    expect_file![path].assert_eq(&fake.story());
}

fn started(spec: Value) -> Fake {
    let mut fake = Fake::new(spec);
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake
}

#[test]
fn first_revision() {
    let mut fake = started(spec());
    let plan = fake.step();
    assert!(plan.is_empty() && plan.phase == Phase::Serving && plan.again_at.is_none());
    golden("first_revision", &fake);
}

#[test]
fn new_revision_takes_over_once_ready_and_the_old_one_keeps_its_pods_for_the_grace() {
    let mut fake = started(spec());
    fake.spec("a new image", "/image", json!("registry.example/app:2"));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake.pass(29);
    assert!(fake.step().is_empty());
    fake.pass(1);
    fake.settle();
    assert!(fake.step().again_at.is_none());
    golden("takeover", &fake);
}

#[test]
fn going_back_before_the_takeover_cancels_it() {
    let mut fake = started(spec());
    fake.spec("a new image", "/image", json!("registry.example/app:2"));
    fake.settle();
    fake.spec("the old image again", "/image", json!("registry.example/app:1"));
    fake.settle();
    fake.pass(30);
    fake.settle();
    golden("reverted", &fake);
}

#[test]
fn going_back_after_the_takeover_uses_the_old_revision_again() {
    let mut fake = started(spec());
    fake.spec("a new image", "/image", json!("registry.example/app:2"));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake.spec("the old image again", "/image", json!("registry.example/app:1"));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    assert_eq!(fake.hashes().len(), 2, "no third revision");
    golden("back", &fake);
}

#[test]
fn a_new_revision_has_the_capacity_that_the_autoscaler_gave_to_the_old_one() {
    let mut spec = spec();
    spec["scale"] = json!({"min": 2, "max": 20});
    let mut fake = started(spec);
    let old = fake.hashes()[0].clone();
    fake.touch("the autoscaler goes to 12", Kind::Deployment, &format!("app-{old}"), |state| {
        if let Facts::Deployment(facts) = &mut state.facts {
            (facts.replicas, facts.ready, facts.updated_and_available) = (12, 12, 12);
        }
    });
    fake.settle();
    fake.spec("a new image", "/image", json!("registry.example/app:2"));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    golden("autoscaled", &fake);
}

#[test]
fn between_autoscaler_and_fixed_number_the_pods_never_pass_through_one() {
    let mut fake = started(spec());
    fake.spec("an autoscaler", "/scale", json!({"min": 2, "max": 20}));
    fake.settle();
    fake.spec("a fixed number", "/scale", json!({"replicas": 5}));
    fake.settle();
    golden("scale_switched", &fake);
}

#[test]
fn a_strangers_service_is_left_alone_until_it_is_handed_over() {
    let mut fake = Fake::new(spec());
    let theirs = Stranger { whose: "the Helm release shop".into(), ..Stranger::default() };
    let service = Key::new("pay", "app");
    let handed = Stranger { adopt: Some("app".into()), ..theirs.clone() };
    fake.event("a Service app of somebody else", |index| {
        index.stranger(Kind::Service, &service, Some(theirs.clone()));
        let deployment =
            Stranger { whose: "kubectl".into(), adopt: Some("app".into()), ..Stranger::default() };
        index.stranger(Kind::Deployment, &Key::new("pay", "old-app"), Some(deployment));
    });
    fake.settle();
    fake.event("its owner hands it over", |index| {
        index.stranger(Kind::Service, &service, Some(handed));
    });
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake.pass(30);
    fake.settle();
    assert!(fake.step().again_at.is_none());
    let service = fake.child(Kind::Service, "app").expect("it stands");
    assert_eq!(service.owner, None, "row 6.3: it outlives the FinService");
    golden("adopted", &fake);
}

#[test]
fn placement_and_residency() {
    let mut fake = started(spec());
    fake.spec("only elsewhere", "/placement", json!([{"cluster": "there"}]));
    fake.settle();
    fake.spec("here as well", "/placement", json!([{"cluster": "here"}, {"cluster": "there"}]));
    fake.settle();
    fake.spec("EU data", "/data", json!({"residency": "EU"}));
    fake.settle();
    fake.event("nobody says what may be kept here", |index| drop(index.set_sites(sites(None, &[]))));
    fake.settle();
    fake.event("EU data may be kept here", |index| {
        index.set_sites(sites(Some(&[Residency::EU]), &[]));
    });
    fake.settle();
    golden("placement", &fake);
}

#[test]
fn a_site_that_nobody_describes_is_told_of_and_a_slip_takes_no_service_away() {
    let mut fake = started(spec());
    fake.event("another site is described", |index| {
        index.set_sites(sites(Some(&[Residency::US]), &["there"]));
    });
    fake.settle();
    fake.spec("elsewhere, by a name with a slip", "/placement", json!([{"cluster": "thre"}]));
    fake.settle();
    fake.spec("here as well", "/placement", json!([{"cluster": "here"}, {"cluster": "thre"}]));
    fake.settle();
    fake.spec("the name is put right", "/placement", json!([{"cluster": "there"}]));
    fake.settle();
    fake.spec("and wrong again, where nothing runs", "/placement", json!([{"cluster": "thre"}]));
    fake.settle();
    fake.spec("here too", "/placement", json!([{"cluster": "here"}, {"cluster": "there"}]));
    fake.settle();
    fake.event("the other site is given up", |index| {
        index.set_sites(sites(Some(&[Residency::US]), &[]));
    });
    fake.settle();
    golden("unknown_site", &fake);
}

#[test]
fn a_war_is_given_up_after_three_repairs() {
    let mut fake = started(spec());
    for round in 0..4 {
        fake.touch("somebody changes the Service", Kind::Service, "app", |state| {
            state.digest = Some(42 + round);
            state.other = Some("kubectl-edit".into());
        });
        fake.settle();
        fake.pass(5);
    }
    fake.pass(600);
    fake.settle();
    golden("war", &fake);
}

#[test]
fn a_changed_config_map_begins_a_revision_and_a_missing_one_holds_it() {
    let mut spec = spec();
    spec["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    let mut fake = Fake::new(spec);
    fake.settle();
    fake.pass(10);
    fake.settle();
    let settings = Key::new("pay", "settings");
    fake.event("ConfigMap settings appears", |index| drop(index.config_map(&settings, Some("one".into()))));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake.event("it changes", |index| drop(index.config_map(&settings, Some("two".into()))));
    fake.settle();
    fake.event("it is deleted", |index| drop(index.config_map(&settings, None)));
    fake.settle();
    golden("config_map", &fake);
}

#[test]
fn a_changed_secret_restarts_in_place_or_begins_a_revision_or_does_nothing() {
    for on in ["Restart", "Rollout", "Ignore"] {
        let mut spec = spec();
        spec["env"] = json!([{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]);
        spec["onSecretChange"] = json!(on);
        let mut fake = Fake::new(spec);
        let db = Key::new("pay", "db");
        let read = |fake: &mut Fake, what: &str, version: &str, digest: &str| {
            fake.event(what, |index| {
                index.secret(&db, Some(version.into()));
                index.secret_read(&db, version, digest);
            });
            fake.settle();
        };
        read(&mut fake, "Secret db is there", "1", "aaa");
        fake.pods_become_ready();
        fake.settle();
        read(&mut fake, "a label of it changes", "2", "aaa");
        read(&mut fake, "its contents change", "3", "bbb");
        golden(&format!("secret_{}", on.to_lowercase()), &fake);
    }
}

#[test]
fn an_optional_api_that_comes_later_is_used() {
    let mut spec = spec();
    spec["mesh"] = json!({"provider": "Istio"});
    let mut fake = Fake::new(spec);
    let istio = |kind: &Kind| kind.api() == Some(crate::finservice::children::Api::Istio);
    fake.event("there is no Istio", |index| {
        Kind::ALL.into_iter().filter(istio).for_each(|kind| drop(index.kind(kind, false)));
    });
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake.event("Istio is installed", |index| {
        Kind::ALL.into_iter().filter(istio).for_each(|kind| drop(index.kind(kind, true)));
    });
    fake.settle();
    golden("optional_api", &fake);
}

#[test]
fn what_fetches_its_work_stops_at_once_when_it_is_relieved() {
    let mut spec = spec();
    spec["traffic"] = json!("Pulled");
    spec.as_object_mut().expect("map").remove("ports");
    let mut fake = started(spec);
    fake.spec("a new image", "/image", json!("registry.example/app:2"));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    golden("pulled", &fake);
}

#[test]
fn only_the_newest_retired_revisions_are_kept() {
    let mut fake = started(spec());
    for version in 2..10 {
        fake.spec("a new image", "/image", json!(format!("registry.example/app:{version}")));
        fake.settle();
        fake.pods_become_ready();
        fake.settle();
        fake.pass(30);
        fake.settle();
    }
    assert_eq!(fake.hashes().len(), 1 + crate::finservice::plan::revisions::HISTORY);
}

#[test]
fn nothing_is_written_while_paused() {
    let mut fake = started(spec());
    fake.change("paused, with a new image", |service| {
        service.metadata.annotations = Some([("banyan.dev/pause".to_owned(), "true".to_owned())].into());
        service.spec.image = "registry.example/app:2".to_owned();
    });
    assert!(fake.step().is_empty());
    fake.change("no longer paused", |service| service.metadata.annotations = None);
    assert!(!fake.step().is_empty());
    golden("paused", &fake);
}

#[test]
fn pods_that_do_not_come_are_a_problem_and_the_old_revision_serves_on() {
    let mut fake = started(spec());
    fake.spec("a bad image", "/image", json!("registry.example/app:bad"));
    fake.settle();
    let bad = fake.hashes()[1].clone();
    fake.touch("its pods do not come", Kind::Deployment, &format!("app-{bad}"), |state| {
        if let Facts::Deployment(facts) = &mut state.facts {
            facts.failure = Some("ReplicaSet \"app-x\" has timed out progressing.".into());
        }
    });
    fake.settle();
    golden("bad_image", &fake);
}
