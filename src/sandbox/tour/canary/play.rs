//! The acts of the tour, one after the other, in a cloud whose pods answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Client;

use super::super::voice::{Voice, tenths};
use super::event::{Act, Event, Moment, Sum};
use super::look::{Counted, Source, moment, seen};
use super::script::{BAD, RATE, Script};
use super::words;
use crate::api::CanaryRolloutStatus;
use crate::api::canarystatus::{Outcome, Past};
use crate::sandbox::args::Output;
use crate::sandbox::error::{Error, Result};
use crate::sandbox::install;
use crate::sandbox::operators::Operator;
use crate::sandbox::traffic::{Behaviour, Gateway, Load, LoadOptions, PodRunner, Tally};

/// How often it is looked: times are told to a tenth of a second.
const LOOK: Duration = Duration::from_millis(100);
/// How often the gateway's counters are read: they are long.
const COUNT: Duration = Duration::from_millis(500);
/// How long an act may take. It only ends what hangs: the example's take a minute.
const ACT: Duration = Duration::from_secs(15 * 60);
/// Answers that the first release gives before the next one comes.
const FIRST: u64 = 600;
/// Requests in a row that are answered well before users come.
const WELL: u64 = 20;
/// How long the gateway is given to hear of a weight of zero, before what failed is added up.
const HEARD: Duration = Duration::from_secs(3);

/// Where the tour is played.
pub struct Stage<'a> {
    /// The administrator's client of the cloud.
    pub client: &'a Client,
    /// The operators, which must not end.
    pub operators: &'a [Operator],
    /// The cloud's gateway.
    pub gateway: &'a Gateway,
    /// Who answers behind the pods' addresses.
    pub pods: &'a PodRunner,
    /// The cloud's kubeconfig, as a person would name it.
    pub kubeconfig: String,
}

/// Plays all acts and tells them on standard output.
///
/// # Errors
/// When a rollout ends in another way than the tour says, or an act takes more than 15 minutes.
pub async fn play(stage: &Stage<'_>, script: &Script, output: Output) -> Result<()> {
    let mut tour = Running {
        stage,
        script,
        source: Source::new(stage.client, script, stage.gateway.stats_url())?,
        voice: Voice::new(output),
        before: BTreeMap::new(),
        counted: BTreeMap::new(),
        revisions: BTreeMap::new(),
        counted_at: None,
    };
    let [first, second, third, fourth] = words::acts(script);
    let [serving, good, bad] = script.images.each_ref();

    tour.voice.begins(1, first, String::new())?;
    tour.apply(serving).await?;
    let load = tour.users().await?;

    tour.voice.begins(2, second, script.command(good, &stage.kubeconfig))?;
    let promoted = tour.rollout(good, Outcome::Promoted, &load).await?;

    tour.voice.begins(3, third, script.command(bad, &stage.kubeconfig))?;
    stage.pods.behave(bad, Some(Behaviour::failing(BAD)));
    let back = tour.rollout(bad, Outcome::RolledBack, &load).await?;

    tour.voice.begins(4, fourth, script.retry(&stage.kubeconfig))?;
    let tally = load.stop().await?;
    tour.count().await?;
    tour.sums(&tally, vec![promoted, back])
}

struct Running<'a> {
    stage: &'a Stage<'a>,
    script: &'a Script,
    source: Source,
    voice: Voice,
    /// What the gateway had counted before users came.
    before: BTreeMap<String, Counted>,
    /// What the gateway counted last, by revision: it forgets whom no route names any more.
    counted: BTreeMap<String, Counted>,
    counted_at: Option<Instant>,
    /// The revision of each image.
    revisions: BTreeMap<String, String>,
}

