//! The detectors of one rollout: samples go in, judgements come out. Pure.

use std::collections::BTreeSet;

use crate::evidence::{
    Asked, Counters, Detector, Dispersion, Judgement, Look, Missing, Policy as DetectorPolicy, PolicyError,
    Rejected, SECOND_LOOK, Sample, Share, ShareWatch, Tally, Verdict,
};
use crate::judge::{Comparison, Evidence, Standard, alpha};

/// The window of an absolute limit in seconds: the short window of the workbook's fastest alert is five
/// minutes, and a canary that burns so fast needs no more than one.
const LIMIT_WINDOW: f64 = 60.0;
/// The series of an arm that has no pods: no [`crate::evidence::pod_id`] of a name is likely to be this.
const NOBODY: u64 = u64::MAX - 1;
/// The weight beside which nothing runs.
const ALL: i32 = 100;
/// Requests that the canary's weight would have given it, from which none at all is no chance: e^−30.
const MISSED_REQUESTS: f64 = 30.0;
/// Missed intervals after which a source counts as silent.
const SILENT: f64 = 3.0;

impl Watched {
    /// Whether nobody asked for it by name, and it cannot be counted at all.
    fn is_left_out(&self) -> bool {
        self.optional && !self.heard && self.down.is_some()
    }
}

/// The evidence of one attempt, for all its metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    attempt: i64,
    weight: i32,
    next: i32,
    stable: String,
    canary: String,
    warmup: f64,
    interval: f64,
    started: f64,
    metrics: Vec<Watched>,
    comparable: bool,
    share: Option<Asked>,
    /// Whether the arm beside has callers of its own.
    others: bool,
    /// Whether only what the route shares is counted.
    exact: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Watched {
    name: String,
    detector: Detector,
    counters: Counters,
    /// When the source last answered.
    answered: f64,
    down: Option<Missing>,
    pods: BTreeSet<u64>,
    /// The share of its requests; `None` for what counts something else than requests.
    watch: Option<ShareWatch>,
    differed: bool,
    sums: bool,
    /// Whether it neither fails the canary nor is waited for.
    asks: bool,
    optional: bool,
    /// Whether anything of it was ever counted.
    heard: bool,
    /// Requests in this step, also those that do not count since a pod is in its warm-up.
    shared: Tally,
}

impl Analysis {
    /// An analysis that has seen nothing, of the arms `stable` and `canary` (as samples name them), from a time
    /// in seconds on.
    ///
    /// # Errors
    /// If the standard cannot be; whoever asks for it has a problem that says so too.
    pub fn new(
        standard: &Standard,
        comparison: &Comparison,
        stable: &str,
        canary: &str,
        now: f64,
    ) -> Result<Self, PolicyError> {
        let interval = standard.interval.as_secs_f64();
        let warmup = standard.warmup.as_secs_f64();
        let mut metrics = Vec::new();
        for metric in &standard.metrics {
            let mut detector = Detector::new(DetectorPolicy {
                look_seconds: interval,
                absolute_limit: metric.limit,
                absolute_window: LIMIT_WINDOW,
                ..DetectorPolicy::new(
                    metric.max_increase,
                    alpha(standard.false_alarm, &standard.metrics, metric.asks),
                    standard.steps.max(1),
                )
            })?;
            detector.begin(comparison.weight == ALL);
            detector.moves_on_to(f64::from(comparison.next) / 100.0);
            let counters = Counters::new(stable, canary, warmup, interval, now);
            let counters = if metric.sums { counters.of_sums() } else { counters };
            metrics.push(Watched {
                name: metric.name.clone(),
                detector,
                counters,
                answered: now,
                down: None,
                pods: BTreeSet::new(),
                watch: metric.counts_requests.then(ShareWatch::default),
                differed: false,
                sums: metric.sums,
                asks: metric.asks,
                optional: metric.optional,
                heard: false,
                shared: Tally::default(),
            });
        }
        let (stable, canary) = (stable.to_owned(), canary.to_owned());
        let (attempt, weight) = (comparison.attempt, comparison.weight);
        Ok(Self {
            attempt,
            weight,
            next: comparison.next,
            stable,
            canary,
            warmup,
            interval,
            started: now,
            metrics,
            comparable: true,
            share: comparison.share,
            others: comparison.others,
            exact: false,
        })
    }

