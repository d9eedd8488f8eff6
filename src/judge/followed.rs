//! One rollout that the hub follows: what is asked for it, and what its answers come to. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Analysis, Comparison, Evidence, Question, Standard};
use crate::api::canarystatus::Scatter;
use crate::evidence::{Dispersion, Judgement, Rejected, Sample};
use crate::signals::{Answer, GateReply, Pod, Reading, SourceKey, Subject};

/// How the arms are named in samples, in the order of [`Subject::arms`].
pub(super) const ARMS: [&str; 2] = ["stable", "canary"];
/// After so many ticks without a reading, and so many seconds, a series is not waited for any more: its pod or proxy is gone.
const MISSED: u32 = 2;
const MISSED_SECONDS: f64 = 2.0;
/// How often a service is woken for fresh numbers in its status although no verdict changed, in seconds.
const NUMBERS_EVERY: f64 = 60.0;

/// While a verdict takes a canary's weight away it is asked about every so many seconds at the most: where many fail at
/// once, the questions about all of them would take their time from the writes.
const GIVES_WAY: f64 = 2.0;

/// What the hub follows for one FinService.
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    /// What is compared; nothing while only gates are asked.
    pub comparison: Option<Comparison>,
    /// By what it is judged.
    pub standard: Standard,
    /// Where from.
    pub source: SourceKey,
    /// What is asked for; its pods are filled in at each tick.
    pub subject: Subject,
    /// The revision labels of the pods of both arms; empty where an arm has none.
    pub labels: [String; 2],
    /// Gates that are to be asked, by their place in the spec.
    pub gates: Vec<(usize, Question)>,
    /// What a web server is told.
    pub told: serde_json::Value,
    /// How stable's errors scatter, as far as is written down.
    pub scatter: Vec<Scatter>,
}

impl Follow {
    /// How stable's errors scatter by a metric, as another process measured it.
    pub(super) fn written(&self, metric: &str) -> Option<Dispersion> {
        let found = self.scatter.iter().find(|scatter| scatter.metric == metric)?;
        Dispersion::from_text(&found.state)
    }
}

/// A rollout that is followed.
pub(super) struct Followed<K> {
    pub(super) key: K,
    pub(super) follow: Follow,
    pub(super) analysis: Option<Analysis>,
    pub(super) evidence: Option<Evidence>,
    pub(super) due: f64,
    pub(super) asking: bool,
    pub(super) webhooks_due: f64,
    pub(super) numbers_due: f64,
    pub(super) series: HashMap<u64, u32>,
    pub(super) answers: BTreeMap<usize, GateReply>,
    pub(super) problem: Option<String>,
    /// Why a metric that nobody asked for by name is left out.
    pub(super) left_out: Option<String>,
    /// How often in a row Ready pods of the canary told nothing.
    pub(super) unheard: u32,
    /// Whether a verdict changed and nobody was woken for it, since one more look decides.
    pub(super) untold: bool,
}

impl<K> Followed<K> {
    /// One of which nothing has been asked yet, and which is asked about now.
    pub(super) fn new(key: K, follow: Follow, now: f64) -> Self {
        Self {
            key,
            follow,
            analysis: None,
            evidence: None,
            due: now,
            asking: false,
            webhooks_due: now,
            numbers_due: now + NUMBERS_EVERY,
            series: HashMap::new(),
            answers: BTreeMap::new(),
            problem: None,
            left_out: None,
            unheard: 0,
            untold: false,
        }
    }

    /// How stable's errors scatter, by metric.
    pub(super) fn scatter(&self) -> Vec<Scatter> {
        let measured = self.analysis.iter().flat_map(Analysis::dispersions);
        measured
            .map(|(metric, dispersion)| Scatter { metric: metric.to_owned(), state: dispersion.to_text() })
            .collect()
    }

