//! The fresh copy of a revision: pods of the same template and of the canary's age, so that the canary is
//! compared with something as young as itself.
//!
//! It has children as a revision has, under the pseudo-revision `<hash>-fresh`. It has no ControllerRevision
//! and no copies of ConfigMaps of its own: its pods read those of the revision.

use serde_json::Value;

use super::{Child, RevisionParts, Scope, of_revision};
use crate::api::labels::REVISION_LABEL;
use crate::canary::facts::Destination;
use crate::finservice::plan::revision::RevisionInput;

/// What ends the name of a copy; a hash has no dash.
const ENDING: &str = "-fresh";

/// What the copy of a revision is called where a revision's hash would stand.
pub fn revision(hash: &str) -> String {
    format!("{hash}{ENDING}")
}

/// What the children and pods of a destination bear as their revision; none of the old backend.
pub fn label(to: &Destination) -> Option<String> {
    match to {
        Destination::Revision(hash) => Some(hash.clone()),
        Destination::Baseline(hash) => Some(revision(hash)),
        Destination::Legacy => None,
    }
}

/// Whether that is what the copy of a revision is called.
pub fn is_copy(revision: &str) -> bool {
    revision.ends_with(ENDING)
}

/// The pod template of the copy, from that of the revision. Its pods bear another revision, in the
/// labels and where they are spread, so that neither the plain Service nor the revision's own selects
/// them; all else is the same, annotations too.
pub fn template(template: &Value, hash: &str) -> Value {
    let copy: Value = revision(hash).into();
    let mut template = template.clone();
    let mut name_copy = |pointer: &str| {
        if let Some(Value::Object(labels)) = template.pointer_mut(pointer) {
            labels.insert(REVISION_LABEL.to_owned(), copy.clone());
        }
    };
    name_copy("/metadata/labels");
    // Over zones and over nodes; see the template of a revision.
    name_copy("/spec/topologySpreadConstraints/0/labelSelector/matchLabels");
    name_copy("/spec/topologySpreadConstraints/1/labelSelector/matchLabels");
    template
}

/// The children of the copy of a revision that is to have `replicas` pods: Service, DestinationRule, budget
/// and Deployment. No autoscaler: it is as large as the canary, which decides that.
///
/// `input` and `revision_template` are those of the revision, and `secrets_digest` as in
/// [`RevisionParts`].
pub fn build(
    scope: &Scope,
    hash: &str,
    input: &RevisionInput,
    revision_template: &Value,
    replicas: i32,
    secrets_digest: Option<&str>,
) -> Vec<Child> {
    let parts = RevisionParts {
        hash: &revision(hash),
        input,
        template: &template(revision_template, hash),
        replicas,
        serves: false,
        direct: false,
        least: None,
        secrets_digest,
    };
    of_revision(scope, &parts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::finservice::children::{Kind, Routing, Weights, service, template};
    use crate::finservice::testing;

    const HASH: &str = "bcdfghjklm";

    /// Whether a selector selects pods of these labels.
    fn selects(selector: &Value, labels: &Value) -> bool {
        let selector = selector.as_object().expect("a selector");
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    #[test]
    fn nobody_selects_the_copy_but_its_own_service() {
        let spec = testing::rich();
        let scope = testing::scope(&spec);
        let input = testing::input(&spec);
        let original = template::render(&scope, &input, HASH);
        let children = build(&scope, HASH, &input, &original, 3, None);
        let child = |kind: Kind| children.iter().find(|child| child.kind == kind).expect("a child");
        let labels = &child(Kind::Deployment).body["spec"]["template"]["metadata"]["labels"];
        let own = &child(Kind::Service).body["spec"]["selector"];
        assert!(selects(own, labels));
        assert!(!selects(own, &original["metadata"]["labels"]));
        let weights = Weights::default();
        let plain = service::plain(&scope, &Routing::new(Some(HASH), &weights));
        let theirs = service::revision(&scope, HASH, &input.ports).expect("a Service");
        let direct = service::direct(&scope, HASH, &input.ports).expect("a Service");
        for other in [plain, theirs, direct] {
            assert!(selects(&other.body["spec"]["selector"], &original["metadata"]["labels"]));
            assert!(!selects(&other.body["spec"]["selector"], labels), "{}", other.name);
        }
        // The policies of the service are for the copy as well.
        assert!(selects(&scope.service_labels(), labels));
    }

    #[test]
    fn the_copy_is_the_same_but_for_its_name() {
        let spec = testing::rich();
        let scope = testing::scope(&spec);
        let input = testing::input(&spec);
        let mut original = template::render(&scope, &input, HASH);
        original["metadata"]["annotations"] = serde_json::json!({"a": "b"});
        let copy = template(&original, HASH);
        assert_eq!(copy["metadata"]["annotations"], original["metadata"]["annotations"]);
        assert_eq!(copy["spec"]["containers"], original["spec"]["containers"]);
        assert_eq!(copy["spec"]["volumes"], original["spec"]["volumes"]);
        let constraints = copy["spec"]["topologySpreadConstraints"].as_array().expect("constraints");
        assert_eq!(constraints.len(), 2);
        for constraint in constraints {
            assert!(selects(&constraint["labelSelector"]["matchLabels"], &copy["metadata"]["labels"]));
        }
    }

    #[test]
    fn the_copy_has_what_a_revision_has_and_no_autoscaler() {
        let spec = testing::rich();
        let scope = testing::scope(&spec);
        let input = testing::input(&spec);
        let original = template::render(&scope, &input, HASH);
        let children = build(&scope, HASH, &input, &original, 3, None);
        let kinds: BTreeSet<Kind> = children.iter().map(|child| child.kind).collect();
        assert_eq!(
            kinds,
            BTreeSet::from([
                Kind::Service,
                Kind::DestinationRule,
                Kind::PodDisruptionBudget,
                Kind::Deployment
            ])
        );
        for child in &children {
            assert_eq!(child.name, format!("{}-{HASH}-fresh", testing::NAME));
            assert_eq!(child.body["metadata"]["labels"][REVISION_LABEL], format!("{HASH}-fresh"));
        }
    }
}
