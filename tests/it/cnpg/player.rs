//! Plays CloudNativePG, after its sources (1.29): what its operator and its instance manager do with `spec.replica`, the
//! fence and the tokens, step by step. A database is a position, a timeline, and whether it is a primary and up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use banyan::sandbox::{Cloud, CloudOptions, install, pair};
use banyan::stores::Position;
use banyan::terminal::progress::Progress;
use k8s_openapi::ByteString;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, JoinSet};

use crate::world::{World, until};

/// The annotation that fences.
pub const FENCED: &str = "cnpg.io/fencedInstances";
/// How often the player looks.
const TICK: Duration = Duration::from_millis(20);
/// A standby makes a checkpoint at every so many looks.
const CHECKPOINTS: u32 = 50;
/// Written by hand after CloudNativePG's: the fields that matter here, and the checks of its webhook that CEL can say.
const DEFINITION: &str = include_str!("cluster-crd.yaml");

/// A cloud without an operator: a definition that comes and goes disturbs no other test.
pub async fn cloud() -> &'static Cloud {
    static CLOUD: OnceCell<Cloud> = OnceCell::const_new();
    CLOUD
        .get_or_init(|| async {
            let shared = pair().await.expect("a pair of clouds");
            let options = CloudOptions { name: "stores".to_owned(), subnet: 12, ..CloudOptions::aws() };
            let dir = shared.dir().join("stores");
            let supervisor = shared.supervisor().clone();
            Cloud::start(options, &dir, &shared.tools, supervisor, &Progress::stderr())
                .await
                .expect("a cloud")
        })
        .await
}

#[derive(Clone, Debug)]
struct Database {
    system: String,
    timeline: u64,
    /// What its control file says: that of the last checkpoint, which a standby makes now and then.
    checkpointed: u64,
    position: u64,
    primary: bool,
    up: bool,
    promotions: u32,
    /// Where its log was when it was promoted last.
    promoted_at: u64,
    /// Whether it was shut down by the claim that keeps it closed.
    sealed: bool,
    /// Writes that were taken since.
    since_closed: u32,
}

impl Database {
    fn takes_a_write(&mut self) {
        if self.primary && self.up {
            self.position += 0x40;
        }
    }
}

/// One Cluster, played.
pub struct Played {
    api: Api<DynamicObject>,
    name: String,
    database: Arc<Mutex<Database>>,
    changes: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Two Clusters, of which the first is the primary.
pub struct Pair {
    pub client: Client,
    pub namespace: String,
    pub aws: Played,
    pub gcp: Played,
    linked: Arc<AtomicBool>,
    replication: JoinHandle<()>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.replication.abort();
    }
}

fn lock(database: &Mutex<Database>) -> MutexGuard<'_, Database> {
    database.lock().expect("no panic")
}

/// The annotations of an object.
pub fn annotations(object: &DynamicObject) -> BTreeMap<String, String> {
    object.annotations().clone()
}

impl Pair {
    pub async fn start(name: &str) -> Self {
        let cloud = cloud().await;
        let client = cloud.client_admin().expect("a client");
        let namespace = World::on(cloud, name).await.namespace;
        Self::of([&client, &client], namespace).await
    }

