//! Where a FinService runs, and what is different there. Pure.

use crate::api::FinServiceSpec;
use crate::api::finservice::{Standby, Traffic};
use crate::api::operations::Residency;
use crate::api::workload::{EnvVar, Scale};
use crate::authority::view::Standing;

/// Whether a FinService runs on this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It does.
    Here,
    /// `placement` does not name the site.
    Elsewhere,
    /// Its data must not be kept here.
    Forbidden(Residency),
    /// Nobody has said what data may be kept here.
    Undeclared(Residency),
}

/// Whether `placement` names the site; without a placement every site is meant.
pub fn names(spec: &FinServiceSpec, site: &str) -> bool {
    spec.placement.as_ref().is_none_or(|sites| sites.iter().any(|placed| placed.cluster == site))
}

/// Whether a FinService runs on this site, given the jurisdictions whose data may be kept here
/// (`None`: nobody has said).
pub fn decide(spec: &FinServiceSpec, site: &str, served: Option<&[Residency]>) -> Placed {
    if !names(spec, site) {
        return Placed::Elsewhere;
    }
    match (spec.data.as_ref().and_then(|data| data.residency), served) {
        (None, _) => Placed::Here,
        (Some(residency), None) => Placed::Undeclared(residency),
        (Some(residency), Some(served)) if served.contains(&residency) => Placed::Here,
        (Some(residency), Some(_)) => Placed::Forbidden(residency),
    }
}

/// The spec as it holds on this site: overrides merged, the number of pods taken in the percentage
/// that `placement` asks for. An autoscaler keeps its `max`: a standby site must be able to grow to
/// the whole load in a failover.
///
/// A site that has authority over the service's FailoverGroup, or is taking over, has all pods, whatever the percentage. Where another has it,
/// a service that fetches its work has none.
pub fn effective(spec: &FinServiceSpec, site: &str, standing: Option<&Standing>) -> FinServiceSpec {
    let mut spec = spec.clone();
    if let Some(site) = spec.sites.as_ref().and_then(|sites| sites.get(site)).cloned() {
        if let Some(env) = site.env {
            spec.env = Some(merge(spec.env.take().unwrap_or_default(), env));
        }
        spec.resources = site.resources.or(spec.resources);
    }
    spec.scale = scale(&spec, site, standing);
    spec
}

/// How many pods it has on this site: the part of [`effective`] that is about the size.
pub fn scale(spec: &FinServiceSpec, site: &str, standing: Option<&Standing>) -> Option<Scale> {
    if standing.is_some_and(Standing::stands_by) && is_cold(spec) {
        return Some(Scale { replicas: Some(0), ..Scale::default() });
    }
    let own = spec.sites.as_ref().and_then(|sites| sites.get(site)?.scale.as_ref());
    let mut scale = own.or(spec.scale.as_ref()).cloned();
    let percent = spec
        .placement
        .iter()
        .flatten()
        .find(|placed| placed.cluster == site)
        .and_then(|placed| placed.capacity_percent);
    let whole = standing.is_some_and(Standing::is_whole);
    if let Some(percent) = percent.filter(|percent| *percent < 100 && !whole) {
        let scale = scale.get_or_insert(Scale { replicas: Some(DEFAULT_REPLICAS), ..Scale::default() });
        for count in [&mut scale.replicas, &mut scale.min].into_iter().flatten() {
            *count = share(*count, percent);
        }
    }
    scale
}

/// Whether it has no pods while it stands by.
pub fn is_cold(spec: &FinServiceSpec) -> bool {
    spec.traffic() == Traffic::Pulled && spec.standby.unwrap_or_default() == Standby::Cold
}

/// Pods of a service that says nothing of its scale: the least that survives the loss of a node.
pub const DEFAULT_REPLICAS: i32 = 2;

/// A percentage of a number of pods, rounded up, so that a share of one pod is one pod.
fn share(count: i32, percent: i32) -> i32 {
    let share = (i64::from(count) * i64::from(percent) + 99) / 100;
    i32::try_from(share).unwrap_or(i32::MAX)
}

