//! Changes the Authorities. Each is written over the version that it was decided on, so that a late write is refused.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use super::super::decide::holders;
use super::super::{outcome, status};
use super::{Done, Means, nodes, stores};
use crate::api::authority::{AuthoritySpec, Claim, ClaimState};
use crate::api::labels::MANAGER;
use crate::api::units::whole_seconds;
use crate::api::{Authority, FailoverStatus};
use crate::authority::claims::{self, Refused, slot};
use crate::authority::known::Known;
use crate::failovergroup::act::write;
use crate::failovergroup::live;
use crate::failovergroup::sources::witness;
use crate::runtime::lock::lock;
use crate::witness::Decision;

fn own(means: &Means<'_>) -> AuthoritySpec {
    means.seen.group.knowledge.own.clone().unwrap_or_default()
}

/// Writes it over the version that was seen.
async fn put(means: &Means<'_>, wanted: &AuthoritySpec, words: String) -> Result<Done, kube::Error> {
    let written = write(means.context, &means.shared.ground, &means.seen.group, wanted).await?;
    means.shared.watches.tell();
    Ok(if written { Done::Yes(words) } else { Done::Again })
}

/// Writes what the Authority, as it was seen, allows. What it refuses is decided anew.
async fn changed(
    means: &Means<'_>,
    change: Result<AuthoritySpec, Refused>,
    words: String,
) -> Result<Done, kube::Error> {
    match change {
        Ok(wanted) => put(means, &wanted, words).await,
        Err(refused) => {
            tracing::info!(%refused, "decided anew");
            Ok(Done::Again)
        }
    }
}

fn since() -> Time {
    Time(whole_seconds(Timestamp::now()))
}

pub(super) async fn claim(
    means: &Means<'_>,
    (ballot, follows): (i64, i64),
    (fence, by_witness): (bool, bool),
) -> Result<Done, kube::Error> {
    let claim = Claim {
        site: means.context.site.to_string(),
        ballot,
        follows,
        fence: fence.then_some(true),
        state: ClaimState::Open,
        failover: means.failover.uid(),
        by_witness: by_witness.then_some(true),
    };
    changed(means, claims::open(&own(means), claim), format!("this site claims epoch {ballot}")).await
}

pub(super) async fn press(means: &Means<'_>) -> Result<Done, kube::Error> {
    let change = claims::press(&own(means), &means.context.site, means.ballot());
    changed(means, change, "the source is told to close its stores".to_owned()).await
}

pub(super) async fn withdraw(means: &Means<'_>) -> Result<Done, kube::Error> {
    let change = claims::withdraw(&own(means), &means.context.site, means.ballot());
    changed(means, change, format!("the claim {} is given up", means.ballot())).await
}

