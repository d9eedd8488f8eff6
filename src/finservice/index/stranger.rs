//! What is kept of objects of others that bear names which we might want.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::labels::{
    ADOPT_ANNOTATION, HANDED_OVER_ANNOTATION, LEGACY_FOR_ANNOTATION, MANAGED_BY_LABEL, RETIRED_ANNOTATION,
};

/// An object of somebody else that bears a name which we might want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    /// Whose it is: the tool or person that wrote it, as far as its metadata tell.
    pub whose: Box<str>,
    /// The FinService that it is handed over to.
    pub adopt: Option<Box<str>>,
    /// For whom its owner gives it as an old backend; see [`LEGACY_FOR_ANNOTATION`].
    pub legacy_for: Option<Box<str>>,
    /// Since when it has no traffic, as we have noted on it.
    pub retired_at: Option<Timestamp>,
    /// Whether we have already scaled it to zero.
    pub handed_over: bool,
}

impl Stranger {
    /// What is kept of somebody else's object.
    pub fn read(metadata: &ObjectMeta) -> Self {
        let label = |key: &str| metadata.labels.as_ref().and_then(|map| map.get(key));
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|map| map.get(key));
        let owner = metadata.owner_references.iter().flatten().next();
        let manager = metadata
            .managed_fields
            .iter()
            .flatten()
            .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
            .filter_map(|entry| entry.manager.as_deref())
            .find(|manager| *manager != "kube-controller-manager");
        let whose = if let Some(owner) = owner {
            format!("{} {}", owner.kind, owner.name)
        } else if let Some(application) = annotation("argocd.argoproj.io/tracking-id") {
            format!("the ArgoCD application {}", application.split(':').next().unwrap_or(application))
        } else if let Some(release) = annotation("meta.helm.sh/release-name") {
            format!("the Helm release {release}")
        } else if let Some(by) = label(MANAGED_BY_LABEL) {
            by.clone()
        } else {
            manager.unwrap_or("somebody else").to_owned()
        };
        Self {
            whose: whose.into(),
            adopt: annotation(ADOPT_ANNOTATION).map(|service| service.as_str().into()),
            retired_at: annotation(RETIRED_ANNOTATION).and_then(|text| text.parse().ok()),
            legacy_for: annotation(LEGACY_FOR_ANNOTATION).map(|text| text.as_str().into()),
            handed_over: annotation(HANDED_OVER_ANNOTATION).is_some(),
        }
    }
}
