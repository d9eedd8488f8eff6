//! The acts of a tour of failover, one after the other.

use std::time::{Duration, Instant};

use super::super::voice::{Voice, tenths};
use super::event::{Act, Event};
use super::stage::Stage;
use super::words::{RATE, acts};
use crate::api::failover::Phase;
use crate::api::{Failover, FailoverGroup};
use crate::sandbox::args::Output;
use crate::sandbox::error::{Error, Result};
use crate::sandbox::postgres::Client as Writer;
use crate::sandbox::traffic::{Load, LoadOptions, Tally};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(150);
/// How long something may take. It only ends what hangs.
const MOST: Duration = Duration::from_secs(10 * 60);
/// For how long the same command is not typed again: what was said takes a moment to be heard.
const HEARD: Duration = Duration::from_secs(10);
/// How long is looked on before anything is done.
const BEFORE: Duration = Duration::from_secs(3);

/// Plays all acts and tells them on standard output.
///
/// # Errors
/// When a move ends in another way than the tour says, or something takes more than ten minutes.
pub async fn play(stage: &mut Stage<'_>, output: Output) -> Result<()> {
    stage.postgres()?;
    let names = [stage.sites[0].name.clone(), stage.sites[1].name.clone()];
    let [first, there, back, lost, returns] = acts(names.each_ref().map(String::as_str), &stage.group);
    let group = stage.group.clone();
    let order = ["failover", "start", &group, "--reason", "'a drill'"];
    let target = stage.around.edge();
    let load = LoadOptions {
        path: format!("/authority/{group}"),
        timeout: Duration::from_secs(5),
        ..LoadOptions::to(target, stage.host.as_str()).at(RATE)
    };
    let mut tour = Running { stage, voice: Voice::new(output), load: None, writer: None, acts: Vec::new() };

    let ready = tour.stage.typed(1, &["failover", "plan", &group]);
    tour.voice.begins(1, first, ready)?;
    tour.is_ready(1).await?;
    tour.load = Some(Load::start(load)?);
    tour.looks_on(BEFORE).await?;

    for (number, place, said) in [(2, 1, there), (3, 0, back)] {
        tour.is_ready(place).await?;
        tour.voice.begins(number, said, tour.stage.typed(place, &order))?;
        let name = tour.moves(place, false).await?;
        tour.ends(place, &name, true).await?;
    }

    tour.is_ready(1).await?;
    let command = tour.stage.typed(1, &[&order[..], &["--unplanned"]].concat());
    tour.voice.begins(4, lost, command)?;
    tour.writes()?;
    tour.stage.cut(0).await?;
    let name = tour.moves(1, true).await?;
    tour.ends(1, &name, false).await?;

    tour.voice.begins(5, returns, tour.stage.typed(1, &["failover", "status", &name]))?;
    tour.stage.brings_back(0).await?;
    tour.comes_to(1, &name, "the site that returned follows", |status| status.phase == Some(Phase::Done))
        .await?;
    tour.is_ready(0).await?;
    let at = tour.voice.now();
    let acts = std::mem::take(&mut tour.acts);
    tour.voice.say(&Event::Summary { at, acts })
}

type Status = crate::api::FailoverStatus;

struct Running<'a, 'b> {
    stage: &'a mut Stage<'b>,
    voice: Voice,
    load: Option<Load>,
    /// A client that writes, since when, and what the load had seen by then.
    writer: Option<(Writer, Tally)>,
    acts: Vec<Act>,
}

impl Running<'_, '_> {
    fn tally(&self) -> Tally {
        self.load.as_ref().map(Load::tally).unwrap_or_default()
    }

    /// Lets a client write, for one act.
    fn writes(&mut self) -> Result<()> {
        if self.writer.is_none() {
            self.writer = Some((self.stage.postgres()?.client(), self.tally()));
        }
        Ok(())
    }

    /// Tells where it stands, if that is something new.
    async fn look(&mut self, failover: Option<&Failover>) -> Result<()> {
        let written = self.writer.as_ref().map(|(writer, _)| writer.tally()).unwrap_or_default();
        let (writes, still) = (written.acknowledged.len(), written.since_last());
        let moment = self.stage.moment(failover, writes, still, &self.tally()).await;
        let (turn, whole) = (format!("{:?}", moment.turn()), format!("{moment:?}"));
        let event = Event::Look { at: self.voice.now(), moment: Box::new(moment) };
        self.voice.look(&event, turn, whole)
    }

