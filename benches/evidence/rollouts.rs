//! Real errors: rollouts in looks of a quarter of a second to 15 s, through counters, warm-up and skew, beside the peers.

use crate::evidence::{Counters, Detector, Look, PodCounts, Policy, SECOND_LOOK, Sample, Tally, Verdict};

use super::peers::{PEERS, plain};
use super::random::Random;
use super::report::{Target, median, percent, share, table, upper, words};
use super::streams::{BASE, Condition, HISTORY_LOOK, RATE, SECONDS, Story, Stream};
use super::{ALPHA, Size};

const WEIGHTS: [f64; 3] = [0.01, 0.1, 0.5];
/// The lengths of a look in quarters of a second.
const LOOKS: [usize; 4] = [1, 4, USUAL, 60];
/// The look of the tables that have but one: 5 s.
const USUAL: usize = 20;
/// What is let pass, as a share of requests.
const MAX_INCREASE: f64 = 0.005;
/// How long a pod is not counted, in seconds.
const WARMUP: f64 = 60.0;

const CONDITIONS: [Condition; 8] = [
    Condition::Independent,
    Condition::Clusters(3.0),
    Condition::Clusters(10.0),
    Condition::Blips,
    Condition::WarmUp,
    Condition::Outage(3),
    Condition::Outage(10),
    Condition::Restarts,
];

/// How a detector is run on a stream.
#[derive(Clone, Copy)]
struct Setting {
    /// The length of a look in quarters of a second.
    look: usize,
    /// Whether stable's history was measured before the rollout.
    history: bool,
    /// Whether the source's skew is known, so that looks are long enough for it.
    skew_known: bool,
}

/// What a rollout came to.
#[derive(Clone, Copy, Default)]
struct Outcome {
    failed: Option<usize>,
    passed: Option<usize>,
}

/// The fully wired detector: counters with warm-up, looks that close when both arms are past their end, dispersion, outages.
fn run(stream: &Stream, skew: usize, setting: Setting) -> Outcome {
    let mut policy = Policy::new(MAX_INCREASE, ALPHA, 4);
    let look = setting.look as f64 / 4.0;
    policy.look_seconds = look;
    let mut detector = Detector::new(policy).expect("a policy in range");
    let mut pods: Vec<PodCounts> = Vec::new();
    if setting.history {
        for counts in &stream.history {
            pods.clear();
            pods.extend(counts.iter().enumerate().map(|(pod, counts)| PodCounts {
                pod: pod as u64,
                requests: counts.0,
                bad: counts.1,
            }));
            let mut tally = Tally::default();
            for pod in &pods {
                tally.stable_requests += pod.requests;
                tally.stable_bad += pod.bad;
            }
            detector.before(tally, &pods, HISTORY_LOOK as f64);
        }
    }
    detector.begin_step();
    let mut counters = Counters::new("stable", "canary", WARMUP, look, 0.0);
    let mut outcome = Outcome::default();
    // In quarters of a second, beginning in the midst of one, so that what falls into one second may fall into two looks.
    let (mut next, mut hastened) = (2, None);
    while next < 4 * SECONDS {
        let quarter = hastened.take().unwrap_or(next);
        let time = quarter as f64 / 4.0;
        // What has just been read is not read again a moment later.
        next += if 4 * next <= 4 * quarter + setting.look { setting.look } else { 0 };
        let end = quarter.div_ceil(4);
        for (index, pod) in stream.pods.iter().enumerate() {
            // The canary's counters are read later, and nobody notices.
            let Some((requests, bad, ready)) = pod.read(quarter + if pod.canary { 4 * skew } else { 0 })
            else {
                continue;
            };
            let sample = Sample {
                revision: if pod.canary { "canary" } else { "stable" },
                pod: index as u64,
                time,
                ready_since: Some(f64::from(ready)),
                requests: f64::from(requests),
                bad: f64::from(bad),
                unanswered: 0.0,
            };
            counters.sample(sample).expect("the stream's samples are in order");
        }
        if let Some(closed) = counters.close(time, 2.0 * look) {
            let taken = detector.take(Look {
                tally: closed.tally,
                stable_pods: &closed.stable_pods,
                seconds: closed.seconds,
                apart: if setting.skew_known { skew as f64 } else { 0.0 },
                ..Look::default()
            });
            assert!(taken, "the counters' numbers can be");
            match detector.decide().0 {
                Verdict::Fail => {
                    outcome.failed = Some(end + skew);
                    return outcome;
                }
                Verdict::Pass if outcome.passed.is_none() => outcome.passed = Some(end + skew),
                _ => {}
            }
            let least = if setting.skew_known { SECOND_LOOK.max(2.0 * skew as f64) } else { SECOND_LOOK };
            let soon = detector.second_look(&mut counters, least);
            hastened = soon.map(|seconds| quarter + (4.0 * seconds).ceil() as usize);
        }
    }
    outcome
}

