//! Carries out what was decided about a group: its Authority, what hangs on it in this cluster, and what is said of both.

use std::sync::Mutex;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::decide::Decision;
use super::index::{Group, Index, Own};
use super::observe::{Ground, Observed};
use super::sources::group::{OfGroup, Sources};
use super::sources::witness;
use super::{duties, hangs, live, mirrors, status};
use crate::api::authority::{AuthoritySpec, AuthorityState};
use crate::api::labels::{MANAGER, RELEASED_ANNOTATION, SITE_LABEL};
use crate::api::notice::{Notice, Reason, turned};
use crate::api::{Authority, FailoverGroup, FailoverGroupSpec};
use crate::authority::decide::{self as authority, Decision as Deciding};
use crate::authority::known::{Decided, Knowledge};
use crate::runtime::context::Context;
use crate::runtime::events;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::patch::scaling;
use crate::witness::Decision as WitnessDecision;

/// Why something could not be carried out. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// This cluster's API server.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The witness.
    #[error("the witness did not decide: {0}")]
    Witness(String),
}

/// What acting needs.
pub struct Means<'a> {
    /// The process.
    pub context: &'a Context,
    /// Where snapshots are taken.
    pub ground: &'a Ground,
    /// How the witness is asked.
    pub sources: &'a Sources,
    /// What was written of what hangs on authority.
    pub written: &'a Mutex<hangs::Written>,
}

/// What came of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// Whether anything was written.
    pub changed: bool,
    /// Whether a store of this site is at work on what it was told.
    pub under_way: bool,
}

/// Carries out a decision.
///
/// # Errors
/// If something could not be written; the rest was, or will be.
pub async fn act(
    means: &Means<'_>,
    key: &Key,
    seen: &Observed,
    decision: Decision,
) -> Result<Acted, ActError> {
    let Means { context, ground, .. } = means;
    let (mut changed, mut under_way) = (false, false);
    if let (Some(deciding), Some(spec)) = (&decision.authority, seen.spec()) {
        changed |= carry_out(means, seen, spec, deciding).await?;
        changed |= mark_released(means, seen, false).await?;
        under_way = duties::carry_out(means.sources, seen, spec, duties::owed(seen, spec, deciding)).await;
        duties::steer(means.sources, seen, spec, mirrors::owed(seen, spec, deciding)).await;
        let own = deciding.own(&seen.knowledge);
        if let Some(own) = own.filter(|own| own.epoch > 0) {
            changed |= hangs::write(context, means.written, &seen.name, spec, own).await?;
        }
        let wanted = status::authority(seen, deciding, Timestamp::now());
        let old = seen.own.as_ref().and_then(|own| own.status.as_ref());
        if seen.own.is_some() {
            let writer = &context.statuses;
            let written = writer.write::<Authority, _>(key, old, &wanted, status::same_authority).await?;
            if let Some(written) = written {
                changed = true;
                lock(&ground.index).own(&seen.name, Own::read(written.0));
            }
        }
    }
    let passed = |found: &super::checks::found::Found| found.state.severity().is_none();
    context
        .metrics
        .set_checks(&seen.name, decision.checks.iter().map(|found| (found.name.as_str(), passed(found))));
    let wanted = status::group(seen, decision, Timestamp::now());
    let writer = &context.statuses;
    let written = writer.write::<FailoverGroup, _>(key, seen.status(), &wanted, status::same_group).await?;
    if let Some(written) = written {
        changed = true;
        let old = seen.status().map(|old| old.conditions.as_slice()).unwrap_or_default();
        for Notice { reason, note } in turned(old, &wanted.conditions) {
            context.events.publish(about(context, seen), reason, note);
        }
        answered(&ground.index, &seen.name, Group::read(written.0));
    }
    Ok(Acted { changed, under_way })
}

/// Takes in the answer to a status, unless the group is gone.
fn answered(index: &Mutex<Index>, name: &str, group: Group) {
    let mut index = lock(index);
    if index.observe(name).0.is_some() {
        index.group(name, group);
    }
}

/// Writes the Authority as it is to be. A first claim is decided once more on what everybody shows at this moment.
async fn carry_out(
    means: &Means<'_>,
    seen: &Observed,
    spec: &FailoverGroupSpec,
    deciding: &Deciding,
) -> Result<bool, ActError> {
    if let Some(asked) = &deciding.ask_witness {
        let stands = still(means, seen, spec, |again| again.ask_witness.as_ref() == Some(asked)).await?;
        let told = if stands { ask_witness(means, seen, spec, asked).await } else { Ok(false) };
        // A first claim is written once the witness has decided. What is only recorded there holds nothing here.
        match (deciding.state, told) {
            (AuthorityState::Held, Err(error)) => tracing::warn!(group = seen.name, %error, "not recorded"),
            (AuthorityState::Held, Ok(_)) => {}
            (_, told) => return told,
        }
    }
    let Some(wanted) = &deciding.write else { return Ok(false) };
    if deciding.first_claim && !still(means, seen, spec, |again| again.write.as_ref() == Some(wanted)).await?
    {
        return Ok(false);
    }
    Ok(write(means.context, means.ground, seen, wanted).await?)
}

