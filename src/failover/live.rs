//! A move as it is seen while it is under way: its steps, and the sites side by side. Pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::table::{next_or, page, steps, way_back};
use crate::api::authority::AuthoritySpec;
use crate::api::failover::{Phase, StoreRecord};
use crate::api::{Authority, Failover, FailoverGroup, FailoverStatus};
use crate::authority::claims::{is_alive, slot};
use crate::terminal::table::columns;
use crate::terminal::words::hang;

/// How many characters a site has in a row beside another.
const ROOM: usize = 44;
/// So many steps are shown where there is no room for all.
const LAST_STEPS: usize = 3;

/// What a site answered to load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// That users are to come.
    Here,
    /// That they are not to come, and why.
    Elsewhere(String),
    /// Nothing, as far as this machine can tell.
    Nothing(String),
}

/// What is known of a move at one moment.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The move.
    pub failover: &'a Failover,
    /// Its group, in the cluster that takes over; `None` where it cannot be read.
    pub group: Option<&'a FailoverGroup>,
    /// The Authority there.
    pub authority: Option<&'a Authority>,
    /// What each site answers load balancers, by its name.
    pub answers: &'a [(String, Answered)],
    /// When that is.
    pub now: Timestamp,
}

impl Sight<'_> {
    /// What is drawn on a terminal of so many columns and lines: all of it, or without steps that are done, or without any.
    pub fn drawn(&self, width: usize, height: usize) -> String {
        let status = self.failover.status.clone().unwrap_or_default();
        let mut fewer = status.clone();
        fewer.steps.drain(..status.steps.len().saturating_sub(LAST_STEPS));
        let none = FailoverStatus { steps: Vec::new(), ..status.clone() };
        let mut drawn = [&status, &fewer, &none].map(|status| self.text(status, width));
        // The cursor stands in the last line.
        let fits = drawn.iter().position(|text| text.lines().count() < height).unwrap_or(2);
        std::mem::take(&mut drawn[fits])
    }

    fn text(&self, status: &FailoverStatus, width: usize) -> String {
        let action = self.failover.spec.action.as_str();
        let to = status.to.clone().unwrap_or_default();
        let began = self.failover.creation_timestamp().map_or(self.now, |time| time.0);
        let seconds = self.now.duration_since(began).as_secs().max(0);
        let way = match to.is_empty() {
            true => String::new(),
            false => format!(": {} → {to}", status.from.join(", ")),
        };
        let (group, name) = (&self.failover.spec.group, self.failover.name_any());
        let title = format!("{action} of {group}{way}, Failover {name}, {seconds} s");
        let mut text = hang("", "  ", &title, Some(width));
        let phase = status.phase.map_or("ordered", Phase::as_str);
        let says = status.message.as_deref().unwrap_or("no operator has looked at it yet");
        text.push_str(&hang("", "  ", &format!("{phase}: {says}"), Some(width)));
        if !to.is_empty() {
            text.push('\n');
            text.push_str(&self.sites(status, &to));
        }
        let over = status.phase.is_some_and(Phase::is_over);
        if !status.steps.is_empty() {
            steps(&mut text, status, Some(self.now).filter(|_| !over));
        }
        text.push('\n');
        if let Some(reason) = &status.reason {
            text.push_str(&hang("", "  ", &format!("reason: {reason}, see {}", page(reason)), Some(width)));
        }
        let back = way_back(self.failover, status);
        match (&status.next, over) {
            (Some(next), _) => {
                text.push_str(&format!("{}: {next}\n", next_or(status)));
            }
            (None, false) => text.push_str(&hang("", "  ", &format!("way back: {back}"), Some(width))),
            (None, true) => {}
        }
        text
    }

    /// The sites side by side: who has authority, where users are sent, how far each store is.
    fn sites(&self, status: &FailoverStatus, to: &str) -> String {
        let from: Vec<&str> = status.from.iter().map(String::as_str).collect();
        let mut rows = vec![
            std::iter::once(String::new())
                .chain(from.iter().map(|site| (*site).to_owned()))
                .chain([format!("{to} (takes over)")])
                .collect::<Vec<_>>(),
        ];
        let sites: Vec<&str> = from.iter().copied().chain([to]).collect();
        let mut row = |name: &str, of: &dyn Fn(&str) -> String| {
            let cells: Vec<String> = sites.iter().map(|site| short(of(site))).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
            }
        };
        row("authority", &|site| {
            self.authority.map_or_else(String::new, |own| authority(&own.spec, site, site == to))
        });
        row("users", &|site| self.users(site));
        row("pods", &|site| if site == to { self.check("capacity", None) } else { String::new() });
        let specs = self.group.map(|group| group.spec.stores()).unwrap_or_default();
        for name in specs.iter().map(|spec| &spec.name) {
            let empty = StoreRecord::default();
            let record = status.stores.iter().find(|record| record.name == *name).unwrap_or(&empty);
            let committed = status.committed_at.is_some();
            row(name, &|site| match site == to {
                true => here(record).unwrap_or_else(|| {
                    let said = self.check(&format!("lag of {name} at "), Some(site));
                    let of = format!("store {name} at {site} ");
                    said.strip_prefix(&of).map(str::to_owned).unwrap_or(said)
                }),
                false => there(record, committed),
            });
        }
        columns(&rows, "  ", 2)
    }

    /// Which share of the users is sent to a site.
    fn users(&self, site: &str) -> String {
        let sent = self.answers.iter().filter(|(_, said)| *said == Answered::Here).count();
        match self.answers.iter().find(|(name, _)| name == site).map(|(_, said)| said) {
            Some(Answered::Here) => format!("{} % are sent here", 100 / sent.max(1)),
            Some(Answered::Elsewhere(_)) => "0 % are sent here".to_owned(),
            Some(Answered::Nothing(why)) => format!("not known: {why}"),
            None => String::new(),
        }
    }

    /// What a check of standing readiness says.
    fn check(&self, name: &str, site: Option<&str>) -> String {
        let whole = format!("{name}{}", site.unwrap_or_default());
        let status = self.group.and_then(|group| group.status.as_ref());
        let check = status.and_then(|status| status.checks.iter().find(|check| check.name == whole));
        check.map(|check| check.message.clone()).unwrap_or_default()
    }
}

