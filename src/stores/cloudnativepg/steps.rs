//! From what a Cluster says to what is written into it: changes of a JSON patch, or why there are none. Pure.
//!
//! What stands is judged anew on every version of the object, and the API server takes the changes for that version alone:
//! an order with an older ballot finds the greater one, whenever it comes.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::super::object::{BALLOT_ANNOTATION, annotated};
use super::super::{Ballot, Fence, Promotion, StoreError};
use super::state::{ALL, CLOSED, FENCED, OPENED, PROMOTED_FROM, State, TOKEN};
use super::token::Token;
use crate::api::Problem;

/// Changes; none if it is so already.
pub type Changes = Vec<Value>;

fn claimed(state: &State, asked: Ballot) -> Result<(), StoreError> {
    match state.ballot.filter(|known| *known > asked) {
        Some(known) => Err(StoreError::Refused { asked, known }),
        None => Ok(()),
    }
}

fn primary(name: &str) -> Value {
    json!({"op": "add", "path": "/spec/replica/primary", "value": name})
}

fn not_prepared(message: String, remedy: &str) -> StoreError {
    Problem::error("", message, remedy).into()
}

/// Closes a primary: it is to follow its peer, and once CloudNativePG has begun to demote it, all of its instances are shut
/// down and kept so, since git may revert the first. Not before: CloudNativePG begins only where an instance answers that
/// it is the primary, and would never begin with what is shut down. The token is copied the moment it is seen.
///
/// # Errors
/// If another claim has it, it is a standby, or somebody has shut it down.
pub fn fence(object: &DynamicObject, state: &State, fence: Fence) -> Result<Changes, StoreError> {
    let Fence { ballot: asked, follows } = fence;
    claimed(state, asked)?;
    if state.opened_at > follows {
        return Err(StoreError::OpenedSince { asked, follows, opened: state.opened_at });
    }
    // A replica that no claim has closed follows somebody: nothing is to be closed there.
    if state.is_replica() && state.closed.is_none() {
        return Err(StoreError::IsStandby);
    }
    let Some(peer) = state.peer.as_deref().filter(|peer| *peer != state.own) else {
        return Err(not_prepared(
            "the Cluster does not say which other one it would follow".to_owned(),
            "set spec.replica.source to the name of the other site's Cluster",
        ));
    };
    if state.fenced && state.closed.is_none() {
        return Err(not_prepared(
            "the Cluster's instances are fenced, and not by a failover: CloudNativePG demotes only one that runs".to_owned(),
            "take the fence off: kubectl cnpg fencing off CLUSTER '*'",
        ));
    }
    let mut changes = Vec::new();
    if !state.is_replica() {
        changes.push(primary(peer));
        if state.promotion_token.is_some() {
            // A token is allowed at a primary alone.
            changes.push(json!({"op": "remove", "path": "/spec/replica/promotionToken"}));
        }
    }
    // A primary that shows a token has not looked at itself since it was promoted with it. One that somebody let go while
    // it was closed, with nothing to hold it, may have been promoted and have taken writes. The next token is of a later
    // timeline.
    let let_go = state.closed.is_some() && !state.is_replica() && !state.fenced;
    let past = [state.demotion_token.as_deref(), state.kept_token.as_deref().filter(|_| let_go)];
    let past = past.into_iter().flatten().filter(|_| !state.is_replica());
    let past = past.filter_map(|token| Token::decode(token).ok()).map(|token| token.timeline + 1).max();
    let timeline = state.timeline.unwrap_or_default().max(past.unwrap_or_default());
    let (ballot, timeline) = (asked.to_string(), timeline.to_string());
    let mut annotations = Vec::new();
    if state.ballot != Some(asked) {
        annotations.push((BALLOT_ANNOTATION, Some(ballot.as_str())));
    }
    if state.closed.is_none() {
        annotations.extend([(CLOSED, Some(timeline.as_str())), (TOKEN, None), (PROMOTED_FROM, None)]);
    }
    let token = state.token().map_err(|why| {
        let remedy = "see the log of CloudNativePG's operator, which wrote it";
        not_prepared(format!("the Cluster's demotion token cannot be read: {why}"), remedy)
    })?;
    let has_begun = state.switching || (token.is_some() && !let_go);
    if has_begun && !state.fenced {
        annotations.push((FENCED, Some(ALL)));
    }
    if let_go && state.kept_token.is_some() {
        annotations.extend([(CLOSED, Some(timeline.as_str())), (TOKEN, None)]);
    } else if let Some(token) = &token
        && state.kept_token.as_ref() != Some(&token.text)
    {
        annotations.push((TOKEN, Some(token.text.as_str())));
    } else if token.is_none() && state.closed.is_some() {
        annotations.push((TOKEN, None));
    }
    changes.extend(annotated(object, &annotations));
    Ok(changes)
}

/// Whether a fence of that ballot stands for good: it follows its peer, the token of its last timeline is kept, and
/// CloudNativePG, which takes the fence away when a demotion ends, has done with it.
pub fn is_fenced(state: &State, ballot: Ballot) -> bool {
    state.ballot == Some(ballot)
        && state.is_replica()
        && state.fenced
        && state.closed.is_some()
        && state.token().is_ok_and(|token| token.is_some_and(|token| state.kept_token == Some(token.text)))
        && !state.switching
}