/// Whether a first claim is still what is to be done, by what this site's Authority and every peer show now.
async fn still(
    means: &Means<'_>,
    seen: &Observed,
    spec: &FailoverGroupSpec,
    same: impl Fn(&Deciding) -> bool,
) -> Result<bool, ActError> {
    let mut peers = Vec::new();
    for peer in spec.peers(&seen.site) {
        let shown = live::peer(means.ground, &means.context.namespace, peer, &seen.name).await;
        peers.push((peer.to_owned(), shown));
    }
    let now = Knowledge { peers, ..seen.knowledge.clone() };
    Ok(same(&authority::decide(&seen.site, spec, &now, Timestamp::now())))
}

async fn ask_witness(
    means: &Means<'_>,
    seen: &Observed,
    spec: &FailoverGroupSpec,
    asked: &Decided,
) -> Result<bool, ActError> {
    let Some(wanted) = &spec.witness else { return Ok(false) };
    if !means.context.leadership.is_leader() {
        return Ok(false);
    }
    let of = OfGroup::new(means.sources, &seen.name, spec);
    let decision = WitnessDecision {
        epoch: asked.epoch,
        holders: asked.holders.clone(),
        // Nobody ordered the first claim.
        failover: String::new(),
    };
    let decided = witness::decide(&of, &wanted.object_store, asked.after, decision).await;
    decided.map_err(ActError::Witness)?;
    Ok(true)
}

/// Writes the Authority over the version that was seen. Whoever was faster wins, and it is decided anew.
///
/// # Errors
/// If the API server does not answer, or refuses.
pub async fn write(
    context: &Context,
    ground: &Ground,
    seen: &Observed,
    wanted: &AuthoritySpec,
) -> Result<bool, kube::Error> {
    let api: Api<Authority> = Api::namespaced(context.client.clone(), &context.namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let mut object = Authority::new(&seen.name, wanted.clone());
    let labels = seen.own.as_ref().and_then(|own| own.metadata.labels.clone());
    object.metadata.labels = Some(labels.unwrap_or_default());
    object.labels_mut().insert(SITE_LABEL.to_owned(), seen.site.to_string());
    let Some(_permit) = context.may_write(true).await else { return Ok(false) };
    let written = match &seen.own {
        None => api.create(&params, &object).await,
        Some(own) => {
            object.metadata.resource_version.clone_from(&own.metadata.resource_version);
            object.metadata.annotations.clone_from(&own.metadata.annotations);
            api.replace(&seen.name, &params, &object).await
        }
    };
    match written {
        Ok(written) => {
            tell(context, seen, wanted);
            let spec = Ok(written.spec);
            let foreign = seen.own.as_ref().map(|own| own.foreign.clone()).unwrap_or_default();
            let own = Own { metadata: written.metadata, spec, status: written.status, foreign };
            lock(&ground.index).own(&seen.name, own);
            Ok(true)
        }
        // Somebody was faster, or the watch has not told of it yet.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            tracing::debug!(group = seen.name, "its Authority was written by somebody else meanwhile");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn tell(context: &Context, seen: &Observed, wanted: &AuthoritySpec) {
    let before = seen.knowledge.own.as_ref().map_or(0, |own| own.epoch);
    if wanted.epoch <= before {
        return;
    }
    let holders = wanted.holders.join(", ");
    let note = format!("{holders} has authority in epoch {}", wanted.epoch);
    context.events.publish(about(context, seen), Reason::AuthorityChanged, note);
}

/// The group, as Events name it.
fn about(context: &Context, seen: &Observed) -> ObjectReference {
    let metadata = seen.group.as_ref().map(|group| &group.metadata);
    let uid = metadata.and_then(|metadata| metadata.uid.clone());
    events::about::<FailoverGroup>(&context.namespace, &seen.name, uid)
}

/// The group is gone: nothing hangs on its Authority any more, which may be deleted from now on.
///
/// # Errors
/// If something could not be written.
pub async fn release(means: &Means<'_>, key: &Key, seen: &Observed) -> Result<bool, ActError> {
    let Means { context, .. } = means;
    context.metrics.set_checks(&seen.name, []);
    context.metrics.stuck().set("FailoverGroup", key, Vec::new());
    if seen.own.is_none() {
        return Ok(false);
    }
    let mut changed = hangs::remove(context, means.written, &seen.name).await?;
    changed |= mark_released(means, seen, true).await?;
    Ok(changed)
}

/// Says in the Authority whether it may be deleted, if it does not say so.
async fn mark_released(means: &Means<'_>, seen: &Observed, released: bool) -> Result<bool, ActError> {
    let Means { context, .. } = means;
    let Some(own) = &seen.own else { return Ok(false) };
    let annotations = own.metadata.annotations.as_ref();
    let marked = annotations.and_then(|all| all.get(RELEASED_ANNOTATION)).is_some_and(|mark| mark == "true");
    if marked == released {
        return Ok(false);
    }
    let api: Api<Authority> = Api::namespaced(context.client.clone(), &context.namespace);
    let mark = released.then_some("true");
    let patch = json!({"metadata": {"annotations": {RELEASED_ANNOTATION: mark}}});
    let Some(_permit) = context.may_write(false).await else { return Ok(false) };
    match api.patch(&seen.name, &scaling(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}
