//! How the servers behind pods behave: as their environment says, until somebody says otherwise.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

/// Variable of a container: percent of requests that are answered 500, such as `2.5`.
pub const ERRORS: &str = "BANYAN_SANDBOX_ERRORS";
/// Variable of a container: how long an answer takes, such as `20ms` or `1s`.
pub const LATENCY: &str = "BANYAN_SANDBOX_LATENCY";
/// Variable of a container: percent of requests that take [`Behaviour::slow_latency`].
pub const SLOW: &str = "BANYAN_SANDBOX_SLOW";
/// What all of them begin with.
const PREFIX: &str = "BANYAN_SANDBOX_";
/// What [`ERRORS`] and [`SLOW`] may be.
const PERCENT: &str = "a percentage from 0 to 100 without a sign, such as 2.5";
/// What [`LATENCY`] may be.
const LENGTH: &str = "a whole number of ms or s, such as 20ms or 1s";
/// How long a slow answer takes unless it is said.
const SLOW_LATENCY: Duration = Duration::from_millis(500);

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behaviour {
    /// Percent of requests that are answered 500, 0 to 100.
    pub errors: f64,
    /// How long an answer takes.
    pub latency: Duration,
    /// Percent of requests that take longer, 0 to 100. Slow and failed are independent of each other.
    pub slow: f64,
    /// How long those take.
    pub slow_latency: Duration,
}

impl Default for Behaviour {
    /// Every answer is well and at once.
    fn default() -> Self {
        Self { errors: 0.0, latency: Duration::ZERO, slow: 0.0, slow_latency: SLOW_LATENCY }
    }
}

impl Behaviour {
    /// One that fails so many percent of its requests.
    pub fn failing(percent: f64) -> Self {
        Self { errors: percent, ..Self::default() }
    }

    /// What a container's variables say. What they do not say, or say wrongly, is as by default; the second part names
    /// each that is wrong, and what it may be.
    pub fn of(container: &Container) -> (Self, Vec<String>) {
        let mut behaviour = Self::default();
        let mut wrong = Vec::new();
        let ours = container.env.iter().flatten().filter(|variable| variable.name.starts_with(PREFIX));
        for variable in ours {
            let name = variable.name.as_str();
            if variable.value_from.is_some() {
                wrong.push(format!("{name} has valueFrom, which nobody reads here: write its value"));
                continue;
            }
            let value = variable.value.as_deref().unwrap_or_default();
            let (known, may_be) = match name {
                ERRORS => (percent(value).map(|percent| behaviour.errors = percent), PERCENT),
                SLOW => (percent(value).map(|percent| behaviour.slow = percent), PERCENT),
                LATENCY => (duration(value).map(|latency| behaviour.latency = latency), LENGTH),
                _ => {
                    wrong.push(format!(
                        "{name} is no variable of the sandbox: write {ERRORS}, {LATENCY} or {SLOW}"
                    ));
                    continue;
                }
            };
            if known.is_none() {
                wrong.push(format!("{name} is `{value}`: write {may_be}"));
            }
        }
        (behaviour, wrong)
    }

    /// What becomes of one request: whether it fails, and how long it takes. `chances` are two numbers from zero on
    /// and below one, each as likely as any other.
    pub fn outcome(&self, chances: [f64; 2]) -> (bool, Duration) {
        let latency = if chances[1] * 100.0 < self.slow { self.slow_latency } else { self.latency };
        (chances[0] * 100.0 < self.errors, latency)
    }
}

fn percent(text: &str) -> Option<f64> {
    text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

/// Milliseconds or seconds, such as `20ms` or `1s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    Some(Duration::from_millis(number.parse::<u32>().ok()?.into()) * unit)
}

/// What was said at run time, over what the pods' environment says.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// For all pods.
    pub outage: Option<Behaviour>,
    /// For one pod, by `namespace/name`.
    pub pods: HashMap<String, Behaviour>,
    /// For the pods of a release, by their image reference.
    pub releases: HashMap<String, Behaviour>,
}

impl Rules {
    /// The behaviour of one pod now: an outage is over all, one pod's own over its release's.
    pub fn of(&self, pod: &str, release: &str, own: Behaviour) -> Behaviour {
        self.outage
            .or_else(|| self.pods.get(pod).copied())
            .or_else(|| self.releases.get(release).copied())
            .unwrap_or(own)
    }
}

