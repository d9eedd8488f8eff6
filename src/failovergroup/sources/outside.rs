//! The group's own checks: what else must be reachable from here. A partner's firewall may know only one site.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;

use super::group::OfGroup;
use crate::api::failovergroup::{CheckFrom, OwnCheck};
use crate::runtime::fetch::is_well;
use crate::runtime::remote::{DEADLINE, RemoteError, connects, within};

/// Checks for ever; ends where the group has no check of its own.
pub async fn run(of: OfGroup) {
    let checks = of.spec.checks.clone().unwrap_or_default();
    let Ok(http) = client() else { return };
    let http = Arc::new(http);
    join_all(checks.into_iter().map(|check| one(of.clone(), check, Arc::clone(&http)))).await;
}

fn client() -> reqwest::Result<reqwest::Client> {
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(none)
        .user_agent(crate::runtime::client::USER_AGENT)
        .build()
}

async fn one(of: OfGroup, check: OwnCheck, http: Arc<reqwest::Client>) {
    for round in 0u32.. {
        if is_due(&of, &check) {
            let answer = ask(&check, &http).await.map_err(|error| error.to_string());
            let name = check.name.clone();
            of.found(move |asked| {
                // When it was made is no news by itself.
                match asked.own.get_mut(&name) {
                    Some((at, known)) if *known == answer => *at = Timestamp::now(),
                    _ => {
                        asked.own.insert(name, (Timestamp::now(), answer));
                    }
                }
            });
        }
        of.all.rest(check.every(), round).await;
    }
}

/// Whether it is to be made from here.
fn is_due(of: &OfGroup, check: &OwnCheck) -> bool {
    check.from == Some(CheckFrom::Everywhere) || !of.holds()
}

async fn ask(check: &OwnCheck, http: &reqwest::Client) -> Result<(), RemoteError> {
    within(DEADLINE, async {
        if let Some(asked) = &check.http {
            return is_well(http.get(&asked.url)).await;
        }
        if let Some(asked) = &check.tcp {
            let port = u16::try_from(asked.port).unwrap_or_default();
            return connects(&asked.host, port).await;
        }
        Ok(())
    })
    .await
}
