//! How often each source of a group is asked while nothing happens, beside what the documents say.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use banyan::sandbox::audit::{Audit, Mark, Request};

use super::stage::{AWS, GCP, Stage};
use crate::peers::FASTER;

/// For how long it is counted at the least.
const WINDOW: Duration = Duration::from_secs(20);

/// What was asked before, at each place that counts.
pub struct Counted {
    begin: Instant,
    marks: [Mark; 2],
    postgres: [Postgres; 2],
    door: u64,
}

/// What a server has counted.
#[derive(Clone, Copy)]
struct Postgres {
    sessions: u64,
    beats: u64,
}

async fn postgres(stage: &Stage, site: usize) -> Postgres {
    let query = "select (select sessions from pg_stat_database where datname = current_database()),
        coalesce((select n_tup_upd from pg_stat_user_tables where schemaname = 'banyan' and relname = 'heartbeat'), 0)";
    let rows = stage.postgres.servers[site].sql(query).await.expect("an answer");
    let number = |place: usize| rows[0][place].parse().expect("a number");
    Postgres { sessions: number(0), beats: number(1) }
}

/// The requests a minute that a table of the documents says, in the row whose first cells begin so.
fn documented(file: &str, cells: &[&str]) -> f64 {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a document");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")).map(|line| line.split(" | "));
    let begins = |row: &Vec<&str>| {
        row.len() > cells.len() && row.iter().zip(cells).all(|(cell, begin)| cell.starts_with(begin))
    };
    let row = rows.map(Iterator::collect::<Vec<_>>).find(begins);
    let said = row.unwrap_or_else(|| panic!("{file} has no row {cells:?}"))[cells.len()].to_owned();
    let number = said.split_whitespace().next().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{file}: {said} begins with no number"))
}

impl Counted {
    pub async fn begin(stage: &Stage) -> Self {
        stage.witness.end.desk.take();
        stage.partner.desk.take();
        stage.cloudflare.api.desk.take();
        let postgres = [postgres(stage, AWS).await, postgres(stage, GCP).await];
        Self {
            begin: Instant::now(),
            marks: [AWS, GCP].map(|place| stage.two.pair.clouds()[place].audit_mark()),
            postgres,
            door: stage.postgres.doors[GCP].accepted(),
        }
    }

