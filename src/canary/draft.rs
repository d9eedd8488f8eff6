//! A decision while it is being made: what is remembered so far, and what has been said on the way.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, Phase, RevisionFacts};
use super::health;
use super::mark::{End, Mark};
use super::steps::{self, Said};
use crate::actions::Answered;
use crate::api::Problem;
use crate::api::action::Verb;
use crate::api::canaryrollout::{From, Via};
use crate::api::canarystatus::{Announced, Failed, Memory, Outcome, Past, Rollout, Wait, Warm};
use crate::api::conditions::cut;
use crate::api::notice::Notice;
use crate::api::notice::Reason;
use crate::api::units::{display, whole_seconds};
use crate::evidence::{Share, Verdict};
use crate::judge::Evidence;

use super::facts::Sharing;

/// Failed revisions that are remembered.
const FAILED: usize = 10;
/// Longest sentence that is kept in the status, in characters.
const LONGEST: usize = 400;

/// A decision while it is being made.
pub(super) struct Draft<'a> {
    pub facts: &'a Facts<'a>,
    pub now: Timestamp,
    pub memory: Memory,
    /// Who serves, after this decision.
    pub stable: Option<String>,
    pub phase: Phase,
    pub said: Option<Said>,
    /// Whether something ran beside the canary when it was judged.
    pub compared: bool,
    pub stalled: Option<(&'static str, String)>,
    pub reasons: Vec<String>,
    pub notices: Vec<Notice>,
    pub problems: Vec<Problem>,
    pub again_at: Option<Timestamp>,
    pub answered: Vec<Answered>,
    pub ended: Vec<Past>,
    pub ask: Vec<usize>,
    /// Whether the canary is not to become stable although it may be the only one that answers.
    pub unwanted: bool,
}

impl<'a> Draft<'a> {
    pub fn new(facts: &'a Facts<'a>, now: Timestamp) -> Self {
        let now = whole_seconds(now);
        Self {
            facts,
            now,
            memory: facts.memory.clone(),
            stable: facts.stable.map(str::to_owned),
            phase: Phase::Settled,
            said: None,
            compared: false,
            stalled: None,
            reasons: Vec::new(),
            notices: Vec::new(),
            problems: Vec::new(),
            again_at: None,
            answered: Vec::new(),
            ended: Vec::new(),
            ask: Vec::new(),
            unwanted: false,
        }
    }

    pub fn time(&self) -> Time {
        Time(self.now)
    }

    pub fn notice(&mut self, reason: Reason, note: impl Into<String>) {
        self.notices.push(Notice { reason, note: note.into() });
    }

