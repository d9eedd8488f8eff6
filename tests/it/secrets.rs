//! What nobody is told but whom it is for: it is searched in all that can be read of an operator and of its cluster.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};

use crate::peers::until;

/// Texts, by where they were read.
#[derive(Default)]
pub struct Told(BTreeMap<String, String>);

impl Told {
    /// Takes a text in. There must be some: where nothing was read, nothing was searched.
    pub fn text(&mut self, place: &str, text: String) {
        assert!(!text.is_empty(), "{place} says nothing");
        self.0.insert(place.to_owned(), text);
    }

    /// All pages that a process serves without being asked for more than their path.
    pub async fn pages(&mut self, url: &str, paths: &[&str]) {
        for path in paths {
            let answer = reqwest::get(format!("{url}{path}")).await.expect("an answer");
            self.text(&format!("{url}{path}"), answer.text().await.expect("a text"));
        }
    }

    /// A log.
    pub fn log(&mut self, file: &Path) {
        let text = std::fs::read_to_string(file).expect("a log");
        self.text(&format!("the log {}", file.display()), text);
    }

    /// All objects of a cluster, of whatever kind: conditions, Events, ConfigMaps, Authorities, records of who manages
    /// which field.
    pub async fn objects(&mut self, client: &Client) {
        let found = Discovery::new(client.clone()).run().await.expect("the kinds of a cluster");
        let kinds = found.groups().flat_map(|group| group.recommended_resources());
        for (kind, _) in kinds.filter(|(_, can)| can.supports_operation(verbs::LIST)) {
            let objects = Api::<DynamicObject>::all_with(client.clone(), &kind);
            // An API server that has just learned a kind asks for patience.
            let list = async || objects.list(&ListParams::default()).await.ok();
            let list = until(&format!("{} are listed", kind.plural), list).await.items;
            if !list.is_empty() {
                let text = serde_json::to_string(&list).expect("JSON");
                self.text(&format!("{}/{}", kind.group, kind.plural), text);
            }
        }
    }

    /// None of the secrets stands anywhere, neither as it is nor as a Secret holds it; only in the Secrets themselves.
    /// `kinds` must be among what was read.
    pub fn has_no(mut self, secrets: &[String], kinds: &[&str]) {
        let kept = decoded(&self.0.remove("/secrets").expect("Secrets were read"));
        for kind in kinds {
            assert!(self.0.contains_key(*kind), "no {kind} in {:?}", self.0.keys());
        }
        // Others make Events too.
        let ours = r#""reportingComponent":"banyan""#;
        let events = self.0.get("/events").is_some_and(|events| events.contains(ours));
        assert!(events || !kinds.contains(&"/events"), "no Event of the operator is there");
        let mut in_secrets = 0;
        for secret in secrets {
            let encoded = STANDARD.encode(secret);
            in_secrets += usize::from(kept.contains(secret.as_str()));
            for (place, text) in &self.0 {
                let said = text.contains(secret.as_str()) || text.contains(&encoded);
                assert!(!said, "{place} says {}…", &secret[..6.min(secret.len())]);
            }
        }
        assert!(in_secrets > 0, "the search finds no secret where they are kept");
    }
}

/// What a list of Secrets holds, as it is.
fn decoded(list: &str) -> String {
    let list: Vec<Secret> = serde_json::from_str(list).expect("Secrets");
    let values = list.into_iter().filter_map(|secret| secret.data).flatten();
    values.map(|(_, value)| String::from_utf8_lossy(&value.0).into_owned()).collect()
}