    /// Takes an answer in. Returns whether somebody is to be woken, and whether at once.
    pub(super) fn take(&mut self, answer: Answer, pods: &AskedPods, now: f64) -> Option<bool> {
        let analysis = self.analysis.as_mut()?;
        let before = self.problem.take();
        match answer {
            Answer::Readings { readings, comparable, exact, missing } => {
                analysis.set_comparable(comparable);
                analysis.set_exact(exact);
                let metrics = &self.follow.standard.metrics;
                let mut silent: BTreeMap<usize, String> = missing.into_iter().collect();
                for reading in &readings {
                    let Some(metric) = metrics.get(reading.metric) else { continue };
                    let taken = analysis.sample(&metric.name, sample(reading));
                    if let Err(refused) = taken
                        && refused != Rejected::NotLater
                    {
                        silent.entry(reading.metric).or_insert_with(|| format!("{}: {refused}", metric.name));
                    }
                }
                let seen: BTreeSet<u64> = readings.iter().map(|reading| reading.series).collect();
                let unheard = pods.unheard(&seen, self.follow.standard.warmup.as_secs_f64(), now);
                self.unheard = if unheard.is_some() { self.unheard + 1 } else { 0 };
                if let Some(unheard) = unheard.filter(|_| self.unheard > MISSED) {
                    // What they do not tell is missing of all that pods count.
                    let counted = readings.iter().filter(|reading| pods.series.contains(&reading.series));
                    for metric in counted.map(|reading| reading.metric).collect::<BTreeSet<_>>() {
                        silent.entry(metric).or_insert_with(|| unheard.clone());
                    }
                }
                for (metric, why) in &silent {
                    if let Some(metric) = metrics.get(*metric) {
                        analysis.no_answer_of(&metric.name, why);
                    }
                }
                let is_left_out = |metric: &usize| {
                    metrics.get(*metric).is_some_and(|metric| analysis.leaves_out(&metric.name))
                };
                let (left_out, silent): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    silent.into_iter().partition(|(metric, _)| is_left_out(metric));
                self.left_out = left_out.into_values().next();
                self.problem = silent.into_values().next();
                let ticks = MISSED_SECONDS / self.follow.standard.interval.as_secs_f64();
                let most = MISSED.max(ticks.ceil() as u32);
                self.series.retain(|series, missed| {
                    *missed = if seen.contains(series) { 0 } else { *missed + 1 };
                    // A pod that still stands is waited for; looks have their own patience with it.
                    let gone = *missed > 0 && (!pods.series.contains(series) || *missed > most);
                    if gone {
                        analysis.forget(*series);
                    }
                    !gone
                });
                for series in seen {
                    self.series.entry(series).or_insert(0);
                }
            }
            Answer::Nothing(why) => {
                analysis.no_answer(&why);
                self.problem = Some(why);
            }
        }
        if let Some(seconds) = analysis.close(now) {
            self.due = self.due.min(together(now + seconds));
        }
        let evidence = analysis.evidence(now);
        let urgent = evidence.fails();
        let changed = self.evidence.as_ref().is_none_or(|old| !same_verdicts(old, &evidence));
        // Where many turn bad at once, what is said of their first bad look would be written while the next one takes their
        // weights away. Who looks meanwhile sees this evidence all the same.
        let holds = changed && !urgent && !self.untold && analysis.asks_for_another();
        let differs = !holds && (changed || self.untold);
        self.untold = holds;
        self.evidence = Some(evidence);
        if urgent {
            let interval = self.follow.standard.interval.as_secs_f64();
            self.due = self.due.max(next_tick(now + GIVES_WAY, interval));
        }
        let stale = now >= self.numbers_due;
        if stale || differs {
            self.numbers_due = now + NUMBERS_EVERY;
        }
        (differs || stale || before != self.problem).then_some(urgent && differs)
    }
}

