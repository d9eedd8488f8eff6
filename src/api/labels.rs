//! Labels and annotations, each name once.

/// Label that names the FinService of a child.
pub const SERVICE_LABEL: &str = "banyan.dev/service";
/// Label that names the revision of a child.
pub const REVISION_LABEL: &str = "banyan.dev/revision";
/// Kubernetes' own label for who manages an object; the value of ours is [`MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Kubernetes' own label for the release.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// What this operator calls itself in labels, and as the field manager of what it applies.
pub const MANAGER: &str = "banyan";
/// Its field manager for what it patches and never applies: replicas, and notes on what others made.
pub const SCALER: &str = "banyan-scale";

/// Annotation of a FinService whose release must not wait while its group moves to another site: `"true"`.
pub const HOTFIX_ANNOTATION: &str = "banyan.dev/hotfix";
/// Annotation by which a team stops writes to an object: `"true"`.
pub const PAUSE_ANNOTATION: &str = "banyan.dev/pause";
/// Annotation by which the owner of an existing object hands it over to a FinService, by that one's name.
pub const ADOPT_ANNOTATION: &str = "banyan.dev/adopt";
/// Annotation of a Service by which its owner lets FinServices of other namespaces name it as their `legacy` backend: their
/// namespaces, or namespace/name of each, with commas between.
pub const LEGACY_FOR_ANNOTATION: &str = "banyan.dev/legacy-for";
/// Annotation that the operator puts on what lost its traffic: since when.
pub const RETIRED_ANNOTATION: &str = "banyan.dev/retired-at";
/// Annotation that the operator puts on a Service that it takes over: what that one selected, and its ports, before; JSON.
pub const ADOPTED_FROM_ANNOTATION: &str = "banyan.dev/adopted-from";
/// Annotation that the operator puts on a handed-over Deployment: how many pods it had.
pub const REPLICAS_BEFORE_ANNOTATION: &str = "banyan.dev/replicas-before";
/// Annotation that the operator puts on a handed-over Deployment once it has been scaled to zero.
pub const HANDED_OVER_ANNOTATION: &str = "banyan.dev/handed-over";
/// Annotation on a pod template: digests of the Secrets that its pods have read.
pub const SECRETS_ANNOTATION: &str = "banyan.dev/secrets";
/// Annotation on a revision's copy of a ConfigMap: the name of the one that was copied.
pub const COPY_OF_ANNOTATION: &str = "banyan.dev/copy-of";
/// Annotation on the object that carries weights (a route, or without one the plain Service): what the last write of
/// them meant; see [`crate::canary::mark`].
pub const MARK_ANNOTATION: &str = "banyan.dev/rollout";
/// Annotation of an Authority that the operator puts on it once its FailoverGroup is gone: `"true"`. Only then may it be
/// deleted.
pub const RELEASED_ANNOTATION: &str = "banyan.dev/released";
/// Label of an Authority that names the site that it lies at: the policy of the chart compares it with the holders.
pub const SITE_LABEL: &str = "banyan.dev/site";
/// Label that names the FailoverGroup of an object that the operator made for it.
pub const GROUP_LABEL: &str = "banyan.dev/failover-group";
/// Label that names the FailoverGroup of a part of a record: the policy of the chart lets the operator alone write it.
pub const RECORD_LABEL: &str = "banyan.dev/record";
/// Annotation of an Action that the chart's admission policies write: the user who created it.
pub const SAID_BY_ANNOTATION: &str = "banyan.dev/said-by";
/// Annotation of a FinService that the chart's admission policies write: the user who changed its spec last.
pub const CHANGED_BY_ANNOTATION: &str = "banyan.dev/changed-by";
