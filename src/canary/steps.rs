//! The arithmetic of steps: how many pods a weight needs, and whether a step may be left.

use jiff::{SignedDuration, Timestamp};

use super::facts::{Phase, Scale, Sharing};
use super::policy::Policy;
use crate::api::analysis::OnInsufficient;
use crate::api::canarystatus::Rollout;
use crate::api::units::display;
use crate::evidence::{Amount, Judgement, Numbers, Percent, QUIET, Reason, Share, Verdict};

/// Pods of both arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// Stable's.
    pub stable: i32,
    /// The canary's.
    pub canary: i32,
}

/// Pods that a share of the demand needs: at least one, but none where none are asked for.
pub fn share_of(demand: i32, percent: i32) -> i32 {
    if demand <= 0 {
        return 0;
    }
    let pods = (i64::from(demand) * i64::from(percent) + 99) / 100;
    i32::try_from(pods).unwrap_or(i32::MAX).max(1)
}

/// Pods of both arms, while the canary has `weight` and pods for `preparing` are made. Where a route shares
/// traffic, stable keeps room for the total demand until the rollout is over, so that the way back is always
/// wide enough. Where numbers of pods are the weight, stable gives way once the canary's pods are Ready.
pub fn pods(scale: Scale, sharing: Sharing, weight: i32, preparing: i32) -> Pods {
    let demand = scale.demand();
    let target = weight.max(preparing);
    let canary = if target == 0 { 0 } else { share_of(demand, target) };
    let stable = match sharing {
        Sharing::Mesh | Sharing::Ingress => demand,
        Sharing::Pods if weight == 100 => 0,
        Sharing::Pods => share_of(demand, 100 - weight),
    };
    Pods { stable, canary }
}

/// The number of the step that a weight stands on, and of those that there are.
pub fn position(policy: &Policy, weight: i32) -> i32 {
    policy.steps.iter().filter(|step| step.weight <= weight).count() as i32
}

/// What the evidence says of this weight, all metrics together.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The verdict; Insufficient while nothing has been counted.
    pub verdict: Verdict,
    /// Of which metric, and why.
    pub words: String,
    /// Whether more weight can do no harm that is known of.
    pub harmless: bool,
    /// Whether no request of either revision has been counted at this weight.
    pub nothing: bool,
    /// The metric whose verdict takes longest, if what was seen goes on: its name, requests, and seconds.
    pub needed: Option<(String, u64, f64)>,
    /// The canary's share of the requests, as they were counted at this weight.
    pub share: Share,
    /// Whether something was found that only a person can judge.
    pub asks: bool,
}

/// The judgements of all metrics as one.
pub fn together(judgements: &[(String, Judgement)], fresh: bool) -> Said {
    let worst = judgements.iter().max_by_key(|(_, judgement)| judgement.verdict);
    let Some((name, judgement)) = worst.filter(|(_, judgement)| fresh || judgement.verdict == Verdict::Fail)
    else {
        let words = "nothing has been counted at this weight yet".to_owned();
        let (verdict, harmless, needed) = (Verdict::Insufficient, true, None);
        return Said { verdict, words, harmless, nothing: false, needed, share: Share::Unknown, asks: false };
    };
    let harmless = judgements.iter().all(|(_, judgement)| match judgement.verdict {
        Verdict::Pass => true,
        Verdict::Fail | Verdict::ProviderDown => false,
        Verdict::Insufficient => matches!(
            judgement.reason,
            Reason::NothingSeen
                | Reason::NoRequests(_)
                | Reason::TooFewRequests
                | Reason::TrafficNotComparable
        ),
    });
    let needed = judgements.iter().filter_map(|(name, judgement)| {
        let needed = judgement.numbers.needed.as_ref()?;
        Some((name.clone(), needed.requests, needed.seconds?))
    });
    let needed = needed.max_by(|one, other| one.2.total_cmp(&other.2));
    let words = format!("{name}: {}", words(judgement));
    let nothing = judgements.iter().all(|(_, judgement)| judgement.reason == Reason::NothingSeen);
    Said { verdict: judgement.verdict, words, harmless, nothing, needed, share: Share::Unknown, asks: false }
}

