//! Traffic with errors as they really are: second by second, pod by pod.

use super::random::Random;

/// Requests per second to the service.
pub const RATE: f64 = 300.0;
/// The usual share of bad requests.
pub const BASE: f64 = 0.005;
/// The length of a rollout's step in seconds.
pub const SECONDS: usize = 600;
/// The history of stable before it, in seconds, and the length of its looks.
pub const HISTORY: usize = 1800;
/// The length of one look of the history in seconds.
pub const HISTORY_LOOK: usize = 5;

/// What is wrong with the errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// Nothing: each request fails by itself.
    Independent,
    /// Errors come in clusters of geometric size with this mean, each within a second at one pod (retries, one bad client).
    Clusters(f64),
    /// Each pod, about once an hour, fails 30 % of its requests for 5 to 15 s.
    Blips,
    /// A new pod fails 5 % of its requests in its first 30 s. The canary's pods are new, and one more comes after 300 s.
    WarmUp,
    /// Both arms fail 30 % of their requests for 30 s; the canary is read this many seconds later than stable.
    Outage(usize),
    /// Each pod restarts about every ten minutes: its counters fall to zero, and it warms up again.
    Restarts,
}

impl Condition {
    /// Its name in the tables.
    pub fn name(&self) -> String {
        match self {
            Condition::Independent => "independent errors".to_owned(),
            Condition::Clusters(size) => format!("clusters of {size:.0}"),
            Condition::Blips => "one-pod blips".to_owned(),
            Condition::WarmUp => "warm-up".to_owned(),
            Condition::Outage(skew) => format!("shared outage, canary read {skew} s later"),
            Condition::Restarts => "restarts".to_owned(),
        }
    }

    /// By how many seconds later the canary is read than stable.
    pub fn skew(&self) -> usize {
        match self {
            Condition::Outage(skew) => *skew,
            _ => 0,
        }
    }
}

/// One pod's counters at each second, as its own metrics endpoint shows them.
pub struct Pod {
    /// Whether it is the canary's.
    pub canary: bool,
    /// Counters of requests and bad requests at the end of each second, with resets.
    pub counters: Vec<(u32, u32)>,
    /// What it answered in each second.
    pub answered: Vec<(u32, u32)>,
    /// Since when it is Ready, at each second; stable's pods have been for long.
    pub ready_since: Vec<i32>,
}

impl Pod {
    /// Requests and bad ones that its counters show at a quarter of a second, and since when it is Ready; `None` while it is not.
    /// What falls into a second falls evenly into its quarters.
    pub fn read(&self, quarter: usize) -> Option<(u32, u32, i32)> {
        let (second, part) = (quarter / 4, (quarter % 4) as u32);
        // A sample at which the counter does not exist yet is a sample that is not there.
        let ready = self.ready_since[second];
        if ready > second as i32 {
            return None;
        }
        let (whole, answered) = (self.counters[second], self.answered[second]);
        let read = |whole: u32, answered: u32| whole - answered + answered * part / 4;
        Some((read(whole.0, answered.0), read(whole.1, answered.1), ready))
    }
}

/// One rollout's traffic, and the history of stable before it.
pub struct Stream {
    /// All pods of both arms.
    pub pods: Vec<Pod>,
    /// Stable's pods in each look of the history: requests and bad ones.
    pub history: Vec<Vec<(u64, u64)>>,
}

/// What a stream is made from.
#[derive(Clone, Copy)]
pub struct Story {
    /// The condition.
    pub condition: Condition,
    /// The canary's weight.
    pub weight: f64,
    /// The canary's own extra errors, as a share of its requests.
    pub increase: f64,
    /// The second from which on the canary is worse.
    pub from: usize,
}

/// What happens to one pod, as intervals of seconds with a chance that a request in them is bad.
fn troubles(
    random: &mut Random,
    condition: Condition,
    canary: bool,
    from: i32,
    to: i32,
) -> Vec<(i32, i32, f64)> {
    let mut list = Vec::new();
    match condition {
        Condition::Blips => {
            let mut at = from;
            loop {
                at = at.saturating_add(random.geometric(1.0 / 3600.0) as i32);
                if at >= to {
                    return list;
                }
                list.push((at, at + 5 + random.below(11) as i32, 0.3));
            }
        }
        Condition::WarmUp if canary => list.push((from, from + 30, 0.05)),
        _ => {}
    }
    list
}

