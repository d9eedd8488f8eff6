//! CanaryRollouts as they are read: whole, or what can be read of one whose spec cannot; and what can be read of such a
//! FinService. Pure.
//!
//! One that was written for another version must not take its canary away, nor push it on: what can be read of it
//! still says who has which share, so that the rollout holds where it is.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::api::canaryrollout::{CanaryStrategy, From, Step, Via};
use crate::api::canarystatus::Memory;
use crate::api::{CanaryRollout, CanaryRolloutSpec, CanaryRolloutStatus, FinServiceSpec, Problem};
use crate::finservice::index::rollouts::{CanaryObject, UnreadableField};
use crate::runtime::raw_object::{self, Malformed};

/// The CanaryRollout in an object.
pub fn read(object: DynamicObject) -> CanaryObject {
    let mut metadata = object.metadata;
    metadata.managed_fields = None;
    let mut data = object.data;
    let written = data["spec"].take();
    let status: Option<CanaryRolloutStatus> = serde_json::from_value(data["status"].take()).ok();
    match parse(&written) {
        Ok(spec) => CanaryObject::Good(Arc::new(CanaryRollout { metadata, spec, status })),
        Err(Malformed { field, why }) => {
            let memory = status.as_ref().and_then(|status| status.memory.clone()).unwrap_or_default();
            // One that names nobody is told so under its own name.
            let name = metadata.name.as_deref().unwrap_or_default();
            let service = written["service"].as_str().unwrap_or(name);
            let (spec, left_out) = what_can_be_read(&written, service, &memory);
            let object = Arc::new(CanaryRollout { metadata, spec, status });
            CanaryObject::Bad(object, Arc::new(UnreadableField { field, why, left_out }))
        }
    }
}

/// That a CanaryRollout cannot be read, and the way out.
pub fn problem(unreadable: &UnreadableField) -> Problem {
    Problem::error(
        unreadable.field.clone(),
        format!("the spec cannot be read: {unreadable}"),
        "Correct this field: the rollout goes on from where it is. Or delete this CanaryRollout: then stable has \
         everything. Until then nothing moves but back, and no other revision takes over.",
    )
}

/// A spec, or what of it cannot be read.
fn parse(spec: &Value) -> Result<CanaryRolloutSpec, Malformed> {
    raw_object::parse("spec", spec)
}

/// What can be read of a spec, and the fields that cannot. Where those say who has the traffic, what is remembered
/// says it.
fn what_can_be_read(written: &Value, service: &str, memory: &Memory) -> (CanaryRolloutSpec, Vec<String>) {
    let mut kept = json!({"service": service, "strategy": {}});
    let mut left_out = Vec::new();
    let mut spec = parse(&kept).unwrap_or_default();
    for (field, value) in written.as_object().into_iter().flatten() {
        let mut more = kept.clone();
        more[field] = value.clone();
        match parse(&more) {
            Ok(read) => (kept, spec) = (more, read),
            Err(_) => left_out.push(field.clone()),
        }
    }
    let rollout = memory.rollout.as_ref();
    for field in &left_out {
        match field.as_str() {
            "strategy" => {
                // Steps that would lead to where it is.
                let weight = rollout.map_or(0, |rollout| rollout.weight);
                let step = |weight| Step { weight, ..Step::default() };
                spec.strategy.canary = (1..100).contains(&weight).then(|| CanaryStrategy {
                    steps: vec![step(weight), step(100)],
                    ..CanaryStrategy::default()
                });
            }
            "via" => spec.via = (!written["featureFlag"].is_null()).then_some(Via::FeatureFlag),
            "from" => {
                let takes = rollout.is_some_and(|rollout| rollout.stable.is_none());
                spec.from = (takes || memory.legacy_done).then_some(From::Legacy);
            }
            _ => {}
        }
    }
    (spec, left_out)
}

/// Fields of a FinService that say where its requests go, and how many pods there are.
const WAYS: [&str; 9] =
    ["owner", "ports", "traffic", "ingress", "mesh", "legacy", "scale", "sites", "placement"];