    /// Takes over what earlier rollouts measured of stable's dispersion, by the name of the metric.
    pub fn with_dispersion(mut self, known: impl Fn(&str) -> Option<Dispersion>) -> Self {
        for metric in &mut self.metrics {
            if let Some(dispersion) = known(&metric.name) {
                metric.detector = metric.detector.clone().with_dispersion(dispersion);
            }
        }
        self
    }

    /// The dispersion as measured so far, by metric.
    pub fn dispersions(&self) -> impl Iterator<Item = (&str, &Dispersion)> {
        self.metrics.iter().map(|metric| (metric.name.as_str(), metric.detector.dispersion()))
    }

    /// The attempt that it is of.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// Follows to another weight: a Pass will be judged on what is seen from here on, and a look is never of
    /// two weights. Returns whether it is another. At the same one, after a promotion, another share may be asked for.
    pub fn follow(&mut self, comparison: &Comparison, now: f64) -> bool {
        self.share = comparison.share;
        self.next = comparison.next;
        for metric in &mut self.metrics {
            metric.detector.moves_on_to(f64::from(self.next) / 100.0);
        }
        if comparison.weight == self.weight {
            return false;
        }
        self.weight = comparison.weight;
        self.started = now;
        for metric in &mut self.metrics {
            metric.detector.begin(self.weight == ALL);
            let counters = Counters::new(&self.stable, &self.canary, self.warmup, self.interval, now);
            metric.counters = if metric.sums { counters.of_sums() } else { counters };
            metric.pods.clear();
            metric.watch = metric.watch.take().map(|_| ShareWatch::default());
            metric.differed = false;
            metric.shared = Tally::default();
        }
        true
    }

    /// Takes in one sample of a metric; samples of a metric that is not asked for are passed over.
    ///
    /// # Errors
    /// If the sample cannot be; nothing has changed then.
    pub fn sample(&mut self, metric: &str, sample: Sample<'_>) -> Result<(), Rejected> {
        let Some(metric) = self.metrics.iter_mut().find(|known| known.name == metric) else { return Ok(()) };
        let (pod, time) = (sample.pod, sample.time);
        metric.counters.sample(sample)?;
        metric.pods.insert(pod);
        metric.answered = metric.answered.max(time);
        metric.heard = true;
        metric.down = None;
        Ok(())
    }

    /// Whether a metric is left out: nobody asked for it by name, and it cannot be counted at all.
    pub fn leaves_out(&self, metric: &str) -> bool {
        self.metrics.iter().any(|known| known.name == metric && known.is_left_out())
    }

    /// A pod is gone; looks do not wait for it.
    pub fn forget(&mut self, pod: u64) {
        for metric in &mut self.metrics {
            if metric.pods.remove(&pod) {
                metric.counters.forget(pod);
            }
        }
    }

    /// The source gave no usable answer.
    pub fn no_answer(&mut self, how: &str) {
        for metric in &mut self.metrics {
            metric.down = Some(Missing::NoAnswer(how.to_owned()));
        }
    }

    /// The source gave no usable answer about one metric.
    pub fn no_answer_of(&mut self, metric: &str, how: &str) {
        for metric in self.metrics.iter_mut().filter(|known| known.name == metric) {
            metric.down = Some(Missing::NoAnswer(how.to_owned()));
        }
    }

    /// Whether the requests that are counted are shared by chance alone.
    pub fn set_comparable(&mut self, comparable: bool) {
        self.comparable = comparable;
    }

    /// Whether only what the route shares is counted, by the proxies that share it; pods count other callers as well.
    pub fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    /// The canary's share of the requests, by the first metric that can tell; by one that says that it differs before
    /// all others.
    fn share(&self) -> Share {
        let shares = self.metrics.iter().map(|metric| self.share_of(metric));
        shares
            .reduce(|one, other| match (one, other) {
                (_, Share::Differs(_)) if !one.differs() => other,
                (Share::Unknown, other) => other,
                _ => one,
            })
            .unwrap_or_default()
    }

    fn share_of(&self, metric: &Watched) -> Share {
        let known = self.share.zip(metric.watch.as_ref()).filter(|_| self.comparable);
        known.map(|(asked, watch)| watch.judge(asked, self.exact)).unwrap_or_default()
    }