fn merge(mut base: Vec<EnvVar>, over: Vec<EnvVar>) -> Vec<EnvVar> {
    for variable in over {
        match base.iter_mut().find(|have| have.name == variable.name) {
            Some(have) => *have = variable,
            None => base.push(variable),
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::authority::AuthorityState;
    use serde_json::json;

    fn spec(more: serde_json::Value) -> FinServiceSpec {
        let mut spec = json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}]});
        spec.as_object_mut().expect("map").extend(more.as_object().expect("map").clone());
        serde_json::from_value(spec).expect("spec")
    }

    #[test]
    fn residency_decides_where_placement_allows() {
        let eu = spec(json!({"data": {"residency": "EU"}, "placement": [{"cluster": "a"}]}));
        assert_eq!(decide(&eu, "b", Some(&[Residency::EU])), Placed::Elsewhere);
        assert_eq!(decide(&eu, "a", Some(&[Residency::EU])), Placed::Here);
        assert_eq!(decide(&eu, "a", Some(&[Residency::US])), Placed::Forbidden(Residency::EU));
        assert_eq!(decide(&eu, "a", None), Placed::Undeclared(Residency::EU));
        assert_eq!(decide(&spec(json!({})), "a", None), Placed::Here);
    }

    #[test]
    fn a_site_has_its_own_words_and_its_own_size() {
        let spec = spec(json!({
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
            "scale": {"min": 3, "max": 30},
            "placement": [{"cluster": "a"}, {"cluster": "b", "capacityPercent": 50}],
            "sites": {"b": {"env": [{"name": "B", "value": "2"}, {"name": "C", "value": "2"}]}}
        }));
        let (a, b) = (effective(&spec, "a", None), effective(&spec, "b", None));
        assert_eq!(a, spec);
        let env: Vec<_> = b.env.iter().flatten().map(|e| (e.name.as_str(), e.value.as_deref())).collect();
        assert_eq!(env, [("A", Some("1")), ("B", Some("2")), ("C", Some("2"))]);
        assert_eq!(b.scale.map(|s| (s.min, s.max)), Some((Some(2), Some(30))));
    }

    #[test]
    fn authority_decides_about_the_size_and_about_consumers() {
        let standing = |held: bool| {
            let state = if held { AuthorityState::Held } else { AuthorityState::Standby };
            Standing {
                group: "pay".into(),
                state,
                holders: Vec::new().into(),
                claimed: false,
                moves_to: None,
                hosts: Vec::new().into(),
                refuses: false,
            }
        };
        let pods = |spec: &FinServiceSpec, standing: Option<&Standing>| {
            effective(spec, "b", standing).scale.map(|scale| (scale.replicas, scale.min))
        };
        let half = spec(
            json!({"scale": {"min": 4, "max": 9}, "placement": [{"cluster": "b", "capacityPercent": 50}]}),
        );
        assert_eq!(pods(&half, None), Some((None, Some(2))));
        assert_eq!(pods(&half, Some(&standing(false))), Some((None, Some(2))));
        assert_eq!(pods(&half, Some(&standing(true))), Some((None, Some(4))));
        let pulled = spec(json!({"scale": {"replicas": 4}, "traffic": "Pulled"}));
        assert_eq!(pods(&pulled, None), Some((Some(4), None)));
        assert_eq!(pods(&pulled, Some(&standing(false))), Some((Some(0), None)));
        assert_eq!(pods(&pulled, Some(&standing(true))), Some((Some(4), None)));
        let warm = spec(json!({"scale": {"replicas": 4}, "traffic": "Pulled", "standby": "Warm"}));
        assert_eq!(pods(&warm, Some(&standing(false))), Some((Some(4), None)));
    }

    #[test]
    fn half_of_one_pod_is_one_pod() {
        assert_eq!((share(1, 50), share(0, 50), share(3, 50), share(10_000, 99)), (1, 0, 2, 9_900));
    }
}
