//! Operators of one cloud, of which each is killed and followed by the next.

use std::path::PathBuf;
use std::sync::Arc;

use banyan::sandbox::operators::{Operator, OperatorOptions};
use banyan::sandbox::process::{Signal, Supervisor};
use banyan::sandbox::{Cloud, pair};

/// The one that runs, and how to start the next.
pub struct Successors<'a> {
    cloud: &'a Cloud,
    supervisor: Arc<Supervisor>,
    /// The one that runs.
    pub now: Operator,
    replica: usize,
}

impl<'a> Successors<'a> {
    /// Starts the first, and waits until it leads.
    pub async fn start(cloud: &'a Cloud) -> Self {
        let supervisor = pair().await.expect("a pair of clouds").supervisor().clone();
        let now = operator(cloud, &supervisor, 0);
        now.ready().await.expect("an operator that is ready");
        Self { cloud, supervisor, now, replica: 0 }
    }

    /// Kills the one that runs with SIGKILL, and starts the next.
    pub fn kill(&mut self) {
        self.now.signal(Signal::Kill).expect("a signal");
        self.replica += 1;
        self.now = operator(self.cloud, &self.supervisor, self.replica);
    }

    /// The same, and waits until the next one leads.
    pub async fn kill_and_wait(&mut self) {
        self.kill();
        self.now.ready().await.expect("an operator that is ready");
    }
}

fn operator(cloud: &Cloud, supervisor: &Arc<Supervisor>, replica: usize) -> Operator {
    let options = OperatorOptions {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_banyan")),
        site: cloud.name().to_owned(),
        kubeconfig: cloud.kubeconfig_operator().expect("a kubeconfig"),
        dir: cloud.dir().join("operators"),
        replica,
        args: Vec::new(),
        env: Vec::new(),
    };
    Operator::start(&options, Arc::clone(supervisor)).expect("an operator")
}
