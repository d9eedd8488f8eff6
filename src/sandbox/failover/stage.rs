//! What the example platform's FailoverGroups need around them: PostgreSQL that streams from the first cloud to the second
//! under a client that writes, a witness, Cloudflare's end, and who answers load balancers in each cloud.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::super::cloud::free_port;
use super::super::credentials::token;
use super::super::ends::cloudflare::{CloudflareEnd, CloudflareOptions, fixed_answer};
use super::super::ends::objects::{Maker, Objects};
use super::super::ends::server::Served;
use super::super::error::{Context, Error, Result};
use super::super::postgres::tools::is_root;
use super::super::postgres::{Agents, Client as Writer, OPERATOR, PostgresPair, PostgresPairOptions};
use super::super::process::Supervisor;
use super::overlay::{self, AGENT, BUCKET, Keys, POSTGRES, Places};
use crate::api::FailoverGroup;
use crate::dns::{Cloudflare, Gateway, SiteWanted, Wanted};
use crate::terminal::progress::Progress;

/// Whom the witness knows the operators as.
const WITNESS_USER: &str = "banyan";
/// How many objects the witness lists at a time.
const PAGE: usize = 1000;
/// How often Cloudflare's checkers ask here: often enough to be watched.
const CHECKS_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Databases and the client that writes to them.
struct Stores {
    postgres: PostgresPair,
    agents: Agents,
    writer: Writer,
}

/// All of it, for as long as this value lives; PostgreSQL ends with its supervisor.
pub struct Stage {
    stores: Option<Stores>,
    _witness: Objects,
    witness_key: String,
    cloudflare: CloudflareEnd,
    cloudflare_token: String,
    _fixed_answer: Served,
    sites: [String; 2],
    gateways: Vec<(String, String)>,
    places: Places,
}

