//! Where the names lead that tenants have the operator ask, and whether they may. A client of theirs connects to nothing
//! but what was found here, at the moment at which it was found.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::reach::{Reach, Refused, Way, Wish};
use crate::runtime::fetch;
use crate::runtime::lock::lock;

/// How long looking for a name may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long it is believed whose an address is.
const BELIEVED: Duration = Duration::from_secs(30);

/// What is needed to grant wishes.
#[derive(Clone)]
pub struct Grants {
    client: Client,
    reach: Arc<Reach>,
    /// Where the API server is that this operator works on.
    api_server: Option<(String, u16)>,
    /// Whose an address is.
    known: Arc<Mutex<HashMap<IpAddr, (Instant, Whose)>>>,
}

/// Namespaces that have an address of the cluster.
type Whose = Vec<String>;

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
enum Astray {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Unknown(#[from] fetch::Trouble),
    #[error("it cannot be told whose {0} is: {1}")]
    Whose(IpAddr, kube::Error),
    #[error("Service {0} cannot be read: {1}")]
    Service(String, kube::Error),
}

impl Grants {
    /// Grants what is within reach; never the API server.
    pub fn new(client: Client, reach: Reach, api_server: Option<(String, u16)>) -> Self {
        Self { client, reach: Arc::new(reach), api_server, known: Arc::default() }
    }

    /// How a client is to find the server of a wish. An address in the URL is looked at here: nobody resolves it.
    ///
    /// # Errors
    /// If the wish is not granted.
    pub async fn resolver(&self, wish: Wish) -> Result<Arc<Resolver>, String> {
        let way = self.reach.way(&wish).map_err(|refused| refused.to_string())?;
        let resolver = Resolver { grants: self.clone(), wish, way };
        if let Way::Address(address) = resolver.way {
            resolver.check(&[address]).await.map_err(|astray| astray.to_string())?;
        }
        Ok(Arc::new(resolver))
    }

    /// Namespaces with a Service or a pod at an address; none if it is outside of the cluster.
    async fn whose(&self, address: IpAddr) -> Result<Whose, kube::Error> {
        if let Some((at, whose)) = lock(&self.known).get(&address)
            && at.elapsed() < BELIEVED
        {
            return Ok(whose.clone());
        }
        let services = self.named::<Service>(format!("spec.clusterIP={address}"));
        // One that has ended keeps the address in its status, and has it no more.
        let ended = "status.phase!=Succeeded,status.phase!=Failed";
        let pods = self.named::<Pod>(format!("status.podIP={address},{ended}"));
        let (services, pods) = futures::future::try_join(services, pods).await?;
        let whose: Whose = services.into_iter().chain(pods).collect();
        let mut known = lock(&self.known);
        known.retain(|_, (at, _)| at.elapsed() < BELIEVED);
        known.insert(address, (Instant::now(), whose.clone()));
        Ok(whose)
    }

    async fn named<K>(&self, fields: String) -> Result<Vec<String>, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let params = ListParams::default().fields(&fields).match_any();
        let found = Api::<K>::all(self.client.clone()).list_metadata(&params).await?;
        Ok(found.items.into_iter().filter_map(|object| object.metadata.namespace).collect())
    }
}

/// Finds the server of one wish.
pub struct Resolver {
    grants: Grants,
    wish: Wish,
    way: Way,
}

impl Resolver {
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Astray> {
        let Wish { namespace, host, port, .. } = &self.wish;
        let found = match &self.way {
            Way::Address(address) => vec![*address],
            Way::Listed | Way::Below => self.look_up(host).await?,
            Way::Own(name) => {
                let services: Api<Service> = Api::namespaced(self.grants.client.clone(), namespace);
                let service = services.get_opt(name).await;
                let service = service.map_err(|error| Astray::Service(name.clone(), error))?;
                let Some(spec) = service.and_then(|service| service.spec) else {
                    return Err(self.wish.refused(format!("there is no Service {name}")).into());
                };
                let addresses = spec.cluster_ips.unwrap_or_default();
                let addresses: Vec<IpAddr> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
                match spec.type_.as_deref() {
                    // It is another name for something else.
                    Some("ExternalName") => {
                        return Err(self.wish.refused(format!("Service {name} leads elsewhere")).into());
                    }
                    _ if addresses.is_empty() => self.look_up(&format!("{name}.{namespace}.svc")).await?,
                    _ => addresses,
                }
            }
        };
        self.check(&found).await?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, *port)).collect())
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Astray> {
        let found = fetch::resolve(host, self.wish.port, DEADLINE).await?;
        Ok(found.into_iter().map(|address| address.ip().to_canonical()).collect())
    }

    /// Whether all of these may be asked: one that may not would be the one that is asked in the end.
    async fn check(&self, addresses: &[IpAddr]) -> Result<(), Astray> {
        let (wish, grants) = (&self.wish, &self.grants);
        let never = match &grants.api_server {
            Some((host, port)) => {
                let found = fetch::resolve(host, *port, DEADLINE).await.unwrap_or_default();
                found.into_iter().map(|address| (address.ip().to_canonical(), *port)).collect()
            }
            None => Vec::new(),
        };
        for address in addresses {
            grants.reach.pass(wish, *address)?;
            // Beside it on one machine there may be others, as in tests.
            let is_api = |(known, port): &(IpAddr, u16)| {
                known == address && (!known.is_loopback() || *port == wish.port)
            };
            if never.iter().any(is_api) {
                return Err(wish.refused(format!("{} leads to the API server", wish.host)).into());
            }
            if self.way == Way::Listed || grants.reach.lists(*address, wish.port) {
                continue;
            }
            let whose = grants.whose(*address).await.map_err(|error| Astray::Whose(*address, error))?;
            if whose.iter().any(|namespace| *namespace != wish.namespace) {
                let what = format!("{} leads to {address}, which is another namespace's", wish.host);
                return Err(wish.refused(what).into());
            }
        }
        Ok(())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, _: Name) -> Resolving {
        let resolver = Self { grants: self.grants.clone(), wish: self.wish.clone(), way: self.way.clone() };
        Box::pin(async move {
            let found = resolver.addresses().await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
