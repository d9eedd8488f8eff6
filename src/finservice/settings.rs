//! What the installer says of this cluster, by which builders of children go. Pure.

/// What the installer says of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's own namespace, whose pods ask others for their metrics.
    pub own_namespace: String,
    /// The namespace of Istio's control plane; `None` where it is outside of the cluster.
    pub istiod: Option<String>,
    /// Namespaces from which metrics are scraped; none: any.
    pub scrapers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            own_namespace: "banyan-system".to_owned(),
            istiod: Some("istio-system".to_owned()),
            scrapers: Vec::new(),
        }
    }
}
