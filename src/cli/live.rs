//! `banyan failover watch` on a terminal: the move, drawn anew whenever it says something else. It reads objects of this cluster,
//! and asks both gateways what they answer load balancers, as far as this machine reaches them.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::api::{Authority, CloudCluster, Failover, FailoverGroup};
use crate::authority::answer::Answer;
use crate::failover::live::{Answered, Sight};
use crate::runtime::fetch::{builder, whole};
use crate::runtime::remote::within;
use crate::terminal::drawing::Drawing;
use crate::terminal::size::Size;

/// How long a gateway may take to answer.
const ANSWERS: Duration = Duration::from_millis(800);
/// How much of an answer is read.
const LONGEST: usize = 64 * 1024;

/// A move on a terminal.
pub struct Live {
    client: Client,
    namespace: String,
    http: reqwest::Client,
    /// The gateway of each site; `None` until they have been read.
    gateways: Option<Vec<(String, String)>>,
    drawing: Drawing,
}

impl Live {
    /// One that has drawn nothing yet.
    pub fn new(client: Client, namespace: &str) -> Self {
        let http = builder().build().unwrap_or_default();
        Self { client, namespace: namespace.to_owned(), http, gateways: None, drawing: Drawing::default() }
    }

    /// Draws it as it is now.
    pub async fn draw(&mut self, failover: &Failover, size: Size) {
        let groups: Api<FailoverGroup> = Api::namespaced(self.client.clone(), &self.namespace);
        let authorities: Api<Authority> = Api::namespaced(self.client.clone(), &self.namespace);
        let name = &failover.spec.group;
        // What cannot be read is left out: the move itself was read.
        let (group, authority) = tokio::join!(groups.get_opt(name), authorities.get_opt(name));
        let (group, authority) = (group.ok().flatten(), authority.ok().flatten());
        let answers = self.answers(failover).await;
        let sight = Sight {
            failover,
            group: group.as_ref(),
            authority: authority.as_ref(),
            answers: &answers,
            now: Timestamp::now(),
        };
        self.drawing.draw(&sight.drawn(size.width, size.height));
    }

    /// Takes away what was drawn last.
    pub fn wipe(&mut self) {
        self.drawing.wipe();
    }

    async fn answers(&mut self, failover: &Failover) -> Vec<(String, Answered)> {
        if self.gateways.is_none() {
            let sites: Api<CloudCluster> = Api::namespaced(self.client.clone(), &self.namespace);
            let listed = sites.list(&ListParams::default()).await.ok();
            let of = |site: CloudCluster| {
                let address = site.spec.gateway.as_ref()?.address.trim_end_matches('/').to_owned();
                Some((site.name_any(), address))
            };
            self.gateways = listed.map(|all| all.items.into_iter().filter_map(of).collect());
        }
        let status = failover.status.as_ref();
        let sites = status.iter().flat_map(|status| status.from.iter().chain(&status.to));
        let asked = sites.filter_map(|site| {
            let (_, gateway) = self.gateways.iter().flatten().find(|(name, _)| name == site)?;
            Some((site.clone(), format!("{gateway}/authority/{}", failover.spec.group)))
        });
        join_all(asked.map(async |(site, url)| (site, self.ask(&url).await))).await
    }

    async fn ask(&self, url: &str) -> Answered {
        let asked = async { Ok(whole(self.http.get(url), LONGEST).await?) };
        match within(ANSWERS, asked).await {
            Ok(answer) => match serde_json::from_slice::<Answer>(&answer.body) {
                Ok(Answer { active: true, .. }) => Answered::Here,
                Ok(said) => Answered::Elsewhere(said.why),
                Err(_) => Answered::Nothing("something else answers at its gateway".to_owned()),
            },
            Err(error) => Answered::Nothing(error.to_string()),
        }
    }
}