/// What a metric has found that only a person can judge: it keeps what is good or undecided where it is.
pub fn doubt(said: Said, doubts: &[(String, Judgement)]) -> Said {
    let Some((name, judgement)) = doubts.first().filter(|_| said.verdict <= Verdict::Insufficient) else {
        return said;
    };
    let numbers = &judgement.numbers;
    let words = format!(
        "{name}: more of its requests are refused with 4xx than of stable's, by more than maxIncrease ({}; evidence {} of {:.0})",
        counted(numbers, "refused", false),
        Amount(numbers.evidence),
        numbers.limit
    );
    Said { verdict: Verdict::Insufficient, words, harmless: false, needed: None, asks: true, ..said }
}

/// Why a verdict is what it is, with what is known of the time: for how long nothing came, or that nobody can tell yet what is
/// missing.
pub(super) fn reason(judgement: &Judgement) -> String {
    let numbers = &judgement.numbers;
    match judgement.reason {
        Reason::NothingSeen if numbers.quiet >= QUIET => {
            let quiet = std::time::Duration::from_secs(numbers.quiet.clamp(0.0, 1e9) as u64);
            format!(
                "no request of either revision has been counted for {}, and none since this step began; look whether \
                 anybody calls the service",
                display(quiet)
            )
        }
        Reason::TooFewRequests | Reason::LeaningWorse if numbers.needed.is_none() => {
            format!("{}; how many is not known yet", judgement.reason)
        }
        _ => judgement.reason.to_string(),
    }
}

/// A judgement in words, with the numbers that a person asks for next.
fn words(judgement: &Judgement) -> String {
    let numbers = &judgement.numbers;
    let mut text = reason(judgement);
    match judgement.reason {
        Reason::Worse => {
            let evidence = format!("evidence {} of {:.0}", Amount(numbers.evidence), numbers.limit);
            text.push_str(&format!(" ({}; {evidence})", counted(numbers, "bad", false)));
            return text;
        }
        Reason::OverAbsoluteLimit { alone, .. } => {
            text.push_str(&format!(" ({})", counted(numbers, "bad", alone)));
            return text;
        }
        _ => {}
    }
    if let Some(needed) = &numbers.needed
        && needed.requests > 0
    {
        text.push_str(&format!("; about {} more requests", needed.requests));
        if numbers.quiet >= QUIET {
            let quiet = std::time::Duration::from_secs(numbers.quiet.clamp(0.0, 1e9) as u64);
            text.push_str(&format!(" are needed, and for {} there has been none", display(quiet)));
            return text;
        }
        if let Some(seconds) = needed.seconds.filter(|seconds| seconds.is_finite() && *seconds < 1e9) {
            let seconds = std::time::Duration::from_secs(seconds.ceil() as u64);
            text.push_str(&format!(", {} at the rate of now,", display(seconds)));
        }
        // What came so far may look bad by chance: that is no foregone conclusion.
        text.push_str(match needed.toward {
            Verdict::Pass => " until it can pass",
            _ => " until it is clear whether it is worse",
        });
    }
    text
}

/// What was counted of late, to be found again on a dashboard.
fn counted(numbers: &Numbers, what: &str, alone: bool) -> String {
    let (seen, seconds) = &numbers.recent;
    let length = display(std::time::Duration::from_secs(seconds.clamp(1.0, 1e9).round() as u64));
    let arm = |bad: u64, requests: u64| {
        let rate = if requests > 0 { bad as f64 / requests as f64 } else { 0.0 };
        format!("{bad} of {requests} {what}, {}", Percent(rate))
    };
    let canary = arm(seen.canary_bad, seen.canary_requests);
    match alone {
        true => format!("in the last {length} {canary}"),
        false => format!(
            "in the last {length} the canary: {canary}; stable: {}",
            arm(seen.stable_bad, seen.stable_requests)
        ),
    }
}