impl Stage {
    /// Starts it. Where there is no PostgreSQL to be had it says why, and goes on without.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(
        sites: [String; 2],
        dir: &Path,
        supervisor: &Arc<Supervisor>,
        progress: &Progress,
    ) -> Result<Self> {
        let (witness_key, cloudflare_token) = (token()?, token()?);
        let witness = Objects::serve(Maker::Amazon, BUCKET, WITNESS_USER, PAGE).await?;
        let options = CloudflareOptions {
            token: cloudflare_token.clone(),
            interval: CHECKS_EVERY,
            ..CloudflareOptions::default()
        };
        let fixed = fixed_answer().await?;
        let cloudflare = CloudflareEnd::start(options.clone()).await?;
        let pool = cloudflare.make_pool("fixed-answer", "127.0.0.1", fixed.address.port())?;
        let step = progress.step("PostgreSQL in both clouds");
        let stores = match stores(sites.clone(), dir, supervisor, progress).await {
            Ok(stores) => {
                step.done();
                Some(stores)
            }
            Err(error) => {
                drop(step);
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                progress.say(&format!("the sandbox goes on without databases: {why}"));
                None
            }
        };
        let gateway = |site: &String| Ok((site.clone(), format!("http://127.0.0.1:{}", free_port()?)));
        let places = Places {
            // Both sites have the same object, so both reach the second server by its door.
            postgres: stores
                .as_ref()
                .map(|stores| stores.agents.with(&stores.postgres, stores.postgres.spec(0, POSTGRES), AGENT)),
            witness: witness.end.url(),
            cloudflare: [options.account, options.zone, pool],
        };
        Ok(Self {
            stores,
            _witness: witness,
            witness_key,
            cloudflare,
            cloudflare_token,
            _fixed_answer: fixed,
            gateways: sites.iter().map(gateway).collect::<Result<_>>()?,
            sites,
            places,
        })
    }

    /// What an operator is told, so that it asks these instead of the real ones.
    pub fn operator_args(&self) -> Vec<String> {
        vec!["--cloudflare-url".to_owned(), self.cloudflare.base()]
    }

    /// The gateway of each site, in their order: who answers there says who has authority.
    pub fn gateways(&self) -> &[(String, String)] {
        &self.gateways
    }

    /// The Secrets that the groups name.
    pub fn secrets(&self) -> Vec<Value> {
        overlay::secrets(&Keys {
            postgres: self.stores.as_ref().map(|stores| [OPERATOR, stores.postgres.password()]),
            agent: self.stores.as_ref().map(|stores| stores.agents.secret()),
            witness: [WITNESS_USER, &self.witness_key],
            cloudflare: &self.cloudflare_token,
        })
    }

    /// The objects with what is here in their groups; all that carries their traffic then stands at Cloudflare's end.
    ///
    /// # Errors
    /// When a group is none, or something cannot be made there.
    pub async fn with_places(&self, objects: &[Value]) -> Result<Vec<Value>> {
        let objects = overlay::groups(objects, &self.sites, Some(&self.places));
        for object in objects.iter().filter(|object| object["kind"] == "FailoverGroup") {
            let group: FailoverGroup =
                serde_json::from_value(object.clone()).context(|| "reading a group")?;
            let name = group.metadata.name.unwrap_or_default();
            let Some(traffic) = group.spec.traffic else { continue };
            let Some(balancer) = &traffic.cloudflare else { continue };
            let doing = || format!("making what carries the traffic of {name} at Cloudflare's end");
            let provider = Cloudflare::new(balancer, &self.cloudflare_token, &self.cloudflare.base());
            let wanted = self.wanted(&name, traffic.hosts.clone());
            provider.context(doing)?.ensure(&wanted).await.context(doing)?;
        }
        Ok(objects)
    }

    fn wanted(&self, group: &str, hosts: Vec<String>) -> Wanted {
        let site = |(site, address): &(String, String)| {
            (site.clone(), SiteWanted { weight: 100, off: false, gateway: Gateway::of_url(address) })
        };
        let sites: BTreeMap<_, _> = self.gateways.iter().map(site).collect();
        Wanted { group: group.to_owned(), hosts, epoch: None, sites }
    }

    /// How to send a request as a user would: Cloudflare's end hands it on to the site that has authority.
    pub fn how_to(&self) -> String {
        format!(
            "  curl --header 'host: api.finflow.example' {}/authority/payments    # through the load balancer\n",
            self.cloudflare.edge.url()
        )
    }

    /// Says so where there is no database to be moved.
    ///
    /// # Errors
    /// If there is none.
    pub fn needs_stores(&self) -> Result<&PostgresPair> {
        self.postgres().ok_or_else(|| {
            Error::new("a tour of failover moves a database, and there is no PostgreSQL; why was said above")
        })
    }

    /// The databases; `None` where there is no PostgreSQL.
    pub fn postgres(&self) -> Option<&PostgresPair> {
        self.stores.as_ref().map(|stores| &stores.postgres)
    }

    /// Where users' requests come in.
    pub fn edge(&self) -> SocketAddr {
        self.cloudflare.edge.address
    }

    /// How many requests were handed on, by pool; the name of a site's pool ends with that of the site.
    pub fn handed_on(&self) -> BTreeMap<String, u64> {
        self.cloudflare.counts()
    }

    /// How many writes to PostgreSQL were acknowledged so far; `None` where there is none.
    pub fn acknowledged(&self) -> Option<usize> {
        self.stores.as_ref().map(|stores| stores.writer.tally().acknowledged.len())
    }
}

/// Two servers, the second of which follows the first, and a client that writes.
async fn stores(
    sites: [String; 2],
    dir: &Path,
    supervisor: &Arc<Supervisor>,
    progress: &Progress,
) -> Result<Stores> {
    let options = PostgresPairOptions { dir: folder(dir), sites };
    let postgres = PostgresPair::start(options, Arc::clone(supervisor), progress).await?;
    let binary = std::env::current_exe().context(|| "finding the program banyan")?;
    let agents = Agents::start(&postgres, &binary)?;
    let writer = postgres.client();
    Ok(Stores { postgres, agents, writer })
}

/// Below the sandbox's own folder; for root, who has nobody run PostgreSQL, where everybody may go.
fn folder(dir: &Path) -> PathBuf {
    match is_root() {
        true => std::env::temp_dir().join(format!("banyan-sandbox-postgres-{}", std::process::id())),
        false => dir.join("postgres"),
    }
}
