//! Authority, ways to peers, the same group everywhere, residency, the witness. Pure.

use super::found::{Found, Looked, Step, names};
use crate::api::authority::AuthorityState;
use crate::api::operations::Residency;
use crate::failovergroup::index::GroupThere;
use crate::failovergroup::observe::PeerSeen;
use crate::witness::Chain;

/// Checks them.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    let mut found = vec![authority(looked)];
    found.extend(git(looked));
    for peer in &looked.seen.peers {
        found.extend(ways(peer));
        found.push(same_group(looked, peer));
    }
    found.extend(residency(looked));
    found.extend(witness(looked));
    found
}

fn authority(looked: &Looked<'_>) -> Found {
    let decision = looked.authority;
    let message = decision.message.clone();
    match decision.state {
        AuthorityState::Held | AuthorityState::Standby => {
            Found::passed(Step::Claim, "authority", "Known", message)
        }
        AuthorityState::Unclaimed => Found::failed(
            Step::Claim,
            "authority",
            "Unclaimed",
            message,
            "wait until it is certain that nobody has authority; where the message names something that cannot be read, see to that",
        ),
        AuthorityState::Lost => Found::failed(
            Step::Claim,
            "authority",
            "Lost",
            message,
            "let this site reach its peer or the witness; `kubectl get authorities` at the other site shows what it knows",
        ),
    }
}

/// Whether something in git would take back what operators write.
fn git(looked: &Looked<'_>) -> Option<Found> {
    let own = looked.seen.own.as_ref()?;
    let name = &looked.seen.name;
    Some(match own.foreign.as_slice() {
        [] => Found::passed(Step::Preflight, "git", "NothingForeign", "only operators write the Authority"),
        foreign => Found::failed(
            Step::Preflight,
            "git",
            "GitWouldUndo",
            format!("{} writes Authority {name} too, and would undo a failover", foreign.join(", ")),
            format!(
                "Authorities are written by operators alone: take Authority {name} out of git, or let ArgoCD ignore it: \
                 ignoreDifferences: [{{group: banyan.dev, kind: Authority, name: {name}, jsonPointers: [/spec]}}] with \
                 syncOptions [RespectIgnoreDifferences=true]"
            ),
        ),
    })
}

/// Each way to a peer.
fn ways(peer: &PeerSeen) -> Vec<Found> {
    let name = &peer.name;
    let Some(view) = &peer.view else {
        return vec![Found::failed(
            Step::Preflight,
            format!("peer {name}"),
            "NoWay",
            format!("no CloudCluster {name} says how its API server is reached"),
            format!("create CloudCluster {name} with spec.access"),
        )];
    };
    let all = view.ways.iter().map(|way| {
        let check = format!("peer {name} by {}", way.kind.field());
        match way.reachable {
            Some(true) => Found::passed(Step::Preflight, check, "Reachable", format!("{name} answers")),
            None => Found::unknown(
                Step::Preflight,
                check,
                "NotAsked",
                format!("{name} has not been asked yet"),
                "wait some seconds",
            ),
            // Another way works: what is dangerous is to have one less.
            Some(false) if view.reachable == Some(true) => Found::warning(
                Step::Preflight,
                check,
                "WayFails",
                format!("{name} is not reached this way: {}", way.why),
                format!("repair it while another way works: `kubectl describe cloudcluster {name}`"),
            ),
            Some(false) => Found::failed(
                Step::Preflight,
                check,
                "PeerUnreachable",
                format!("{name} is not reached: {}", way.why),
                format!("see `kubectl describe cloudcluster {name}`: its ways, and why each of them fails"),
            ),
        }
    });
    all.collect()
}