fn stream_number(group: u64, condition: usize, weight: usize, run: u64) -> u64 {
    2_000_000_000 + group * 100_000_000 + (condition * 10 + weight) as u64 * 1_000_000 + run
}

/// A few good canaries among real errors, in looks of 5 s: failed ones and runs, of the detector and of the plain e-process.
pub fn few_alarms(seed: u64) -> [(u64, u64); 2] {
    let mut counts = [(0, 0); 2];
    for (index, condition) in CONDITIONS.into_iter().enumerate() {
        for (column, weight) in [0.1, 0.5].into_iter().enumerate() {
            for run_number in 0..3 {
                let mut random = Random::new(seed, stream_number(8, index, column, run_number));
                let story = Story { condition, weight, increase: 0.0, from: 0 };
                let stream = Stream::draw(&mut random, story);
                let setting = Setting { look: USUAL, history: true, skew_known: true };
                let failed = [
                    run(&stream, condition.skew(), setting).failed.is_some(),
                    plain(&stream, condition.skew()).is_some(),
                ];
                for (count, failed) in counts.iter_mut().zip(failed) {
                    *count = (count.0 + u64::from(failed), count.1 + 1);
                }
            }
        }
    }
    counts
}

/// False alarms under real errors, and the peers' on the same streams.
pub fn false_alarms(size: Size, targets: &mut Vec<Target>) -> (String, String) {
    let runs = size.rollouts;
    let mut rows = Vec::new();
    let mut peers = Vec::new();
    let mut blind = Vec::new();
    let mut worst = 0.0f64;
    for (index, condition) in CONDITIONS.into_iter().enumerate() {
        for (column, weight) in WEIGHTS.into_iter().enumerate() {
            let mut failed = [0u64; LOOKS.len()];
            let mut others = [0u64; PEERS.len() + 1];
            let (mut no_history, mut unknown_skew) = (0u64, 0u64);
            for run_number in 0..runs {
                let mut random = Random::new(size.seed, stream_number(0, index, column, run_number));
                let story = Story { condition, weight, increase: 0.0, from: 0 };
                let stream = Stream::draw(&mut random, story);
                let setting = Setting { look: USUAL, history: true, skew_known: true };
                for (count, look) in failed.iter_mut().zip(LOOKS) {
                    let outcome = run(&stream, condition.skew(), Setting { look, ..setting });
                    *count += u64::from(outcome.failed.is_some());
                }
                let without = Setting { history: false, ..setting };
                no_history += u64::from(run(&stream, condition.skew(), without).failed.is_some());
                if condition.skew() > 0 {
                    let unknown = Setting { look: 4, skew_known: false, ..setting };
                    unknown_skew += u64::from(run(&stream, condition.skew(), unknown).failed.is_some());
                }
                others[0] += u64::from(plain(&stream, condition.skew()).is_some());
                for (count, peer) in others[1..].iter_mut().zip(&PEERS) {
                    *count += u64::from((peer.rule)(&stream).is_some());
                }
            }
            let mut row = vec![condition.name(), percent(weight)];
            for count in failed {
                worst = worst.max(upper(count, runs));
                row.push(share(count, runs));
            }
            rows.push(row);
            let mut row = vec![condition.name(), percent(weight), percent(failed[2] as f64 / runs as f64)];
            row.extend(others.iter().map(|count| percent(*count as f64 / runs as f64)));
            peers.push(row);
            if matches!(condition, Condition::Blips | Condition::Clusters(_) | Condition::Outage(_)) {
                let skewed = if condition.skew() > 0 { share(unknown_skew, runs) } else { "–".to_owned() };
                blind.push(vec![condition.name(), percent(weight), share(no_history, runs), skewed]);
            }
        }
    }
    targets.push(Target {
        what: "false alarms under real errors, looks of ¼, 1, 5 and 15 s, worst cell's upper end".to_owned(),
        found: worst,
        limit: 2.0 * ALPHA,
        is_share: true,
    });
    let mut head = words(&["condition", "weight"]);
    head.extend(LOOKS.map(|look| format!("looks of {} s", look as f64 / 4.0)));
    let own = format!(
        "## 2. False alarms under real errors\n\nThe canary is as good as stable: {RATE:.0} requests/s, {} bad, m = {}, α = {}, 10 minutes at one weight, \
         {runs} runs; counters with a warm-up of {WARMUP:.0} s, 30 minutes of stable's history. Share of runs that are failed, and in brackets the upper end of \
         its 95 % interval, which must not pass 2α.\n\n\
         Clusters have a geometric size and fall on one pod within a second. Blips: each pod, about once an hour, fails 30 % for 5–15 s. Warm-up: a new pod \
         fails 5 % for 30 s; the canary's pods are new, and one more comes after 5 minutes. Outage: everything fails 30 % for 30 s, and the canary's \
         counters are read later than stable's; looks are put together until they are twice as long as that. Restarts: each pod about every ten minutes, with a warm-up after it.\n\n{}",
        percent(BASE),
        percent(MAX_INCREASE),
        percent(ALPHA),
        table(&head, &rows)
    );
    let limits = format!(
        "What it cannot know (not within the promise): looks of 5 s without any history of stable, so that the first cluster or blip ever seen may be the \
         canary's; and looks of 1 s where the source's skew is longer and nobody said so.\n\n{}",
        table(&words(&["condition", "weight", "no history", "skew not known"]), &blind)
    );
    let mut head = words(&["condition", "weight", "Banyan, looks of 5 s", "the plain e-process, 5 s"]);
    head.extend(PEERS.iter().map(|peer| peer.name.to_owned()));
    let beside = format!(
        "### False alarms\n\nShare of the {runs} runs of table 2, all with a good canary, that roll back.\n\n{}",
        table(&head, &peers)
    );
    (own + &limits, beside)
}