/// What can be read of a FinService's spec; `None` where that does not say where its requests go.
pub fn readable_service(written: &Value) -> Option<FinServiceSpec> {
    let image = written["image"].as_str().unwrap_or_default();
    let mut kept = json!({"owner": written["owner"], "image": image, "ports": written["ports"]});
    let mut spec = raw_object::parse::<FinServiceSpec>("spec", &kept).ok()?;
    for (field, value) in written.as_object().into_iter().flatten() {
        let mut more = kept.clone();
        more[field] = value.clone();
        match raw_object::parse("spec", &more) {
            Ok(read) => (kept, spec) = (more, read),
            Err(_) if WAYS.contains(&field.as_str()) => return None,
            Err(_) => {}
        }
    }
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_service_all_is_read_that_says_where_its_requests_go() {
        let spec = |field: &str, value: Value| {
            let mut spec = json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}],
                "mesh": {"provider": "Istio"}, "tier": "Critical"});
            spec[field] = value;
            readable_service(&spec)
        };
        let read = spec("tier", json!("Colossal")).expect("its requests go as before");
        assert_eq!((read.tier, read.provider()), (None, crate::api::network::MeshProvider::Istio));
        assert!(spec("image", json!(7)).is_some());
        for (field, value) in
            [("mesh", json!({"provider": "Pigeon"})), ("ports", json!(7)), ("scale", json!([]))]
        {
            assert_eq!(spec(field, value), None, "{field}");
        }
    }

    fn of(spec: Value, memory: Value) -> (Arc<CanaryRollout>, Option<Arc<UnreadableField>>) {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "app", "namespace": "pay", "generation": 7}, "spec": spec,
            "status": {"memory": memory},
        }))
        .expect("an object");
        match read(object) {
            CanaryObject::Good(object) => (object, None),
            CanaryObject::Bad(object, unreadable) => (object, Some(unreadable)),
        }
    }

    fn memory(weight: i32, stable: Option<&str>) -> Value {
        json!({"attempt": 3, "rollout": {"canary": "b", "stable": stable, "release": "2", "weight": weight,
            "startedAt": "2026-11-25T10:00:00Z"}})
    }

    #[test]
    fn the_field_that_cannot_be_read_is_named() {
        let whole =
            json!({"service": "app", "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 100}]}}});
        assert!(of(whole.clone(), Value::Null).1.is_none());
        for (pointer, value, field) in [
            ("/strategy/canary/steps", json!("many"), "spec.strategy.canary.steps"),
            ("/strategy/canary/steps/0/weight", json!("ten"), "spec.strategy.canary.steps[0].weight"),
            ("/via", json!("Pigeon"), "spec.via"),
            ("/strategy", Value::Null, "spec.strategy"),
            ("/service", json!(5), "spec.service"),
        ] {
            let mut spec = whole.clone();
            match spec.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => spec[&pointer[1..]] = value,
            }
            let (object, unreadable) = of(spec, Value::Null);
            assert_eq!(unreadable.expect("it cannot be read").field, field);
            assert_eq!(object.spec.service, "app");
        }
    }

    #[test]
    fn what_can_be_read_is_kept_and_what_is_remembered_says_who_has_the_traffic() {
        let spec = json!({"service": "app", "strategy": "fast", "via": "Pigeon", "from": 5, "progressDeadline": "3m",
            "featureFlag": {"launchDarkly": {"project": "p", "environment": "e", "flag": "f", "variation": 0,
                "fallback": 1, "token": {"secret": "s", "key": "k"}}}});
        let (object, unreadable) = of(spec.clone(), memory(10, Some("a")));
        assert_eq!(unreadable.expect("it cannot be read").left_out, ["from", "strategy", "via"]);
        let read = &object.spec;
        assert_eq!(
            (read.progress_deadline.as_deref(), read.via, read.from),
            (Some("3m"), Some(Via::FeatureFlag), None)
        );
        let weights: Vec<i32> =
            read.strategy.canary.iter().flat_map(|canary| &canary.steps).map(|step| step.weight).collect();
        assert_eq!(weights, [10, 100]);
        let (object, _) = of(spec, memory(50, None));
        assert_eq!(object.spec.from, Some(From::Legacy), "it was taking traffic from the old backend");
        let (object, unreadable) = of(json!("nonsense"), Value::Null);
        assert_eq!(
            (&*object.spec.service, unreadable.expect("it cannot be read").field.as_str()),
            ("app", "spec")
        );
    }
}