impl Running<'_> {
    /// Tells where the rollout stands, if that is something new.
    fn look(&mut self, moment: Moment) -> Result<()> {
        let (turn, whole) = (format!("{:?}", moment.turn()), format!("{moment:?}"));
        let event = Event::Look { at: self.voice.now(), moment: Box::new(moment) };
        self.voice.look(&event, turn, whole)
    }

    async fn apply(&self, image: &str) -> Result<()> {
        install::apply(self.stage.client, &self.script.objects(image)).await.map(drop)
    }

    fn check(&self, began: Instant, what: &str) -> Result<()> {
        self.stage.operators.iter().try_for_each(Operator::check)?;
        if began.elapsed() < ACT {
            return Ok(());
        }
        Err(Error::new(format!("waited {} minutes in vain until {what}", ACT.as_secs() / 60)))
    }

    /// Waits until the first release serves, and lets users come.
    async fn users(&mut self) -> Result<Load> {
        let began = Instant::now();
        let options = LoadOptions {
            path: self.script.path.clone(),
            ..LoadOptions::to(self.stage.gateway.address(), self.script.host.as_str()).at(RATE)
        };
        loop {
            self.check(began, "the first release serves")?;
            let settled = self.source.status().await?.filter(|status| status.stable.is_some());
            let well = settled.is_some()
                && Load::exactly(options.clone(), WELL).await.is_ok_and(|tally| answers_well(&tally));
            if well {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.before = self.source.counted().await?;
        let load = Load::start(options)?;
        let image = &self.script.images[0];
        loop {
            self.check(began, "the first release answers")?;
            let tally = load.tally();
            if let Some(status) = self.source.status().await? {
                if let Some(stable) = &status.stable {
                    self.revisions.insert(image.clone(), stable.clone());
                }
                self.look(moment(&status, &tally))?;
            }
            self.count().await?;
            if tally.of(image).total() >= FIRST {
                return Ok(load);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for an image and follows its rollout to the end.
    async fn rollout(&mut self, image: &str, wanted: Outcome, load: &Load) -> Result<Act> {
        let release = Script::release(image);
        self.apply(image).await?;
        let began = Instant::now();
        let mut cost = Cost::default();
        let past = loop {
            self.check(began, &format!("the rollout of {release} is over"))?;
            let status = self.source.status().await?.unwrap_or_default();
            if let Some(canary) =
                status.canary.as_ref().filter(|_| status.release.as_deref() == Some(release))
            {
                self.revisions.insert(image.to_owned(), canary.clone());
            }
            let weight = match self.revisions.get(image) {
                Some(revision) => self.source.weight(revision).await?,
                None => 0,
            };
            let tally = load.tally();
            cost.note(began.elapsed(), weight, tally.of(image).failed());
            self.look(moment(&status, &tally))?;
            if let Some(past) = ended(&status, release) {
                break past;
            }
            if self.counted_at.is_none_or(|at| at.elapsed() > COUNT) {
                self.count().await?;
            }
            tokio::time::sleep(LOOK).await;
        };
        if past.outcome != wanted {
            return Err(Error::new(format!(
                "the rollout of {release} ended as {:?}, which the tour does not expect: {}",
                past.outcome, past.message
            )));
        }
        let took = tenths(began.elapsed().as_secs_f64());
        self.count().await?;
        let mut act = Act {
            release: Script::short(image).to_owned(),
            outcome: format!("{:?}", past.outcome),
            message: past.message,
            took,
            failed_until_zero: None,
            failed_after: None,
            to_zero: None,
        };
        if wanted == Outcome::RolledBack {
            // The status may be read before the route is; the route is what counts.
            while cost.zero.is_none() {
                self.check(began, "the route has no weight for what was rolled back")?;
                let revision = self.revisions.get(image).map(String::as_str).unwrap_or_default();
                let weight = self.source.weight(revision).await?;
                cost.note(began.elapsed(), weight, load.tally().of(image).failed());
                tokio::time::sleep(LOOK).await;
            }
            self.count().await?;
            tokio::time::sleep(HEARD).await;
            let (failed, to_zero) = cost.sum();
            act.failed_until_zero = Some(failed);
            act.failed_after = Some(load.tally().of(image).failed().saturating_sub(failed));
            act.to_zero = Some(tenths(to_zero.as_secs_f64()));
        }
        let at = self.voice.now();
        self.voice.say(&Event::Ended { at, act: act.clone() })?;
        Ok(act)
    }

    /// Reads the gateway's counters. They only grow, and what it knows no more is kept as it was.
    async fn count(&mut self) -> Result<()> {
        self.counted.extend(self.source.counted().await?);
        self.counted_at = Some(Instant::now());
        Ok(())
    }

    /// What the gateway counted for a revision since users came.
    fn since(&self, revision: &str) -> Option<Counted> {
        let (answers, failed) = *self.counted.get(revision)?;
        let (early, early_failed) = self.before.get(revision).copied().unwrap_or_default();
        Some((answers.saturating_sub(early), failed.saturating_sub(early_failed)))
    }

    /// Tells what all releases came to.
    fn sums(&mut self, tally: &Tally, acts: Vec<Act>) -> Result<()> {
        let outcomes = ["served first", "promoted", "rolled back"];
        let mut releases: Vec<Sum> = self
            .script
            .images
            .iter()
            .zip(outcomes)
            .map(|(image, outcome)| {
                let counted = self.revisions.get(image).and_then(|revision| self.since(revision));
                Sum {
                    seen: seen(tally, image),
                    outcome: outcome.to_owned(),
                    gateway_answers: counted.map(|(answers, _)| answers),
                    gateway_failed: counted.map(|(_, failed)| failed),
                }
            })
            .collect();
        let own = seen(tally, "");
        if own.answers > 0 {
            let outcome = "answered itself".to_owned();
            releases.push(Sum { seen: own, outcome, gateway_answers: None, gateway_failed: None });
        }
        let at = self.voice.now();
        self.voice.say(&Event::Summary { at, releases, sent: tally.sent, failed: tally.failed(), acts })
    }
}

fn answers_well(tally: &Tally) -> bool {
    tally.answered() == tally.sent && tally.failed() == 0
}

/// How the rollout of a release ended, once it has.
fn ended(status: &CanaryRolloutStatus, release: &str) -> Option<Past> {
    status.history.iter().find(|past| past.release == release).cloned()
}

/// What a bad release costs: from its first failed answer until its weight is zero.
#[derive(Debug, Default)]
struct Cost {
    first: Option<Duration>,
    had_weight: bool,
    zero: Option<(Duration, u64)>,
}

impl Cost {
    /// Notes one look: when it was, the weight in the route, and how many of the release's requests have failed so far.
    fn note(&mut self, at: Duration, weight: i64, failed: u64) {
        if failed > 0 && self.first.is_none() {
            self.first = Some(at);
        }
        self.had_weight |= weight > 0;
        if self.had_weight && weight == 0 && self.zero.is_none() {
            self.zero = Some((at, failed));
        }
    }

    /// Failed requests until the weight was zero, and the time from the first of them.
    fn sum(&self) -> (u64, Duration) {
        let (at, failed) = self.zero.unwrap_or_default();
        (failed, self.first.map_or(Duration::ZERO, |first| at.saturating_sub(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_from_the_first_failure_to_weight_zero() {
        let mut cost = Cost::default();
        let second = Duration::from_secs;
        for (at, weight, failed) in [(1, 0, 0), (2, 10, 0), (3, 10, 4), (5, 10, 40), (6, 0, 42), (7, 0, 43)] {
            cost.note(second(at), weight, failed);
        }
        assert_eq!(cost.sum(), (42, second(3)));
        let mut never = Cost::default();
        never.note(second(1), 0, 0);
        assert!(never.zero.is_none());
    }
}
