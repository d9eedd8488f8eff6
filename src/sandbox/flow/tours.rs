//! The tours, from what the session has started.

use serde_json::Value;

use super::super::error::{Context, Error, Result};
use super::super::failover::overlay;
use super::super::operators::Operator;
use super::super::tour::canary::{self, Script};
use super::super::tour::failover::{self, Stage};
use super::Session;
use super::hints::short;
use crate::api::FailoverGroup;

impl Session {
    /// Plays the tour of releases in the first cloud.
    pub(super) async fn tour_of_releases(&self, operators: &[Operator], script: &Script) -> Result<()> {
        let (Some(site), Some(traffic)) = (self.sites.first(), self.traffic.as_ref()) else {
            return Err(Error::new("a tour needs real traffic"));
        };
        let (Some(gateway), Some(pods)) = (traffic.gateways().first(), traffic.runners().first()) else {
            return Err(Error::new("a tour needs a gateway"));
        };
        let kubeconfig = short(&self.kubeconfig(site));
        canary::play(
            &canary::Stage { client: &site.client, operators, gateway, pods, kubeconfig },
            script,
            self.args.output,
        )
        .await
    }

    /// Plays the tour of failover with the first group whose data lies in PostgreSQL.
    pub(super) async fn tour_of_failover(
        &self,
        operators: Vec<Vec<Operator>>,
        examples: &[Value],
    ) -> Result<()> {
        let (Some(pair), Some(around)) = (&self.pair, &self.failover) else {
            return Err(Error::new("a tour of failover needs clouds of its own: leave out --context"));
        };
        let groups = overlay::with_stores(examples);
        let named = |object: &&Value| {
            object["kind"] == "FailoverGroup"
                && groups.iter().any(|name| object["metadata"]["name"] == name.as_str())
        };
        let Some(group) = examples.iter().find(named) else {
            around.needs_stores()?;
            return Err(Error::new("no FailoverGroup of the example platform has a database"));
        };
        let group: FailoverGroup = serde_json::from_value(group.clone()).context(|| "reading the group")?;
        let sites = self.sites.iter().map(|site| failover::Site {
            name: site.name.clone(),
            client: site.client.clone(),
            kubeconfig: self.kubeconfig(site),
            shown: short(&self.kubeconfig(site)),
        });
        let http = reqwest::Client::builder().no_proxy().build().context(|| "making an HTTP client")?;
        let mut stage = Stage {
            sites: sites.collect(),
            clouds: pair.clouds(),
            around,
            operators,
            lost: Vec::new(),
            starts: Box::new(|place| Box::pin(self.operators_of(place))),
            host: group
                .spec
                .traffic
                .iter()
                .flat_map(|traffic| &traffic.hosts)
                .next()
                .cloned()
                .unwrap_or_default(),
            group: group.metadata.name.unwrap_or_default(),
            http,
        };
        failover::play(&mut stage, self.args.output).await
    }
}
