//! Users of a group, who send requests to the load balancer all the while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::field::{APPLICATION, Field, Group, host};

/// When each request was answered, and by which site; `None` where by nobody.
type Seen = Arc<Mutex<Vec<(Instant, Option<String>)>>>;

/// Users of a group, who send requests to the load balancer all the while.
pub struct Users {
    seen: Seen,
    task: tokio::task::AbortHandle,
}

impl Drop for Users {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Users {
    pub fn of(field: &Field, group: &Group) -> Self {
        let seen = Seen::default();
        let (told, url, host) =
            (seen.clone(), format!("{}{APPLICATION}", field.cloudflare.edge.url()), host(group));
        let task = tokio::spawn(async move {
            let http = reqwest::Client::builder().no_proxy().build().expect("a client");
            loop {
                let answer = http.get(&url).header("host", &host).send().await;
                let site = match answer {
                    Ok(answer) if answer.status().is_success() => answer.text().await.ok(),
                    _ => None,
                };
                told.lock().expect("nobody panics").push((Instant::now(), site));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { seen, task: task.abort_handle() }
    }

    /// By whom they were answered since then: how often, and when last, in seconds.
    pub fn answered(&self, since: Instant) -> BTreeMap<String, (usize, f64)> {
        let mut found = BTreeMap::new();
        for (at, site) in self.seen.lock().expect("nobody panics").iter().filter(|(at, _)| *at >= since) {
            let of: &mut (usize, f64) = found.entry(site.clone().unwrap_or("nobody".to_owned())).or_default();
            *of = (of.0 + 1, at.duration_since(since).as_secs_f64());
        }
        found
    }
}
