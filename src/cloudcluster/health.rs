//! Whether a way to a peer works, with thresholds in time both ways, and which of several ways is used. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::peer_error::PeerError;

/// How long something must last before it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// A way that worked counts as broken once it has not answered well for so long.
    pub ill_for: Duration,
    /// A way that was broken works again once it has answered well for so long.
    pub well_for: Duration,
    /// A way further up is used again once it has answered well for so long.
    pub back_for: Duration,
}

impl Default for Thresholds {
    /// - 30 s: an API server that is replaced, or a load balancer that changes over, is away for up to 20 s. It is what
    ///   a move between sites may lose to a dead one.
    /// - 10 s: two answers in a row. One alone may come from a server that is about to crash again.
    /// - 60 s: whoever comes and goes is not gone back to each time.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { ill_for: seconds(30), well_for: seconds(10), back_for: seconds(60) }
    }
}

/// What is known of one way.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether it works, as far as others are told; `None` until that is known.
    shown: Option<bool>,
    /// Since when that is so.
    since: Timestamp,
    /// What others are told of why it does not.
    why: PeerError,
    /// What was heard last.
    last: Option<Result<(), PeerError>>,
    /// When the answers began that are all good, or all not.
    turned: Instant,
    /// Whether the API server gives signs of life, as far as it was asked.
    life: Life,
}

/// Whether an API server gives signs of life.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// It was never asked.
    NeverAsked,
    /// It answered when it was asked last.
    Answers,
    /// It has not answered since then.
    Silent(Instant),
}

impl Health {
    /// Nothing is known yet.
    pub fn new(now: Instant, at: Timestamp) -> Self {
        Self {
            shown: None,
            since: at,
            why: PeerError::NotYet,
            last: None,
            turned: now,
            life: Life::NeverAsked,
        }
    }

    /// Takes in how a round went. Returns whether others are to be told something new.
    pub fn hear(
        &mut self,
        heard: Result<(), PeerError>,
        now: Instant,
        at: Timestamp,
        thresholds: &Thresholds,
    ) -> bool {
        let before = (self.shown, self.why.clone());
        let is_well = heard.is_ok();
        if self.last.as_ref().is_none_or(|last| last.is_ok() != is_well) {
            self.turned = now;
        }
        self.life = match (&heard, self.life) {
            (Ok(()), _) => Life::Answers,
            (Err(error), _) if error.is_answer() => Life::Answers,
            (Err(error), Life::Silent(since)) if error.is_silence() => Life::Silent(since),
            (Err(error), _) if error.is_silence() => Life::Silent(now),
            // Nobody was asked, which says nothing.
            (Err(_), life) => life,
        };
        let lasted = now.saturating_duration_since(self.turned);
        let believed = match (self.shown, &heard) {
            // The first word is believed, unless it is that there is none.
            (None, Err(error)) if error.is_answer() || error.is_stalled() => true,
            (None, Ok(())) => true,
            (None | Some(true), Err(error)) => error.is_ours() || lasted >= thresholds.ill_for,
            (Some(false), Ok(())) => lasted >= thresholds.well_for,
            (Some(true), Ok(())) | (Some(false), Err(_)) => false,
        };
        if believed {
            (self.shown, self.since) = (Some(is_well), at);
        }
        if let Err(error) = &heard {
            // Two that take turns are not told of by turns.
            let again = self.last.as_ref().is_some_and(|last| last.as_ref().err() == Some(error));
            if believed || (again && self.shown == Some(false)) || self.shown.is_none() {
                self.why = error.clone();
            }
        }
        self.last = Some(heard);
        before != (self.shown, self.why.clone())
    }

    /// Whether it works, as far as others are told; `None` until that is known.
    pub fn reachable(&self) -> Option<bool> {
        self.shown
    }

    /// Since when [`Self::reachable`] is so.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// What others are told of why it does not work.
    pub fn why(&self) -> &PeerError {
        &self.why
    }

    /// What was heard last, if it was bad.
    pub fn last_error(&self) -> Option<&PeerError> {
        self.last.as_ref()?.as_ref().err()
    }

    /// For how long all answers have been good; `None` if the last one was not.
    pub fn well_for(&self, now: Instant) -> Option<Duration> {
        let is_well = self.last.as_ref().is_some_and(Result::is_ok);
        is_well.then(|| now.saturating_duration_since(self.turned))
    }

    /// Whether what was heard last is what others are told. If not, it is worth asking again soon.
    pub fn is_settled(&self) -> bool {
        self.last.as_ref().is_some_and(|last| self.shown == Some(last.is_ok()))
    }

    /// For how long the API server has not answered, each time it was asked; `None` if it never was.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        match self.life {
            Life::NeverAsked => None,
            Life::Answers => Some(Duration::ZERO),
            Life::Silent(since) => Some(now.saturating_duration_since(since)),
        }
    }
}

