//! The operators of both clouds, which are started anew when they end, as a Deployment would: one ends by itself where its API
//! server is too slow for its Lease.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use banyan::sandbox::operators::{Operator, OperatorOptions};
use banyan::sandbox::process::{Signal, Supervisor};
use tokio::task::AbortHandle;

use crate::peers::until;

/// How often it is looked whether they run.
const LOOK: Duration = Duration::from_millis(300);

struct Kept {
    options: OperatorOptions,
    operator: Operator,
    started: usize,
    /// Whether it is left alone when it ends.
    left: bool,
}

impl Kept {
    fn start(&mut self, supervisor: &Arc<Supervisor>) {
        self.started += 1;
        // Each has a log of its own.
        let options = OperatorOptions { replica: self.started, ..self.options.clone() };
        self.operator = Operator::start(&options, Arc::clone(supervisor)).expect("an operator");
    }
}

type Both = Arc<Mutex<[Kept; 2]>>;

/// Keeps them, until it is dropped.
pub struct Keeper {
    both: Both,
    supervisor: Arc<Supervisor>,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(both: &Both) -> MutexGuard<'_, [Kept; 2]> {
    both.lock().expect("nobody panics while it is held")
}

impl Keeper {
    /// Keeps these, which were started with those options.
    pub fn of(all: [(OperatorOptions, Operator); 2], supervisor: &Arc<Supervisor>) -> Self {
        let both = all.map(|(options, operator)| Kept { options, operator, started: 0, left: false });
        let both = Arc::new(Mutex::new(both));
        let (kept, starts) = (Arc::clone(&both), Arc::clone(supervisor));
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                for kept in lock(&kept).iter_mut().filter(|kept| !kept.left && kept.operator.pid().is_none())
                {
                    println!("the operator of {} ended by itself, and is started anew", kept.options.site);
                    kept.start(&starts);
                }
            }
        });
        Self { both, supervisor: Arc::clone(supervisor), task: task.abort_handle() }
    }

    /// The process of the operator of a cloud.
    pub async fn pid(&self, place: usize) -> u32 {
        until("its operator runs", async || lock(&self.both)[place].operator.pid()).await
    }

    /// Kills it; it is not started anew.
    pub async fn kill(&self, place: usize) {
        {
            let kept = &mut lock(&self.both)[place];
            kept.left = true;
            if kept.operator.pid().is_some() {
                kept.operator.signal(Signal::Kill).expect("it is killed");
            }
        }
        until("it is dead", async || lock(&self.both)[place].operator.pid().is_none().then_some(())).await;
    }

    /// Starts another one, whatever has become of the one before.
    pub fn start(&self, place: usize) {
        let mut both = lock(&self.both);
        both[place].start(&self.supervisor);
        both[place].left = false;
    }
}
