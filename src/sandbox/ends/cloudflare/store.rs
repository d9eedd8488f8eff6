//! What the Cloudflare end keeps: load balancers, pools, monitors and records as they were sent, and what its checks say.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::sandbox::ends::probe::Verdict;

/// A complaint: status, code and message.
pub(super) type Complaint = (u16, u32, String);

/// What is kept.
#[derive(Default)]
pub(super) struct Store {
    pub balancers: BTreeMap<String, Value>,
    pub pools: BTreeMap<String, Value>,
    pub monitors: BTreeMap<String, Value>,
    pub records: Vec<Value>,
    /// Verdicts by pool.
    pub verdicts: BTreeMap<String, Verdict>,
    /// How many requests were drawn by weight.
    pub drawn: u32,
    made: u32,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Balancer,
    Pool,
    Monitor,
}

/// A string of a value, or none of it.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn wrong(message: impl Into<String>) -> Complaint {
    (400, 1002, message.into())
}

impl Store {
    pub(super) fn of(&mut self, kind: Kind) -> &mut BTreeMap<String, Value> {
        match kind {
            Kind::Balancer => &mut self.balancers,
            Kind::Pool => &mut self.pools,
            Kind::Monitor => &mut self.monitors,
        }
    }

    /// Keeps a new one.
    pub(super) fn make(&mut self, kind: Kind, body: Value) -> Result<Value, Complaint> {
        self.made += 1;
        let id = format!("{:032x}", 0xc10d_f1a2_e000_u64 + u64::from(self.made));
        self.keep(kind, &id, body)
    }

    /// Changes the given fields of one, or all of them.
    pub(super) fn change(
        &mut self,
        kind: Kind,
        id: &str,
        body: Value,
        whole: bool,
    ) -> Result<Value, Complaint> {
        let Some(before) = self.of(kind).get(id).cloned() else {
            return Err((404, 1001, "object not found".to_owned()));
        };
        let (Value::Object(mut fields), Value::Object(body)) = (before, body) else {
            return Err(wrong("a JSON object is wanted"));
        };
        if whole {
            fields.clear();
        }
        fields.extend(body);
        self.keep(kind, id, Value::Object(fields))
    }

    fn keep(&mut self, kind: Kind, id: &str, body: Value) -> Result<Value, Complaint> {
        let Value::Object(mut fields) = body else { return Err(wrong("a JSON object is wanted")) };
        fields.insert("id".to_owned(), json!(id));
        match kind {
            Kind::Balancer => self.judge_balancer(id, &mut fields)?,
            Kind::Pool => self.judge_pool(id, &mut fields)?,
            Kind::Monitor => judge_monitor(&mut fields)?,
        }
        let kept = Value::Object(fields);
        self.of(kind).insert(id.to_owned(), kept.clone());
        Ok(kept)
    }

    fn judge_balancer(&self, id: &str, fields: &mut Map<String, Value>) -> Result<(), Complaint> {
        let name = text(fields.get("name").unwrap_or(&Value::Null));
        if name.is_empty() {
            return Err(wrong("name: must be the host name of the load balancer"));
        }
        if self.balancers.iter().any(|(other, balancer)| other != id && balancer["name"] == name) {
            return Err(wrong("name: a load balancer of that name exists"));
        }
        let mut pools = vec![fields.get("fallback_pool").cloned().unwrap_or_default()];
        pools.extend(fields.get("default_pools").and_then(Value::as_array).into_iter().flatten().cloned());
        for map in ["region_pools", "country_pools", "pop_pools"] {
            let places = fields.get(map).and_then(Value::as_object).into_iter().flat_map(Map::values);
            pools.extend(places.filter_map(Value::as_array).flatten().cloned());
        }
        if let Some(pool) = pools.iter().find(|pool| !self.pools.contains_key(&text(pool))) {
            return Err(wrong(format!("pool {pool} does not exist")));
        }
        let policies =
            ["", "off", "random", "geo", "dynamic_latency", "proximity", "least_outstanding_requests"];
        let policy = fields.entry("steering_policy").or_insert_with(|| json!(""));
        if !policies.contains(&text(policy).as_str()) {
            return Err(wrong("steering_policy: no such policy"));
        }
        if let Some(steering) = fields.get("random_steering") {
            let weights = steering["pool_weights"].as_object().into_iter().flat_map(Map::values);
            let mut all = weights.chain([&steering["default_weight"]]).filter_map(Value::as_f64);
            if !all.all(|weight| (0.0..=1.0).contains(&weight)) {
                return Err(wrong("random_steering: weights are 0 to 1"));
            }
        }
        fields.entry("enabled").or_insert(json!(true));
        fields.entry("proxied").or_insert(json!(false));
        if fields["proxied"] == false {
            fields.entry("ttl").or_insert(json!(30));
        }
        Ok(())
    }

    fn judge_pool(&self, id: &str, fields: &mut Map<String, Value>) -> Result<(), Complaint> {
        let name = text(fields.get("name").unwrap_or(&Value::Null));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong("name: only letters, digits, dashes and underscores"));
        }
        if self.pools.iter().any(|(other, pool)| other != id && pool["name"] == name) {
            return Err(wrong("name: a pool of that name exists"));
        }
        if fields.get("origins").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(wrong("origins: at least one is needed"));
        }
        if let Some(monitor) = fields.get("monitor").map(text).filter(|monitor| !monitor.is_empty())
            && !self.monitors.contains_key(&monitor)
        {
            return Err(wrong(format!("monitor {monitor} does not exist")));
        }
        fields.entry("enabled").or_insert(json!(true));
        Ok(())
    }

    /// Whether a pool is enabled and, as far as anybody checks it, well.
    pub(super) fn may_get_requests(&self, id: &str) -> bool {
        let enabled = self.pools.get(id).is_some_and(|pool| pool["enabled"] != false);
        enabled && self.verdicts.get(id).is_none_or(|verdict| verdict.well != Some(false))
    }

    /// What the checks say of a pool.
    pub(super) fn health(&self, id: &str) -> Option<Value> {
        let pool = self.pools.get(id)?;
        let address = text(&pool["origins"][0]["address"]);
        let mut places = json!({});
        if let Some(verdict) = self.verdicts.get(id)
            && let Some(well) = verdict.well
        {
            let reason = if well { "No failures" } else { verdict.reason.as_str() };
            let origin = json!({"healthy": well, "failure_reason": reason, "response_code": 0, "rtt": "1ms"});
            places["Amsterdam, NL"] = json!({"healthy": well, "origins": [{address: origin}]});
        }
        Some(json!({"pool_id": id, "pop_health": places}))
    }
}

fn judge_monitor(fields: &mut Map<String, Value>) -> Result<(), Complaint> {
    fields.entry("type").or_insert(json!("http"));
    fields.entry("path").or_insert(json!("/"));
    fields.entry("interval").or_insert(json!(60));
    if !fields["path"].as_str().is_some_and(|path| path.starts_with('/')) {
        return Err(wrong("path: must begin with a slash"));
    }
    if fields["interval"].as_u64().is_none_or(|interval| interval < 5) {
        return Err(wrong("interval: shorter than the plan allows"));
    }
    Ok(())
}
