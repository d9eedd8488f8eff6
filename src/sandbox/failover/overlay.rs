//! What of the example platform's FailoverGroups is this machine's own: stores, ids, Secrets, the witness. All else stays
//! as it is written. Pure.

use serde_json::{Map, Value, json};

use super::super::ends::clouds::kept;
use crate::api::store::Postgres;

/// The Secret with which operators log in to PostgreSQL.
pub const POSTGRES: &str = "ledger-db-operator";
/// The Secret by which operators are known to PostgreSQL's agents.
pub const AGENT: &str = "ledger-db-agent";
/// The Secret with the token of Cloudflare's end.
const CLOUDFLARE: &str = "cloudflare";
/// The Secret with the keys of the witness.
const WITNESS: &str = "witness";
/// The bucket of the witness.
pub const BUCKET: &str = "finflow-witness";

/// What there is in the place of what the example names.
#[derive(Clone, Debug)]
pub struct Places {
    /// The servers, as both sites reach them; `None` where there is no PostgreSQL.
    pub postgres: Option<Postgres>,
    /// Where the witness answers.
    pub witness: String,
    /// The account, the zone and the pool with the fixed answer at Cloudflare's end.
    pub cloudflare: [String; 3],
}

/// What the Secrets hold.
pub struct Keys<'a> {
    /// User and password of the operators in PostgreSQL.
    pub postgres: Option<[&'a str; 2]>,
    /// By what operators are known to PostgreSQL's agents.
    pub agent: Option<Value>,
    /// Id of the key and the key of the witness.
    pub witness: [&'a str; 2],
    /// The token of Cloudflare's end.
    pub cloudflare: &'a str,
}

/// The CloudClusters, each with the address of its gateway where there is one.
pub fn gateways(sites: &[Value], addresses: &[(String, String)]) -> Vec<Value> {
    let with = |site: &Value| {
        let mut site = site.clone();
        let address = addresses.iter().find(|(name, _)| site["metadata"]["name"] == name.as_str());
        if let Some((_, address)) = address {
            site["spec"]["gateway"] = json!({"address": address});
        }
        site
    };
    sites.iter().map(with).collect()
}

/// The Secrets that the groups name, in the operator's namespace.
pub fn secrets(keys: &Keys<'_>) -> Vec<Value> {
    let [id, key] = keys.witness;
    let mut all = vec![
        kept(WITNESS, &json!({"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": key})),
        kept(CLOUDFLARE, &json!({"token": keys.cloudflare})),
    ];
    let store =
        |[user, password]: [&str; 2]| kept(POSTGRES, &json!({"username": user, "password": password}));
    all.extend(keys.postgres.map(store));
    all.extend(keys.agent.as_ref().map(|agent| kept(AGENT, agent)));
    all
}

/// The objects, of which the groups between exactly these sites name what is here. Without `places` they name neither
/// store nor witness, and leave traffic to others: so they can be claimed where nothing is played.
pub fn groups(objects: &[Value], sites: &[String; 2], places: Option<&Places>) -> Vec<Value> {
    let own = |object: &Value| {
        let mut object = object.clone();
        if object["kind"] == "FailoverGroup"
            && object["spec"]["sites"] == json!(sites)
            && let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned)
            && let Some(spec) = object["spec"].as_object_mut()
        {
            group(&name, spec, places);
        }
        object
    };
    objects.iter().map(own).collect()
}

fn group(name: &str, spec: &mut Map<String, Value>, places: Option<&Places>) {
    // Partners of the example answer nobody.
    spec.remove("checks");
    stores(spec, places.and_then(|places| places.postgres.as_ref()));
    match (places, spec.contains_key("witness")) {
        (Some(places), true) => {
            let place = json!({"url": format!("s3://{BUCKET}/{name}"), "endpoint": places.witness,
                "credentials": {"secretRef": {"name": WITNESS}}});
            spec.insert("witness".to_owned(), json!({"objectStore": place}));
        }
        _ => drop(spec.remove("witness")),
    }
    let Some(traffic) = spec.get_mut("traffic").and_then(Value::as_object_mut) else { return };
    if traffic.remove("cloudflare").is_none() {
        return;
    }
    match places {
        Some(Places { cloudflare: [account, zone, pool], .. }) => {
            let balancer = json!({"account": account, "zone": zone,
                "token": {"secretRef": {"name": CLOUDFLARE}}, "fallback": {"pool": pool}});
            traffic.insert("cloudflare".to_owned(), balancer);
        }
        None => drop(traffic.insert("external".to_owned(), json!({}))),
    }
}