/// Writes the ballot into a standby, so that no promotion that was ordered before can still arrive.
///
/// # Errors
/// If another claim has it, or it is a primary.
pub fn fence_standby(object: &DynamicObject, state: &State, fence: Fence) -> Result<Changes, StoreError> {
    let Fence { ballot: asked, follows } = fence;
    claimed(state, asked)?;
    if state.opened_at > follows {
        return Err(StoreError::OpenedSince { asked, follows, opened: state.opened_at });
    }
    if !state.is_replica() {
        return Err(StoreError::IsPrimary);
    }
    if state.ballot == Some(asked) {
        return Ok(Vec::new());
    }
    Ok(annotated(object, &[(BALLOT_ANNOTATION, Some(&asked.to_string()))]))
}

/// Opens again what that claim closed, where it is. With its own token it loses nothing.
pub fn lift(object: &DynamicObject, state: &State, ballot: Ballot) -> Changes {
    if state.ballot != Some(ballot) || state.closed.is_none() {
        return Vec::new();
    }
    let mut changes = Vec::new();
    if state.is_replica() {
        changes.push(primary(&state.own));
        if let Ok(Some(token)) = state.token() {
            changes.push(json!({"op": "add", "path": "/spec/replica/promotionToken", "value": token.text}));
        }
    }
    changes.extend(annotated(object, &[(FENCED, None), (TOKEN, None), (CLOSED, None)]));
    changes
}

/// Promotes a standby whose ballot is the one that was read, with the token of the one that was demoted if there is one.
///
/// # Errors
/// If another claim has it, it is a primary, or the token does not fit.
pub fn promote(
    object: &DynamicObject,
    state: &State,
    promotion: Promotion,
    token: Option<&Token>,
) -> Result<Changes, StoreError> {
    let Promotion { ballot: asked, row } = promotion;
    claimed(state, asked)?;
    if !state.is_replica() {
        let ours = state.ballot == Some(asked) && state.promoted_from.is_some();
        return if ours { Ok(Vec::new()) } else { Err(StoreError::IsPrimary) };
    }
    if state.ballot != row {
        return Err(StoreError::OtherRow { expected: row, found: state.ballot });
    }
    let (Some(system), Some(timeline)) = (state.system, state.told.or(state.shut_down_on())) else {
        return Err(StoreError::Starting);
    };
    if let Some(Err(message)) = token.map(|token| token.fits(system, timeline)) {
        let remedy =
            "promote the site whose token it is; to go on without it loses what that site wrote last";
        return Err(not_prepared(message, remedy));
    }
    // A timeline that a primary here has had is no sign of this promotion, and what instances tell may be late.
    let known = [Some(timeline), state.timeline, token.map(|token| token.timeline)];
    let timeline = known.into_iter().flatten().max().unwrap_or(timeline);
    let mut changes = vec![primary(&state.own)];
    match token {
        Some(token) => {
            changes.push(json!({"op": "add", "path": "/spec/replica/promotionToken", "value": token.text}))
        }
        None if state.promotion_token.is_some() => {
            changes.push(json!({"op": "remove", "path": "/spec/replica/promotionToken"}));
        }
        None => {}
    }
    let (ballot, from) = (asked.to_string(), timeline.to_string());
    changes.extend(annotated(
        object,
        &[
            (BALLOT_ANNOTATION, Some(&ballot)),
            (PROMOTED_FROM, Some(&from)),
            // What this site left when it was demoted itself is of another time.
            (TOKEN, None),
            (CLOSED, None),
            (FENCED, None),
        ],
    ));
    Ok(changes)
}

/// Whether the promotion that this claim ordered is done.
pub fn is_promoted(state: &State, ballot: Ballot) -> bool {
    state.ballot == Some(ballot)
        && state.promoted_from.is_some()
        && !state.is_replica()
        && !state.waits_for_promotion()
        && !state.fenced
}

/// Notes for which epoch it was opened.
///
/// # Errors
/// If another claim has it, or it is no primary yet.
pub fn open(object: &DynamicObject, state: &State, epoch: Ballot) -> Result<Changes, StoreError> {
    claimed(state, epoch)?;
    if state.is_replica() {
        return Err(StoreError::IsStandby);
    }
    if state.waits_for_promotion() {
        return Err(StoreError::NotYet {
            what: "the Cluster is not promoted",
            after: std::time::Duration::ZERO,
        });
    }
    if state.opened_at >= epoch && !state.fenced {
        return Ok(Vec::new());
    }
    let epoch = epoch.to_string();
    let (opened, ballot) = ((OPENED, Some(epoch.as_str())), (BALLOT_ANNOTATION, Some(epoch.as_str())));
    Ok(annotated(object, &[opened, ballot, (FENCED, None), (CLOSED, None), (TOKEN, None)]))
}

/// Lets a demoted Cluster start again, to follow the new primary.
///
/// # Errors
/// If another claim has it, it is a primary, or it was not demoted in order.
pub fn follow(object: &DynamicObject, state: &State, epoch: Ballot) -> Result<Changes, StoreError> {
    claimed(state, epoch)?;
    if !state.is_replica() {
        return Err(StoreError::IsPrimary);
    }
    if state.closed.is_none() {
        return Ok(Vec::new());
    }
    if state.kept_token.is_none() {
        return Err(StoreError::Unsupported {
            message: "the Cluster was never shut down in order: it may have log that the new primary does not have"
                .to_owned(),
            remedy: "keep what it has (kubectl cnpg backup), delete it, and make it anew from the new primary: spec.bootstrap.pg_basebackup.source"
                .to_owned(),
        });
    }
    Ok(annotated(object, &[(FENCED, None), (TOKEN, None), (CLOSED, None)]))
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
