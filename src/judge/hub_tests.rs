use std::time::Instant;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::api::canaryrollout::WebhookGate;
use crate::evidence::{Asked, Bypass, Share, Verdict, pod_id};
use crate::judge::{Comparison, Metric, Standard};
use crate::signals::{Answer, Arm, Counted, GateReply, Pod, Reading, What};

/// How long a test waits for anything. Nothing depends on being fast.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests a second of each pod.
const MANY: f64 = 200_000.0;

/// What flows to the canary of a service.
#[derive(Clone, Debug)]
struct Flow {
    /// Names of the canary's pods.
    pods: Vec<&'static str>,
    /// Share of its requests that fail.
    failing: f64,
    /// Whether anything is counted at all.
    silent: bool,
}

#[derive(Default)]
struct Script {
    flows: HashMap<String, Flow>,
    /// Sources that never answer.
    stuck: Vec<SourceKey>,
    /// What is counted stands still from this moment on.
    still: Option<Instant>,
    gate: Option<GateReply>,
    batches: Vec<(SourceKey, Vec<String>)>,
    queries: Vec<Vec<String>>,
    posts: Vec<(String, serde_json::Value)>,
}

/// Sources that a test plays.
struct Played {
    began: Instant,
    script: Mutex<Script>,
}

impl Played {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

impl Ask for Played {
    async fn counters(
        &self,
        source: &SourceKey,
        subjects: &[Subject],
        now: f64,
        mut answered: impl FnMut(Vec<(usize, Answer)>) + Send,
    ) {
        let names = subjects.iter().map(|subject| subject.service.clone()).collect();
        let stuck = {
            let mut script = self.script();
            script.batches.push((source.clone(), names));
            script.stuck.contains(source)
        };
        if stuck {
            std::future::pending::<()>().await;
        }
        let answers = self.answers(subjects, now);
        answered(answers.into_iter().enumerate().collect());
    }

    async fn queries(&self, _: &SourceKey, queries: &[String]) -> Vec<GateReply> {
        let mut script = self.script();
        script.queries.push(queries.to_vec());
        queries.iter().map(|_| script.gate.clone().unwrap_or(GateReply::Yes)).collect()
    }

    async fn webhook(&self, _: &str, server: &WebhookGate, told: &serde_json::Value) -> GateReply {
        self.script().posts.push((server.url.clone(), told.clone()));
        GateReply::No("status 403".to_owned())
    }
}

impl Played {
    fn answers(&self, subjects: &[Subject], now: f64) -> Vec<Answer> {
        let script = self.script();
        let until = script.still.unwrap_or_else(Instant::now);
        let requests = (until.saturating_duration_since(self.began).as_secs_f64() * MANY).floor();
        let answer = |subject: &Subject| {
            let flow = &script.flows[&subject.service];
            if flow.silent {
                return Answer::Nothing("nobody is there".to_owned());
            }
            let canary = flow.pods.iter().map(|pod| (1, *pod, flow.failing));
            let readings =
                [(0, "old-1", 0.001)].into_iter().chain(canary).map(|(arm, pod, failing)| Reading {
                    metric: 0,
                    arm,
                    series: pod_id(pod),
                    time: now,
                    ready_since: Some(0.0),
                    requests,
                    bad: (requests * failing).floor(),
                    unanswered: 0.0,
                });
            Answer::Readings {
                readings: readings.collect(),
                comparable: true,
                exact: true,
                missing: Vec::new(),
            }
        };
        subjects.iter().map(answer).collect()
    }
}

struct Stage {
    hub: Arc<Hub<&'static str>>,
    played: Arc<Played>,
    woken: Arc<Mutex<Vec<Wake<&'static str>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start() -> Stage {
    let hub = Arc::new(Hub::default());
    let played = Arc::new(Played { began: Instant::now(), script: Mutex::default() });
    let woken = Arc::new(Mutex::new(Vec::new()));
    let (pods, log) = (Arc::clone(&played), Arc::clone(&woken));
    let fill = move |_: &&'static str, follow: &Follow, subject: &mut Subject| {
        let script = pods.script();
        let of_canary = script.flows.get(&follow.subject.service).map(|flow| flow.pods.clone());
        for (arm, names) in subject.arms.iter_mut().zip([vec!["old-1"], of_canary.unwrap_or_default()]) {
            let pod = |name: &&str| Pod {
                name: (*name).to_owned(),
                address: [10, 0, 0, 1].into(),
                ready_since: Some(0.0),
            };
            arm.pods = names.iter().map(pod).collect();
        }
    };
    let run = Arc::clone(&hub).run(Arc::clone(&played), fill, move |wake| log.lock().unwrap().push(wake));
    Stage { hub, played, woken, task: tokio::spawn(run) }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn prometheus() -> SourceKey {
    SourceKey::Prometheus { namespace: "pay".into(), spec: "{}".into() }
}

pub(in crate::judge) fn follow(service: &str, attempt: i64, weight: i32) -> Follow {
    let error_rate = Metric {
        name: "error-rate".into(),
        max_increase: 0.005,
        limit: None,
        counts_requests: true,
        asks: false,
        sums: false,
        optional: false,
    };
    let standard = Standard {
        metrics: vec![error_rate],
        warmup: SignedDuration::ZERO,
        interval: SignedDuration::from_millis(100),
        false_alarm: 0.01,
        steps: 2,
    };
    let arm = |revision: &str| Arm { revision: revision.into(), service: revision.into(), ..Arm::default() };
    Follow {
        comparison: Some(Comparison {
            attempt,
            weight,
            next: 100,
            beside: "old".into(),
            share: None,
            others: false,
        }),
        standard,
        source: SourceKey::BuiltIn,
        subject: Subject {
            service: service.into(),
            arms: [arm("old"), arm("new")],
            metrics: vec![Counted { name: "error-rate".into(), what: What::Errors }],
            ..Subject::default()
        },
        labels: ["old".into(), "new".into()],
        gates: Vec::new(),
        told: json!({"service": service}),
        scatter: Vec::new(),
    }
}

impl Stage {
    fn flow(&self, service: &str, failing: f64) {
        let flow = Flow { pods: vec!["new-1"], failing, silent: false };
        self.played.script().flows.insert(service.to_owned(), flow);
    }

