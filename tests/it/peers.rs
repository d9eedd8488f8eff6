//! Two clouds that know each other through their own APIs: real API servers, which take tokens of EKS and of Google as
//! those clouds' API servers do.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use banyan::api::CloudCluster;
use banyan::api::cloudcluster::{Access, WayKind};
use banyan::cloudcluster::links::Links;
use banyan::cloudcluster::way::Pace;
use banyan::clouds::eks::Eks;
use banyan::clouds::gke::Gke;
use banyan::clouds::google::Google;
use banyan::clouds::{Addresses, Cluster, aws::AccessKey};
use banyan::sandbox::ends::clouds::{CloudEnds, peer_binding, peer_rights};
use banyan::sandbox::ends::proxy::Proxy;
use banyan::sandbox::operators::{Operator, OperatorOptions};
use banyan::sandbox::payload::Payload;
use banyan::sandbox::process::Signal;
use banyan::sandbox::{Cloud, Install, Pair, PairOptions, Part, install, pair};
use banyan::terminal::progress::Progress;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::actions::gcp;
use crate::secrets::Told;
use crate::world::{aws, until_within, with_two_clouds};

/// How long a test waits for what takes half a minute on an idle machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// So many times as often as usual the operators of a pair ask what a group names.
pub const FASTER: u32 = 5;
/// How many links each cloud has in the test of many tokens.
const LINKS: usize = 25;
/// How long a token lives there.
const LIFE: Duration = Duration::from_secs(8);
/// For how long an API server remembers whom a token belonged to (10 s, which cannot be changed), and some more.
const REMEMBERED: Duration = Duration::from_secs(11);

pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, Duration::from_millis(200), what, ask).await
}

fn addresses(ends: &CloudEnds) -> Addresses {
    let aws = Some(ends.aws_end.url());
    Addresses { eks: aws.clone(), sts: aws, gke: Some(ends.google_end.url()), ..Addresses::default() }
}