    /// The same in a namespace that is there, each in a cloud of its own.
    pub async fn of(clients: [&Client; 2], namespace: String) -> Self {
        let definitions = install::documents("cluster-crd.yaml", DEFINITION).expect("YAML");
        for client in clients {
            install::definitions(client, &definitions).await.expect("the definition is taken");
        }
        let client = clients[0].clone();
        let aws = Played::start(clients[0], &namespace, "aws", "gcp", true).await;
        let gcp = Played::start(clients[1], &namespace, "gcp", "aws", false).await;
        let linked = Arc::new(AtomicBool::new(true));
        let (first, second) = (Arc::clone(&aws.database), Arc::clone(&gcp.database));
        let link = Arc::clone(&linked);
        // What a standby that is up receives: all that the other has, also the last that one wrote when it was shut down.
        let replication = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK / 4).await;
                if !link.load(Ordering::SeqCst) {
                    continue;
                }
                for (from, to) in [(&first, &second), (&second, &first)] {
                    let from = lock(from).clone();
                    let mut to = lock(to);
                    if !to.primary && to.up && (from.timeline, from.position) > (to.timeline, to.position) {
                        (to.timeline, to.position) = (from.timeline, from.position);
                    }
                }
            }
        });
        Self { client, namespace, aws, gcp, linked, replication }
    }

    /// A client that writes to whichever lets it, until it is dropped.
    pub fn client_that_writes(&self) -> JoinSet<()> {
        let both = [Arc::clone(&self.aws.database), Arc::clone(&self.gcp.database)];
        let mut client = JoinSet::new();
        client.spawn(async move {
            loop {
                both.iter().for_each(|database| lock(database).takes_a_write());
                tokio::time::sleep(TICK / 4).await;
            }
        });
        client
    }

    /// Cuts the replication, or mends it.
    pub fn link(&self, linked: bool) {
        self.linked.store(linked, Ordering::SeqCst);
    }
}

impl Played {
    async fn start(client: &Client, namespace: &str, site: &str, peer: &str, primary: bool) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster"));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let name = format!("ledger-{site}");
        let others = format!("ledger-{peer}");
        let first = if primary { &name } else { &others };
        let object = DynamicObject::new(&name, &resource).data(json!({"spec": {
            "instances": 3,
            "replica": {"self": name, "primary": first, "source": others},
            "externalClusters": [{"name": name}, {"name": others}],
        }}));
        let parameters =
            kube::api::PostParams { field_manager: Some("banyan-failover".to_owned()), dry_run: false };
        until("the Cluster is made", async || api.create(&parameters, &object).await.ok()).await;
        let database = Arc::new(Mutex::new(Database {
            system: "7421".to_owned(),
            timeline: 1,
            checkpointed: 1,
            position: 0x300_0000,
            primary,
            up: true,
            promotions: 0,
            promoted_at: 0,
            sealed: false,
            since_closed: 0,
        }));
        let changes = Arc::new(AtomicU32::new(0));
        let player = Player {
            api: api.clone(),
            name: name.clone(),
            database: Arc::clone(&database),
            changes: Arc::clone(&changes),
        };
        let task = tokio::spawn(player.play());
        let played = Self { api, name, database, changes, task };
        played.status_has_changed(1).await;
        played
    }

    /// The objects of the namespace.
    pub fn api(&self) -> &Api<DynamicObject> {
        &self.api
    }

    /// Whether it takes writes now.
    pub fn can_write(&self) -> bool {
        let database = lock(&self.database);
        database.primary && database.up
    }

    /// Where its log is.
    pub fn position(&self) -> u64 {
        lock(&self.database).position
    }

    /// Whether PostgreSQL runs.
    pub fn is_up(&self) -> bool {
        lock(&self.database).up
    }

    /// Where its log was when it was promoted last.
    pub fn promoted_at(&self) -> u64 {
        lock(&self.database).promoted_at
    }

    /// How often it was promoted.
    pub fn promotions(&self) -> u32 {
        lock(&self.database).promotions
    }

    /// A client writes so often, where it can.
    pub async fn writes(&self, times: u32) {
        for _ in 0..times {
            lock(&self.database).takes_a_write();
        }
    }

    /// How many writes were taken since it was closed first. The player tries one at each tick.
    pub fn written_since_closed(&self) -> u32 {
        lock(&self.database).since_closed
    }

    /// Waits until CloudNativePG has written its status so often more.
    pub async fn status_has_changed(&self, times: u32) {
        let before = self.changes.load(Ordering::SeqCst);
        until("the status changes", async || {
            (self.changes.load(Ordering::SeqCst) >= before + times).then_some(())
        })
        .await;
    }

    /// It belongs to another cluster of servers, as one that was made anew.
    pub async fn of_another_system(&self, system: &str) {
        lock(&self.database).system = system.to_owned();
        self.status_has_changed(2).await;
    }

    /// Applies what git says, with force, until it is stopped.
    pub fn git_applies_with_force(&self) -> Git {
        let (api, name) = (self.api.clone(), self.name.clone());
        let (times, ends) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&times), Arc::clone(&ends));
        let task = tokio::spawn(async move {
            let object = json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
                "metadata": {"name": name}, "spec": {"replica": {"self": name, "primary": name}}});
            let parameters = PatchParams::apply("argocd-controller").force();
            while !ended.load(Ordering::SeqCst) {
                if api.patch(&name, &parameters, &Patch::Apply(&object)).await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(TICK).await;
            }
        });
        Git { task, times, ends }
    }
}

