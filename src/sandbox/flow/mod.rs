//! The command `banyan sandbox`: two clouds, an operator in each, a platform on both, and a table that shows it.
//!
//! | file | what it holds |
//! |---|---|
//! | `hints` | what is said about how to go on from here |
//! | `tours` | the tours, from what was started |

mod hints;
mod tours;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use serde_json::Value;

pub use super::args::{Output, SandboxArgs};
use super::cloud::Cloud;
use super::cloud_options::CloudOptions;
use super::contexts;
use super::credentials::write_private;
use super::error::{Context, Error, Result};
use super::failover::stage::Stage as Failover;
use super::failover::{answers, overlay};
use super::home::{self, Home};
use super::install::{self, Applied};
use super::interrupt::Interrupt;
use super::introduce::{self, Way};
use super::nodes;
use super::operators::{Operator, OperatorOptions};
use super::pair::{self, Install, Pair, PairOptions, without_workloads};
use super::payload::Payload;
use super::process::Supervisor;
use super::report::{self, Beside, Seen};
use super::table;
use super::tour::Tour;
use super::tour::canary::{self, Script};
use super::traffic::session::{self, Traffic};
use super::traffic::{Gateway, namespace};
use super::view::View;
use crate::terminal::drawing::print;
use crate::terminal::progress::{Progress, seconds};
use crate::terminal::size;

/// How often the FinServices are read for the table.
const LOOK: Duration = Duration::from_millis(500);
/// How long all processes may take to end.
const END: Duration = Duration::from_secs(30);

/// One of the two, be it ours or somebody's.
struct Site {
    name: String,
    client: Client,
    kubeconfig: String,
    operator: String,
    /// What the operator of the other one may use; empty where the clouds are somebody's.
    peer: String,
    applied: Vec<Applied>,
}

/// How it went.
enum Outcome {
    /// All was Ready.
    Ready(Seen),
    /// The time was over.
    TimedOut(Seen),
    /// The tour was over.
    Toured,
    /// Somebody asked for the end.
    Interrupted,
}

/// Runs the command to its end.
///
/// # Errors
/// When anything cannot be built, started or applied, or is not Ready in time; what was started is ended before.
pub async fn run(args: SandboxArgs, payload: Payload) -> Result<()> {
    if args.stop {
        let dir = args.dir.clone();
        tokio::task::spawn_blocking(move || home::stop(&dir)).await.context(|| "stopping the sandbox")??;
        println!("The sandbox in {} is stopped and removed.", args.dir.display());
        return Ok(());
    }
    if !matches!(args.contexts.len(), 0 | 2) {
        return Err(Error::new(
            "--context: name two, the first for aws-us-east-1, the second for gcp-us-central1",
        ));
    }
    let mut interrupt = Interrupt::new()?;
    let progress = Progress::stderr();
    if args.wants_traffic() {
        let Some(inside) = interrupt.or(session::go_inside(&args.dir, &progress, args.tour.is_none())).await
        else {
            return Err(Error::new("interrupted"));
        };
        inside?;
    }
    if args.tour == Some(Tour::Canary) && !namespace::inside() {
        return canary::simulate(&args, &payload);
    }
    if args.tour == Some(Tour::Failover) && args.examples.is_some() {
        return Err(Error::new("--tour failover is played with the example platform: leave out --examples"));
    }
    let Some(supervisor) = interrupt.or(pair::supervisor(progress.clone())).await else {
        return Err(Error::new("interrupted"));
    };
    let supervisor = supervisor?;
    let home = Home::claim(&args.dir)?;
    supervisor.remove_at_end(home.path())?;
    let mut session = Session {
        args,
        payload,
        home,
        progress,
        supervisor,
        sites: Vec::new(),
        traffic: None,
        pair: None,
        failover: None,
        started: Instant::now(),
    };
    let outcome = session.play(&mut interrupt).await;
    let ended = session.end(outcome.is_ok()).await;
    let outcome = outcome?;
    ended?;
    session.report(&outcome);
    match outcome {
        Outcome::Ready(_) | Outcome::Toured => Ok(()),
        Outcome::TimedOut(seen) => Err(Error::new(format!(
            "after {}: {}",
            seconds(session.args.timeout),
            seen.unready().unwrap_or_default()
        ))),
        Outcome::Interrupted if session.args.until_ready => {
            Err(Error::new("interrupted before every FinService was Ready"))
        }
        Outcome::Interrupted if session.args.tour.is_some() => {
            Err(Error::new("interrupted before the end of the tour"))
        }
        Outcome::Interrupted => Ok(()),
    }
}