/// Which way is used, by how long each has been answering well: the one that is used now as long as it does, unless one
/// before it has done so for long enough; else the first that does.
pub fn choose(now: usize, well_for: &[Option<Duration>], thresholds: &Thresholds) -> usize {
    let works = well_for.get(now).copied().flatten().is_some();
    let back =
        well_for.iter().take(now).position(|well| well.is_some_and(|well| well >= thresholds.back_for));
    match (works, back) {
        (true, Some(back)) => back,
        (true, None) => now,
        (false, _) => well_for.iter().position(Option::is_some).unwrap_or(now.min(well_for.len().max(1) - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::remote::RemoteError;

    struct Story {
        health: Health,
        began: Instant,
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).expect("small")).expect("in range")
    }

    impl Story {
        fn begin() -> Self {
            let began = Instant::now();
            Self { health: Health::new(began, at(0)), began }
        }

        fn hear(&mut self, second: u64, heard: Result<(), PeerError>) -> (bool, Option<bool>) {
            let now = self.began + Duration::from_secs(second);
            let news = self.health.hear(heard, now, at(second), &Thresholds::default());
            (news, self.health.reachable())
        }
    }

    fn silence() -> Result<(), PeerError> {
        Err(PeerError::timeout(Duration::from_secs(5)))
    }

    fn refusal() -> Result<(), PeerError> {
        Err(PeerError::answered(RemoteError::Unauthorized, "renew it"))
    }

    #[test]
    fn one_missed_answer_is_told_to_nobody_and_thirty_seconds_of_them_are() {
        let mut story = Story::begin();
        assert_eq!(story.hear(1, Ok(())), (true, Some(true)), "the first answer is believed");
        assert_eq!(story.hear(11, silence()), (false, Some(true)));
        assert_eq!(story.hear(16, Ok(())), (false, Some(true)));
        assert_eq!(story.hear(20, silence()), (false, Some(true)));
        assert_eq!(story.hear(49, silence()), (false, Some(true)));
        assert_eq!(story.hear(50, silence()), (true, Some(false)));
        assert_eq!(story.health.since(), at(50));
        assert_eq!(story.hear(60, silence()), (false, Some(false)), "nothing is new while nothing happens");
        assert_eq!(story.hear(70, Ok(())), (false, Some(false)));
        assert!(!story.health.is_settled());
        assert_eq!(story.hear(79, Ok(())), (false, Some(false)));
        assert_eq!(story.hear(80, Ok(())), (true, Some(true)));
        assert_eq!(story.health.since(), at(80));
    }

    #[test]
    fn at_first_silence_is_waited_out_and_a_refusal_is_believed() {
        let mut story = Story::begin();
        assert_eq!(story.hear(0, silence()).1, None);
        assert_eq!(story.hear(29, silence()).1, None);
        assert_eq!(story.hear(30, silence()), (true, Some(false)));
        let mut story = Story::begin();
        assert_eq!(story.hear(0, refusal()), (true, Some(false)));
    }

    #[test]
    fn who_refuses_us_is_alive() {
        let mut story = Story::begin();
        let silent = |story: &Story, second| {
            story.health.silent_for(story.began + Duration::from_secs(second)).map(|for_| for_.as_secs())
        };
        assert_eq!(silent(&story, 100), None, "nobody was asked");
        story.hear(0, silence());
        assert_eq!(silent(&story, 40), Some(40));
        story.hear(50, refusal());
        assert_eq!(silent(&story, 50), Some(0));
        // What goes wrong on our own side says nothing of the other one.
        story.hear(60, Err(PeerError::Own("no".to_owned())));
        assert_eq!(silent(&story, 90), Some(0), "nobody has asked it since it answered");
        story.hear(100, silence());
        story.hear(110, silence());
        story.hear(115, Err(PeerError::Own("no".to_owned())));
        assert_eq!(silent(&story, 120), Some(20));
    }

    #[test]
    fn what_is_wrong_on_our_own_side_is_told_at_once_and_errors_that_take_turns_are_not() {
        let mut story = Story::begin();
        story.hear(0, Ok(()));
        let no_secret = || Err(PeerError::Own("no Secret".to_owned()));
        assert_eq!(story.hear(10, no_secret()), (false, Some(true)), "this cluster's API server may be away");
        let bad = PeerError::Kubeconfig { message: "it is no text".into(), remedy: "put one".into() };
        assert_eq!(story.hear(20, Err(bad.clone())), (true, Some(false)));
        assert_eq!(story.hear(30, silence()), (false, Some(false)));
        assert_eq!(story.health.why(), &bad);
        assert_eq!(story.hear(40, silence()), (true, Some(false)));
        assert_eq!(story.hear(50, refusal()), (false, Some(false)));
        assert_eq!(story.hear(60, silence()), (false, Some(false)));
    }

    #[test]
    fn the_next_way_is_taken_at_once_and_the_first_one_again_after_a_minute() {
        let well = |seconds: u64| Some(Duration::from_secs(seconds));
        let choose = |now, ways: &[Option<Duration>]| super::choose(now, ways, &Thresholds::default());
        assert_eq!(choose(0, &[well(5), well(500)]), 0);
        assert_eq!(choose(0, &[None, None, well(1)]), 2);
        assert_eq!(choose(2, &[well(59), None, well(1)]), 2, "not yet");
        assert_eq!(choose(2, &[well(60), None, well(1)]), 0);
        assert_eq!(choose(2, &[well(1), None, None]), 0, "anything rather than nothing");
        assert_eq!(choose(1, &[None, None]), 1);
        assert_eq!(choose(1, &[None]), 0, "a way was taken away");
        assert_eq!(choose(0, &[]), 0);
    }
}
