//! GKE and Google's token services over real sockets, well and badly behaved.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::clouds::fault_tests::assert_is;
use crate::sandbox::ends::gke::{GkeCluster, Google as End};
use crate::sandbox::ends::server::{Asked, Fault, Served};

struct Stage {
    google: End,
    end: Served,
    account: Value,
}

async fn stage() -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let google = End::default();
    google.put(GkeCluster {
        project: "finflow-prod".to_owned(),
        location: "us-central1".to_owned(),
        name: "prod".to_owned(),
        endpoint: "10.0.0.2".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        version: "1.36.1-gke.1".to_owned(),
        pools: [("default".to_owned(), 3)].into(),
    });
    let end = google.serve().await.expect("a server");
    let account = google.account("banyan", &end.url()).expect("an account");
    Stage { google, end, account }
}

impl Stage {
    fn gke(&self, credentials: &Value, name: &str) -> Gke {
        let google = Google::of_json(credentials.to_string().as_bytes()).expect("credentials");
        let access = GkeAccess {
            project: "finflow-prod".to_owned(),
            location: "us-central1".to_owned(),
            name: name.to_owned(),
            credentials: None,
        };
        Gke::new(&access, google, &Addresses { gke: Some(self.end.url()), ..Addresses::default() })
    }

    fn external(&self) -> Value {
        json!({
            "type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/aws",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{}/token", self.end.url()),
            "credential_source": {"file": "/var/run/secrets/tokens/gcp"},
        })
    }
}

fn container(asked: &Asked) -> bool {
    asked.path.starts_with("/v1/projects/finflow-prod")
}

fn tokens(asked: &Asked) -> bool {
    asked.path == "/token"
}

#[tokio::test]
async fn a_cluster_is_found_and_entered_by_a_service_account() {
    let stage = stage().await;
    let gke = stage.gke(&stage.account, "prod");
    let found = gke.find().await.expect("it is found");
    assert_eq!((&*found.server, &*found.version), ("https://10.0.0.2", "1.36.1-gke.1"));
    assert_eq!(found.ca.as_deref(), Some("-----BEGIN CERTIFICATE-----"));
    stage.google.let_live(Duration::from_secs(2));
    let token = gke.token().await.expect("a token");
    assert_eq!(token.ends.duration_since(token.made), Duration::from_secs(2));
    assert!(stage.google.accepts(&token.value));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(!stage.google.accepts(&token.value), "it has ended");
    assert_eq!(stage.gke(&stage.account, "none").find().await.expect_err("none").reason(), "CloudNotFound");
}

#[tokio::test]
async fn another_identity_is_exchanged_and_may_take_the_place_of_an_account() {
    let stage = stage().await;
    // A server beside the Pod that hands out its identity.
    let beside = crate::sandbox::ends::server::serve(
        axum::Router::new()
            .route("/identity", axum::routing::get(async || json!({"token": "subject-of-aws"}).to_string())),
    );
    let beside = beside.await.expect("a server");
    let mut external = stage.external();
    external["credential_source"] = json!({"url": format!("{}/identity", beside.url()),
        "format": {"type": "json", "subject_token_field_name": "token"}});
    let token = stage.gke(&external, "prod").token().await.expect("a token");
    assert!(stage.google.accepts(&token.value));
    external["service_account_impersonation_url"] = json!(format!(
        "{}/v1/projects/-/serviceAccounts/peer@finflow-prod.iam.gserviceaccount.com:generateAccessToken",
        stage.end.url()
    ));
    let gke = stage.gke(&external, "prod");
    stage.google.let_live(Duration::from_secs(900));
    let token = gke.token().await.expect("a token");
    let life = token.ends.duration_since(token.made);
    assert!(stage.google.accepts(&token.value) && life > Duration::from_secs(880), "{life:?}");
    gke.find().await.expect("it is found");
    external["credential_source"]["format"]["subject_token_field_name"] = "other".into();
    let error = stage.gke(&external, "prod").token().await.expect_err("no such field");
    assert!(error.to_string().contains("credential_source.format"), "{error}");
}