/// How soon a worse canary is found, beside the peers; and what real errors cost in power.
pub fn detections(size: Size, targets: &mut Vec<Target>) -> (String, String) {
    let runs = size.rollouts / 10;
    let (mut peers, mut power) = (Vec::new(), Vec::new());
    let stories = [(0.01, 0), (0.025, 0), (0.1, 0), (0.3, 0), (0.1, 300)];
    let conditions =
        [Condition::Independent, Condition::Clusters(3.0), Condition::Clusters(10.0), Condition::Blips];
    for (group, (increase, from)) in stories.into_iter().enumerate() {
        for (index, condition) in conditions.into_iter().enumerate() {
            for (column, weight) in WEIGHTS.into_iter().enumerate() {
                let mut delays: Vec<Vec<f64>> = vec![Vec::new(); PEERS.len() + 1];
                for run_number in 0..runs {
                    let number = stream_number(1 + group as u64, index, column, run_number);
                    let mut random = Random::new(size.seed, number);
                    let story = Story { condition, weight, increase, from };
                    let stream = Stream::draw(&mut random, story);
                    let setting = Setting { look: USUAL, history: true, skew_known: true };
                    let since = |at: Option<usize>| match at {
                        // A rollback before the turn is a false alarm, not a detection.
                        Some(at) if at > from => (at - from) as f64,
                        _ => f64::INFINITY,
                    };
                    delays[0].push(since(run(&stream, 0, setting).failed));
                    for (delay, peer) in delays[1..].iter_mut().zip(&PEERS) {
                        delay.push(since((peer.rule)(&stream)));
                    }
                }
                let label = vec![
                    format!("{} → {}", percent(BASE), percent(BASE + increase)),
                    if from == 0 { "start" } else { "after 300 s" }.to_owned(),
                    percent(weight),
                ];
                let cell = |delays: &mut Vec<f64>| {
                    let found = delays.iter().filter(|delay| delay.is_finite()).count() as f64;
                    let middle = median(delays);
                    let share = percent(found / delays.len() as f64);
                    if middle.is_finite() {
                        format!("{middle:.0} s, {share}")
                    } else {
                        format!("–, {share}")
                    }
                };
                if condition == Condition::Independent {
                    let mut row = label.clone();
                    row.extend(delays.iter_mut().map(cell));
                    peers.push(row);
                    power.push(label);
                }
                let found = cell(&mut delays[0]);
                let row = (group * WEIGHTS.len()) + column;
                power[row].push(found);
            }
        }
    }
    let wrong = wrong_promotions(size, targets);
    let mut head = words(&["bad requests", "from", "weight", "Banyan, looks of 5 s"]);
    head.extend(PEERS.iter().map(|peer| peer.name.to_owned()));
    let beside = format!(
        "### Delays\n\nA canary that is worse, independent errors, {runs} runs: median seconds from the turn to the rollback, and the share rolled back within the ten \
         minutes. A new canary's first {WARMUP:.0} s are its warm-up, which Banyan leaves out and the others count.\n\n{}",
        table(&head, &peers)
    );
    let mut head = words(&["bad requests", "from", "weight"]);
    head.extend(conditions.map(|condition| condition.name()));
    let cost = format!(
        "## 6. What real errors cost in power\n\nThe same detector where stable's errors scatter: each look's evidence is divided by φ, so what is found in seconds among \
         independent errors may take minutes, or more weight. Median seconds from the turn and the share found within ten minutes, looks of 5 s, {runs} runs, the first \
         {WARMUP:.0} s being warm-up.\n\n{}Where a cell says that little is found, more weight or more time is the remedy; the verdict until then is Insufficient, not Pass.\n\n{wrong}",
        table(&head, &power)
    );
    (beside, cost)
}