/// A client that shows a token.
async fn showing(cloud: &Cloud, token: &str) -> Client {
    let mut kubeconfig: Value = serde_norway::from_str(&cloud.kubeconfig().unwrap()).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token});
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// What an API server answers who shows that token: 200 or another status.
async fn status(cloud: &Cloud, token: &str) -> u16 {
    match showing(cloud, token).await.apiserver_version().await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn tokens_of_seconds_are_renewed_hundreds_of_times_and_refused_once_they_have_ended() {
    let (in_aws, in_gcp) = (aws().await, gcp().await);
    let ends = &pair().await.unwrap().ends;
    let (to_gcp, of_gcp) = ends.to_gcp("peers-of-a-test");
    let (to_aws, of_aws) = ends.to_aws("peers-of-a-test");
    install::apply(&in_aws.client_admin().unwrap(), &[peer_binding(), of_gcp.clone()]).await.unwrap();
    install::apply(&in_gcp.client_admin().unwrap(), &[peer_binding(), of_aws.clone()]).await.unwrap();
    let way = |way: Value| serde_json::from_value::<Access>(way).unwrap();
    let (to_gcp, to_aws) = (way(to_gcp), way(to_aws));

    // Each by itself: taken while it lives, and refused after.
    let data = &of_aws["stringData"];
    let text = |key: &str| data[key].as_str().unwrap().to_owned();
    let key =
        AccessKey { id: text("AWS_ACCESS_KEY_ID"), secret: text("AWS_SECRET_ACCESS_KEY"), session: None };
    let eks = Eks::new(to_aws.eks.as_ref().unwrap(), Some(key), &addresses(ends));
    let account = of_gcp["stringData"]["credentials.json"].as_str().unwrap();
    let google = Google::of_json(account.as_bytes()).unwrap();
    let gke = Gke::new(to_gcp.gke.as_ref().unwrap(), google, &addresses(ends));
    ends.aws.let_live(LIFE);
    ends.google.let_live(LIFE);
    let (of_eks, of_gke) = (eks.token().await.unwrap(), gke.token().await.unwrap());
    assert_eq!((status(in_aws, &of_eks.value).await, status(in_gcp, &of_gke.value).await), (200, 200));
    assert_eq!(
        (status(in_gcp, &of_eks.value).await, status(in_aws, &of_gke.value).await),
        (401, 401),
        "not there"
    );
    tokio::time::sleep(LIFE + REMEMBERED).await;
    assert_eq!(
        (status(in_aws, &of_eks.value).await, status(in_gcp, &of_gke.value).await),
        (401, 401),
        "ended"
    );

    // Many, renewed by themselves, under the operators' own rights here and a peer's there.
    let shutdown = CancellationToken::new();
    let pace = Pace { used: Duration::from_secs(1), nodes: Duration::from_secs(3600), ..Pace::default() };
    let mut links = Vec::new();
    for (here, there, access) in [(in_aws, "gcp", &to_gcp), (in_gcp, "aws", &to_aws)] {
        for _ in 0..LINKS {
            let client = here.client_operator().unwrap();
            let made = Links::new(client, "banyan-system", addresses(ends), pace);
            made.set([(there.to_owned(), vec![access.clone()])].into());
            links.push((there, made));
        }
    }
    for (_, link) in &links {
        let (link, shutdown) = (link.clone(), shutdown.clone());
        tokio::spawn(async move { link.run(shutdown).await });
    }
    // A token's life must not run out while a busy machine brings them up.
    let ask = |(there, link): (&'static str, Links)| async move {
        link.ask(there, async |client| client.apiserver_version().await).await
    };
    until("every link has been asked once", async || {
        let answers = futures::future::join_all(links.iter().cloned().map(ask)).await;
        answers.iter().all(Result::is_ok).then_some(())
    })
    .await;
    ends.aws_end.desk.take();
    ends.google_end.desk.take();
    let (mut of_aws, mut of_google, mut asked, mut failed) = (0, 0, 0, Vec::new());
    let began = Instant::now();
    while of_aws < 150 || of_google < 150 {
        assert!(began.elapsed() < PATIENCE, "renewals: {of_aws} of AWS, {of_google} of Google");
        for answer in futures::future::join_all(links.iter().cloned().map(ask)).await {
            asked += 1;
            failed.extend(answer.err().map(|error| error.to_string()));
        }
        let count = |asked: Vec<banyan::sandbox::ends::server::Asked>, path: &str| {
            asked.iter().filter(|asked| asked.path == path).count()
        };
        of_aws += count(ends.aws_end.desk.take(), "/");
        of_google += count(ends.google_end.desk.take(), "/token");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // A machine that stands still for longer than a fifth of a token's life loses one, and a busy one does now and then;
    // nothing else does.
    let late = failed.iter().filter(|error| error.contains("does not accept")).count();
    assert_eq!(late, failed.len(), "{failed:?}");
    assert!(failed.len() * 10 <= asked, "{} of {asked} failed: {failed:?}", failed.len());
    println!("renewals: {of_aws} of AWS, {of_google} of Google; {asked} calls, {} failed", failed.len());
    shutdown.cancel();
    ends.aws.let_live(Duration::from_secs(3600));
    ends.google.let_live(Duration::from_secs(3600));
}

/// A pair of its own, with the operator of each as a process.
pub struct Two {
    pub pair: Pair,
    pub operators: Vec<Operator>,
    pub planted: Vec<String>,
    /// How many operators were started in the place of others.
    started: usize,
}

/// How the operator of a cloud is started.
pub fn options(pair: &Pair, here: &Cloud, args: &[String], replica: usize) -> OperatorOptions {
    // A released one is measured as it runs elsewhere, without what is written down for who looks for a fault.
    let released = std::env::var_os("BANYAN_OPERATOR");
    let log = if released.is_some() { "info" } else { "debug" };
    OperatorOptions {
        binary: PathBuf::from(released.unwrap_or_else(|| env!("CARGO_BIN_EXE_banyan").into())),
        site: here.name().to_owned(),
        kubeconfig: here.kubeconfig_operator().unwrap(),
        dir: pair.dir().join("operators"),
        replica,
        args: pair.ends.operator_args().into_iter().chain(args.iter().cloned()).collect(),
        env: vec![
            ("BANYAN_LOG".to_owned(), log.to_owned()),
            ("BANYAN_ASK_FASTER".to_owned(), FASTER.to_string()),
        ],
    }
}

/// The operator of a cloud, once it is ready.
async fn operator(pair: &Pair, here: &Cloud, args: &[String], replica: usize) -> Operator {
    let options = options(pair, here, args, replica);
    let operator = Operator::start(&options, pair.supervisor().clone()).expect("an operator");
    operator.ready().await.expect("it is ready");
    operator
}

async fn launch() -> Pair {
    let manifests = Payload::embedded().unwrap().manifests;
    let install = Install { optional_apis: false, manifests };
    let pair = Pair::start(PairOptions { install, progress: Progress::silent(), ..PairOptions::default() });
    pair.await.expect("a pair of clouds")
}

impl Two {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With operators that get these arguments too.
    pub async fn with(args: &[String]) -> Self {
        Self::of(launch().await, args).await
    }

    /// The same, with a door before each API server by which the other cloud reaches it, and nobody else.
    pub async fn apart(args: &[String]) -> (Self, [Proxy; 2]) {
        let pair = launch().await;
        let port = |cloud: &Cloud| cloud.server().rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let [aws, gcp] = pair.clouds();
        let doors = [Proxy::to(port(aws)).await.unwrap(), Proxy::to(port(gcp)).await.unwrap()];
        let [to_aws, to_gcp] = [0, 1].map(|place: usize| format!("https://{}", doors[place].address));
        pair.ends.publish_at([(aws, &to_aws), (gcp, &to_gcp)]);
        (Self::of(pair, args).await, doors)
    }

    async fn of(pair: Pair, args: &[String]) -> Self {
        let (to_gcp, secret_of_gcp) = pair.ends.to_gcp("there");
        let (to_aws, secret_of_aws) = pair.ends.to_aws("there");
        let [aws, gcp] = pair.clouds();
        let site = |name: &str, spec: Value| {
            json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
            "metadata": {"name": name, "namespace": "banyan-system"}, "spec": spec})
        };
        let ways = [(aws, gcp, to_gcp, &secret_of_gcp), (gcp, aws, to_aws, &secret_of_aws)];
        let mut operators = Vec::new();
        for (here, there, way, secret) in ways {
            let own = site(here.name(), json!({"residency": ["US"]}));
            let other = site(there.name(), json!({"residency": ["US"], "access": [way]}));
            let mut objects = peer_rights(there.name()).expect("the chart has its policy");
            objects.extend([secret.clone(), own, other]);
            install::apply(&here.client_admin().unwrap(), &objects).await.expect("objects are taken");
            operators.push(operator(&pair, here, args, 0).await);
        }
        let account: Value =
            serde_json::from_str(secret_of_gcp["stringData"]["credentials.json"].as_str().unwrap()).unwrap();
        let key = account["private_key"].as_str().unwrap().lines().nth(3).unwrap().to_owned();
        let secret = secret_of_aws["stringData"]["AWS_SECRET_ACCESS_KEY"].as_str().unwrap().to_owned();
        // And what tokens of Google and of EKS, and sessions, begin with or are called.
        let tokens = ["ya29.", "k8s-aws-v1.", "X-Amz-Signature"].map(str::to_owned);
        Self { started: 0, pair, operators, planted: [key, secret].into_iter().chain(tokens).collect() }
    }

    /// Starts another operator in the place of one that has ended, as a Deployment would.
    pub async fn start_again(&mut self, place: usize, args: &[String]) {
        self.started += 1;
        self.operators[place] = operator(&self.pair, self.pair.clouds()[place], args, self.started).await;
    }

    fn sites(&self, place: usize) -> Api<CloudCluster> {
        Api::namespaced(self.pair.clouds()[place].client_admin().unwrap(), "banyan-system")
    }

    /// Waits until the operator of one says of the other what is wanted.
    async fn told(&self, here: usize, what: &str, is: impl Fn(&CloudCluster) -> bool) -> CloudCluster {
        let (sites, name) = (self.sites(here), self.pair.clouds()[1 - here].name());
        until(what, async || sites.get(name).await.ok().filter(|site| is(site))).await
    }
}