/// How a site stands for authority, by the Authority of the one that takes over: only of itself that says whether all is open.
fn authority(own: &AuthoritySpec, site: &str, is_own: bool) -> String {
    if own.is_held_by(site) {
        let open = if !is_own || own.promoted == Some(own.epoch) { "" } else { ", not open yet" };
        return format!("has it, epoch {}{open}", own.epoch);
    }
    let claim = slot(own, site).filter(|claim| is_alive(claim) && claim.ballot > own.epoch);
    claim.map_or_else(|| "-".to_owned(), |claim| format!("claims it, {}", claim.ballot))
}

/// How far a store of the source is.
fn there(record: &StoreRecord, committed: bool) -> String {
    match (record.level, &record.sealed) {
        (Some(level), Some(sealed)) if level.is_closed() => format!("closed at {sealed}"),
        (Some(level), _) => format!("fenced: {}", level.as_str()),
        (None, _) if committed => "-".to_owned(),
        (None, _) => record.error.clone().unwrap_or_else(|| "takes writes".to_owned()),
    }
}

/// How far a store here is, where the move says something of it.
fn here(record: &StoreRecord) -> Option<String> {
    let is = |flag: Option<bool>| flag == Some(true);
    Some(match record {
        _ if is(record.opened) => "open".to_owned(),
        _ if is(record.skipped) => "left out".to_owned(),
        _ if is(record.promoted) => "promoted, not open yet".to_owned(),
        _ if is(record.complete) => "has all of it".to_owned(),
        StoreRecord { frozen: Some(frozen), .. } => format!("stands at {frozen}"),
        _ => return None,
    })
}

