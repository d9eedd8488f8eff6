//! How much more stable's errors scatter than independent ones would: φ ≥ 1.
//!
//! Everything is measured given the totals, so that an error rate that rises for everybody at once does not count:
//! - the scatter φ between stable's pods within a look, and between one look and the next, whichever is larger: Pearson's
//!   statistic over its degrees of freedom (McCullagh & Nelder 1989, *Generalized Linear Models*, section 4.5), each look weighted by
//!   its bad events. For errors in clusters of size K this tends to E K² / E K, the factor by which the variance is larger. A look's
//!   evidence is divided by it;
//! - the bursts: rare blips of one pod hardly move a variance, and are what rolls back a good canary. Each pod of stable is taken for
//!   a canary and followed by CUSUM (Page 1954) against the rest at the odds ratios 3, 10 and 30. What is beyond chance is a burst; it
//!   is left out of that scatter (the interval, an average over a step, takes the scatter with it), and its length is remembered, up to a minute, and fades from one rollout
//!   to the next. A look's evidence is then capped so that a burst as long as the longest one seen ends at the limit, unless it is
//!   much worse than the worst of them: what makes a canary worse than a blip is that it stays, or that no blip was like it.
//!
//! It is measured before a rollout (a history, or what the last rollout left) and during it, always before the look to
//! which it applies.

use serde::{Deserialize, Serialize};

use super::wire;

/// The odds ratios at which pods are followed for bursts.
const BURST_ODDS: [f64; 3] = [3.0, 10.0, 30.0];

/// The weight of "independent" before anything is seen, in bad events.
const PRIOR: f64 = 20.0;

/// The margin over the logarithm of the number of chances, in nats, before a burst is more than chance: e^−3 = 5 %.
const BURST_MARGIN: f64 = 3.0;

/// How long stable must have been watched before its manner is known, in seconds: whether its errors come in clusters shows in this
/// time, and the cap holds until then.
const KNOWN_AFTER: f64 = 120.0;

/// The longest that a pod's failures are taken for a burst, in seconds. What lasts longer is no blip that passes by
/// itself, and a canary that fails for so long is rightly taken back.
const LONGEST_BURST: f64 = 60.0;

/// How many times worse than the worst burst a canary's look must be, by its odds, to be none.
const BEYOND_BURSTS: f64 = 3.0;

/// The least length of a look that is measured, in seconds; shorter ones are put together. Errors that come together do so within a
/// second or so: in shorter looks they would be parted, and each part seem to scatter less.
const LEAST_SECONDS: f64 = 1.0;

/// The least number of requests from which stable's bad rate is told.
const LEAST_FOR_RATE: f64 = 100.0;

/// The counts of one pod, or of any other unit whose errors come together, in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCounts {
    /// The pod; see [`pod_id`].
    pub pod: u64,
    /// Requests in the look.
    pub requests: u64,
    /// Bad ones among them.
    pub bad: u64,
}

impl PodCounts {
    fn failed(&self) -> u64 {
        self.bad.min(self.requests)
    }
}

/// A number for a pod's name or UID (FNV-1a, 64 bits).
pub fn pod_id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Adds counts to others of the same pods.
pub(super) fn add_to(sums: &mut Vec<PodCounts>, pods: &[PodCounts]) {
    for pod in pods {
        match sums.iter_mut().find(|sum| sum.pod == pod.pod) {
            Some(sum) => {
                sum.requests = sum.requests.saturating_add(pod.requests);
                sum.bad = sum.bad.saturating_add(pod.bad);
            }
            None => sums.push(*pod),
        }
    }
}

/// A weighted mean of Pearson's statistic over its degrees of freedom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ratio {
    #[serde(with = "wire::float")]
    sum: f64,
    #[serde(with = "wire::float")]
    weight: f64,
    /// The variance of the sum, were the errors independent.
    #[serde(with = "wire::float")]
    variance: f64,
}

impl Ratio {
    /// The ratio less one standard error that it has under independence: an estimate that wavers around 1 and counts only above it
    /// would take from every service what only few have to pay.
    fn value(&self) -> f64 {
        (self.sum + PRIOR - self.variance.sqrt()) / (self.weight + PRIOR)
    }

    /// Adds Pearson's statistic of cells that share one rate. Its mean is its degrees of freedom under equal rates, given
    /// the totals, however few events there are: the factor (n−1)/(n−b) makes up for drawing without replacement.
    fn add(&mut self, cells: impl Iterator<Item = (u64, u64)> + Clone) {
        let (mut requests, mut bad, mut count) = (0.0, 0.0, 0.0);
        for (cell_requests, cell_bad) in cells.clone().filter(|cell| cell.0 > 0) {
            requests += cell_requests as f64;
            bad += cell_bad as f64;
            count += 1.0;
        }
        if count < 2.0 || bad < 1.0 || requests - bad < 1.0 {
            return;
        }
        let statistic: f64 = cells
            .filter(|cell| cell.0 > 0)
            .map(|(cell_requests, cell_bad)| {
                let expected = cell_requests as f64 * bad / requests;
                (cell_bad as f64 - expected).powi(2) / expected
            })
            .sum();
        let per_degree = statistic * (requests - 1.0) / (requests - bad) / (count - 1.0);
        self.sum += bad * per_degree;
        self.weight += bad;
        self.variance += 2.0 * bad * bad / (count - 1.0);
    }