impl Two {
    /// All that can be read of an operator and of its cluster.
    pub async fn told_of(&self, place: usize) -> Told {
        let mut told = Told::default();
        told.log(self.operators[place].log());
        told.pages(self.operators[place].url(), &["/healthz", "/readyz", "/metrics", "/sites"]).await;
        told.objects(&self.pair.clouds()[place].client_admin().unwrap()).await;
        told
    }
}

fn ready(site: &CloudCluster) -> (String, String) {
    let mut conditions = site.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    ready.map(|condition| (condition.status.clone(), condition.reason.clone())).unwrap_or_default()
}

fn is(site: &CloudCluster, status: &str, reason: &str) -> bool {
    ready(site) == (status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn operators_find_each_other_through_their_clouds_alone_and_a_dead_one_is_a_condition() {
    let _turn = with_two_clouds().await;
    let two = Two::start().await;
    for (here, kind) in [(0, WayKind::Gke), (1, WayKind::Eks)] {
        let site = two
            .told(here, "the other one is known", |site| {
                let nodes = site.status.as_ref().and_then(|status| status.nodes.as_ref());
                is(site, "True", "Reachable") && nodes.is_some_and(|nodes| nodes.ready == 6)
            })
            .await;
        let status = site.status.unwrap();
        assert_eq!((status.ways.len(), status.ways[0].kind, status.ways[0].reachable), (1, kind, true));
        assert!(status.version.unwrap().starts_with("v1."));
        let nodes = status.nodes.unwrap();
        assert_eq!(nodes.total, 6);
        assert!(nodes.requested.is_some() && nodes.allocatable.cpu != "0", "{nodes:?}");
    }

    // At rest nothing is written, and no cloud is asked anything.
    let version = async || two.sites(0).get(two.pair.gcp.name()).await.unwrap().resource_version();
    let before = version().await;
    two.pair.ends.aws_end.desk.take();
    two.pair.ends.google_end.desk.take();
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(version().await, before);
    let asked = [&two.pair.ends.aws_end, &two.pair.ends.google_end].map(|end| end.desk.take());
    assert_eq!(asked, [Vec::new(), Vec::new()]);

    for place in [0, 1] {
        two.told_of(place).await.has_no(&two.planted, &["banyan.dev/cloudclusters"]);
    }

    // The second cloud's API server falls silent: a condition in the first, and nothing else.
    two.pair.gcp.signal(Part::ApiServer, Signal::Stop).unwrap();
    let site = two.told(0, "it is silent", |site| is(site, "False", "NoAnswer")).await;
    let status = site.status.as_ref().unwrap();
    assert!(!status.ways[0].reachable && status.nodes.as_ref().is_some_and(|nodes| nodes.ready == 6));
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "False"), "{status:?}");
    // (The operator of the second cloud ends, since it can no longer hold its Lease.)
    two.operators[0].check().expect("it still runs");
    two.pair.gcp.signal(Part::ApiServer, Signal::Cont).unwrap();
    two.told(0, "it is back", |site| is(site, "True", "Reachable")).await;

    two.told_of(0).await.has_no(&two.planted, &["banyan.dev/cloudclusters"]);
    two.pair.stop().await.unwrap();
}