    async fn looks_on(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.look(None).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until a move to a site could be ordered, or one has authority and is protected.
    async fn is_ready(&mut self, place: usize) -> Result<()> {
        let began = Instant::now();
        loop {
            self.stage.check()?;
            let group = self.stage.group(place).await?;
            if group.as_ref().is_some_and(|group| is(group, "Ready") && is(group, "Protected")) {
                return Ok(());
            }
            if began.elapsed() > MOST {
                let why = group.map(|group| why(&group)).unwrap_or_default();
                let site = &self.stage.sites[place].name;
                return Err(Error::new(format!(
                    "{} could not move to {site} in time: {why}",
                    self.stage.group
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Orders a move to a site and follows it until its stores are open there. Returns the name of the Failover.
    async fn moves(&mut self, place: usize, unplanned: bool) -> Result<String> {
        self.writes()?;
        let group = self.stage.group.clone();
        let mut words = vec!["failover", "start", &group, "--reason", "a drill"];
        words.extend(unplanned.then_some("--unplanned"));
        let made = self.stage.types(place, &words).await?;
        let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.comes_to(place, &name, "its stores are open", |status| status.took.is_some()).await?;
        Ok(name)
    }

    /// Follows a move until it is as it is to be, and types what it asks for.
    async fn comes_to(
        &mut self,
        place: usize,
        name: &str,
        what: &str,
        is: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        let began = Instant::now();
        let mut typed: Option<(String, Instant)> = None;
        loop {
            self.stage.check()?;
            let failover = self.stage.failover(place, name).await?;
            self.look(Some(&failover)).await?;
            let status = failover.status.unwrap_or_default();
            if is(&status) {
                return Ok(());
            }
            let message = status.message.clone().unwrap_or_default();
            if matches!(status.phase, Some(Phase::Refused | Phase::Aborted | Phase::Superseded)) {
                return Err(Error::new(format!(
                    "Failover {name} ended otherwise than the tour says: {message}"
                )));
            }
            if began.elapsed() > MOST {
                return Err(Error::new(format!("waited ten minutes in vain until {what}: {message}")));
            }
            let again =
                |next: &String| typed.as_ref().is_none_or(|(last, at)| last != next || at.elapsed() > HEARD);
            let asks = status.next.filter(|_| status.phase == Some(Phase::Waiting)).filter(again);
            if let Some(next) = asks {
                let words: Vec<&str> = next.split(' ').skip_while(|word| *word != "failover").collect();
                let at = self.voice.now();
                let command = self.stage.typed(place, &words);
                self.voice.say(&Event::Said { at, waits: message, command })?;
                self.stage.types(place, &words).await?;
                typed = Some((next, Instant::now()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until users are served there and, where the other site lives, it follows; then tells what the move cost.
    async fn ends(&mut self, place: usize, name: &str, follows: bool) -> Result<()> {
        let began = Instant::now();
        let site = self.stage.sites[place].name.clone();
        let (mut acknowledged, mut answered) = (0, 0);
        for well in 0.. {
            let failover = self.stage.failover(place, name).await?;
            self.look(Some(&failover)).await?;
            let tally = self.tally();
            let written = self.writer.as_ref().map_or(0, |(writer, _)| writer.tally().acknowledged.len());
            // Answered well all along since it was looked last.
            let good = tally.answered() - tally.failed().min(tally.answered());
            if well > 5 && written > acknowledged && good > answered && self.stage.serves().await == site {
                break;
            }
            (acknowledged, answered) = (written, good);
            if began.elapsed() > MOST {
                return Err(Error::new(format!(
                    "waited ten minutes in vain until users were served at {site}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        if follows {
            let done = |status: &Status| status.phase == Some(Phase::Done);
            self.comes_to(place, name, "the other site follows", done).await?;
        }
        let status = self.stage.failover(place, name).await?;
        let (action, took) = (status.spec.action, status.status.unwrap_or_default().took.unwrap_or_default());
        let Some((writer, before)) = self.writer.take() else { return Ok(()) };
        writer.stop();
        let written = writer.tally();
        let kept = writer.kept(&self.stage.postgres()?.servers[place]).await?;
        let seen = self.tally().since(&before);
        let seconds = |millis: i64| tenths(millis as f64 / 1000.0);
        let act = Act {
            action: action.as_str().to_owned(),
            to: site,
            failover: name.to_owned(),
            until_open: took.until_open.map(seconds).unwrap_or_default(),
            closed: took.without_writes.map(seconds),
            longest_gap: tenths(written.longest_gap.as_secs_f64()),
            sent: seen.sent,
            failed: seen.failed(),
            acknowledged: kept.acknowledged,
            lost: kept.lost,
        };
        let at = self.voice.now();
        self.voice.say(&Event::Moved { at, act: act.clone() })?;
        self.acts.push(act);
        Ok(())
    }
}

fn is(group: &FailoverGroup, kind: &str) -> bool {
    let conditions = group.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// What the group says of itself.
fn why(group: &FailoverGroup) -> String {
    let conditions = group.status.iter().flat_map(|status| &status.conditions);
    let bad = conditions.filter(|condition| ["Ready", "Protected"].contains(&condition.type_.as_str()));
    bad.map(|condition| format!("{}: {}", condition.type_, condition.message)).collect::<Vec<_>>().join("; ")
}
