//! What one plan is made from, worked out once. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::canary;
use crate::finservice::children::Scope;
use crate::finservice::index::Observed;
use crate::finservice::plan::revision::RevisionInput;
use crate::finservice::plan::revisions::{self, Revision};

/// What one plan is made from.
pub struct Planning<'a> {
    /// The FinService as it holds here.
    pub scope: &'a Scope<'a>,
    /// The snapshot.
    pub seen: &'a Observed,
    /// The time.
    pub now: Timestamp,
    /// Its revisions, by their hashes.
    pub revisions: BTreeMap<&'a str, Revision<'a>>,
    /// The revision that serves as far as Services tell, before this plan.
    pub before: Option<&'a str>,
    /// The revision that the spec asks for, with its hash, if it can be known.
    pub current: Option<&'a (String, RevisionInput)>,
    /// The revision that is asked for: that of the spec, or, while that cannot be known, the newest one, so that what
    /// was on its way in stays so.
    pub asked: Option<Asked<'a>>,
    /// Why nothing is written but what takes requests away from a canary, if so.
    pub stopped: Option<Stopped>,
}

/// Why nothing is written but what takes requests away from a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Why, in words.
    pub why: String,
    /// Where the rollout stands meanwhile.
    pub phase: canary::Phase,
}

/// A revision that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Its hash.
    pub hash: &'a str,
    /// Its release; empty while the spec cannot be followed.
    pub release: &'a str,
}

impl<'a> Planning<'a> {
    /// What a plan is made from. `current` is the revision that the spec asks for, if it can be known.
    pub fn new(
        scope: &'a Scope<'a>,
        seen: &'a Observed,
        current: Option<&'a (String, RevisionInput)>,
        now: Timestamp,
    ) -> Self {
        let revisions = revisions::revisions(seen);
        let before = revisions::stable(seen, &revisions);
        let asked = match current {
            Some((hash, input)) => Some(Asked { hash, release: &input.release }),
            None => revisions::newest(&revisions).map(|hash| Asked { hash, release: "" }),
        };
        Self { scope, seen, now, revisions, before, current, asked, stopped: None }
    }

    /// What a plan is made from that only takes requests away from `canary`: whatever the spec asks for by now, it is
    /// this one that is judged.
    pub fn stopped(
        scope: &'a Scope<'a>,
        seen: &'a Observed,
        canary: Asked<'a>,
        stopped: Stopped,
        now: Timestamp,
    ) -> Self {
        Self { asked: Some(canary), stopped: Some(stopped), ..Self::new(scope, seen, None, now) }
    }

    /// The hash of the revision that is asked for.
    pub fn asked_hash(&self) -> Option<&'a str> {
        self.asked.map(|asked| asked.hash)
    }

    /// What a revision was made from, or is to be made from.
    pub fn input(&self, hash: &str) -> Option<&RevisionInput> {
        let kept =
            self.revisions.get(hash).and_then(|revision| revision.parts.as_ref()).map(|(input, _)| input);
        kept.or(self.current.filter(|(current, _)| current == hash).map(|(_, input)| input))
    }
}