struct Session {
    args: SandboxArgs,
    payload: Payload,
    home: Home,
    progress: Progress,
    supervisor: Arc<Supervisor>,
    sites: Vec<Site>,
    /// Kept, since pods answer as long as it lives.
    traffic: Option<Traffic>,
    /// Our own clouds, with their own APIs; `None` where they are somebody's.
    pair: Option<Pair>,
    /// Kept, since what FailoverGroups ask is there as long as it lives.
    failover: Option<Failover>,
    started: Instant,
}

impl Session {
    async fn play(&mut self, interrupt: &mut Interrupt) -> Result<Outcome> {
        let examples = match &self.args.examples {
            Some(path) => install::read_folder(path)?,
            None if self.args.tour == Some(Tour::Canary) => self.payload.tour.clone(),
            None => self.payload.examples.clone(),
        };
        // Before anything is started: it may be none that a tour can be played with.
        let canary = self.args.tour.filter(|tour| *tour == Tour::Canary);
        let script = canary.map(|_| Script::of(&examples)).transpose()?;
        if self.args.contexts.is_empty() {
            let Some(sites) = interrupt.or(self.clouds()).await else { return Ok(Outcome::Interrupted) };
            (self.sites, self.traffic, self.pair) = sites?;
        } else {
            // Not broken off in the middle: what is applied to clusters of others must be known.
            self.existing().await?;
        }
        for site in &self.sites {
            write_private(&self.kubeconfig(site), &site.kubeconfig)?;
        }
        // The folder of somebody else says itself where its databases are.
        let ours = self.args.examples.is_none() && script.is_none();
        if ours && self.args.contexts.is_empty() && !self.args.keep {
            let Some(failover) = interrupt.or(self.failover()).await else {
                return Ok(Outcome::Interrupted);
            };
            self.failover = Some(failover?);
        } else if ours {
            self.progress.say(
                "FailoverGroups have no database, no witness and no load balancer here: the sandbox plays them only \
                 between clouds of its own, and without --keep",
            );
        }
        let gateways = self.failover.as_ref().map(Failover::gateways).unwrap_or_default();
        let sites = overlay::gateways(&self.payload.sites, gateways);
        self.apply("sites", &sites).await?;
        self.introduce(&sites).await?;
        let Some(operators) = interrupt.or(self.operators()).await else { return Ok(Outcome::Interrupted) };
        let operators = operators?;
        if let Some(script) = script {
            let operators: Vec<Operator> = operators.into_iter().flatten().collect();
            let toured = interrupt.or(self.tour_of_releases(&operators, &script)).await;
            return toured.map_or(Ok(Outcome::Interrupted), |toured| toured.map(|()| Outcome::Toured));
        }
        let examples = match &self.failover {
            Some(failover) => failover.with_places(&examples).await?,
            None if ours => overlay::groups(&examples, &self.names(), None),
            None => examples,
        };
        let groups = match &self.failover {
            Some(_) => overlay::with_stores(&examples),
            None => Vec::new(),
        };
        self.apply("platform", &examples).await?;
        if self.args.tour == Some(Tour::Failover) {
            let toured = interrupt.or(self.tour_of_failover(operators, &examples)).await;
            return toured.map_or(Ok(Outcome::Interrupted), |toured| toured.map(|()| Outcome::Toured));
        }
        let operators: Vec<Operator> = operators.into_iter().flatten().collect();
        if !self.args.until_ready {
            self.progress.say(&self.how_to("Ctrl-C ends all"));
        }
        interrupt.or(self.watch(&operators, groups, Instant::now())).await.unwrap_or(Ok(Outcome::Interrupted))
    }

    /// The names of both, in their order.
    fn names(&self) -> [String; 2] {
        [CloudOptions::aws().name, CloudOptions::gcp().name]
    }

    /// What the FailoverGroups of the example platform need.
    async fn failover(&self) -> Result<Failover> {
        Failover::start(self.names(), self.home.path(), &self.supervisor, &self.progress).await
    }