    fn fade(&mut self) {
        self.sum *= 0.5;
        self.weight *= 0.5;
        self.variance *= 0.25;
    }
}

/// A pod whose CUSUM is above zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Burst {
    pod: u64,
    #[serde(with = "wire::floats")]
    sums: [f64; 3],
    /// The highest that any of them has been.
    #[serde(with = "wire::float")]
    peak: f64,
    /// Seconds since it left zero.
    #[serde(with = "wire::float")]
    seconds: f64,
    /// Requests since then, and bad ones among them.
    #[serde(default)]
    requests: u64,
    #[serde(default)]
    bad: u64,
}

impl Burst {
    /// One that begins.
    fn of(pod: u64) -> Self {
        Self { pod, sums: [0.0; 3], peak: 0.0, seconds: 0.0, requests: 0, bad: 0 }
    }
}

/// How far a look's evidence is believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temper {
    /// The factor's logarithm is divided by it; anything under 1 counts as 1.
    pub phi: f64,
    /// The factor's logarithm is cut off at it, where it is lower than what one look alone may add.
    pub cap: f64,
}

impl Temper {
    /// For errors that are independent: only the cap that keeps one look from deciding.
    pub const NONE: Temper = Temper { phi: 1.0, cap: f64::INFINITY };
}

fn whole_share() -> f64 {
    1.0
}

/// The dispersion of stable's errors. It may be kept from one rollout to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    /// Between pods, and between looks, without the bursts.
    pods: Ratio,
    looks: Ratio,
    /// Between pods with the bursts.
    whole: Ratio,
    previous: Option<(u64, u64)>,
    /// The pods whose CUSUM is above zero, by pod.
    bursts: Vec<Burst>,
    #[serde(with = "wire::float")]
    longest: f64,
    /// The share of its requests that failed in the worst burst. Where an older version has written no share, the burst
    /// may have been of any.
    #[serde(with = "wire::float", default = "whole_share")]
    fiercest: f64,
    #[serde(with = "wire::float")]
    bad: f64,
    /// Requests among which these were.
    #[serde(with = "wire::float", default)]
    requests: f64,
    /// Seconds for which stable was watched.
    #[serde(with = "wire::float")]
    watched: f64,
    /// What has been seen but is not long enough for a look, and its length.
    open: Vec<PodCounts>,
    #[serde(with = "wire::float")]
    open_seconds: f64,
}

impl Dispersion {
    /// Takes in one look at stable: its pods' counts, sorted or not, and its length; one entry (or none known) tells nothing between
    /// pods. Looks shorter than a second are put together.
    pub fn look(&mut self, pods: &[PodCounts], seconds: f64) {
        if seconds >= LEAST_SECONDS && self.open.is_empty() {
            return self.measure(pods, seconds);
        }
        add_to(&mut self.open, pods);
        self.open_seconds += seconds;
        if self.open_seconds >= LEAST_SECONDS {
            let mut pods = std::mem::take(&mut self.open);
            let seconds = std::mem::take(&mut self.open_seconds);
            self.measure(&pods, seconds);
            pods.clear();
            self.open = pods;
        }
    }

    fn measure(&mut self, pods: &[PodCounts], seconds: f64) {
        let (requests, bad) = pods
            .iter()
            .fold((0.0, 0.0), |sum, pod| (sum.0 + pod.requests as f64, sum.1 + pod.failed() as f64));
        if requests == 0.0 {
            return;
        }
        self.bad += bad;
        self.requests += requests;
        self.watched += seconds;
        if bad > 0.0 && pods.len() > 1 {
            self.follow(pods, requests, bad, seconds);
        }
        let bound = self.bound();
        let bursts = &self.bursts;
        let calm = pods.iter().filter(|pod| {
            !bursts
                .binary_search_by_key(&pod.pod, |burst| burst.pod)
                .is_ok_and(|index| bursts[index].peak > bound)
        });
        let cells = calm.map(|pod| (pod.requests, pod.failed()));
        self.pods.add(cells.clone());
        self.whole.add(pods.iter().map(|pod| (pod.requests, pod.failed())));
        let sum = cells
            .fold((0u64, 0u64), |sum, cell| (sum.0.saturating_add(cell.0), sum.1.saturating_add(cell.1)));
        if let Some(previous) = self.previous {
            self.looks.add([previous, sum].into_iter());
        }
        self.previous = Some(sum);
    }

    /// Leaves out a look (an outage shared by all): the next look is not compared with the one before it.
    pub fn skip(&mut self) {
        self.previous = None;
        self.open.clear();
        self.open_seconds = 0.0;
    }

