//! How much more stable's errors scatter than independent ones would: φ ≥ 1.
//!
//! Three measures, of which the largest counts, all of them given the totals, so that an error rate that rises for
//! everybody at once does not count:
//! - between stable's pods within a look, and between one look and the next: Pearson's statistic over its degrees of freedom
//!   (McCullagh & Nelder 1989, *Generalized Linear Models*, section 4.5), each look weighted by its bad events. For errors in
//!   clusters of size K this tends to E K² / E K, the factor by which the variance is larger;
//! - the worst burst of one pod: rare and long blips hardly move a variance, and are what rolls back a good canary. Each pod
//!   of stable is taken for a canary and followed by CUSUM (Page 1954) against the rest at the odds ratios 3, 10 and 30. A burst
//!   beyond what chance explains raises φ so far that the same burst in a canary's pod ends at its limit, not over it.
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

/// A number for a pod's name or UID (FNV-1a, 64 bits).
pub fn pod_id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A weighted mean of Pearson's statistic over its degrees of freedom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ratio {
    #[serde(with = "wire::float")]
    sum: f64,
    #[serde(with = "wire::float")]
    weight: f64,
}

impl Ratio {
    fn value(&self) -> f64 {
        (self.sum + PRIOR) / (self.weight + PRIOR)
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
    }

    fn fade(&mut self) {
        self.sum *= 0.5;
        self.weight *= 0.5;
    }
}

/// A pod in a burst.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Burst {
    pod: u64,
    #[serde(with = "wire::floats")]
    sums: [f64; 3],
}

/// The dispersion of stable's errors. It may be kept from one rollout to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    pods: Ratio,
    looks: Ratio,
    previous: Option<(u64, u64)>,
    /// The pods whose CUSUM is above zero, by pod.
    bursts: Vec<Burst>,
    #[serde(with = "wire::float")]
    worst: f64,
    #[serde(with = "wire::float")]
    bad: f64,
}

impl Dispersion {
    /// Takes in one look at stable: its pods' counts, sorted or not; one entry (or none known) tells nothing between pods.
    pub fn look(&mut self, pods: &[PodCounts]) {
        let (requests, bad) = pods.iter().fold((0u64, 0u64), |sum, pod| {
            (sum.0.saturating_add(pod.requests), sum.1.saturating_add(pod.bad.min(pod.requests)))
        });
        if requests == 0 {
            return;
        }
        self.pods.add(pods.iter().map(|pod| (pod.requests, pod.bad.min(pod.requests))));
        if let Some(previous) = self.previous {
            self.looks.add([previous, (requests, bad)].into_iter());
        }
        self.previous = Some((requests, bad));
        self.bad += bad as f64;
        if bad > 0 && pods.len() > 1 {
            self.follow(pods, requests as f64, bad as f64);
        }
    }

    /// Leaves out a look (an outage shared by all): the next look is not compared with the one before it.
    pub fn skip(&mut self) {
        self.previous = None;
    }

    /// For a new rollout: what was measured keeps half of its weight.
    pub fn carry_over(&mut self) {
        self.pods.fade();
        self.looks.fade();
        self.bad *= 0.5;
        self.previous = None;
        self.bursts.clear();
    }

    /// φ for a test at level `alpha`; at least 1.
    pub fn phi(&self, alpha: f64) -> f64 {
        let scatter = self.scatter();
        let chances = (BURST_ODDS.len() as f64 * self.bad).max(1.0);
        if self.worst > scatter * (chances.ln() + BURST_MARGIN) {
            scatter.max(self.worst / -alpha.clamp(1e-9, 0.5).ln())
        } else {
            scatter
        }
    }

    /// The variance part of φ alone, without bursts; at least 1.
    pub fn scatter(&self) -> f64 {
        self.pods.value().max(self.looks.value()).max(1.0)
    }

    /// The bad events of stable that the measure rests on.
    pub fn events(&self) -> f64 {
        self.bad
    }

    fn follow(&mut self, pods: &[PodCounts], requests: f64, bad: f64) {
        for pod in pods.iter().filter(|pod| pod.requests > 0) {
            let place = self.bursts.binary_search_by_key(&pod.pod, |burst| burst.pod);
            let mut sums = place.map_or([0.0; 3], |index| self.bursts[index].sums);
            let share = pod.requests as f64 / requests;
            if share >= 1.0 || (pod.bad == 0 && place.is_err()) {
                continue;
            }
            for (sum, odds) in sums.iter_mut().zip(BURST_ODDS) {
                let gain =
                    pod.bad.min(pod.requests) as f64 * odds.ln() - bad * (share * (odds - 1.0)).ln_1p();
                *sum = (*sum + gain).max(0.0);
                self.worst = self.worst.max(*sum);
            }
            let over = sums.iter().any(|sum| *sum > 0.0);
            match place {
                Ok(index) if over => self.bursts[index].sums = sums,
                Ok(index) => drop(self.bursts.remove(index)),
                Err(index) if over => self.bursts.insert(index, Burst { pod: pod.pod, sums }),
                Err(_) => {}
            }
        }
    }
}