/// What judges where nothing runs beside the canary.
pub fn limits(judgements: &[(String, Judgement)]) -> String {
    let limits = judgements.iter().filter_map(|(name, judgement)| {
        let limit = judgement.numbers.absolute?;
        Some(format!("{name} goes back from {limit} on"))
    });
    let limits: Vec<String> = limits.collect();
    match limits.is_empty() {
        true => "nothing runs beside it, and nothing is counted yet; the pods themselves judge".to_owned(),
        false => format!("nothing runs beside it: {}, and the pods themselves judge", limits.join(", ")),
    }
}

/// Whether a step may be left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It may.
    Leave,
    /// Not yet.
    Stay {
        /// Where that is.
        phase: Phase,
        /// Why.
        reason: String,
        /// When time alone may change it.
        again_at: Option<Timestamp>,
    },
    /// The policy's own limit is reached: back to stable.
    Back(String),
}

/// When the weight that the rollout has has been held for long enough. Time in which the source is silent does
/// not count for evidence that is insufficient, but is no excuse for the silence itself.
pub fn limit(policy: &Policy, rollout: &Rollout, said: &Said, now: Timestamp) -> Timestamp {
    let length =
        policy.step(position(policy, rollout.weight).max(1)).map(|step| step.max_hold).unwrap_or_default();
    let since = rollout.entered_at.as_ref().map_or(now, |entered| entered.0);
    let silent = match said.verdict {
        Verdict::ProviderDown => SignedDuration::ZERO,
        _ => SignedDuration::from_secs(rollout.silent_seconds),
    };
    since.saturating_add(length.saturating_add(silent)).unwrap_or(Timestamp::MAX)
}