    /// For a new rollout: what was measured keeps half of its weight, and the longest burst half of its length, so that
    /// one that does not come again is forgotten.
    pub fn carry_over(&mut self) {
        self.longest = 0.5 * self.longest.min(LONGEST_BURST);
        if self.longest < LEAST_SECONDS {
            (self.longest, self.fiercest) = (0.0, 0.0);
        }
        self.pods.fade();
        self.looks.fade();
        self.whole.fade();
        self.bad *= 0.5;
        self.requests *= 0.5;
        self.skip();
        self.bursts.clear();
    }

    /// What is worth keeping of it beyond the process, as text: all but what is under way.
    pub fn to_text(&self) -> String {
        let mut kept = self.clone();
        kept.skip();
        kept.bursts.clear();
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads what [`Dispersion::to_text`] wrote; `None` if another version wrote it in another form.
    pub fn from_text(text: &str) -> Option<Dispersion> {
        serde_json::from_str(text).ok()
    }

    /// How far a look of so many seconds (0 where that is not known) is to be believed, in a test at level `alpha`.
    pub fn temper(&self, alpha: f64, seconds: f64) -> Temper {
        if self.longest == 0.0 && self.watched >= KNOWN_AFTER {
            return Temper { phi: self.phi(), cap: f64::INFINITY };
        }
        let nats = -alpha.clamp(1e-9, 0.5).ln();
        // A burst may begin within a look and end within another. Who is not known may have bursts of a second.
        let longest = if seconds > 0.0 { self.longest.max(LEAST_SECONDS) } else { self.longest };
        let looks = longest / seconds.max(0.1) + 1.0;
        Temper { phi: self.phi(), cap: nats / looks.max(2.0) }
    }

    /// Whether a canary's look is so much worse than the worst burst of stable's pods that it is no burst of that kind,
    /// whose length would be waited for. One bad request more or less must not tell.
    pub fn is_no_blip(&self, requests: u64, bad: u64) -> bool {
        if self.longest == 0.0 || requests == 0 || bad < 2 {
            return false;
        }
        let odds = |share: f64| share / (1.0 - share).max(1e-9);
        odds((bad - 1) as f64 / requests as f64) >= BEYOND_BURSTS * odds(self.fiercest)
    }

    /// The scatter; at least 1.
    pub fn phi(&self) -> f64 {
        self.pods.value().max(self.looks.value()).max(1.0)
    }

    /// The scatter with the bursts, for what is averaged over a step and so cannot be capped; at least [`Dispersion::phi`].
    pub fn phi_with_bursts(&self) -> f64 {
        self.whole.value().max(self.phi())
    }

    /// The longest burst of one pod that was seen, in seconds; 0 if none was.
    pub fn longest_burst(&self) -> f64 {
        self.longest
    }

    /// The bad events of stable that the measure rests on.
    pub fn events(&self) -> f64 {
        self.bad
    }

    /// Stable's usual bad rate, outages left out, as a share of requests; `None` while there were too few.
    pub fn usual_rate(&self) -> Option<f64> {
        // An older version has written the bad ones without the requests.
        (self.requests >= LEAST_FOR_RATE && self.requests >= self.bad).then(|| self.bad / self.requests)
    }

    /// The CUSUM beyond which a burst is more than chance explains.
    fn bound(&self) -> f64 {
        let chances = (BURST_ODDS.len() as f64 * self.bad).max(1.0);
        self.phi() * (chances.ln() + BURST_MARGIN)
    }

    fn follow(&mut self, pods: &[PodCounts], requests: f64, bad: f64, seconds: f64) {
        let bound = self.bound();
        for pod in pods.iter().filter(|pod| pod.requests > 0) {
            let place = self.bursts.binary_search_by_key(&pod.pod, |burst| burst.pod);
            let share = pod.requests as f64 / requests;
            if share >= 1.0 || (pod.bad == 0 && place.is_err()) {
                continue;
            }
            let mut burst = place.map_or(Burst::of(pod.pod), |index| self.bursts[index]);
            burst.seconds += seconds;
            burst.requests = burst.requests.saturating_add(pod.requests);
            burst.bad = burst.bad.saturating_add(pod.failed());
            for (sum, odds) in burst.sums.iter_mut().zip(BURST_ODDS) {
                let gain = pod.failed() as f64 * odds.ln() - bad * (share * (odds - 1.0)).ln_1p();
                *sum = (*sum + gain).max(0.0);
            }
            let most = burst.sums.iter().copied().fold(0.0, f64::max);
            if most > burst.peak {
                burst.peak = most;
                if most > bound {
                    self.longest = self.longest.max(burst.seconds.min(LONGEST_BURST));
                    self.fiercest = self.fiercest.max(burst.bad as f64 / burst.requests.max(1) as f64);
                }
            }
            // Once half of it is gone it is over; a second blip is a burst of its own.
            let over = most <= burst.peak / 2.0;
            match place {
                Ok(index) if over => drop(self.bursts.remove(index)),
                Ok(index) => self.bursts[index] = burst,
                Err(index) if !over => self.bursts.insert(index, burst),
                Err(_) => {}
            }
        }
    }
}