/// Pass for a canary that is worse by 2m, under real errors.
fn wrong_promotions(size: Size, targets: &mut Vec<Target>) -> String {
    let runs = size.rollouts;
    let (mut rows, mut worst) = (Vec::new(), 0.0f64);
    for (index, condition) in CONDITIONS.into_iter().enumerate() {
        let mut row = vec![condition.name()];
        for (column, weight) in WEIGHTS.into_iter().enumerate() {
            let mut hits = 0;
            for run_number in 0..runs {
                let mut random = Random::new(size.seed, stream_number(9, index, column, run_number));
                let story = Story { condition, weight, increase: 2.0 * MAX_INCREASE, from: 0 };
                let stream = Stream::draw(&mut random, story);
                let setting = Setting { look: USUAL, history: true, skew_known: true };
                hits += u64::from(run(&stream, condition.skew(), setting).passed.is_some());
            }
            worst = worst.max(upper(hits, runs));
            row.push(share(hits, runs));
        }
        rows.push(row);
    }
    targets.push(Target {
        what: "wrong promotions of a canary worse by 2m under real errors, worst cell's upper end".to_owned(),
        found: worst,
        limit: ALPHA,
        is_share: true,
    });
    let mut head = words(&["condition"]);
    head.extend(WEIGHTS.map(|weight| format!("weight {}", percent(weight))));
    format!(
        "### Wrong promotions under real errors\n\nA canary worse by 2m = {} (m = {}), looks of 5 s, {runs} runs: share that ever says Pass within ten minutes.\n\n{}",
        percent(2.0 * MAX_INCREASE),
        percent(MAX_INCREASE),
        table(&head, &rows)
    )
}