impl Stream {
    /// Draws one stream.
    pub fn draw(random: &mut Random, story: Story) -> Stream {
        let Story { condition, weight, .. } = story;
        // Stable keeps its room for all of the demand until the rollout is over.
        let stable_pods = 10;
        let canary_pods = ((weight * 10.0).ceil() as usize).max(1);
        let outage = 120 + random.below(380) as i32;
        let length = SECONDS + condition.skew() + 2;
        let mut pods: Vec<Pod> = Vec::new();
        let mut trouble = Vec::new();
        let extra = usize::from(condition == Condition::WarmUp);
        for index in 0..canary_pods + extra + stable_pods {
            let canary = index < canary_pods + extra;
            // The extra pod of the canary comes in mid-step.
            let born = if canary && index == canary_pods { 300 } else { 0 };
            let begin = if canary { born } else { -(HISTORY as i32) };
            let mut list = troubles(random, condition, canary, begin, length as i32);
            if let Condition::Outage(_) = condition {
                list.push((outage, outage + 30, 0.3));
            }
            let ready = if canary { born } else { -1_000_000 };
            pods.push(Pod {
                canary,
                counters: Vec::with_capacity(length),
                answered: Vec::with_capacity(length),
                ready_since: vec![ready; length],
            });
            trouble.push(list);
        }
        let history = history(random, condition, stable_pods, &trouble[canary_pods + extra..]);
        if condition == Condition::Restarts {
            restarts(random, &mut pods, &mut trouble, length);
        }
        let mut counters = vec![(0u32, 0u32); pods.len()];
        let mut ready = vec![true; pods.len()];
        let mut bursts = vec![0u32; pods.len()];
        let size = if let Condition::Clusters(size) = condition { size } else { 1.0 };
        for second in 0..length {
            let now = second as i32;
            let mut serving = [0usize; 2];
            for (pod, ready) in pods.iter().zip(&mut ready) {
                *ready = pod.ready_since[second] <= now;
                serving[usize::from(pod.canary)] += usize::from(*ready);
            }
            bursts.fill(0);
            for canary in [false, true] {
                let share = if canary { weight } else { 1.0 - weight };
                if serving[usize::from(canary)] == 0 {
                    continue;
                }
                for _ in 0..random.poisson(RATE * share * BASE / size) {
                    let mut pick = random.below(serving[usize::from(canary)]);
                    let found = pods.iter().zip(&ready).position(|(pod, ready)| {
                        let fits = *ready && pod.canary == canary;
                        let hit = fits && pick == 0;
                        pick = pick.wrapping_sub(usize::from(fits && !hit));
                        hit
                    });
                    if let Some(found) = found {
                        bursts[found] += random.geometric(1.0 / size) as u32;
                    }
                }
            }
            for (index, pod) in pods.iter_mut().enumerate() {
                let mut answered = (0, 0);
                if ready[index] {
                    let share = if pod.canary { weight } else { 1.0 - weight };
                    let rate = RATE * share / serving[usize::from(pod.canary)] as f64;
                    let usual = random.poisson(rate * (1.0 - BASE));
                    let mut bad = 0;
                    for &(from, to, chance) in &trouble[index] {
                        if (from..to).contains(&now) {
                            bad += random.binomial(usual, chance);
                        }
                    }
                    if pod.canary && story.increase > 0.0 && second >= story.from {
                        bad += random.binomial(usual - bad.min(usual), story.increase);
                    }
                    answered = (usual as u32 + bursts[index], bad.min(usual) as u32 + bursts[index]);
                }
                if second > 0 && pod.ready_since[second] != pod.ready_since[second - 1] {
                    counters[index] = (0, 0);
                }
                counters[index].0 += answered.0;
                counters[index].1 += answered.1;
                pod.answered.push(answered);
                pod.counters.push(counters[index]);
            }
        }
        Stream { pods, history }
    }

    /// An arm's requests and bad ones in the seconds `from..to`, as a query over a window gives them.
    pub fn window(&self, canary: bool, from: usize, to: usize) -> (u64, u64) {
        let mut sum = (0, 0);
        for pod in self.pods.iter().filter(|pod| pod.canary == canary) {
            for answered in &pod.answered[from..to] {
                sum.0 += u64::from(answered.0);
                sum.1 += u64::from(answered.1);
            }
        }
        sum
    }
}

/// The history goes by looks, not by seconds: the clusters, blips and counts of each look are drawn at once.
fn history(
    random: &mut Random,
    condition: Condition,
    pods: usize,
    trouble: &[Vec<(i32, i32, f64)>],
) -> Vec<Vec<(u64, u64)>> {
    let size = if let Condition::Clusters(size) = condition { size } else { 1.0 };
    let seconds = HISTORY_LOOK as f64;
    (0..HISTORY / HISTORY_LOOK)
        .map(|look| {
            let from = -(HISTORY as i32) + (look * HISTORY_LOOK) as i32;
            let mut counts: Vec<(u64, u64)> = trouble
                .iter()
                .map(|list| {
                    let requests = random.poisson(RATE * seconds * (1.0 - BASE) / pods as f64);
                    let mut bad = 0;
                    for &(begin, end, chance) in list {
                        let overlap = (end.min(from + HISTORY_LOOK as i32) - begin.max(from)).max(0);
                        let part = requests * overlap as u64 / HISTORY_LOOK as u64;
                        bad += random.binomial(part, chance);
                    }
                    (requests, bad.min(requests))
                })
                .collect();
            for _ in 0..random.poisson(RATE * seconds * BASE / size) {
                let burst = random.geometric(1.0 / size);
                let pod = &mut counts[random.below(pods)];
                *pod = (pod.0 + burst, pod.1 + burst);
            }
            counts
        })
        .collect()
}

/// Each pod restarts now and then: away for three seconds, then new.
fn restarts(random: &mut Random, pods: &mut [Pod], trouble: &mut [Vec<(i32, i32, f64)>], length: usize) {
    for (pod, trouble) in pods.iter_mut().zip(trouble) {
        let mut at = random.geometric(1.0 / 600.0) as usize;
        while at < length {
            let back = at as i32 + 3;
            pod.ready_since[at..].fill(back);
            trouble.push((back, back + 30, 0.05));
            at += 30 + random.geometric(1.0 / 600.0) as usize;
        }
    }
}
