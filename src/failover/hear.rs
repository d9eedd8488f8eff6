//! What people say to a move in mid-course. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::approve::approve;
use super::view::{Wait, failback};
use crate::actions::hear::{id, said_by};
use crate::api::action::{FenceEvidence, Verb};
use crate::api::authority::AuthoritySpec;
use crate::api::failover::{FenceLevel, MoveAction, Statement, StoreRecord};
use crate::api::{Action, Failover, FailoverStatus};
use crate::authority::claims::{greater, presses};

/// The most Actions that are remembered: the oldest are over for long.
const REMEMBERED: usize = 64;

/// What the group shows of a move, as far as it matters to what people say.
#[derive(Clone, Debug, Default)]
pub struct Stands {
    /// The names of its stores.
    pub stores: Vec<String>,
    /// Whether its claim stands here, and has whoever reads it close the stores of the source.
    pub presses: bool,
    /// How many people must agree; `None` where the group asks for nobody.
    pub people: Option<usize>,
    /// Those of them that a move may go on without.
    pub optional: Vec<String>,
    /// Whether another site has a greater claim: nothing is promoted as long as that is alive.
    pub outbid: bool,
}

impl Stands {
    /// How the claim of a site stands by what its Authority says, beside what the group has.
    pub fn claimed(self, own: Option<&AuthoritySpec>, site: &str, ballot: Option<i64>) -> Self {
        let presses = own.is_some_and(|own| presses(own, site, ballot));
        let outbid = own.is_some_and(|own| greater(own, site, own.epoch).is_some());
        Self { presses, outbid, ..self }
    }
}

/// Takes in what an Action says to a Failover; answers what is done, or why it is refused.
///
/// # Errors
/// Why it is refused.
pub fn hear(
    failover: &Failover,
    status: &mut FailoverStatus,
    action: &Action,
    stands: &Stands,
    now: Timestamp,
) -> Result<String, String> {
    let spec = &action.spec;
    if status.heard.contains(&id(action)) {
        return Ok("it was heard".to_owned());
    }
    if spec.target.uid.as_deref() != failover.uid().as_deref() {
        return Err(format!("it is meant for another Failover that was called {} too", failover.name_any()));
    }
    if let Some(phase) = status.phase.filter(|phase| phase.is_over()) {
        return Err(format!("the Failover is over: {}", phase.as_str()));
    }
    let words = carry_out(failover, status, action, stands, now)?;
    status.heard.push(id(action));
    let over = status.heard.len().saturating_sub(REMEMBERED);
    status.heard.drain(..over);
    Ok(words)
}

fn carry_out(
    failover: &Failover,
    status: &mut FailoverStatus,
    action: &Action,
    stands: &Stands,
    now: Timestamp,
) -> Result<String, String> {
    let spec = &action.spec;
    let planned = status.action(failover.spec.action) == MoveAction::Switchover;
    let committed = status.committed_at.is_some();
    let moves = failover.spec.action.moves();
    let site = status.from.first().map_or("the other site", String::as_str);
    match spec.verb {
        Verb::Force | Verb::AssertFenced | Verb::AcceptDataLoss | Verb::Approve if !moves => {
            let action = failover.spec.action.as_str();
            Err(format!(
                "a {action} closes nothing and commits nothing: there is nothing to {}",
                spec.verb.as_str()
            ))
        }
        Verb::Pause if committed => {
            Err("it is committed: what is left is to open the stores, which does not wait".to_owned())
        }
        Verb::Pause => {
            status.paused = Some(true);
            Ok("it stops before the next step that can wait".to_owned())
        }
        Verb::Resume if status.paused.is_none() => Err("nobody has paused it".to_owned()),
        Verb::Resume => {
            status.paused = None;
            Ok("it goes on".to_owned())
        }
        Verb::Abort if committed && !stands.outbid => Err(format!(
            "it is committed: the way back is `{}`, in the cluster of {site}",
            failback(&failover.spec.group)
        )),
        Verb::Abort => {
            status.aborted = Some(true);
            Ok("it is given up; what was closed is opened again".to_owned())
        }
        Verb::Force if !planned => Err("it is a Failover already".to_owned()),
        Verb::Force if committed => {
            Err("it is committed: what is left does not wait for the source".to_owned())
        }
        Verb::Force => {
            status.forced = Some(true);
            Ok("it goes on as a Failover, without the source".to_owned())
        }
        Verb::Skip if spec.store.is_some() => {
            skip_store(status, spec.store.as_deref().unwrap_or_default(), committed, stands)
        }
        Verb::Skip => {
            let step = spec.step.map_or("", |step| step.as_str()).to_owned();
            let words = format!("{step} is skipped");
            if !status.skipped.contains(&step) {
                status.skipped.push(step);
            }
            Ok(words)
        }
        Verb::AssertFenced => assert_fenced(status, action, planned, stands, now),
        Verb::Approve => approve(status, action, stands.people, now),
        Verb::AcceptDataLoss => accept_loss(status, action, now),
        other => Err(format!("{} is for a CanaryRollout, not for a Failover", other.as_str())),
    }
}