/// Numbers from zero on and below one, each as likely as any other, and the same again for the same seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(u64);

impl Chance {
    /// From a text, such as a pod's uid.
    pub fn seeded(text: &str) -> Self {
        // FNV-1a: different texts begin at different places.
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// The chance of draw number `n`: SplitMix64, which needs no state but the number.
    pub fn draw(self, n: u64) -> f64 {
        let mut z = self.0.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / 2f64.powi(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(env: serde_json::Value) -> Container {
        serde_json::from_value(serde_json::json!({"name": "app", "env": env})).unwrap()
    }

    #[test]
    fn a_container_says_how_it_behaves() {
        let env = serde_json::json!([
            {"name": ERRORS, "value": "2.5"}, {"name": LATENCY, "value": "20ms"}, {"name": SLOW, "value": "1"},
            {"name": "OTHER", "value": "x"}, {"name": "FROM", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
        ]);
        let (behaviour, wrong) = Behaviour::of(&container(env));
        assert_eq!((behaviour.errors, behaviour.slow), (2.5, 1.0));
        assert_eq!(behaviour.latency, Duration::from_millis(20));
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named_and_left_out() {
        for (name, value) in [(ERRORS, "101"), (SLOW, "NaN"), (LATENCY, "20"), (LATENCY, "-1s")] {
            let env = serde_json::json!([{"name": name, "value": value}]);
            let (behaviour, wrong) = Behaviour::of(&container(env));
            assert_eq!(behaviour, Behaviour::default());
            let may_be = if name == LATENCY { "20ms or 1s" } else { "from 0 to 100" };
            assert!(
                wrong.len() == 1 && wrong[0].starts_with(&format!("{name} is `{value}`: write")),
                "{wrong:?}"
            );
            assert!(wrong[0].contains(may_be), "{wrong:?}");
        }
        let env = serde_json::json!([
            {"name": "BANYAN_SANDBOX_ERROR", "value": "20"},
            {"name": SLOW, "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
        ]);
        let (behaviour, wrong) = Behaviour::of(&container(env));
        assert_eq!(behaviour, Behaviour::default());
        assert_eq!(
            wrong,
            [
                "BANYAN_SANDBOX_ERROR is no variable of the sandbox: write BANYAN_SANDBOX_ERRORS, BANYAN_SANDBOX_LATENCY or BANYAN_SANDBOX_SLOW",
                "BANYAN_SANDBOX_SLOW has valueFrom, which nobody reads here: write its value",
            ]
        );
    }

    #[test]
    fn the_nearest_word_counts_and_an_outage_before_all() {
        let mut rules = Rules::default();
        let own = Behaviour::failing(1.0);
        assert_eq!(rules.of("a/b", "x:1", own).errors, 1.0);
        rules.releases.insert("x:1".into(), Behaviour::failing(2.0));
        assert_eq!(rules.of("a/b", "x:1", own).errors, 2.0);
        assert_eq!(rules.of("a/b", "x:2", own).errors, 1.0);
        rules.pods.insert("a/b".into(), Behaviour::failing(3.0));
        assert_eq!(rules.of("a/b", "x:1", own).errors, 3.0);
        rules.outage = Some(Behaviour::failing(4.0));
        assert_eq!(rules.of("a/b", "x:1", own).errors, 4.0);
    }

    #[test]
    fn so_many_percent_fail_and_so_many_are_slow() {
        let behaviour = Behaviour { errors: 10.0, slow: 30.0, ..Behaviour::default() };
        let chance = Chance::seeded("a pod");
        let outcomes: Vec<_> =
            (0..10_000).map(|n| behaviour.outcome([chance.draw(2 * n), chance.draw(2 * n + 1)])).collect();
        // Five standard deviations to either side.
        let failed = outcomes.iter().filter(|(failed, _)| *failed).count();
        assert!((850..=1150).contains(&failed), "{failed}");
        let slow = outcomes.iter().filter(|(_, latency)| *latency == SLOW_LATENCY).count();
        assert!((2771..=3229).contains(&slow), "{slow}");
        assert!((0..10_000).all(|n| (0.0..1.0).contains(&chance.draw(n))));
    }
}