/// Whether the peer has the same group.
fn same_group(looked: &Looked<'_>, peer: &PeerSeen) -> Found {
    let (name, group) = (&peer.name, &looked.seen.name);
    let check = format!("group at {name}");
    match &peer.group {
        GroupThere::NotRead => Found::unknown(
            Step::Preflight,
            check,
            "NotRead",
            format!("the FailoverGroups of {name} have not been read"),
            format!(
                "let {name} be reached, with the ClusterRole banyan-peer bound there to this operator's user"
            ),
        ),
        GroupThere::Absent => Found::failed(
            Step::Preflight,
            check,
            "NoGroup",
            format!("there is no FailoverGroup {group} at {name}"),
            "apply the same file there: every site of a group has the same object",
        ),
        GroupThere::Unsaid => Found::unknown(
            Step::Preflight,
            check,
            "NotRead",
            format!("the operator of {name} has not said yet what its FailoverGroup {group} asks for"),
            format!("wait some seconds; then see whether the operator of {name} runs"),
        ),
        GroupThere::Asks(digest) if *digest == looked.seen.digest => {
            Found::passed(Step::Preflight, check, "SameGroup", format!("{name} has the same group"))
        }
        GroupThere::Asks(_) => Found::failed(
            Step::Preflight,
            check,
            "OtherGroup",
            format!("FailoverGroup {group} asks for something else at {name} than here"),
            "apply the same file at every site of the group",
        ),
    }
}

/// Whether each site may hold the data.
fn residency(looked: &Looked<'_>) -> Option<Found> {
    let wanted = looked.spec.residency?;
    let described = |site: &String| looked.seen.described.get(site);
    let undescribed: Vec<String> =
        looked.spec.sites.iter().filter(|site| described(site).is_none()).cloned().collect();
    let forbidden = |site: &&String| described(site).is_some_and(|site| !site.residency.contains(&wanted));
    let forbidden: Vec<String> = looked.spec.sites.iter().filter(forbidden).cloned().collect();
    Some(if !forbidden.is_empty() {
        let (message, remedy) = may_not_keep(wanted, &names(&forbidden));
        Found::failed(Step::Preflight, "residency", "Forbidden", message, remedy)
    } else if !undescribed.is_empty() {
        let sites = names(&undescribed);
        Found::unknown(
            Step::Preflight,
            "residency",
            "NotDescribed",
            format!("nobody has said what data {sites} may keep"),
            format!("create a CloudCluster with spec.residency for each of them: {sites}"),
        )
    } else {
        Found::passed(
            Step::Preflight,
            "residency",
            "Permitted",
            format!("every site may keep data of {wanted:?}"),
        )
    })
}

/// What is said where data may not be kept, and what to do about it.
pub fn may_not_keep(data: Residency, sites: &str) -> (String, String) {
    let message = format!("data of {data:?} may not be kept at {sites}");
    let remedy = format!(
        "take {sites} out of spec.sites by making another group, or add {data:?} to spec.residency of its CloudCluster if that is true"
    );
    (message, remedy)
}

fn witness(looked: &Looked<'_>) -> Vec<Found> {
    if looked.spec.witness.is_none() {
        return Vec::new();
    }
    let asked = &looked.seen.asked;
    let mut found = Vec::new();
    match &asked.witness {
        None => found.push(Found::unknown(
            Step::Claim,
            "witness",
            "NotAsked",
            "the witness has not been asked yet",
            "wait some seconds",
        )),
        Some(Err((message, remedy))) => {
            found.push(Found::failed(Step::Claim, "witness", "WitnessUnfit", message.clone(), remedy.clone()))
        }
        Some(Ok(decisions)) => match Chain::of(decisions).faults.first() {
            Some(fault) => found.push(Found::failed(
                Step::Claim,
                "witness",
                "WitnessBroken",
                fault.to_string(),
                "compare the objects under after/ with the Authorities of all sites before anything is moved",
            )),
            None => found.push(Found::passed(
                Step::Claim,
                "witness",
                "Fit",
                "the witness can be read and written",
            )),
        },
    }
    if let Some(problem) = &asked.witness_ground {
        let (message, remedy) = (problem.message.clone(), problem.remedy.clone());
        found.push(Found::warning(Step::Claim, "witness's ground", "OwnGround", message, remedy));
    }
    found
}