/// Whether the weight that the rollout has may be left for more.
pub fn hold(policy: &Policy, rollout: &Rollout, said: &Said, now: Timestamp) -> Hold {
    let weight = rollout.weight;
    let Some(step) = policy.step(position(policy, weight).max(1)) else { return Hold::Leave };
    let since = rollout.entered_at.as_ref().map_or(now, |entered| entered.0);
    let after = |length: SignedDuration| since.saturating_add(length).unwrap_or(Timestamp::MAX);
    // Who does not follow this weight would follow the next no better; only a person may say that it does not matter.
    if rollout.skip == weight || (rollout.promote && !said.share.differs()) {
        return Hold::Leave;
    }
    let (least, most) = (after(step.min_hold), limit(policy, rollout, said, now));
    let goes_back = policy.on_insufficient == OnInsufficient::Rollback;
    if said.asks && weight < 100 && !(goes_back && now >= most) {
        let reason = format!("{weight} %: {}; whether that is meant is for a person to say", said.words);
        let again_at = goes_back.then_some(most);
        return Hold::Stay { phase: Phase::Inconclusive, reason, again_at };
    }
    let phase = if weight == 100 { Phase::Promoting } else { Phase::Analysing };
    if now < least {
        let length = display(step.min_hold.unsigned_abs());
        let reason = format!("{weight} % stands for {length} at the least; {}", said.words);
        return Hold::Stay { phase, reason, again_at: Some(least) };
    }
    // A Pass is valid at the moment at which it is found, however often one looks; what is seen afterwards, while
    // pods or gates are waited for, takes it back only if it speaks against the canary.
    let next = policy.after_weight(weight);
    let stays = rollout.passed == weight && rollout.passed_for.is_none_or(|passed| passed >= next);
    let passed =
        said.verdict == Verdict::Pass || (stays && said.verdict == Verdict::Insufficient && said.harmless);
    if weight == 100 && said.share.differs() {
        return Hold::Stay { phase, reason: said.words.clone(), again_at: None };
    }
    // With all the weight there is no concurrent stable to be compared with.
    if weight == 100 || passed {
        return Hold::Leave;
    }
    if now < most {
        let reason = format!("{weight} %: {}", said.words);
        return Hold::Stay { phase, reason, again_at: Some(most) };
    }
    let length = display(step.max_hold.unsigned_abs());
    match policy.on_insufficient {
        OnInsufficient::Advance if said.verdict == Verdict::Insufficient && said.harmless => Hold::Leave,
        OnInsufficient::Rollback => Hold::Back(format!(
            "no verdict within maxHold {length} at {weight} %, and onInsufficient is Rollback: {}",
            said.words
        )),
        OnInsufficient::Advance | OnInsufficient::Hold => Hold::Stay {
            phase: Phase::Inconclusive,
            reason: format!("no verdict within maxHold {length} at {weight} %: {}", said.words),
            again_at: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Detector, Look, Policy as DetectorPolicy, Tally};

    #[test]
    fn faults_6_15_who_sees_no_request_says_for_how_long() {
        let mut detector = Detector::new(DetectorPolicy::new(0.005, 0.01, 3)).expect("a policy");
        let mut said = |tally, seconds| words(&detector.look(Look { tally, seconds, ..Look::default() }));
        assert_eq!(said(Tally::default(), 30.0), "nothing has been seen in this step yet");
        assert_eq!(
            said(Tally::default(), 150.0),
            "no request of either revision has been counted for 3m, and none since this step began; look whether anybody calls the service"
        );
        let few = Tally { canary_requests: 5, canary_bad: 1, stable_requests: 45, stable_bad: 0 };
        assert_eq!(said(few, 5.0), "more requests are needed for a verdict; how many is not known yet");
        let many = Tally { canary_requests: 600, canary_bad: 0, stable_requests: 5400, stable_bad: 10 };
        let told = said(many, 5.0);
        assert!(told.contains(" more requests, ") && told.contains("at the rate of now"), "{told}");
    }

    const FOUR: Scale = Scale { least: 4, most: 4, need: None };

    #[test]
    fn stable_keeps_room_for_everything_behind_a_route() {
        for weight in [0, 1, 50, 99, 100] {
            assert_eq!(pods(FOUR, Sharing::Mesh, weight, 0).stable, 4, "{weight}");
        }
        assert_eq!(pods(FOUR, Sharing::Mesh, 1, 50), Pods { stable: 4, canary: 2 });
        assert_eq!(pods(FOUR, Sharing::Mesh, 0, 1), Pods { stable: 4, canary: 1 });
        assert_eq!(pods(FOUR, Sharing::Mesh, 0, 0), Pods { stable: 4, canary: 0 });
    }

    #[test]
    fn without_a_route_stable_gives_way_only_once_the_weight_is_there() {
        assert_eq!(pods(FOUR, Sharing::Pods, 0, 50), Pods { stable: 4, canary: 2 });
        assert_eq!(pods(FOUR, Sharing::Pods, 50, 0), Pods { stable: 2, canary: 2 });
        assert_eq!(pods(FOUR, Sharing::Pods, 100, 0), Pods { stable: 0, canary: 4 });
    }

    #[test]
    fn zero_is_zero() {
        let none = Scale { least: 0, most: 0, need: None };
        for sharing in [Sharing::Mesh, Sharing::Pods] {
            assert_eq!(pods(none, sharing, 10, 50), Pods { stable: 0, canary: 0 });
        }
    }

    #[test]
    fn demand_is_of_now_within_bounds() {
        let scale = |need| Scale { least: 2, most: 10, need };
        assert_eq!(scale(None).demand(), 2);
        assert_eq!(scale(Some(1)).demand(), 2);
        assert_eq!(scale(Some(7)).demand(), 7);
        assert_eq!(scale(Some(70)).demand(), 10);
    }
}