    pub fn look_again(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.again_at = Some(self.again_at.map_or(at, |before| before.min(at)));
        }
    }

    pub fn revision(&self, hash: &str) -> Option<&'a RevisionFacts> {
        self.facts.revisions.iter().find(|revision| revision.hash == hash)
    }

    /// Whether a revision has a pod that answers.
    pub fn answers(&self, hash: &str) -> bool {
        self.revision(hash).is_some_and(RevisionFacts::answers)
    }

    /// Whether nobody answers in stable although it is to have pods, while the canary's pods could.
    pub fn stable_is_down(&self) -> bool {
        // With a flag both are the same pods; where numbers of pods are the weight, requests go to those that answer.
        if self.by_flag() || self.facts.sharing == Sharing::Pods || self.facts.scale.demand() == 0 {
            return false;
        }
        let stable = self.memory.rollout.as_ref().and_then(|rollout| rollout.stable.as_deref());
        stable.is_some_and(|stable| !self.answers(stable))
    }

    /// Whether somebody answers where the traffic goes if it is taken back now.
    pub fn has_way_back(&self) -> bool {
        match (&self.memory.rollout, &self.memory.warm) {
            (Some(rollout), _) => rollout.weight == 0 || !self.stable_is_down(),
            (None, Some(warm)) => self.answers(&warm.old),
            (None, None) => false,
        }
    }

    /// Whether the shares are a flag's percentages.
    pub fn by_flag(&self) -> bool {
        self.facts.policy.via == Via::FeatureFlag
    }

    /// Whether traffic is taken from the legacy backend.
    pub fn takes_from_legacy(&self) -> bool {
        self.facts.policy.from == From::Legacy && !self.memory.legacy_done
    }

    pub fn failed(&self, hash: &str) -> Option<&Failed> {
        self.memory.failed.iter().find(|failed| failed.revision == hash)
    }

    /// The failure of what the FinService asks for; while that is not known, of what was tried last.
    pub fn refused(&self) -> Option<&Failed> {
        match self.facts.current {
            Some(current) => self.failed(current),
            None => self.memory.failed.first().filter(|failed| failed.attempt == self.memory.attempt),
        }
    }

    /// Starts over from zero weight; the evidence of an earlier attempt is void.
    pub fn begin(&mut self, hash: &str) {
        let from = self.start(hash);
        let release = self.facts.release;
        self.notice(
            Reason::RolloutStarted,
            match self.facts.changed {
                Some(changed) => {
                    format!(
                        "{release} (revision {hash}) begins to take over from {from}: {changed} was changed"
                    )
                }
                None => format!("{release} (revision {hash}) begins to take over from {from}"),
            },
        );
    }

    /// The same for what failed before, since a person says so. Its Event must not be taken for that of the first
    /// attempt.
    pub fn begin_again(&mut self, hash: &str, by: &str) {
        let from = self.start(hash);
        let (release, attempt) = (self.facts.release, self.memory.attempt);
        self.notice(
            Reason::RolloutStarted,
            format!(
                "{release} (revision {hash}) begins again to take over from {from}, as attempt {attempt}: retry by {by}"
            ),
        );
    }

    /// Starts over, and says from whom the traffic is taken.
    fn start(&mut self, hash: &str) -> String {
        let release = self.facts.release.to_owned();
        if let Some(old) = self.memory.rollout.take() {
            let note = format!(
                "{} gives way at {} %: the template changed again to {release}, which starts over from zero weight",
                old.release, old.weight
            );
            self.end(&old, Outcome::Superseded, &note);
            self.notice(Reason::RolloutCancelled, note);
        }
        let warm = self.memory.warm.take();
        if let Some(warm) = &warm {
            let note = format!(
                "the rollback window of {} ends before its time, since {release} begins: revision {} is not kept warm any \
                 more",
                warm.release, warm.old
            );
            self.notice(Reason::WindowClosed, note);
        }
        self.memory.attempt += 1;
        // A retry is of the revision that somebody else may have asked for.
        let again = self.failed(hash).map(|failed| (failed.made_by.clone(), failed.unsigned.clone()));
        let (made_by, unsigned) = again.unwrap_or_else(|| self.facts.on_record());
        self.memory.failed.retain(|failed| failed.revision != hash);
        let beside = self.stable.as_deref().and_then(|stable| self.revision(stable));
        let stable = if self.takes_from_legacy() { None } else { self.stable.clone() };
        let from = match (&stable, self.takes_from_legacy()) {
            (_, true) => "the legacy backend".to_owned(),
            (Some(stable), _) => match self.revision(stable) {
                Some(revision) => revision.release.clone(),
                None => stable.clone(),
            },
            (None, _) => "nothing".to_owned(),
        };
        self.memory.rollout = Some(Rollout {
            made_by,
            unsigned,
            was_warm: warm.as_ref().map(|warm| warm.old.clone()),
            was_warm_until: warm.map(|warm| warm.until),
            restarts_before: health::counts(self.revision(hash), beside),
            ..Rollout::begun(hash.to_owned(), stable, release, self.time())
        });
        from
    }

    /// A revision serves without a rollout, which ends one that is under way.
    pub fn settle_at(&mut self, hash: &str, why: &str) {
        if let Some(rollout) = self.memory.rollout.take() {
            self.end(&rollout, Outcome::Superseded, why);
        }
        self.memory.warm = None;
        self.memory.attempt += 1;
        self.stable = Some(hash.to_owned());
        self.notice(Reason::RevisionPromoted, why);
    }

    /// What is remembered of a rollout is of something that is not there any more.
    pub fn forget(&mut self, rollout: &Rollout, why: &str) {
        self.end(rollout, Outcome::Superseded, why);
        self.notice(Reason::RolloutCancelled, format!("{} is given up: {why}", rollout.release));
    }

    fn end(&mut self, rollout: &Rollout, outcome: Outcome, message: &str) {
        self.ended.push(Past {
            release: rollout.release.clone(),
            revision: rollout.canary.clone(),
            outcome,
            message: cut(message.to_owned(), LONGEST),
            started_at: rollout.started_at.clone(),
            ended_at: self.time(),
        });
    }

    /// Ends the rollout because the FinService asks for stable again.
    pub fn cancel(&mut self) {
        let Some(rollout) = self.memory.rollout.take() else { return };
        let note = format!(
            "{} is given up at {} %: the FinService asks for what is stable",
            rollout.release, rollout.weight
        );
        self.end(&rollout, Outcome::Superseded, &note);
        self.notice(Reason::RolloutCancelled, note);
    }

    /// Says that nothing can be taken back, and what a person can do about it. `force` where to go back all the same
    /// would help anybody.
    pub fn no_way_back(&mut self, words: String, force: bool) {
        let back = match (&self.memory.rollout, &self.memory.warm) {
            (Some(rollout), _) => rollout.stable.as_deref(),
            (None, warm) => warm.as_ref().map(|warm| warm.old.as_str()),
        };
        let mut remedy = match back {
            Some(back) => {
                format!(
                    "see `kubectl -n {} describe pods -l banyan.dev/revision={back}`",
                    self.facts.namespace
                )
            }
            None => format!("see `kubectl -n {} get pods`", self.facts.namespace),
        };
        if force {
            let command = self.facts.command(Verb::Abort);
            remedy.push_str(&format!(", or run `{command}` twice to go back all the same"));
        }
        self.stalled = Some(("NoWayBack", format!("{words}; {remedy}")));
        self.reasons.push(words);
    }

    /// All weight leaves the canary in this decision, and the revision is not tried again without a command.
    /// After a promotion the old revision gets everything back. Returns whether anything was taken back: nothing is
    /// where nobody answers that could take over.
    pub fn roll_back(&mut self, why: &str, aborted: bool) -> bool {
        self.has_way_back() && self.roll_back_anyway(why, aborted)
    }

    /// The same even where nobody answers.
    pub fn roll_back_anyway(&mut self, why: &str, aborted: bool) -> bool {
        let why = cut(why.to_owned(), LONGEST);
        let outcome = if aborted { Outcome::Aborted } else { Outcome::RolledBack };
        let mut signed = self.facts.on_record();
        let (revision, release, weight) = if let Some(rollout) = self.memory.rollout.take() {
            self.end(&rollout, outcome, &why);
            signed = (rollout.made_by, rollout.unsigned);
            (rollout.canary, rollout.release, rollout.weight)
        } else if let Some(warm) = self.memory.warm.clone() {
            self.memory.warm = None;
            self.stable = Some(warm.old.clone());
            self.ended.push(Past {
                release: warm.release.clone(),
                revision: warm.new.clone(),
                outcome,
                message: why.clone(),
                started_at: warm.started_at.clone(),
                ended_at: self.time(),
            });
            (warm.new, warm.release, 100)
        } else {
            return false;
        };
        self.notice(
            Reason::RolledBack,
            match weight {
                0 => format!("{release} is taken back before it had any weight: {why}"),
                _ => format!("{release} goes from {weight} % to 0 %: {why}"),
            },
        );
        let (at, attempt) = (self.time(), self.memory.attempt);
        self.memory.failed.retain(|failed| failed.revision != revision);
        let (made_by, unsigned) = signed;
        let failed =
            Failed { revision, release, attempt, weight, message: why, aborted, made_by, unsigned, at };
        self.memory.failed.insert(0, failed);
        self.memory.failed.truncate(FAILED);
        true
    }

    /// The canary has all the weight, and is called stable from now on.
    pub fn promote(&mut self) {
        let Some(rollout) = self.memory.rollout.take() else { return };
        let release = rollout.release.clone();
        let note = format!("{release} (revision {}) has all traffic and is stable now", rollout.canary);
        self.end(&rollout, Outcome::Promoted, &note);
        self.notice(Reason::RevisionPromoted, note);
        if self.takes_from_legacy() {
            self.memory.legacy_done = true;
        }
        self.stable = Some(rollout.canary.clone());
        self.memory.failed.retain(|failed| failed.revision != rollout.canary);
        // Where numbers of pods are the weight, an old revision with pods would have weight.
        let old = rollout.stable.filter(|_| !self.by_flag() && self.facts.sharing != Sharing::Pods);
        if let Some(old) = old {
            let restarts_before = health::counts(self.revision(&rollout.canary), self.revision(&old));
            let until = self.now.saturating_add(self.facts.policy.window).unwrap_or(Timestamp::MAX);
            self.memory.warm = Some(Warm {
                old,
                new: rollout.canary,
                release,
                started_at: rollout.started_at,
                promoted_at: self.time(),
                until: Time(until),
                restarts_before,
            });
        }
    }

    /// Whether no pod of the canary has been Ready for long enough to count.
    fn in_warm_up(&self) -> bool {
        let counts = |since: Timestamp| self.now.duration_since(since) >= self.facts.policy.warmup;
        let canary = self.memory.rollout.as_ref().and_then(|rollout| self.revision(&rollout.canary));
        let mut pods = canary.map(|canary| canary.pods.as_slice()).unwrap_or_default().iter();
        !pods.any(|pod| pod.ready_since.is_some_and(counts))
    }

    /// Says once for each weight that the rollout waits, and for what.
    pub fn announce(&mut self, reason: Reason, r#for: Wait, weight: i32, why: &str) {
        let announced = Some(Announced { r#for, weight });
        if let Some(rollout) = &mut self.memory.rollout
            && rollout.announced != announced
        {
            rollout.announced = announced;
            self.notice(reason, why.to_owned());
        }
    }

    /// The evidence of this attempt: of another one it is void.
    pub fn evidence(&self) -> Option<&'a Evidence> {
        self.facts.evidence.filter(|evidence| evidence.attempt == self.memory.attempt)
    }

    /// What the evidence says of the weight of now. Evidence of another attempt is void, a Pass of another
    /// weight too.
    pub fn judge(&self) -> Said {
        let weight = self.memory.rollout.as_ref().map_or(100, |rollout| rollout.weight);
        let evidence = self.evidence();
        let mut said = match evidence {
            Some(evidence) => {
                // What is to be refuted depends on the weight that comes next.
                let next = self.facts.policy.after_weight(weight);
                let fresh = evidence.weight == weight && evidence.next == next;
                let share = if fresh { evidence.share } else { Share::Unknown };
                let said = Said { share, ..steps::together(&evidence.judgements, fresh) };
                if weight < 100 { steps::doubt(said, &evidence.doubts) } else { said }
            }
            None => steps::together(&[], false),
        };
        if weight < 100 && said.verdict == Verdict::Insufficient && self.in_warm_up() {
            let warmup = display(self.facts.policy.warmup.unsigned_abs());
            said.words =
                format!("no pod of the canary is out of its warm-up of {warmup} yet, so nothing counts");
        }
        if weight == 100 && said.verdict != Verdict::Fail && !said.share.differs() {
            let fresh = evidence.filter(|evidence| evidence.weight == weight);
            said.words = steps::limits(fresh.map(|evidence| &*evidence.judgements).unwrap_or_default());
        }
        said
    }

    /// What the route is to carry beside its weights.
    pub fn mark(&self) -> Option<Mark> {
        let stable = self.stable.clone().unwrap_or_else(|| "-".to_owned());
        let attempt = self.memory.attempt;
        if attempt == 0 {
            return None;
        }
        if let Some(rollout) = &self.memory.rollout {
            let canary = rollout.canary.clone();
            return Some(Mark { attempt, canary, stable, weight: rollout.weight, end: End::Open });
        }
        let failed = self.refused();
        let (canary, end) = match failed {
            Some(failed) if failed.aborted => (failed.revision.clone(), End::Aborted(failed.message.clone())),
            Some(failed) => (failed.revision.clone(), End::Failed(failed.message.clone())),
            None => (stable.clone(), End::Settled),
        };
        Some(Mark { attempt, canary, stable, weight: 0, end })
    }

    /// The verdict for the status.
    pub fn verdict(&self) -> Option<Verdict> {
        let failed = self.refused();
        if self.phase == Phase::RolledBack && failed.is_some_and(|failed| !failed.aborted) {
            return Some(Verdict::Fail);
        }
        let said = self.said.as_ref().map(|said| said.verdict);
        said.filter(|verdict| self.compared || *verdict == Verdict::Fail)
    }
}