    /// Two clouds of our own.
    async fn clouds(&self) -> Result<(Vec<Site>, Option<Traffic>, Option<Pair>)> {
        let tools = pair::prepare(self.supervisor.clone(), self.progress.clone()).await?;
        let served = self.args.wants_traffic() && namespace::inside();
        let options = PairOptions {
            clouds: [CloudOptions::aws(), CloudOptions::gcp()].map(|cloud| CloudOptions { served, ..cloud }),
            dir: Some(self.home.path().to_owned()),
            install: Install { optional_apis: true, manifests: self.payload.manifests.clone() },
            progress: self.progress.clone(),
        };
        let pair = Pair::launch(self.supervisor.clone(), tools, options).await?;
        for cloud in pair.clouds() {
            install::apply(&cloud.client_admin()?, &nodes::gateway()?).await?;
        }
        let traffic = if served { Traffic::start(&pair, &self.progress).await? } else { None };
        let site = |cloud: &Cloud| {
            Ok(Site {
                name: cloud.name().to_owned(),
                client: cloud.client_admin()?,
                kubeconfig: match traffic.as_ref().and_then(|traffic| traffic.server(cloud.name())) {
                    Some(outside) => cloud.kubeconfig_at(&outside)?,
                    None => cloud.kubeconfig()?,
                },
                operator: cloud.kubeconfig_operator()?,
                peer: cloud.kubeconfig_peer()?,
                applied: Vec::new(),
            })
        };
        Ok((pair.clouds().into_iter().map(site).collect::<Result<_>>()?, traffic, Some(pair)))
    }

    /// Two clusters of somebody. The optional APIs are theirs to choose.
    async fn existing(&mut self) -> Result<()> {
        for (name, context) in self.names().into_iter().zip(self.args.contexts.clone()) {
            let step = self.progress.step(format!("{name}: definitions and manifests in {context}"));
            let kubeconfig = contexts::kubeconfig(&context)?;
            let client = contexts::client(&kubeconfig).await?;
            // Kubernetes knows these since 1.36; somebody's own cluster may be older.
            let mut manifests = without_workloads(&self.payload.manifests);
            manifests.retain(|object| {
                !object["kind"].as_str().is_some_and(|kind| kind.starts_with("MutatingAdmissionPolicy"))
            });
            let applied = install::apply(&client, &manifests).await?;
            let operator = contexts::operator_kubeconfig(&client, &kubeconfig).await;
            let known = operator.as_ref().cloned().unwrap_or_default();
            // Noted before the error, so that it is taken back.
            let peer = String::new();
            self.sites.push(Site { name, client, kubeconfig, operator: known, peer, applied });
            operator?;
            step.done();
        }
        Ok(())
    }

    /// An operator for each, and who answers load balancers where the sites have gateways; by site.
    async fn operators(&self) -> Result<Vec<Vec<Operator>>> {
        futures::future::try_join_all((0..self.sites.len()).map(|number| self.operators_of(number))).await
    }

    /// Those of one site.
    async fn operators_of(&self, number: usize) -> Result<Vec<Operator>> {
        let site = &self.sites[number];
        let binary = std::env::current_exe().context(|| "finding the program banyan")?;
        let gateways = self.traffic.as_ref().map(Traffic::gateways).unwrap_or_default();
        let step = self.progress.step(format!("{}: operator", site.name));
        let metrics = |gateway: &Gateway| vec!["--gateway-metrics".to_owned(), gateway.stats_url()];
        let clouds = self.pair.as_ref().map(|pair| pair.ends.operator_args()).unwrap_or_default();
        let failover = self.failover.as_ref().map(Failover::operator_args).unwrap_or_default();
        // The gateways are in the order of the sites.
        let args = gateways.get(number).map(metrics).unwrap_or_default();
        let options = OperatorOptions {
            binary,
            site: site.name.clone(),
            kubeconfig: site.operator.clone(),
            dir: self.home.path().join("operators"),
            replica: 0,
            args: args.into_iter().chain(clouds).chain(failover).collect(),
            env: Vec::new(),
        };
        let operator = Operator::start(&options, self.supervisor.clone())?;
        operator.ready().await?;
        let mut all = vec![operator];
        let gateways = self.failover.as_ref().map(Failover::gateways).unwrap_or_default();
        if let Some((_, gateway)) = gateways.iter().find(|(name, _)| *name == site.name) {
            let listen = gateway.trim_start_matches("http://");
            let options = OperatorOptions { args: Vec::new(), ..options };
            let authority = Operator::start_authority(&options, listen, self.supervisor.clone())?;
            authority.ready().await?;
            all.push(authority);
        }
        step.done();
        Ok(all)
    }

    /// Lets each operator find the other cloud. Clusters of somebody's are not touched.
    async fn introduce(&mut self, sites: &[Value]) -> Result<()> {
        let Some(ends) = self.pair.as_ref().map(|pair| &pair.ends) else { return Ok(()) };
        for here in 0..self.sites.len() {
            let there = &self.sites[1 - here];
            let way = if self.args.keep { Way::Kubeconfig(&there.peer) } else { Way::Clouds(ends) };
            let objects = introduce::objects(here, &there.name, sites, &way)?;
            install::apply(&self.sites[here].client, &objects).await?;
            let secrets = self.failover.as_ref().map(Failover::secrets).unwrap_or_default();
            install::apply(&self.sites[here].client, &secrets).await?;
        }
        Ok(())
    }