    /// Closes the looks that are over, and judges them. Returns in how many seconds it is worth asking again, where that is
    /// sooner than an interval: a look would have failed the canary, were it not one alone, and the next ends as soon as can be.
    pub fn close(&mut self, now: f64) -> Option<f64> {
        for metric in &mut self.metrics {
            // Who has no weight answers nothing, and may have no pod that says so: stable beside a canary with all of it, a
            // canary before its first step. The look must close all the same: limits judge on, and stable is counted.
            let silent = match self.weight {
                ALL => Some(&self.stable),
                0 => Some(&self.canary),
                _ => None,
            };
            if let Some(revision) = silent {
                let ready_since = Some(f64::MIN);
                let nobody = Sample {
                    revision,
                    pod: NOBODY,
                    time: now,
                    ready_since,
                    requests: 0.0,
                    bad: 0.0,
                    unanswered: 0.0,
                };
                // It is refused only if it is no later than the one before, and then it is there already.
                let _ = metric.counters.sample(nobody);
            }
            while let Some(look) = metric.counters.close(now, 2.0 * self.interval) {
                metric.shared = metric.shared.plus(look.shared);
                if let Some(watch) = &mut metric.watch {
                    watch.look(look.shared, look.seconds);
                }
                // No look at stable alone is one at both; it shows what stable usually does.
                if self.weight == 0 {
                    metric.detector.before(look.tally, &look.stable_pods, look.seconds);
                }
                metric.detector.take(Look {
                    tally: look.tally,
                    stable_pods: &look.stable_pods,
                    seconds: look.seconds,
                    apart: look.apart,
                    routed_share: None,
                });
            }
        }
        // What came while the share was another one was not of this weight: a Pass is judged on what comes from here on.
        let differs: Vec<bool> = self.metrics.iter().map(|metric| self.share_of(metric).differs()).collect();
        for (metric, differs) in self.metrics.iter_mut().zip(differs) {
            if std::mem::replace(&mut metric.differed, differs) && !differs {
                metric.detector.begin_interval();
            }
        }
        let metrics = self.metrics.iter_mut();
        let waits =
            metrics.filter_map(|metric| metric.detector.second_look(&mut metric.counters, SECOND_LOOK));
        waits.reduce(f64::min)
    }

    /// Whether a look would have failed the canary, were it not one alone.
    pub fn asks_for_another(&self) -> bool {
        self.metrics.iter().any(|metric| !metric.asks && metric.detector.asks_for_another())
    }

    /// What it says now.
    pub fn evidence(&self, now: f64) -> Evidence {
        let judging = self.metrics.iter().filter(|metric| !metric.asks && !metric.is_left_out());
        // Of these only a Fail says anything.
        let asking = self.metrics.iter().filter(|metric| metric.asks);
        let doubts = asking.filter(|metric| metric.detector.decide().0 == Verdict::Fail);
        Evidence {
            attempt: self.attempt,
            weight: self.weight,
            next: self.next,
            judgements: judging.map(|metric| (metric.name.clone(), self.judge(metric, now))).collect(),
            doubts: doubts.map(|metric| (metric.name.clone(), metric.detector.judge())).collect(),
            share: self.share(),
        }
    }

    /// About how many requests the canary should have had, where that is many and none is counted. Little traffic is another
    /// matter.
    fn nothing_of_canary(&self, metric: &Watched) -> Option<u64> {
        let Tally { canary_requests, stable_requests, .. } = metric.shared;
        if canary_requests > 0 || self.weight == ALL || self.weight == 0 || self.others {
            return None;
        }
        let asked = self.share.map_or(f64::from(self.weight) / 100.0, |asked| asked.share());
        let expected = stable_requests as f64 * asked / (1.0 - asked).max(0.01);
        (expected >= MISSED_REQUESTS).then_some(expected as u64)
    }

    fn judge(&self, metric: &Watched, now: f64) -> Judgement {
        let judgement = metric.detector.judge();
        if judgement.verdict == Verdict::Fail {
            // What was seen stays seen, also while the source is silent.
            return judgement;
        }
        if let Some(missing) = &metric.down {
            return metric.detector.provider_down(missing.clone());
        }
        let age = now - metric.answered;
        if age > SILENT * self.interval.max(1.0) && now > self.started + SILENT * self.interval {
            return metric.detector.provider_down(Missing::Stale(age.clamp(0.0, 1e9) as u32));
        }
        if let (Share::Differs(observed), Some(asked)) = (self.share_of(metric), self.share) {
            return metric.detector.other_share(observed, asked.share());
        }
        if let Some(expected) = self.nothing_of_canary(metric) {
            return metric.detector.provider_down(Missing::NothingOfCanary(expected));
        }
        if !self.comparable {
            return metric.detector.not_comparable();
        }
        judgement
    }
}