/// There is one pair of servers: it is that of the first PostgreSQL that the group names.
fn stores(spec: &mut Map<String, Value>, postgres: Option<&Postgres>) {
    let named = spec.remove("stores");
    let named = named.as_ref().and_then(Value::as_array).into_iter().flatten();
    let first = named.into_iter().find(|store| store.get("postgres").is_some());
    if let (Some(store), Some(postgres)) = (first, postgres) {
        let mut store = store.clone();
        let synchronous = store["postgres"]["synchronous"].clone();
        store["postgres"] = json!(postgres);
        if !synchronous.is_null() {
            store["postgres"]["synchronous"] = synchronous;
        }
        spec.insert("stores".to_owned(), json!([store]));
    }
}

/// The names of the groups whose data lies in PostgreSQL.
pub fn with_stores(objects: &[Value]) -> Vec<String> {
    let groups = objects.iter().filter(|object| object["kind"] == "FailoverGroup");
    let stored =
        groups.filter(|group| group["spec"]["stores"].as_array().is_some_and(|stores| !stores.is_empty()));
    stored.filter_map(|group| Some(group["metadata"]["name"].as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FailoverGroup;
    use crate::sandbox::payload::Payload;

    fn sites() -> [String; 2] {
        ["aws-us-east-1", "gcp-us-central1"].map(str::to_owned)
    }

    fn overlaid(places: Option<&Places>) -> Vec<FailoverGroup> {
        let examples = Payload::embedded().unwrap().examples;
        let all = groups(&examples, &sites(), places);
        assert_eq!(all.len(), examples.len());
        for (one, other) in all.iter().zip(&examples).filter(|(one, _)| one["kind"] != "FailoverGroup") {
            assert_eq!(one, other);
        }
        let groups = all.into_iter().filter(|object| object["kind"] == "FailoverGroup");
        groups.map(|group| serde_json::from_value(group).unwrap()).collect()
    }

    fn named(groups: &[FailoverGroup], name: &str) -> FailoverGroup {
        groups.iter().find(|group| group.metadata.name.as_deref() == Some(name)).unwrap().clone()
    }

    #[test]
    fn what_is_this_machines_own_is_put_in_place_and_nothing_else() {
        let postgres = Postgres { roles: vec!["app".to_owned()], ..Postgres::default() };
        let places = Places {
            postgres: Some(postgres),
            witness: "http://127.0.0.1:9".to_owned(),
            cloudflare: ["a", "b", "c"].map(|one| one.repeat(32)),
        };
        let groups = overlaid(Some(&places));
        let spec = named(&groups, "payments").spec;
        assert_eq!(spec.checks, None);
        assert_eq!(spec.initial_site.as_deref(), Some("aws-us-east-1"));
        let store = &spec.stores()[0];
        assert_eq!((store.name.as_str(), store.max_lag.as_deref()), ("ledger-db", Some("30s")));
        assert_eq!(store.postgres.as_ref().unwrap().roles, ["app"]);
        let witness = spec.witness.unwrap().object_store;
        assert_eq!(witness.url, "s3://finflow-witness/payments");
        assert_eq!(witness.endpoint.as_deref(), Some("http://127.0.0.1:9"));
        let traffic = spec.traffic.unwrap();
        assert_eq!(traffic.hosts, ["api.finflow.example"]);
        let cloudflare = traffic.cloudflare.unwrap();
        assert_eq!(cloudflare.fallback.unwrap().pool, Some("c".repeat(32)));
        // It has other sites, and nothing of it is played.
        assert!(named(&groups, "accounts-eu").spec.traffic.unwrap().external.is_some());
        assert_eq!(
            with_stores(&super::groups(&[json!(named(&groups, "payments"))], &sites(), None)),
            [""; 0]
        );
        assert_eq!(with_stores(&[json!(named(&groups, "payments"))]), ["payments"]);
    }

    #[test]
    fn where_nothing_is_played_a_group_asks_for_nothing() {
        let spec = named(&overlaid(None), "payments").spec;
        assert!(spec.stores().is_empty() && spec.witness.is_none() && spec.checks.is_none());
        let traffic = spec.traffic.unwrap();
        assert!(traffic.cloudflare.is_none() && traffic.external.is_some());
    }

    #[test]
    fn sites_say_where_their_gateway_is() {
        let all = Payload::embedded().unwrap().sites;
        let with = gateways(&all, &[("aws-us-east-1".to_owned(), "http://127.0.0.1:1".to_owned())]);
        assert_eq!(with[0]["spec"]["gateway"]["address"], "http://127.0.0.1:1");
        assert_eq!(with[1..], all[1..]);
    }
}