#[tokio::test]
async fn what_would_run_a_program_or_give_something_away_is_refused() {
    let stage = stage().await;
    let refused = |credentials: &Value| match Google::of_json(credentials.to_string().as_bytes()) {
        Ok(_) => panic!("taken: {credentials}"),
        Err(error) => {
            assert_eq!(error.reason(), "BadCredentials");
            let words = error.to_string();
            assert!(!words.contains("PRIVATE KEY") && !words.contains("planted"), "{words}");
            words
        }
    };
    let with = |mut value: Value, pointer: &str, field: Value| {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        value.pointer_mut(parent).expect("it is there")[name] = field;
        value
    };
    let external = |pointer: &str, field: Value| with(stage.external(), pointer, field);
    let account = |pointer: &str, field: Value| with(stage.account.clone(), pointer, field);
    let cases = [
        (
            external("/credential_source", json!({"executable": {"command": "/bin/sh"}})),
            "would run a program",
        ),
        (external("/credential_source/executable", json!({"command": "sh"})), "would run a program"),
        (
            external("/credential_source", json!({"environment_id": "aws1"})),
            "environment_id is not supported",
        ),
        (external("/credential_source/file", json!("/etc/passwd")), "not one of the tokens"),
        (
            external("/credential_source/file", json!("/var/run/secrets/x/../kubernetes.io/token")),
            "not one of the tokens",
        ),
        (
            external("/credential_source/file", json!("/var/run/secrets/kubernetes.io/serviceaccount/token")),
            "not one of the tokens",
        ),
        (external("/token_url", json!("https://evil.example/token")), "token_url is no address of Google's"),
        (external("/token_url", json!("http://sts.googleapis.com/v1/token")), "token_url is no address"),
        (
            external("/service_account_impersonation_url", json!("https://evil.example")),
            "is no address of Google's",
        ),
        (external("/audience", json!(7)), "a field that an external account needs"),
        (
            account("/token_uri", json!("https://googleapis.com.evil.example/token")),
            "token_uri is no address",
        ),
        (account("/private_key", json!("planted")), "private_key is no RSA key"),
        (account("/type", json!("authorized_user")), "\"authorized_user\" is not supported"),
        (account("/type", Value::Null), "type is missing"),
    ];
    for (credentials, words) in &cases {
        let said = refused(credentials);
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(Google::of_json(b"planted").is_err_and(|error| !format!("{error:?}").contains("planted")));
    let taken = stage.external();
    assert!(Google::of_json(taken.to_string().as_bytes()).is_ok());
    let unread = stage.gke(&taken, "prod").token().await.expect_err("no such file");
    assert!(unread.to_string().contains("/var/run/secrets/tokens/gcp cannot be read"), "{unread}");
}

#[tokio::test]
async fn another_key_is_refused_and_so_is_a_token_that_was_taken_back() {
    let stage = stage().await;
    let other = End::default();
    let mut forged = other.account("banyan", &stage.end.url()).expect("an account");
    forged["client_email"] = stage.account["client_email"].clone();
    let error = stage.gke(&forged, "prod").find().await.expect_err("a forged key");
    assert_eq!(error.reason(), "CloudUnauthorized");
    assert!(error.to_string().contains("see that the service account and its key still exist"), "{error}");
    let gke = stage.gke(&stage.account, "prod");
    stage.google.let_live(Duration::ZERO);
    assert_eq!(gke.find().await.expect_err("no token lives").reason(), "CloudUnauthorized");
}

#[tokio::test]
async fn each_fault_has_its_error_in_bounded_time_and_is_asked_once() {
    let stage = stage().await;
    let gke = stage.gke(&stage.account, "prod");
    for fault in Fault::all() {
        for matches in [container as fn(&Asked) -> bool, tokens] {
            stage.end.desk.take();
            stage.end.desk.next(matches, [fault.clone()]);
            assert_is(&fault, gke.find().await.expect_err("a fault"));
            let asked = stage.end.desk.take().into_iter().filter(matches).count();
            assert_eq!(asked, 1, "{fault:?}: it is not asked again");
        }
    }
    gke.find().await.expect("it is well again");
}
