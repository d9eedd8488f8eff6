//! The cluster of a simulation: pods that start, serve and go, and the requests that they answer.

use std::collections::BTreeMap;

use super::random::Random;
use super::story::PodState;
use crate::canary::facts::{Decision, Destination, PodFacts, RevisionFacts};
use jiff::Timestamp;

/// How long a revision keeps its pods after it has lost its traffic, in seconds: as the service reconciler
/// does it.
const RETIRE_GRACE: f64 = 30.0;

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: u64,
    pub started: f64,
    pub ready_since: Option<f64>,
    pub restarts: u32,
    /// Counters: requests, failed ones, slow ones, those that a custom metric calls bad, and refused ones.
    pub counters: [u64; 5],
}

/// A revision, or the fresh copy of one, or the old backend.
#[derive(Clone, Debug, Default)]
pub struct Arm {
    pub release: String,
    pub pods: Vec<Pod>,
    pub wanted: i32,
    pub retired_at: Option<f64>,
    pub state: PodState,
}

/// Shares of requests that go wrong.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Failed, slow, custom, and refused, by release.
    pub by_release: [BTreeMap<String, f64>; 4],
    /// Until when every release fails, and how much.
    pub outage: Option<(f64, f64)>,
    /// The release that makes every release fail, from which weight on, and how much.
    pub breaks: Option<(String, i32, f64)>,
    /// The release of which one pod fails, until when, and how much.
    pub blip: Option<(String, f64, f64)>,
}

/// Requests of the users, from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Users {
    /// All.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that the canary failed.
    pub failed_by_canary: u64,
    /// Those that were sent to where no pod was Ready.
    pub unanswered: u64,
}

/// The variant of a flag that is off: the same pods, counted apart.
pub fn flag_off() -> Destination {
    Destination::Baseline("flag-off".to_owned())
}

/// The cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub arms: BTreeMap<Destination, Arm>,
    pub rates: Rates,
    pub users: Users,
    /// The release whose pods count none of their requests.
    pub uncounted: Option<String>,
    /// Pods that are gone, to be forgotten by the analysis.
    pub gone: Vec<u64>,
    next_pod: u64,
}

impl Cluster {
    pub fn arm(&mut self, to: &Destination, release: &str) -> &mut Arm {
        self.arms.entry(to.clone()).or_insert_with(|| Arm { release: release.to_owned(), ..Arm::default() })
    }

    /// Gives an arm that many pods, Ready at once: the state before a story.
    pub fn stand(&mut self, to: &Destination, release: &str, pods: i32, now: f64) {
        self.arm(to, release).wanted = pods;
        self.pods(now, 0.0);
        if let Some(arm) = self.arms.get_mut(to) {
            for pod in &mut arm.pods {
                pod.started = now - 86_400.0;
                pod.ready_since = Some(pod.started);
            }
        }
    }

    /// Takes over what was decided.
    pub fn follow(&mut self, decision: &Decision, now: f64) {
        let stable = decision.stable.clone().unwrap_or_default();
        for (to, arm) in &mut self.arms {
            let wanted = match to {
                Destination::Legacy => continue,
                Destination::Revision(hash) => {
                    decision.pods.iter().find(|(named, _)| named == hash).map(|(_, pods)| *pods)
                }
                _ if *to == flag_off() => continue,
                Destination::Baseline(hash) => (*hash == stable).then_some(decision.baseline_pods),
            };
            match wanted {
                Some(pods) => {
                    arm.wanted = pods;
                    arm.retired_at = None;
                }
                None if decision.route.by_pods => arm.wanted = 0,
                None => {
                    let since = *arm.retired_at.get_or_insert(now);
                    if now - since >= RETIRE_GRACE {
                        arm.wanted = 0;
                    }
                }
            }
        }
        if decision.baseline_pods > 0 {
            let release =
                self.arms.get(&Destination::Revision(stable.clone())).map(|arm| arm.release.clone());
            self.arm(&Destination::Baseline(stable), &release.unwrap_or_default());
        }
    }

    /// Pods are made, become Ready, and go.
    pub fn pods(&mut self, now: f64, startup: f64) {
        for arm in self.arms.values_mut() {
            let wanted = usize::try_from(arm.wanted).unwrap_or(0);
            while arm.pods.len() < wanted {
                self.next_pod += 1;
                let id = self.next_pod;
                arm.pods.push(Pod { id, started: now, ready_since: None, restarts: 0, counters: [0; 5] });
            }
            for pod in arm.pods.drain(wanted..) {
                self.gone.push(pod.id);
            }
            for pod in &mut arm.pods {
                let ready = arm.state == PodState::Ready && now - pod.started >= startup;
                pod.ready_since = if ready { Some(pod.ready_since.unwrap_or(now)) } else { None };
            }
        }
    }

    /// All pods of a release start anew, elsewhere.
    pub fn drain(&mut self, release: &str) {
        for arm in self.arms.values_mut().filter(|arm| arm.release == release) {
            self.gone.extend(arm.pods.iter().map(|pod| pod.id));
            arm.pods.clear();
        }
    }

