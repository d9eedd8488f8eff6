//! Where a tour of failover is played: what is read there, what is typed, and what is cut off and brought back.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::{Api, Client};
use serde_json::Value;

use super::event::Moment;
use crate::api::{Failover, FailoverGroup};
use crate::sandbox::cloud::{Cloud, Part};
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::failover::stage::Stage as Around;
use crate::sandbox::operators::{NAMESPACE, Operator};
use crate::sandbox::postgres::PostgresPair;
use crate::sandbox::process::Signal;
use crate::sandbox::traffic::Tally;

/// How long a site may take to say whether traffic is to come there.
const ANSWER: Duration = Duration::from_secs(2);

/// How often it is looked whether a process that was killed is gone.
const GONE: Duration = Duration::from_millis(50);

/// One of the two clouds.
pub struct Site {
    /// Its name.
    pub name: String,
    /// The administrator's client.
    pub client: Client,
    /// Its kubeconfig, for commands.
    pub kubeconfig: PathBuf,
    /// The same as a person would write it.
    pub shown: String,
}

/// Starts the operator of the site at that place, and who answers load balancers there.
pub type Starts<'a> = Box<dyn Fn(usize) -> BoxFuture<'a, Result<Vec<Operator>>> + Send + Sync + 'a>;

/// Where it is played.
pub struct Stage<'a> {
    /// Both sites; the first one has authority to begin with.
    pub sites: Vec<Site>,
    /// Their clouds.
    pub clouds: [&'a Cloud; 2],
    /// What the groups need around them.
    pub around: &'a Around,
    /// Operators, and who answers load balancers, by site.
    pub operators: Vec<Vec<Operator>>,
    /// Those that were cut off.
    pub lost: Vec<Operator>,
    /// Starts those of a site anew.
    pub starts: Starts<'a>,
    /// The group that moves.
    pub group: String,
    /// The host under which users reach it.
    pub host: String,
    /// Asks sites.
    pub http: reqwest::Client,
}

impl Stage<'_> {
    /// The databases.
    ///
    /// # Errors
    /// If there are none.
    pub fn postgres(&self) -> Result<&PostgresPair> {
        self.around.needs_stores()
    }

    /// Ends where a process has ended that should not have.
    ///
    /// # Errors
    /// If one has.
    pub fn check(&self) -> Result<()> {
        self.operators.iter().flatten().try_for_each(Operator::check)
    }

    /// The group, as the operator of a site sees it now; nothing older.
    ///
    /// # Errors
    /// If its API server does not answer.
    pub async fn group(&self, place: usize) -> Result<Option<FailoverGroup>> {
        let api: Api<FailoverGroup> = Api::namespaced(self.sites[place].client.clone(), NAMESPACE);
        let found = api.get_opt(&self.group).await.context(|| "reading the FailoverGroup")?;
        Ok(found.filter(|group| {
            let said = group.status.as_ref().and_then(|status| status.observed_generation);
            said == group.metadata.generation
        }))
    }

    /// A Failover.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub async fn failover(&self, place: usize, name: &str) -> Result<Failover> {
        let api: Api<Failover> = Api::namespaced(self.sites[place].client.clone(), NAMESPACE);
        api.get(name).await.context(|| format!("reading Failover {name}"))
    }

    /// What a person would type to say something to a cluster.
    pub fn typed(&self, place: usize, words: &[&str]) -> String {
        format!("banyan {} --kubeconfig {}", words.join(" "), self.sites[place].shown)
    }

    /// Runs this program with words, against a cluster; what it prints as JSON.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn types(&self, place: usize, words: &[&str]) -> Result<Value> {
        let binary = std::env::current_exe().context(|| "finding the program banyan")?;
        let mut command = tokio::process::Command::new(binary);
        command.args(words).args(["--output", "json", "--kubeconfig"]).arg(&self.sites[place].kubeconfig);
        let output = command.kill_on_drop(true).output().await.context(|| "running the program banyan")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("{}: {}", self.typed(place, words), said.trim())));
        }
        serde_json::from_slice(&output.stdout).context(|| "reading what the program banyan says")
    }

    /// Which site answers that traffic is to come there; empty if none does.
    pub async fn serves(&self) -> String {
        let asked = self.around.gateways().iter().map(async |(site, gateway)| {
            let url = format!("{gateway}/authority/{}", self.group);
            let answer = self.http.get(url).timeout(ANSWER).send().await;
            answer.is_ok_and(|answer| answer.status().is_success()).then(|| site.clone())
        });
        futures::future::join_all(asked).await.into_iter().flatten().next().unwrap_or_default()
    }

    /// What is seen at this moment of a move, if there is one.
    pub async fn moment(
        &self,
        failover: Option<&Failover>,
        writes: usize,
        still: Duration,
        load: &Tally,
    ) -> Moment {
        let status = failover.and_then(|one| one.status.clone()).unwrap_or_default();
        let phase = status.phase.map(|phase| phase.as_str().to_owned());
        let handed_on = self.around.handed_on();
        let at = |site: &Site| {
            let of = handed_on.iter().filter(|(pool, _)| pool.ends_with(&site.name)).map(|(_, count)| count);
            (site.name.clone(), of.sum())
        };
        Moment {
            phase: phase.unwrap_or_else(|| failover.map_or("", |_| "Ordered").to_owned()),
            step: status.step.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            serves: self.serves().await,
            writes,
            without_writes: if still > Duration::from_secs(1) { still.as_secs_f64() } else { 0.0 },
            answered: self.sites.iter().map(at).collect(),
            failed: load.failed(),
        }
    }

    /// Cuts a site off: its operator and its API server hang, its database and who answers load balancers are killed.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn cut(&mut self, place: usize) -> Result<()> {
        // Whoever was killed is not missed.
        self.lost = std::mem::take(&mut self.operators[place]);
        for (number, process) in self.lost.iter().enumerate() {
            process.signal(if number == 0 { Signal::Stop } else { Signal::Kill })?;
        }
        self.clouds[place].signal(Part::ApiServer, Signal::Stop)?;
        self.postgres()?.servers[place].kill().await
    }

    /// Brings a site back.
    ///
    /// # Errors
    /// If something of it does not start.
    pub async fn brings_back(&mut self, place: usize) -> Result<()> {
        self.postgres()?.servers[place].start().await?;
        self.clouds[place].signal(Part::ApiServer, Signal::Cont)?;
        // It has lost its Lease meanwhile, and would end: a Deployment starts it anew.
        for process in std::mem::take(&mut self.lost) {
            if process.pid().is_some() {
                process.signal(Signal::Kill)?;
            }
            while process.pid().is_some() {
                tokio::time::sleep(GONE).await;
            }
        }
        self.operators[place] = (self.starts)(place).await?;
        Ok(())
    }
}