    /// How often a service was asked about.
    fn asked(&self, service: &str) -> usize {
        let script = self.played.script();
        script.batches.iter().filter(|(_, names)| names.iter().any(|name| name == service)).count()
    }

    fn verdict(&self, key: &'static str) -> Option<Verdict> {
        let evidence = self.hub.known(&key).evidence?;
        evidence.judgements.first().map(|(_, judgement)| judgement.verdict)
    }

    async fn says(&self, key: &'static str, verdict: Verdict) {
        until(&format!("{key} is {verdict}"), || self.verdict(key) == Some(verdict)).await;
    }

    fn woken(&self, key: &'static str) -> Vec<bool> {
        self.woken.lock().unwrap().iter().filter(|w| w.key == key).map(|wake| wake.urgent).collect()
    }
}

#[tokio::test]
async fn nobody_is_asked_while_nothing_is_followed_and_then_all_of_one_source_together() {
    let stage = start();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(stage.played.script().batches.is_empty());
    for service in ["a", "b", "c"] {
        stage.flow(service, 0.001);
        let mut follow = follow(service, 1, 10);
        if service == "c" {
            follow.source = prometheus();
        }
        stage.hub.follow(&service, Some(follow));
    }
    until("a and b are asked about together, again and again", || {
        let script = stage.played.script();
        let both = script.batches.iter().filter(|(source, names)| {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            *source == SourceKey::BuiltIn && names == ["a", "b"]
        });
        both.count() > 5
    })
    .await;
    let mixed = |(source, names): &(SourceKey, Vec<String>)| {
        names.iter().any(|name| (name == "c") != (*source == prometheus()))
    };
    assert!(!stage.played.script().batches.iter().any(mixed));
    assert_eq!(stage.hub.lock().followed.len(), 3);
    for service in ["a", "b", "c"] {
        stage.hub.follow(&service, None);
    }
    assert_eq!(stage.hub.lock().followed.len(), 0);
    // One tick may have been under way; many ticks long there is none then.
    let (mut asked, mut since) = (0, Instant::now());
    until("nobody is asked any more", || {
        let now = stage.played.script().batches.len();
        if now != asked {
            (asked, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    })
    .await;
}

#[tokio::test]
async fn fifty_canaries_are_asked_about_in_one_question_and_none_waits_for_another() {
    let stage = start();
    let names: Vec<&'static str> = (0..50).map(|number| &*format!("app-{number}").leak()).collect();
    for (number, name) in names.iter().enumerate() {
        stage.flow(name, if number % 5 == 0 { 0.3 } else { 0.001 });
        stage.hub.follow(name, Some(follow(name, 1, 10)));
    }
    let expected = |number: usize| if number.is_multiple_of(5) { Verdict::Fail } else { Verdict::Pass };
    until("each has its verdict", || {
        names.iter().enumerate().all(|(number, name)| stage.verdict(name) == Some(expected(number)))
    })
    .await;
    let last = || stage.played.script().batches.last().map(|(_, asked)| asked.len());
    until("those that failed are left alone for a moment", || last() == Some(40)).await;
    until("all are asked about together again", || last() == Some(50)).await;
    let before = stage.played.script().batches.len();
    until("they are asked about again and again", || stage.played.script().batches.len() > before + 5).await;
    for (_, asked) in &stage.played.script().batches[before..] {
        assert!(
            matches!(asked.len(), 40 | 50),
            "one question for all, without those that fail or with all of them"
        );
    }
}

#[tokio::test]
async fn what_was_written_of_stables_scatter_is_known_to_the_next_process() {
    let events = |stage: &Stage| {
        let scatter = stage.hub.known(&"one").scatter;
        Dispersion::from_text(&scatter[0].state).expect("our own form").events()
    };
    let begin = |scatter: Vec<Scatter>| {
        let stage = start();
        stage.flow("one", 0.001);
        stage.hub.follow(&"one", Some(Follow { scatter, ..follow("one", 1, 10) }));
        stage
    };
    let first = begin(Vec::new());
    until("something is known", || events(&first) > 400.0).await;
    let mut written = first.hub.known(&"one").scatter;
    assert!(events(&begin(written.clone())) > 200.0, "half of it is carried over");
    written[0].state = "of another form".to_owned();
    assert_eq!(events(&begin(written)), 0.0);
}

#[tokio::test]
async fn a_source_that_is_stuck_holds_up_no_other() {
    let stage = start();
    stage.played.script().stuck.push(prometheus());
    for (service, source) in [("stuck", prometheus()), ("well", SourceKey::BuiltIn)] {
        stage.flow(service, 0.001);
        stage.hub.follow(&service, Some(Follow { source, ..follow(service, 1, 10) }));
    }
    stage.says("well", Verdict::Pass).await;
    until("it is asked on", || stage.asked("well") > 5).await;
    assert_eq!(stage.asked("stuck"), 1, "one question at a time");
    assert_eq!(stage.verdict("stuck"), None);
}

#[tokio::test]
async fn a_fail_wakes_at_once_and_nobody_else_and_what_says_the_same_wakes_nobody() {
    let stage = start();
    stage.flow("good", 0.001);
    stage.flow("bad", 0.3);
    stage.hub.follow(&"good", Some(follow("good", 1, 10)));
    stage.hub.follow(&"bad", Some(follow("bad", 1, 10)));
    stage.says("bad", Verdict::Fail).await;
    stage.says("good", Verdict::Pass).await;
    until("both are woken", || stage.woken("bad").contains(&true) && !stage.woken("good").is_empty()).await;
    assert!(stage.woken("good").iter().all(|urgent| !urgent));
    let before = (stage.woken("good").len(), stage.woken("bad").len());
    let asked = stage.asked("good");
    until("it is asked on", || stage.asked("good") > asked + 10).await;
    assert_eq!((stage.woken("good").len(), stage.woken("bad").len()), before);

    // Another attempt starts from nothing.
    stage.flow("bad", 0.001);
    stage.hub.follow(&"bad", Some(follow("bad", 2, 10)));
    assert!(stage.hub.known(&"bad").evidence.is_none_or(|evidence| evidence.attempt == 2));
    assert_ne!(stage.verdict("bad"), Some(Verdict::Fail));
    stage.says("bad", Verdict::Pass).await;
    assert_eq!(stage.hub.known(&"bad").evidence.unwrap().attempt, 2);
}

#[tokio::test]
async fn a_pass_is_of_its_own_weight() {
    let stage = start();
    stage.flow("app", 0.001);
    stage.hub.follow(&"app", Some(follow("app", 1, 10)));
    stage.says("app", Verdict::Pass).await;
    // From here on nobody sends anything, so that nothing is known of the new weight.
    stage.played.script().still = Some(Instant::now());
    stage.hub.follow(&"app", Some(follow("app", 1, 50)));
    let at_fifty = || stage.hub.known(&"app").evidence.filter(|evidence| evidence.weight == 50);
    until("there is evidence of 50 %", || at_fifty().is_some()).await;
    let asked = stage.asked("app");
    until("it is asked on", || stage.asked("app") > asked + 5).await;
    let judged = at_fifty().unwrap().judgements.remove(0).1;
    assert_eq!(judged.verdict, Verdict::Insufficient, "{judged:?}");
    stage.played.script().still = None;
    stage.says("app", Verdict::Pass).await;
}

/// After a promotion the weight stays, and the share that is asked for is another one.
#[tokio::test]
async fn another_share_at_the_same_weight_is_judged_by() {
    let stage = start();
    stage.flow("a", 0.0);
    // Both arms have as many requests.
    let asked = |canary, beside| {
        let mut follow = follow("a", 1, 100);
        let share = Some(Asked { canary, beside, bypass: Bypass::Some });
        follow.comparison = follow.comparison.map(|comparison| Comparison { share, ..comparison });
        follow
    };
    let share = || stage.hub.known(&"a").evidence.map(|evidence| evidence.share).unwrap_or_default();
    stage.hub.follow(&"a", Some(asked(50, 50)));
    until("it fits", || matches!(share(), Share::Fits(_))).await;
    stage.hub.follow(&"a", Some(asked(100, 0)));
    until("it differs", || share().differs()).await;
}

#[tokio::test]
async fn a_pod_that_goes_is_forgotten() {
    let stage = start();
    stage.flow("app", 0.001);
    stage.played.script().flows.get_mut("app").unwrap().pods.push("new-2");
    stage.hub.follow(&"app", Some(follow("app", 1, 10)));
    let series = || {
        let state = stage.hub.lock();
        let mut all: Vec<u64> = state.followed["app"].series.keys().copied().collect();
        all.sort_unstable();
        all
    };
    let of = |names: &[&str]| {
        let mut all: Vec<u64> = names.iter().map(|name| pod_id(name)).collect();
        all.sort_unstable();
        all
    };
    until("all three are known", || series() == of(&["old-1", "new-1", "new-2"])).await;
    stage.played.script().flows.get_mut("app").unwrap().pods.pop();
    until("one is forgotten", || series() == of(&["old-1", "new-1"])).await;
    stage.says("app", Verdict::Pass).await;
}

#[tokio::test]
async fn a_source_without_an_answer_is_told_of_once_and_again_when_it_is_back() {
    let stage = start();
    stage.flow("app", 0.001);
    stage.hub.follow(&"app", Some(follow("app", 1, 10)));
    stage.says("app", Verdict::Pass).await;
    stage.played.script().flows.get_mut("app").unwrap().silent = true;
    stage.says("app", Verdict::ProviderDown).await;
    assert_eq!(stage.hub.known(&"app").silent.as_deref(), Some("nobody is there"));
    stage.played.script().flows.get_mut("app").unwrap().silent = false;
    stage.says("app", Verdict::Pass).await;
    assert!(stage.hub.known(&"app").silent.is_none());
}

#[tokio::test]
async fn equal_queries_of_gates_are_asked_once_and_a_web_server_seldom() {
    let stage = start();
    let query = || Question::Query("a == 0".into());
    for service in ["one", "two"] {
        let gates = vec![
            (0, query()),
            (1, Question::Webhook(WebhookGate { url: format!("http://{service}"), auth: None })),
        ];
        stage.hub.follow(&service, Some(Follow { comparison: None, gates, ..follow(service, 1, 0) }));
    }
    until("both gates are answered", || {
        ["one", "two"].iter().all(|service| stage.hub.known(service).answers.len() == 2)
    })
    .await;
    let no = GateReply::No("status 403".into());
    let known = [GateReply::Yes, no];
    let answers = stage.hub.known(&"one").answers;
    assert!(answers.iter().zip([0, 1]).all(|(answer, gate)| answer.gate == gate), "{answers:?}");
    assert_eq!(answers.into_iter().map(|answer| answer.answer).collect::<Vec<_>>(), known);
    until("they are woken", || !stage.woken("one").is_empty() && !stage.woken("two").is_empty()).await;
    let asked = stage.played.script().queries.len();
    until("it is asked on", || stage.played.script().queries.len() > asked + 10).await;
    let (queries, posts) = {
        let script = stage.played.script();
        (script.queries.clone(), script.posts.clone())
    };
    assert!(queries.iter().all(|batch| *batch == ["a == 0"]), "{queries:?}");
    assert!(posts.contains(&("http://one".into(), json!({"service": "one"}))), "{posts:?}");
    assert!(posts.len() < queries.len(), "{} posts, {} queries", posts.len(), queries.len());
    assert!(stage.played.script().batches.is_empty(), "nothing is counted for them");

    // An answer that changes wakes; a gate that is not asked any more is forgotten.
    let woken = stage.woken("one").len();
    stage.played.script().gate = Some(GateReply::Nobody("away".into()));
    until("it is woken", || stage.woken("one").len() > woken).await;
    let rest = vec![(1, Question::Webhook(WebhookGate { url: "http://one".into(), auth: None }))];
    stage.hub.follow(&"one", Some(Follow { comparison: None, gates: rest, ..follow("one", 1, 0) }));
    let answers = stage.hub.known(&"one").answers;
    assert_eq!(answers.iter().map(|answer| answer.gate).collect::<Vec<_>>(), [1]);
}