    /// The users send requests for some time.
    pub fn serve(&mut self, decision: &Decision, requests: f64, now: f64, random: &mut Random) {
        let mut left = requests.round().max(0.0) as u64;
        self.users.requests += left;
        let mut percent_left = 100;
        let mut shares = decision.route.shares.clone();
        if decision.route.by_pods {
            shares = self.by_pods();
            percent_left = shares.iter().map(|(_, share)| *share).sum();
        }
        if let Some(flag) = decision.flag {
            // The same pods answer; the flag says which variant.
            shares = self.by_flag(decision, flag);
        }
        let outage = self.outage(&shares, now);
        for (to, percent) in shares {
            let part = f64::from(percent) / f64::from(percent_left.max(1));
            let sent = random.binomial(left, part);
            left -= sent;
            percent_left -= percent;
            self.answer(decision, &to, (sent, outage), now, random);
        }
    }

    /// Callers past the service's routes send requests to the old backend, which answers them well.
    pub fn serve_others(&mut self, requests: f64) {
        let pods = self.arms.get_mut(&Destination::Legacy).map(|arm| arm.pods.as_mut_slice());
        if let Some(pod) = pods.and_then(<[Pod]>::first_mut) {
            pod.counters[0] += requests.round().max(0.0) as u64;
        }
    }

    fn by_pods(&self) -> Vec<(Destination, i32)> {
        let ready = |arm: &Arm| arm.pods.iter().filter(|pod| pod.ready_since.is_some()).count() as i32;
        self.arms.iter().map(|(to, arm)| (to.clone(), ready(arm))).filter(|(_, share)| *share > 0).collect()
    }

    fn by_flag(&mut self, decision: &Decision, percent: i32) -> Vec<(Destination, i32)> {
        let stable = decision.stable.clone().unwrap_or_default();
        let old = flag_off();
        let arm = self.arm(&old, "flag-off");
        if arm.pods.is_empty() {
            let counters = [0; 5];
            arm.pods.push(Pod {
                id: u64::MAX,
                started: -1e6,
                ready_since: Some(-1e6),
                restarts: 0,
                counters,
            });
            arm.wanted = 1;
        }
        vec![(old, 100 - percent), (Destination::Revision(stable), percent)]
    }

    /// The share of all requests that fail behind every release, be it for what one of them does with these shares.
    fn outage(&self, shares: &[(Destination, i32)], now: f64) -> f64 {
        let outage = self.rates.outage.filter(|(until, _)| now < *until).map_or(0.0, |(_, rate)| rate);
        let Some((release, from, rate)) = &self.rates.breaks else { return outage };
        let has = |to: &Destination| self.arms.get(to).is_some_and(|arm| arm.release == *release);
        let weight: i32 = shares.iter().filter(|(to, _)| has(to)).map(|(_, percent)| percent).sum();
        if weight >= *from { outage.max(*rate) } else { outage }
    }

    fn answer(
        &mut self,
        decision: &Decision,
        to: &Destination,
        (sent, outage): (u64, f64),
        now: f64,
        random: &mut Random,
    ) {
        let canary = decision.canary.clone().map(Destination::Revision);
        let Some(arm) = self.arms.get_mut(to) else {
            self.users.unanswered += sent;
            self.users.failed += sent;
            return;
        };
        let rate = |kind: usize| self.rates.by_release[kind].get(&arm.release).copied().unwrap_or(0.0);
        let (errors, slow, bad, refused) = (rate(0).max(outage), rate(1), rate(2), rate(3));
        let blip =
            self.rates.blip.clone().filter(|(release, until, _)| *release == arm.release && now < *until);
        let ready = arm.pods.iter().filter(|pod| pod.ready_since.is_some()).count() as u64;
        if ready == 0 {
            self.users.unanswered += sent;
            self.users.failed += sent;
            return;
        }
        let (mut left, mut pods_left, mut first) = (sent, ready, true);
        for pod in arm.pods.iter_mut().filter(|pod| pod.ready_since.is_some()) {
            let part = random.binomial(left, 1.0 / pods_left as f64);
            left -= part;
            pods_left -= 1;
            let own = blip.as_ref().filter(|_| first).map_or(errors, |(_, _, rate)| rate.max(errors));
            first = false;
            let failed = random.binomial(part, own);
            let more = [slow, bad, refused].map(|rate| random.binomial(part, rate));
            let counts = [part, failed, more[0], more[1], more[2]];
            for (counter, count) in pod.counters.iter_mut().zip(counts) {
                *counter += count;
            }
            self.users.failed += failed;
            if canary.as_ref() == Some(to) {
                self.users.failed_by_canary += failed;
            }
        }
    }

    /// A revision as decisions see it.
    pub fn facts(&self, to: &Destination, at: impl Fn(f64) -> Timestamp) -> Option<RevisionFacts> {
        let arm = self.arms.get(to)?;
        let hash = match to {
            Destination::Revision(hash) | Destination::Baseline(hash) => hash.clone(),
            Destination::Legacy => return None,
        };
        let pods = arm
            .pods
            .iter()
            .map(|pod| PodFacts { ready_since: pod.ready_since.map(&at), restarts: pod.restarts });
        Some(RevisionFacts { hash, release: arm.release.clone(), pods: pods.collect(), available: 0 })
    }
}
