//! What every source has: the process, what it fills, and the group that it asks for.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::sync::watch;

use crate::api::{AuthoritySpec, FailoverGroupSpec, Problem};
use crate::authority::known::Known;
use crate::cloudcluster::handle::SitesHandle;
use crate::cloudcluster::peer_error::remote;
use crate::cloudcluster::sites::{Described, Sites};
use crate::failovergroup::index::{Asked, Index, Specs};
use crate::runtime::context::Context;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::queue::{Lane, Queue};
use crate::runtime::remote::{DEADLINE, within};
use crate::stores::{Reading, StoreError};

/// After so many rounds a Secret is read anew, if the credentials that it held were not refused before.
pub(super) const SECRETS_EVERY: u32 = 60;

/// Where ends of providers are that are not the makers' own, and how often all is asked: as in the sandbox and in tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Instead of Cloudflare's API.
    pub cloudflare: Option<String>,
    /// Instead of Route 53's.
    pub route53: Option<String>,
    /// So many times as often as usual; as usual where `None`.
    pub faster: Option<NonZeroU32>,
}

impl Ends {
    /// What is to be done every so often usually: how often it is here.
    pub(crate) fn every(&self, usually: Duration) -> Duration {
        usually / self.faster.map_or(1, NonZeroU32::get)
    }
}

/// What all sources share.
#[derive(Clone)]
pub struct Sources {
    /// The process.
    pub context: Context,
    /// What they fill.
    pub index: Arc<Mutex<Index>>,
    /// Where they wake groups.
    pub queue: Queue<Key>,
    /// What each group asks for.
    pub specs: watch::Receiver<Arc<Specs>>,
    /// Where the ends are.
    pub ends: Ends,
    /// What is said of the sites.
    pub sites: watch::Receiver<Option<Sites>>,
    /// The way to each peer.
    pub peers: SitesHandle,
}

/// One group, for as long as its spec stays the same.
#[derive(Clone)]
pub struct OfGroup {
    pub(crate) all: Sources,
    pub(crate) name: Arc<str>,
    pub(crate) spec: Arc<FailoverGroupSpec>,
}

impl OfGroup {
    /// The group of that name.
    pub(crate) fn new(all: &Sources, name: &str, spec: &FailoverGroupSpec) -> Self {
        Self { all: all.clone(), name: name.into(), spec: Arc::new(spec.clone()) }
    }

    /// Takes in what was found, and wakes the group if that is news.
    pub(crate) fn found(&self, take: impl FnOnce(&mut Asked)) {
        self.take_in(|asked| {
            let before = asked.clone();
            take(asked);
            *asked != before
        });
    }

    /// Takes something in, and wakes the group if `take` says that it is news.
    fn take_in(&self, take: impl FnOnce(&mut Asked) -> bool) {
        // The index is free again before the queue is asked.
        let news = lock(&self.all.index).asked(&self.name).is_some_and(take);
        if news {
            self.all.queue.add(Key::new(&self.all.context.namespace, &self.name), Lane::Normal);
        }
    }

    /// Takes in what a store answered that was asked at `since`. Positions and times move with every answer: the group is looked
    /// at once a round for these, and at once only where the store is in another state than before.
    pub(crate) fn heard(
        &self,
        store: &str,
        site: &str,
        since: Timestamp,
        answer: Result<Reading, StoreError>,
    ) {
        let key = (store.to_owned(), site.to_owned());
        self.take_in(|asked| asked.hear(key, since, answer.map(Arc::new)) || site == &*self.all.context.site);
    }

    /// What this site's Authority says, once anybody ever had authority.
    pub(super) fn own(&self) -> Option<AuthoritySpec> {
        lock(&self.all.index).own_spec(&self.name).cloned()
    }

    /// What another site's Authority says.
    pub(super) fn shows(&self, site: &str) -> Known<Option<AuthoritySpec>> {
        lock(&self.all.index).peer_shows(site, &self.name).0
    }

    /// Whether this site has authority.
    pub(super) fn holds(&self) -> bool {
        self.own().is_some_and(|own| own.is_held_by(&self.all.context.site))
    }

    /// Whether this process may change something outside of the cluster on behalf of a site that has authority.
    pub(crate) fn leads(&self) -> bool {
        self.all.context.leadership.is_leader()
    }

    /// What is said of a site.
    pub(super) fn described(&self, site: &str) -> Option<Described> {
        self.all.sites.borrow().as_ref()?.described.get(site).cloned()
    }

    /// What a Secret of the operator's own namespace holds.
    pub(crate) async fn secret(
        &self,
        source: &str,
        name: &str,
    ) -> Result<BTreeMap<String, ByteString>, Problem> {
        let context = &self.all.context;
        let namespace = &context.namespace;
        let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
        let read = within(DEADLINE, async { api.get_opt(name).await.map_err(|error| remote(&error)) });
        let absent = || {
            Problem::error(
                format!("{source}.secretRef"),
                format!("there is no Secret {name} in namespace {namespace}"),
                format!("create it: kubectl create secret generic {name} -n {namespace} --from-literal=…"),
            )
        };
        match read.await {
            Ok(secret) => Ok(secret.ok_or_else(absent)?.data.unwrap_or_default()),
            Err(error) => Err(Problem::error(
                format!("{source}.secretRef"),
                format!("the Secret {name} in namespace {namespace} cannot be read: {error}"),
                "see whether the operator's Role lets it get Secrets there",
            )),
        }
    }
}

impl Sources {
    /// Waits for so long, a little more or less each time, so that many groups are not asked for at one moment.
    pub(super) async fn rest(&self, usually: Duration, round: u32) {
        let every = self.ends.every(usually);
        let jitter = every / 20 * (round % 5);
        tokio::time::sleep(every.saturating_sub(jitter)).await;
    }
}