/// A store is left closed that cannot be promoted or opened.
fn skip_store(
    status: &mut FailoverStatus,
    name: &str,
    committed: bool,
    stands: &Stands,
) -> Result<String, String> {
    if !stands.stores.iter().any(|store| store == name) {
        return Err(format!("the group has no store {name}: it has {}", stands.stores.join(", ")));
    }
    if !stands.optional.iter().any(|store| store == name) {
        return Err(format!(
            "store {name} is required: a move goes on only without one with required: false in the FailoverGroup"
        ));
    }
    if !committed {
        return Err(format!(
            "until the commit store {name} is closed and caught up like any other: say it when its promotion, or its \
             opening, fails"
        ));
    }
    let record = super::status::store(status, name);
    if record.opened == Some(true) {
        return Err(format!("store {name} is open here already"));
    }
    record.skipped = Some(true);
    Ok(format!("it goes on without store {name}; once that is well, order a Failover here to open it"))
}

fn statement(action: &Action, words: String, now: Timestamp) -> Statement {
    let by = said_by(action).map_or_else(|| action.name_any(), str::to_owned);
    Statement { by, words, at: Time(now) }
}

fn assert_fenced(
    status: &mut FailoverStatus,
    action: &Action,
    planned: bool,
    stands: &Stands,
    now: Timestamp,
) -> Result<String, String> {
    if planned {
        return Err("a Switchover closes its source itself: force it first, or order a Failover".to_owned());
    }
    // Until then a source that returns, and reads this site, serves on: it was not told to close anything.
    if status.ballot.is_none() || !stands.presses {
        return Err("its claim does not stand yet, or does not close the source yet: what is asserted must hold from \
                    then on; say it again in a moment"
            .to_owned());
    }
    let evidence = action.spec.evidence.map_or("", FenceEvidence::as_str);
    let said = action.spec.words.clone().unwrap_or_default();
    status.assertion = Some(statement(action, format!("{evidence}: {said}"), now));
    for name in &stands.stores {
        if !status.stores.iter().any(|store| store.name == *name) {
            status.stores.push(StoreRecord { name: name.clone(), ..StoreRecord::default() });
        }
    }
    for store in status.stores.iter_mut().filter(|store| store.level.is_none()) {
        store.level = Some(FenceLevel::Asserted);
        store.evidence = Some(format!("{evidence}: {said}"));
    }
    Ok("it goes on as if the source were closed".to_owned())
}

/// What is waited for, with the position that is to be repeated where writes would be lost: whoever repeats it has read it.
pub fn with_position(mut wait: Wait, status: &FailoverStatus) -> Wait {
    if wait.reason == "DataLoss" {
        wait.next = wait.next.map(|next| format!("{next} --position {}", loses(status)));
    }
    wait
}

/// The positions behind which all would be thrown away: of each store that may lack something.
pub fn loses(status: &FailoverStatus) -> String {
    let incomplete = status.stores.iter().filter(|store| store.complete != Some(true));
    let at = incomplete.map(|store| store.frozen.clone().unwrap_or_else(|| "unknown".to_owned()));
    at.collect::<Vec<_>>().join(",")
}

fn accept_loss(status: &mut FailoverStatus, action: &Action, now: Timestamp) -> Result<String, String> {
    let asked = action.spec.position.clone().unwrap_or_default();
    let loses = loses(status);
    if loses.is_empty() {
        return Err(
            "all that was acknowledged is here, or nothing was looked at yet: there is no loss to accept"
                .to_owned(),
        );
    }
    if asked != loses {
        return Err(format!(
            "position {asked} is not where the stores are here, which is {loses}: look again, and repeat that one"
        ));
    }
    status.accepted_loss =
        Some(statement(action, format!("all that was written behind {asked} is thrown away"), now));
    Ok(format!("it goes on from {asked}"))
}

#[cfg(test)]
#[path = "hear_tests.rs"]
mod tests;