/// The next moment at which all rollouts of that interval are asked about, in Unix seconds.
pub(super) fn next_tick(now: f64, interval: f64) -> f64 {
    let interval = interval.max(0.1);
    let next = ((now / interval).floor() + 1.0) * interval;
    // A tick that is almost there would be two readings of the same moment.
    if next - now < interval * 0.25 { next + interval } else { next }
}

/// The next moment of a grid of 50 ms: rollouts that hasten at about the same time are asked about in one question.
fn together(time: f64) -> f64 {
    (time * 20.0).ceil() / 20.0
}

/// The pods of a subject, as they were asked.
#[derive(Clone, Debug, Default)]
pub(super) struct AskedPods {
    /// Their series.
    pub(super) series: BTreeSet<u64>,
    /// The canary's that are Ready: series, name, and since when.
    pub(super) canary: Vec<(u64, String, f64)>,
}

impl AskedPods {
    pub(super) fn of(subject: &Subject) -> Self {
        let id = |pod: &Pod| crate::evidence::pod_id(&pod.name);
        let ready = subject.arms[1].pods.iter();
        let ready = ready.filter_map(|pod| Some((id(pod), pod.name.clone(), pod.ready_since?)));
        Self {
            series: subject.arms.iter().flat_map(|arm| &arm.pods).map(id).collect(),
            canary: ready.collect(),
        }
    }

    /// That pods of the canary tell nothing although others do, and although they have been Ready for so many seconds.
    /// One in ten may be silent for reasons of its own.
    fn unheard(&self, heard: &BTreeSet<u64>, warmup: f64, now: f64) -> Option<String> {
        let by_pods = self.series.iter().any(|series| heard.contains(series));
        let of_age = self.canary.iter().filter(|(.., since)| now - since >= warmup.max(MISSED_SECONDS));
        let (heard, unheard): (Vec<_>, Vec<_>) = of_age.partition(|(series, ..)| heard.contains(series));
        let all = heard.len() + unheard.len();
        let (_, name, _) = unheard.first().filter(|_| by_pods && 10 * unheard.len() >= all)?;
        Some(format!(
            "{} of {all} Ready pods of the canary tell no counters, {name} among them: what they answer, or do not, is \
             not known",
            unheard.len()
        ))
    }
}

fn sample(reading: &Reading) -> Sample<'static> {
    Sample {
        revision: ARMS.get(reading.arm).copied().unwrap_or_default(),
        pod: reading.series,
        time: reading.time,
        ready_since: reading.ready_since,
        requests: reading.requests,
        bad: reading.bad,
        unanswered: reading.unanswered,
    }
}

pub(super) fn keep_dispersions<K: Clone + Eq + std::hash::Hash>(
    known: &mut HashMap<(K, String), Dispersion>,
    key: &K,
    analysis: Option<&Analysis>,
) {
    let Some(analysis) = analysis else { return };
    let measured: BTreeMap<_, _> = analysis.dispersions().collect();
    // Who names its metrics anew in each release fills no memory.
    known.retain(|(of, name), _| of != key || measured.contains_key(name.as_str()));
    let measured = measured.into_iter();
    known.extend(measured.map(|(name, dispersion)| ((key.clone(), name.to_owned()), dispersion.clone())));
}

/// Whether two judgements say the same, whatever their numbers.
fn same_verdicts(one: &Evidence, other: &Evidence) -> bool {
    let same = |one: &Judgement, other: &Judgement| {
        one.verdict == other.verdict
            && std::mem::discriminant(&one.reason) == std::mem::discriminant(&other.reason)
    };
    one.attempt == other.attempt
        && (one.weight, one.next) == (other.weight, other.next)
        && one.share.differs() == other.share.differs()
        && one.judgements.len() == other.judgements.len()
        && one.judgements.iter().zip(&other.judgements).all(|((_, one), (_, other))| same(one, other))
        && one.doubts.iter().map(|(name, _)| name).eq(other.doubts.iter().map(|(name, _)| name))
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
