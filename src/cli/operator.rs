//! What the operator consists of: the controllers of all kinds, and what every replica knows. A new kind is added here.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::run::{Ending, Failure, Program, RunOptions};
use crate::actions::{self, Actions};
use crate::cloudcluster;
use crate::cloudcluster::controller::Controller as CloudClusters;
use crate::cloudcluster::handle::SitesHandle;
use crate::cloudcluster::sites::Sites;
use crate::failover;
use crate::failover::controller::Controller as Failovers;
use crate::failovergroup;
use crate::failovergroup::controller::Controller as FailoverGroups;
use crate::finservice;
use crate::finservice::controller::Groups;
use crate::finservice::settings::Settings;
use crate::runtime::context::Context;
use crate::signals::Reach;

/// The operator of one cluster.
pub struct Operator {
    context: Context,
    services: finservice::controller::Options,
    sites: CloudClusters,
    sites_handle: SitesHandle,
    failover_groups: FailoverGroups,
    groups: Groups,
}

impl Operator {
    /// One that has done nothing yet.
    pub fn new(context: Context, options: &RunOptions) -> Self {
        let services = finservice::controller::Options {
            proxies: options.gateway_metrics.clone(),
            launch_darkly: options.launch_darkly_url.clone(),
            settings: Settings {
                own_namespace: context.namespace.to_string(),
                istiod: Some(options.istio_namespace.clone()).filter(|name| !name.is_empty()),
                scrapers: options.scraper_namespaces.clone(),
                gateways_count: !options.gateway_metrics.is_empty(),
                gateways: options.gateways.clone(),
                hosts: options.hosts.clone(),
                kafka_per_namespace: options.kafka_per_namespace,
                ..Settings::default()
            },
            reach: Reach::new(options.evidence_allow.clone()),
        };
        let (sites, sites_handle) = CloudClusters::new(context.clone(), options.clouds.addresses());
        let index = Groups::index(&context.site);
        let (failover_groups, authorities) =
            FailoverGroups::new(context.clone(), options.clouds.ends(), Arc::clone(&index));
        let groups = Groups { index, authorities };
        Self { context, services, sites, sites_handle, failover_groups, groups }
    }
}

impl Program for Operator {
    fn routes(&self) -> Router {
        let own = self.context.site.to_string();
        Router::new().route("/sites", get(sites).with_state((own, self.sites_handle.sites.clone())))
    }

    fn always(&self) -> impl Future<Output = Failure> + Send + 'static {
        let (sites, groups) = (self.sites.watch(), self.failover_groups.watch());
        async move {
            tokio::select! {
                ended = sites => ended.into(),
                ended = groups => ended.into(),
            }
        }
    }

    async fn leading(self) -> Ending {
        let Self { context, services, sites, sites_handle, failover_groups, groups } = self;
        let gate = |name| context.health.gate(name);
        let gates = [
            cloudcluster::controller::RESOURCE,
            actions::RESOURCE,
            failovergroup::controller::RESOURCE,
            failover::controller::RESOURCE,
            finservice::controller::RESOURCE,
        ];
        let [of_sites, of_actions, of_groups, of_moves, of_services] = gates.map(gate);
        let mut all: JoinSet<Ending> = JoinSet::new();
        all.spawn(async move { Ok(sites.run(of_sites).await?) });
        let said = Actions::new(context.clone());
        let heard = said.clone();
        let shared = failover_groups.means(&sites_handle);
        let moves = Failovers::new(context.clone(), shared.clone(), said.clone());
        all.spawn(async move { Ok(moves.run(of_moves).await?) });
        all.spawn(async move { Ok(said.run(of_actions).await?) });
        all.spawn(async move { Ok(failover_groups.run(shared, of_groups).await?) });
        let work =
            finservice::controller::run(context.clone(), services, groups, sites_handle, heard, of_services);
        all.spawn(async move { Ok(work.await?) });
        while let Some(ended) = all.join_next().await {
            // One that ends by itself ends all: without it the others would only seem to work.
            ended??;
            if !context.shutdown.is_cancelled() {
                return Err("a controller ended without being told to".into());
            }
        }
        Ok(())
    }
}

/// What this replica knows of the sites.
async fn sites(State((own, sites)): State<(String, watch::Receiver<Option<Sites>>)>) -> impl IntoResponse {
    let known = sites.borrow().clone();
    let residency = |sites: &Sites| {
        let named = |all: &[_]| all.iter().map(|residency| format!("{residency:?}")).collect::<Vec<_>>();
        sites.residency.as_deref().map(named)
    };
    let told = json!({
        "site": own,
        "known": known.is_some(),
        "residency": known.as_ref().and_then(residency),
        "peers": known.as_ref().map(|sites| sites.peers.iter().cloned().collect::<Vec<_>>()),
    });
    ([(CONTENT_TYPE, "application/json")], format!("{told}\n"))
}
