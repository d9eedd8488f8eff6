//! A group moves again and again under load: what users and a client that writes see of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use banyan::api::failover::MoveAction;

use super::field::{APPLICATION, Field, host, lost, writes};
use super::number;

/// Requests a second.
const REQUESTS: u32 = 200;
/// How many switchovers; `BANYAN_SWITCHOVERS` instead, where that is set.
const SWITCHOVERS: usize = 10;
/// Whoever waits longer for an answer hangs.
const HANGS: Duration = Duration::from_secs(2);

/// What became of the requests of users.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    well: u64,
    /// 503 with `Retry-After`.
    later: u64,
    other: u64,
    hung: u64,
}

/// Users who send so many requests a second through the load balancer, each without waiting for the one before.
fn load(field: &Field, host: String) -> (Arc<Mutex<Answers>>, tokio::task::AbortHandle) {
    let seen = Arc::new(Mutex::new(Answers::default()));
    let (told, url) = (Arc::clone(&seen), format!("{}{APPLICATION}", field.cloudflare.edge.url()));
    let task = tokio::spawn(async move {
        let http = reqwest::Client::builder().no_proxy().timeout(HANGS).build().expect("a client");
        let mut due = tokio::time::interval(Duration::from_secs(1) / REQUESTS);
        loop {
            due.tick().await;
            let (asked, told) = (http.get(&url).header("host", &host).send(), Arc::clone(&told));
            tokio::spawn(async move {
                let answer = asked.await;
                let mut told = told.lock().expect("nobody panics");
                match answer {
                    Ok(answer) if answer.status().is_success() => told.well += 1,
                    Ok(answer) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {
                        told.later += 1;
                    }
                    Err(error) if error.is_timeout() => told.hung += 1,
                    _ => told.other += 1,
                }
            });
        }
    });
    (seen, task.abort_handle())
}

pub async fn of_switchovers(field: &Field, name: &str) {
    let switchovers = number("BANYAN_SWITCHOVERS").map_or(SWITCHOVERS, |many| many as usize);
    let group = field.group(name);
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let (seen, task) = load(field, host(group));
    let mut without = Vec::new();
    for round in 0..switchovers {
        let (holder, _) = field.agreed(group).await;
        let place = 1 - holder;
        field.could_move(group, place).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, began) = (*seen.lock().expect("nobody panics"), Instant::now());
        let order = format!("series-{round}");
        field.order(group, place, MoveAction::Switchover, &order).await;
        let status = field.done(place, &order).await;
        writes(&writer, 20).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = *seen.lock().expect("nobody panics");
        let took = status.took.unwrap_or_default();
        without.push(took.without_writes.unwrap_or_default());
        println!(
            "switchover {round}: {:.1?} ms until open, {:.1?} ms without writes; in {:.0?}: {} answered well, {} with 503 and \
             Retry-After, {} otherwise, {} hung",
            took.until_open.unwrap_or_default(),
            took.without_writes.unwrap_or_default(),
            began.elapsed(),
            after.well - before.well,
            after.later - before.later,
            after.other - before.other,
            after.hung - before.hung
        );
    }
    task.abort();
    let answers = *seen.lock().expect("nobody panics");
    let tally = writer.tally();
    let (holder, _) = field.agreed(group).await;
    without.sort_unstable();
    let median = without[without.len() / 2];
    let lost = lost(group, holder, &writer).await;
    println!(
        "{} switchovers under {REQUESTS} requests a second: {median} ms without writes (median), {:?} at the most; {lost} of {} \
         acknowledged writes lost; {answers:?}",
        without.len(),
        without.last(),
        tally.acknowledged.len()
    );
    assert_eq!(
        (lost, answers.other, answers.hung),
        (0, 0, 0),
        "each request is answered, well or with 503 and Retry-After"
    );
}