/// Puts the claim, as it stands here, into the Authority of a peer.
pub(super) async fn tell(
    means: &Means<'_>,
    peer: &str,
    silent: &mut BTreeSet<String>,
) -> Result<Done, kube::Error> {
    let (ground, group) = (&means.shared.ground, &*means.seen.group.name);
    let namespace = &*means.context.namespace;
    let own = own(means);
    let Some(claim) = slot(&own, &means.context.site) else { return Ok(Done::Again) };
    let object = match live::object(ground, namespace, peer, group).await {
        Ok(Some(object)) => object,
        // Its operator will make one, and copies the claim.
        Ok(None) => return Ok(Done::Again),
        Err(error) => {
            tracing::warn!(peer, %error, "the claim is not told");
            silent.insert(peer.to_owned());
            return Ok(Done::Again);
        }
    };
    let Ok(there) = AuthoritySpec::deserialize(&object.0.data["spec"]) else {
        silent.insert(peer.to_owned());
        return Ok(Done::Again);
    };
    let wanted = match claims::receive(&there, claim) {
        Ok(wanted) => wanted,
        Err(error) => {
            // It knows better: that is copied, and decides.
            take(means, peer, there);
            tracing::info!(peer, %error, "the claim is refused");
            return withdraw(means).await;
        }
    };
    let Some(_permit) = means.context.may_write(true).await else { return Ok(Done::Again) };
    let patch = json!({
        "metadata": {"resourceVersion": object.0.metadata.resource_version},
        "spec": {"claims": wanted.claims},
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let asked = ground.sites.ask(peer, |client| {
        let api: Api<Authority> = Api::namespaced(client, namespace);
        let (params, patch) = (params.clone(), patch.clone());
        async move { api.patch(group, &params, &Patch::Merge(&patch)).await }
    });
    match asked.await {
        Ok(written) => {
            take(means, peer, written.spec);
            Ok(Done::Yes(format!("{peer} has taken the claim")))
        }
        Err(error) if error.is_conflict() => Ok(Done::Again),
        Err(error) if means.planned && error.is_answer() => {
            let words = format!(
                "{peer} refuses the claim: {error}; see that its chart has the user of this site under authority.peers"
            );
            // The operator there reads the claim here, and copies it too, only later.
            Ok(Done::not_yet("ClaimRefused", words, None))
        }
        Err(error) => {
            tracing::warn!(peer, %error, "the claim is not told");
            silent.insert(peer.to_owned());
            Ok(Done::Again)
        }
    }
}

/// Takes in what a peer shows at this moment; its watch tells of it a little later.
fn take(means: &Means<'_>, peer: &str, there: AuthoritySpec) {
    let group = means.seen.group.name.clone();
    lock(&means.shared.ground.index).peer(peer).authorities.put(group, Ok(there));
}

/// Reads everything that speaks for and against a commit once more. `false` if it must be decided anew.
async fn confirmed(means: &Means<'_>, status: &mut FailoverStatus) -> Result<Option<Done>, kube::Error> {
    // One that is known to be silent costs no time once more: what is known of it is an assertion.
    let skipped = |peer: &String| !means.planned && means.silent.contains(peer);
    let (ground, group) = (&means.shared.ground, &*means.seen.group.name);
    let before = means.seen.group.knowledge.clone();
    let mut news = false;
    for (peer, known) in before.peers.iter().filter(|(peer, _)| !skipped(peer)) {
        match live::peer(ground, &means.context.namespace, peer, group).await {
            Known::Read(Some(there)) => {
                news |= known.read() != Some(&Some(there.clone()));
                take(means, peer, there);
            }
            Known::Read(None) => {}
            Known::NotYet(why) if means.planned => {
                return Ok(Some(outcome::silent_at_commit(&means.of(peer), &why)));
            }
            Known::NotYet(_) => {}
        }
    }
    if news {
        return Ok(Some(Done::Again));
    }
    if let Some(open) = stores::still_closed(means, status).await {
        return Ok(Some(open));
    }
    // Last, since it is the longest that may pass until it is committed.
    Ok(nodes::still(means, status).await)
}

fn holding(means: &Means<'_>) -> Vec<String> {
    let everywhere = means.seen.spec.is_active_everywhere();
    holders(&own(means), &means.context.site, everywhere, means.planned)
}

pub(super) async fn commit(means: &Means<'_>, status: &mut FailoverStatus) -> Result<Done, kube::Error> {
    if let Some(other) = confirmed(means, status).await? {
        return Ok(other);
    }
    let site = &*means.context.site;
    let change = claims::commit(&own(means), site, means.ballot(), holding(means), since());
    changed(
        means,
        change.map(|next| claims::opened_if_empty(next, &means.seen.group.knowledge)),
        format!("this site has authority in epoch {}", means.ballot()),
    )
    .await
}

pub(super) async fn mark(means: &Means<'_>, status: &mut FailoverStatus) -> Result<Done, kube::Error> {
    if let Some(other) = confirmed(means, status).await? {
        return Ok(other);
    }
    let change = claims::mark(&own(means), &means.context.site, means.ballot());
    changed(means, change, "the witness is to decide".to_owned()).await
}

/// Has the witness decide which epoch follows, and writes down what it says.
pub(super) async fn decide(means: &Means<'_>) -> Result<Done, kube::Error> {
    let (ballot, follows) = means.claim;
    let Some(spec) = &means.seen.spec.witness else {
        return Ok(outcome::undecided(
            "the FailoverGroup has no witness any more; set spec.witness as it was",
        ));
    };
    let wanted = Decision {
        epoch: ballot,
        holders: holding(means),
        failover: means.failover.uid().unwrap_or_default(),
    };
    let stands = match witness::decide(&means.of_group(), &spec.object_store, follows, wanted).await {
        Ok(stands) => stands,
        Err(why) => {
            return Ok(outcome::undecided(&why.to_string()));
        }
    };
    let won = stands.epoch == ballot;
    let next = match won {
        true => claims::opened_if_empty(
            claims::decided(&own(means), ballot, stands.holders, since()),
            &means.seen.group.knowledge,
        ),
        false => claims::lose(&own(means), &means.context.site, ballot),
    };
    let words = match won {
        true => format!("this site has authority in epoch {ballot}"),
        false => "the witness has decided for another order".to_owned(),
    };
    put(means, &next, words).await
}

/// Whether it stands in this site's Authority that it serves: it is only to be noted when that began.
pub(super) fn serves(means: &Means<'_>) -> bool {
    own(means).promoted == Some(means.ballot())
}

/// Says that all stores are open here: from now on this site answers that traffic is to come.
pub(super) async fn serve(means: &Means<'_>, status: &mut FailoverStatus) -> Result<Done, kube::Error> {
    let done = put(
        means,
        &claims::promoted(&own(means), means.ballot()),
        "all stores are open here, and traffic comes here".to_owned(),
    )
    .await?;
    if matches!(done, Done::Yes(_)) {
        let ordered = means.failover.metadata.creation_timestamp.as_ref().map(|time| time.0);
        status::opened(status, ordered, means.planned, Timestamp::now());
    }
    Ok(done)
}