/// What there is room for.
fn short(text: String) -> String {
    if text.chars().count() <= ROOM {
        return text;
    }
    text.chars().take(ROOM - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    fn failover(status: serde_json::Value) -> Failover {
        of(json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "Failover",
            "metadata": {"name": "move", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"group": "payments", "action": "Switchover", "reason": "the zone is degraded"}, "status": status}))
    }

    fn group() -> FailoverGroup {
        let store = json!({"name": "ledger", "cloudnativepg": {"cluster": "payments/ledger"}});
        let check = |name: &str, message: &str| json!({"name": name, "state": "Passed", "message": message});
        of(
            json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup", "metadata": {"name": "payments"},
            "spec": {"sites": ["aws", "gcp"], "services": {"namespaces": ["pay"]}, "stores": [store]},
            "status": {"checks": [check("capacity", "8 of 8 pods are Ready"),
                check("lag of ledger at gcp", "store ledger at gcp is 0.2 s behind, which is well within what it may be")]}}),
        )
    }

    fn authority_of(spec: serde_json::Value) -> Authority {
        of(
            json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "Authority", "metadata": {"name": "payments"}, "spec": spec}),
        )
    }

    #[test]
    fn both_sites_stand_beside_each_other_and_the_next_command_is_last() {
        let claim = json!({"site": "gcp", "ballot": 17, "follows": 16, "state": "Open"});
        let mut status = json!({"phase": "Fencing", "step": "fence", "message": "the source is told to close its stores",
            "from": ["aws"], "to": "gcp", "steps": [
                {"name": "claim", "message": "claimed", "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:00:01Z", "millis": 120},
                {"name": "fence", "message": "the source is told to close its stores", "startedAt": "2026-01-01T00:00:02Z"}]});
        let (group, moving) = (group(), failover(status.clone()));
        let own = authority_of(
            json!({"epoch": 16, "follows": 0, "holders": ["aws"], "promoted": 16, "claims": [claim]}),
        );
        let answers = [
            ("aws".to_owned(), Answered::Here),
            ("gcp".to_owned(), Answered::Elsewhere("aws has it".to_owned())),
        ];
        let now = "2026-01-01T00:00:05Z".parse().expect("a time");
        let sight =
            Sight { failover: &moving, group: Some(&group), authority: Some(&own), answers: &answers, now };
        expect![[r#"
            Switchover of payments: aws → gcp, Failover move, 5 s
            Fencing: the source is told to close its stores

                         aws                  gcp (takes over)
              authority  has it, epoch 16     claims it, 17
              users      100 % are sent here  0 % are sent here
              pods                            8 of 8 pods are Ready
              ledger     takes writes         is 0.2 s behind, which is well within what …

            Steps
              1  ok  claim  0.1 s  claimed
              2  ..  fence  3.0 s  the source is told to close its stores

            way back: kubectl banyan failover abort move
        "#]]
        .assert_eq(&sight.drawn(100, 40));
        // What is done goes first where there is no room.
        assert!(!sight.drawn(100, 12).contains("Steps"), "{}", sight.drawn(100, 12));

        status["phase"] = "Done".into();
        status["message"] = "gcp has authority, and serves".into();
        status["committedAt"] = "2026-01-01T00:00:03Z".into();
        status["stores"] = json!([{"name": "ledger", "level": "StoreAcknowledged", "sealed": "0/34", "complete": true,
            "promoted": true, "verified": true, "opened": true}]);
        let done = failover(status);
        let own = authority_of(json!({"epoch": 17, "follows": 16, "holders": ["gcp"], "promoted": 17}));
        let answers = [
            ("gcp".to_owned(), Answered::Here),
            ("aws".to_owned(), Answered::Nothing("timed out".to_owned())),
        ];
        let sight = Sight { failover: &done, authority: Some(&own), answers: &answers, ..sight };
        expect![[r#"
            Switchover of payments: aws → gcp, Failover move, 5 s
            Done: gcp has authority, and serves

                         aws                   gcp (takes over)
              authority  -                     has it, epoch 17
              users      not known: timed out  100 % are sent here
              pods                             8 of 8 pods are Ready
              ledger     closed at 0/34        open

            Steps
              1  ok  claim  0.1 s  claimed
              2  ..  fence         the source is told to close its stores

        "#]]
        .assert_eq(&sight.drawn(100, 14));
    }
}