    /// Applies objects to both, side by side, and remembers what was not there before.
    async fn apply(&mut self, what: &str, objects: &[Value]) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let progress = &self.progress;
        let apply = async |site: &mut Site| {
            let step = progress.step(format!("{}: {what}", site.name));
            site.applied.extend(install::apply(&site.client, objects).await?);
            step.done();
            Ok::<_, Error>(())
        };
        // Both to their end, so that what one applied is remembered though the other failed.
        let done = futures::future::join_all(self.sites.iter_mut().map(apply)).await;
        done.into_iter().collect()
    }

    /// Shows the tables until all is Ready, the time is over, or for ever. `groups` are waited for as well.
    async fn watch(&self, operators: &[Operator], groups: Vec<String>, applied: Instant) -> Result<Outcome> {
        let mut view = View::new(self.args.output, self.progress.clone(), self.more());
        let mut told = BTreeSet::new();
        loop {
            for operator in operators {
                operator.check()?;
            }
            let mut seen = Seen { groups: groups.clone(), ..Seen::default() };
            for site in &self.sites {
                seen.rows.extend(table::read(&site.client, &site.name).await?);
                seen.answers.extend(answers::read(&site.client, &site.name).await?);
            }
            // Such as variables of pods that mean nothing: whoever wrote them waits for what they were to do.
            for problem in self.traffic.iter().flat_map(Traffic::problems) {
                if told.insert(problem.clone()) {
                    view.make_room();
                    self.progress.say(&problem);
                }
            }
            view.show(&seen, self.started);
            let all_ready = seen.unready().is_none();
            if seen.services_ready() && !view.told {
                view.told = true;
                view.make_room();
                self.progress.note("every FinService is Ready in both clouds", applied.elapsed());
            }
            if all_ready && !groups.is_empty() && !view.told_groups {
                view.told_groups = true;
                view.make_room();
                let what = format!("{} could fail over to the other cloud", groups.join(", "));
                self.progress.note(what, applied.elapsed());
            }
            if self.args.until_ready {
                let over = applied.elapsed() > self.args.timeout;
                if all_ready || over {
                    view.wipe();
                    return Ok(if all_ready { Outcome::Ready(seen) } else { Outcome::TimedOut(seen) });
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn kubeconfig(&self, site: &Site) -> PathBuf {
        self.home.path().join(format!("{}.kubeconfig", site.name))
    }

    /// Ends all, or lets go of it.
    async fn end(&mut self, well: bool) -> Result<()> {
        if self.args.keep && well && !self.sites.is_empty() {
            let address = self.supervisor.detach()?;
            self.home.keep(&address)?;
            let flag = match self.args.dir == Path::new(home::DEFAULT) {
                true => String::new(),
                false => format!(" --dir {}", self.args.dir.display()),
            };
            let banyan = hints::program("banyan");
            self.progress
                .say(&self.how_to(&format!("They go on; `{banyan} sandbox --stop{flag}` ends them")));
            return Ok(());
        }
        let mut taken_back = Ok(());
        for site in self.sites.iter().filter(|_| !self.args.contexts.is_empty()) {
            let step = self.progress.step(format!("{}: taking back", site.name));
            let done = contexts::take_back(&site.client, &site.name, &site.applied).await;
            if done.is_ok() {
                step.done();
            }
            taken_back = taken_back.and(done);
        }
        let step = self.progress.step("stopping");
        let supervisor = self.supervisor.clone();
        tokio::task::spawn_blocking(move || supervisor.shutdown(END)).await.context(|| "stopping")??;
        home::tidy(self.home.path());
        step.done();
        taken_back
    }

    /// Prints the result on standard output.
    fn report(&self, outcome: &Outcome) {
        let (Outcome::Ready(seen) | Outcome::TimedOut(seen)) = outcome else { return };
        let kept = self.sites.iter().filter(|_| self.args.keep);
        let beside = Beside {
            timings: self.progress.timings(),
            writes: self.failover.as_ref().and_then(Failover::acknowledged),
            kubeconfigs: kept.map(|site| (site.name.clone(), self.kubeconfig(site))).collect(),
        };
        print(&match self.args.output {
            Output::Json => report::to_json(seen, &beside),
            Output::Table => report::to_text(seen, &beside, &seconds(self.args.timeout), size::width()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::args::tests::parse;

    #[tokio::test]
    async fn one_context_is_refused() {
        let args = parse(&["--context", "a"]).unwrap();
        let error = run(args, Payload::default()).await.unwrap_err().to_string();
        assert!(error.starts_with("--context: name two"), "{error}");
    }
}