/// Somebody who applies with force.
pub struct Git {
    task: JoinHandle<()>,
    times: Arc<AtomicU32>,
    ends: Arc<AtomicBool>,
}

impl Git {
    /// How often it has applied.
    pub fn times(&self) -> u32 {
        self.times.load(Ordering::SeqCst)
    }

    /// It leaves the object alone from now on.
    pub async fn stop(self) {
        self.ends.store(true, Ordering::SeqCst);
        self.task.await.expect("no panic");
    }
}

struct Player {
    api: Api<DynamicObject>,
    name: String,
    database: Arc<Mutex<Database>>,
    changes: Arc<AtomicU32>,
}

/// Where a demotion stands, as conditions of the status tell it.
fn condition(status: &Value, kind: &str) -> Option<bool> {
    let conditions = status["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some(found["status"] == "True")
}

impl Player {
    async fn play(self) {
        loop {
            if let Ok(object) = self.api.get(&self.name).await {
                self.step(&object).await;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn annotate(&self, value: Option<&str>) {
        let patch = json!({"metadata": {"annotations": {FENCED: value}}});
        let manager = PatchParams { field_manager: Some("manager".to_owned()), ..PatchParams::default() };
        let _ = self.api.patch(&self.name, &manager, &Patch::Merge(&patch)).await;
    }

    async fn step(&self, object: &DynamicObject) {
        let (spec, old) = (&object.data["spec"]["replica"], &object.data["status"]);
        let is_replica = spec["self"] != spec["primary"];
        let fenced = object.annotations().get(FENCED).is_some_and(|fenced| fenced.contains('*'));
        let closed = object.annotations().contains_key("banyan.dev/closed-on-timeline");
        let token = spec["promotionToken"].as_str().unwrap_or_default().to_owned();
        let mut conditions = old["conditions"].clone();
        let mut demotion = old["demotionToken"].as_str().unwrap_or_default().to_owned();
        let mut last = old["lastPromotionToken"].as_str().unwrap_or_default().to_owned();
        let mut switching = old["switchReplicaClusterStatus"]["inProgress"] == json!(true);
        let mut fence = None;
        {
            let mut database = lock(&self.database);
            // The instance manager: fenced, PostgreSQL is shut down. It is as fast as the operator, or faster: the operator
            // may find nobody who would tell it that there was a primary.
            database.up = !fenced;
            if database.primary
                || !database.up
                || self.changes.load(Ordering::SeqCst).is_multiple_of(CHECKPOINTS)
            {
                database.checkpointed = database.timeline;
            }
            database.sealed = closed && (database.sealed || !database.up);
            // A client that writes all the while.
            if database.primary && database.up && database.sealed {
                database.since_closed += 1;
            }
            if token.is_empty() {
                last.clear();
            }
            if !is_replica {
                demotion.clear();
                if !database.primary && database.up && self.may_promote(&database, &token, &last) {
                    database.primary = true;
                    database.timeline += 1;
                    database.promotions += 1;
                    database.promoted_at = database.position;
                    last.clone_from(&token);
                }
            } else {
                match (condition(old, "DesignatedPrimaryTransition"), condition(old, "Fence")) {
                    (Some(true), fence_is_ours) => {
                        demotion = encoded(&database);
                        if fence_is_ours == Some(true) && fenced {
                            fence = Some(None);
                        }
                        conditions = json!([{"type": "ReplicaClusterSwitch", "status": "True"}]);
                        switching = false;
                    }
                    (Some(false), _) => {
                        // The instance manager makes a standby of what is shut down.
                        if !database.up {
                            database.primary = false;
                            conditions = json!([{"type": "DesignatedPrimaryTransition", "status": "True"},
                                {"type": "Fence", "status": "True"}]);
                        }
                    }
                    // `containsPrimaryInstance`: it begins only where an instance that is up says that it is the primary.
                    (None, _) if database.primary && database.up => {
                        if !fenced {
                            fence = Some(Some(r#"["*"]"#));
                        }
                        conditions = json!([{"type": "DesignatedPrimaryTransition", "status": "False"},
                            {"type": "Fence", "status": "True"}, {"type": "ReplicaClusterSwitch", "status": "False"}]);
                        switching = true;
                    }
                    (None, _) => {}
                }
            }
        }
        if let Some(value) = fence {
            self.annotate(value).await;
        }
        let database = lock(&self.database).clone();
        let instance = format!("{}-1", self.name);
        // `updateClusterStatusThatRequiresInstancesState`: the system is that of who answers, and the timeline that of the last
        // primary. A standby's is told of the instance alone.
        let system = if database.up { database.system.as_str() } else { "" };
        let timeline = if database.up && database.primary {
            json!(database.checkpointed)
        } else {
            old["timelineID"].clone()
        };
        let said = if database.up { json!(database.checkpointed) } else { Value::Null };
        let status = json!({"status": {
            "systemID": system, "timelineID": timeline, "currentPrimary": instance,
            "instancesReportedState": {instance: {"isPrimary": database.primary && database.up, "timeLineID": said}},
            "readyInstances": if database.up { 3 } else { 0 }, "demotionToken": demotion, "lastPromotionToken": last,
            "switchReplicaClusterStatus": {"inProgress": switching}, "conditions": conditions,
            // It is written often, and the version of the object changes with it.
            "certificates": {"looks": self.changes.load(Ordering::SeqCst)},
        }});
        let manager = PatchParams { field_manager: Some("manager".to_owned()), ..PatchParams::default() };
        if self.api.patch_status(&self.name, &manager, &Patch::Merge(&status)).await.is_ok() {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What the instance manager checks before it promotes with a token (`verifyPromotionToken`).
    fn may_promote(&self, database: &Database, token: &str, last: &str) -> bool {
        if token.is_empty() || token == last {
            return true;
        }
        let Ok(ByteString(bytes)) = serde_json::from_value(token.into()) else { return false };
        let Ok(content) = serde_json::from_slice::<Value>(&bytes) else { return false };
        let position = content["latestCheckpointREDOLocation"].as_str().and_then(|text| text.parse().ok());
        // It makes a checkpoint before it looks.
        let timeline = database.timeline.to_string();
        content["databaseSystemIdentifier"] == database.system.as_str()
            && content["latestCheckpointTimelineID"] == timeline.as_str()
            && position == Some(Position(database.position))
    }
}

/// The token of a database that was shut down.
fn encoded(database: &Database) -> String {
    let content = json!({
        "latestCheckpointTimelineID": database.timeline.to_string(), "redoWalFile": "000000010000000000000003",
        "databaseSystemIdentifier": database.system,
        "latestCheckpointREDOLocation": Position(database.position).to_string(),
        "timeOfLatestCheckpoint": "Sat Nov 28 02:14:07 2026", "operatorVersion": "1.29.1",
    });
    let bytes = serde_json::to_value(ByteString(content.to_string().into_bytes())).expect("base64");
    bytes.as_str().expect("a string").to_owned()
}