    /// Compares, once it was counted for long enough. Rounds are up to a fifth shorter than they are said to be; on a busy
    /// machine they are longer.
    pub async fn compare(self, stage: &Stage) {
        tokio::time::sleep(WINDOW.saturating_sub(self.begin.elapsed())).await;
        let now = [postgres(stage, AWS).await, postgres(stage, GCP).await];
        let sites: f64 = 2.0;
        let minutes = self.begin.elapsed().as_secs_f64() / 60.0;
        let mut found = BTreeMap::new();
        // Each round sends so many requests at once.
        let mut told = |what: String, count: u64, rate: f64, round: f64| {
            let wanted = rate * minutes;
            let fits = (wanted * 0.6 - round..=wanted * 1.25 + round).contains(&(count as f64));
            println!("{what}: {:.1} a minute, {rate} documented", count as f64 / minutes);
            found.insert(what, (count, wanted, fits));
        };

        let readiness = |cells: &[&str]| f64::from(FASTER) * documented("docs/readiness.md", cells);
        let look = sites * readiness(&["each PostgreSQL, from each site", "one look"]);
        let beats = now[AWS].beats - self.postgres[AWS].beats;
        // Each heartbeat has a session of its own, and so had our own question before.
        let sessions = now[AWS].sessions - self.postgres[AWS].sessions;
        told("looks at the primary".to_owned(), sessions.saturating_sub(beats + 1), look, sites);
        // Both sites reach the second server through its door.
        told(
            "looks at the standby".to_owned(),
            stage.postgres.doors[GCP].accepted() - self.door,
            look,
            sites,
        );
        told(
            "heartbeats".to_owned(),
            beats,
            readiness(&["the primary, from the holder", "a heartbeat"]),
            1.0,
        );
        assert_eq!(now[GCP].beats, self.postgres[GCP].beats, "who stands by writes none");

        let asked = stage.witness.end.desk.take();
        let (lists, other): (Vec<_>, Vec<_>) =
            asked.iter().partition(|asked| asked.path.contains("list-type="));
        let rate = readiness(&["the witness, from each site", "a list"]);
        told("lists of the witness".to_owned(), lists.len() as u64, sites * rate, sites);
        // What was decided a moment ago is read by each site once.
        assert!(other.len() <= 2, "{other:?}");

        // Every 30 s, from who stands by.
        let asked = stage.partner.desk.take();
        told("requests to the outside".to_owned(), asked.len() as u64, f64::from(FASTER) * 2.0, 1.0);
        let asked = stage.cloudflare.api.desk.take();
        let rate = readiness(&["Cloudflare or Route 53", "a full reading"]);
        told("requests to Cloudflare".to_owned(), asked.len() as u64, sites * rate, sites * 7.0);

        let sites = |cells: &[&str]| documented("docs/sites.md", cells);
        for place in [AWS, GCP] {
            let cloud = stage.two.pair.clouds()[place];
            let (own, peers) =
                (cloud.audit_since(self.marks[place]), cloud.audit_of_peers_since(self.marks[place]));
            let (own, peers) = (own.expect("a log"), peers.expect("a log"));
            let name = &stage.names[place];
            for resource in ["nodes", "pods"] {
                let count = |audit: &Audit| of(audit, "list", resource);
                let rate = readiness(&["own API server", "nodes and pods, while there is a group"]);
                told(format!("lists of {resource} by the operator of {name}"), count(&own), rate, 1.0);
                let rate = sites(&["a peer", "nodes and pods, by pages of 500"]);
                told(format!("lists of {resource} at {name} by its peer"), count(&peers), rate, 1.0);
            }
            let rate = sites(&["a peer, by the way that is used", "`/readyz`"]);
            told(format!("/readyz at {name} by its peer"), of(&peers, "get", "/readyz"), rate, 1.0);
            // And those of the stores, rarely and at once.
            let rate = sites(&["this cluster", "the Secret of each way that has one"]);
            told(format!("Secrets by the operator of {name}"), of(&own, "get", "secrets"), rate, 3.0);
            // And nothing else, but that watches begin anew, and that slow sources still bring news, once: nodes are
            // counted and the witness is read every minute. A status by which a group turns comes with an Event.
            let once = ["cloudclusters/status", "authorities/status", "failovergroups/status"];
            let known = |((verb, resource), count): &((String, String), usize)| {
                let read = ["nodes", "pods", "/readyz", "secrets", "/version"].contains(&resource.as_str());
                verb == "watch"
                    || resource == "leases"
                    || (read && ["get", "list"].contains(&verb.as_str()))
                    || (verb == "patch" && once.contains(&resource.as_str()) && *count == 1)
                    || (verb == "create" && resource == "events" && *count == 1)
            };
            for audit in [&own, &peers] {
                let other: Vec<_> = audit.counts().into_iter().filter(|request| !known(request)).collect();
                let are = |request: &&Request| {
                    other.iter().any(|((verb, what), _)| *verb == request.verb && *what == request.resource)
                };
                let told: Vec<_> = audit.requests.iter().filter(are).collect();
                assert!(told.is_empty(), "at {name}: {told:?}");
            }
        }
        let wrong: Vec<_> = found.iter().filter(|(_, (.., fits))| !fits).collect();
        assert!(wrong.is_empty(), "in {minutes:.2} minutes (found, documented): {wrong:?}");
    }
}

fn of(audit: &Audit, verb: &str, resource: &str) -> u64 {
    audit.counts().get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or_default() as u64
}
