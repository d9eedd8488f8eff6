//! The identities that a Pod or its machine is given, each from where its cloud puts it.

use std::path::Path;
use std::time::Duration;

use super::aws::AccessKey;
use super::eks::Eks;
use super::gke::Gke;
use super::google::Google;
use super::{Addresses, CloudError, Cluster};
use crate::api::cloudcluster::{EksAccess, GkeAccess};
use crate::runtime::pod_tests::{in_pod, is_inside, say, variable};
use crate::sandbox::ends::eks::{Aws, EksCluster};
use crate::sandbox::ends::gke::{GkeCluster, Google as GoogleEnd};
use crate::sandbox::ends::identity::Identity;
use crate::sandbox::ends::server::{Asked, Fault, Served};

/// Variables of our own: where the cloud's end is, and the file that holds the Pod's token.
const END: &str = "BANYAN_TEST_END";
const FILE: &str = "BANYAN_TEST_FILE";
/// What the file holds, one after the other. The last is accepted by nobody.
const TOKENS: [&str; 3] = ["first", "second", "strange"];

struct Stage {
    aws: Aws,
    end: Served,
    identity: Identity,
    lends: Served,
    home: tempfile::TempDir,
}

async fn stage(accepted: &[&str]) -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let aws = Aws::new("us-east-1");
    aws.put(EksCluster {
        name: "prod".to_owned(),
        endpoint: "https://10.0.0.1".to_owned(),
        ca: String::new(),
        version: "1.36".to_owned(),
        groups: Default::default(),
    });
    let key: AccessKey = aws.lent("pod").expect("a key");
    let identity = Identity::new(key, Duration::from_secs(600), accepted);
    let (end, lends) = (aws.serve().await.expect("a server"), identity.serve().await.expect("a server"));
    Stage { aws, end, identity, lends, home: tempfile::tempdir().expect("a folder") }
}

impl Stage {
    fn file(&self) -> String {
        self.home.path().join("token").display().to_string()
    }

    /// What the Pod finds with each token, and without its file.
    async fn found(&self, test: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let (end, file) = (self.end.url(), self.file());
        let variables: Vec<_> = [(END, &*end), (FILE, &*file)].iter().chain(variables).copied().collect();
        in_pod(&format!("clouds::pod_tests::{test}"), self.home.path(), &variables).await
    }
}

fn told<T>(found: Result<T, CloudError>, well: impl Fn(T) -> String) -> String {
    found.map_or_else(|error| format!("{} {error}", error.reason()), well)
}

/// Inside: a cluster of EKS is looked for with each token in turn, and once more when there is no file.
async fn look_for_eks() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let access = EksAccess {
        name: "prod".to_owned(),
        region: "us-east-1".to_owned(),
        role_arn: None,
        credentials: None,
    };
    let end = Some(variable(END));
    let eks = Eks::new(&access, None, &Addresses { eks: end.clone(), sts: end, ..Addresses::default() });
    for token in TOKENS {
        std::fs::write(variable(FILE), token).expect("written");
        say(&told(eks.find().await, |found| found.server));
    }
    std::fs::remove_file(variable(FILE)).expect("removed");
    say(&told(eks.find().await, |found| found.server));
}

fn is_remedied(words: &str) {
    assert!(words.contains("give the operator's ServiceAccount an EKS Pod Identity or a role"), "{words}");
    assert!(!TOKENS.iter().any(|token| words.contains(token)), "{words}");
}

#[tokio::test]
async fn a_web_identity_is_read_anew_for_each_credential_and_its_refusal_names_the_remedy() {
    if is_inside() {
        return look_for_eks().await;
    }
    let stage = stage(&TOKENS[..2]).await;
    let machine = Identity::new(stage.aws.lent("node").expect("a key"), Duration::ZERO, &[]);
    let machine = machine.serve().await.expect("a server");
    let (file, sts, metadata) = (stage.file(), stage.lends.url(), machine.url());
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*file),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/banyan"),
        ("AWS_ENDPOINT_URL_STS", &*sts),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*metadata),
    ];
    let test = "a_web_identity_is_read_anew_for_each_credential_and_its_refusal_names_the_remedy";
    let said = stage.found(test, &variables).await;
    assert_eq!(said[..2], ["https://10.0.0.1", "https://10.0.0.1"]);
    assert_eq!(stage.identity.shown(), TOKENS);
    assert!(said[2].starts_with("CloudUnauthorized "), "{said:?}");
    assert!(said[3].starts_with("BadCredentials ") && said[3].contains("cannot be read"), "{said:?}");
    said[2..].iter().for_each(|words| is_remedied(words));
    assert_eq!(machine.desk.take(), [], "a Pod with an identity of its own does not ask its machine");
}

#[tokio::test]
async fn a_pod_identity_is_read_anew_for_each_credential_and_its_refusal_names_the_remedy() {
    if is_inside() {
        return look_for_eks().await;
    }
    let stage = stage(&TOKENS[..2]).await;
    let (file, agent) = (stage.file(), format!("{}/v1/credentials", stage.lends.url()));
    let variables = [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*file),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*agent),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let test = "a_pod_identity_is_read_anew_for_each_credential_and_its_refusal_names_the_remedy";
    let said = stage.found(test, &variables).await;
    assert_eq!(said[..2], ["https://10.0.0.1", "https://10.0.0.1"]);
    assert_eq!(stage.identity.shown(), TOKENS);
    assert!(said[2].starts_with("CloudForbidden ") && said[2].contains("(403)"), "{said:?}");
    assert!(said[3].starts_with("BadCredentials ") && said[3].contains("cannot be read"), "{said:?}");
    said[2..].iter().for_each(|words| is_remedied(words));
}

#[tokio::test]
async fn a_machine_is_asked_where_the_pod_has_no_identity_and_its_refusal_names_the_remedy() {
    if is_inside() {
        return look_for_eks().await;
    }
    let test = "a_machine_is_asked_where_the_pod_has_no_identity_and_its_refusal_names_the_remedy";
    let stage = stage(&["token-of-the-machine"]).await;
    let metadata = stage.lends.url();
    let said = stage.found(test, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*metadata)]).await;
    assert_eq!(said, ["https://10.0.0.1"; 4]);
    // One without a role, and one that may not be asked.
    let role = |asked: &Asked| asked.path.ends_with("/security-credentials/");
    stage.lends.desk.always(role, Fault::status(404));
    let without = stage.found(test, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*metadata)]).await;
    stage.lends.desk.behave();
    let forbidden = stage.found(test, &[("AWS_EC2_METADATA_DISABLED", "true")]).await;
    for words in without.iter().chain(&forbidden) {
        assert!(words.starts_with("BadCredentials this Pod has no credentials for AWS; "), "{words}");
        is_remedied(words);
    }
}

/// A Google that knows one cluster.
async fn google() -> (GoogleEnd, Served) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let google = GoogleEnd::default();
    google.put(GkeCluster {
        project: "finflow-prod".to_owned(),
        location: "us-central1".to_owned(),
        name: "prod".to_owned(),
        endpoint: "10.0.0.2".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        version: "1.36.1-gke.1".to_owned(),
        pools: Default::default(),
    });
    let end = google.serve().await.expect("a server");
    (google, end)
}

fn gke(google: Google, end: &str) -> Gke {
    let access = GkeAccess {
        project: "finflow-prod".to_owned(),
        location: "us-central1".to_owned(),
        name: "prod".to_owned(),
        credentials: None,
    };
    Gke::new(&access, google, &Addresses { gke: Some(end.to_owned()), ..Addresses::default() })
}

#[tokio::test]
async fn googles_metadata_server_gives_tokens_and_its_refusal_names_the_remedy() {
    if is_inside() {
        let gke = gke(Google::of_pod().expect("an identity"), &variable(END));
        for _ in 0..3 {
            say(&told(gke.find().await, |found| found.server));
        }
        return;
    }
    let (_google, end) = google().await;
    let metadata = |asked: &Asked| asked.path.starts_with("/computeMetadata/");
    let refusals = [Fault::status(403), Fault::status(404)];
    // The first request of the three is answered well.
    let count = std::sync::atomic::AtomicU32::new(0);
    let later =
        move |asked: &Asked| metadata(asked) && count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0;
    end.desk.next(later, refusals);
    let (url, host) = (end.url(), end.address.to_string());
    let home = tempfile::tempdir().expect("a folder");
    let test = "clouds::pod_tests::googles_metadata_server_gives_tokens_and_its_refusal_names_the_remedy";
    let said = in_pod(test, home.path(), &[(END, &*url), ("GCE_METADATA_HOST", &*host)]).await;
    assert_eq!(said[0], "https://10.0.0.2");
    for (words, reason) in said[1..].iter().zip(["CloudForbidden ", "CloudNotFound "]) {
        assert!(words.starts_with(reason), "{words}");
        assert!(words.contains("bind the operator's ServiceAccount to a Google service account"), "{words}");
    }
    let asked = end.desk.take();
    let asked: Vec<&str> =
        asked.iter().filter(|asked| metadata(asked)).map(|asked| asked.path.as_str()).collect();
    assert_eq!(asked.len(), 3, "a token for each question, and no other: {asked:?}");
    assert!(asked.iter().all(|path| path.contains("/service-accounts/default/token?scopes=")), "{asked:?}");
}

#[tokio::test]
async fn an_external_account_is_read_from_its_file_anew_for_each_token() {
    let (google, end) = google().await;
    let root = tempfile::tempdir().expect("a folder");
    let file = Path::new("/var/run/secrets/tokens/gcp");
    let inside = root.path().join("var/run/secrets/tokens");
    std::fs::create_dir_all(&inside).expect("a folder");
    let account = serde_json::json!({
        "type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/aws",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{}/token", end.url()),
        "credential_source": {"file": file},
    });
    let credentials =
        Google::of_json(account.to_string().as_bytes()).expect("credentials").below(root.path());
    let gke = gke(credentials, &end.url());
    for subject in ["subject-first", "subject-second"] {
        std::fs::write(inside.join("gcp"), format!("{subject}\n")).expect("written");
        assert!(google.accepts(&gke.token().await.expect("a token").value));
        let asked = end.desk.take();
        let body = String::from_utf8_lossy(&asked[0].body).into_owned();
        assert!(asked.len() == 1 && body.ends_with(&format!("subject_token={subject}")), "{asked:?}");
    }
    std::fs::write(inside.join("gcp"), "strange").expect("written");
    let refused = gke.token().await.expect_err("it is accepted by nobody");
    assert_eq!(refused.reason(), "CloudUnauthorized");
    assert!(refused.to_string().contains("see that the workload identity pool accepts"), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("strange"));
    std::fs::remove_file(inside.join("gcp")).expect("removed");
    let gone = gke.token().await.expect_err("there is no file");
    assert_eq!(gone.reason(), "BadCredentials");
    assert!(gone.to_string().contains("/var/run/secrets/tokens/gcp cannot be read"), "{gone}");
    assert!(gone.to_string().contains("mount the token there"), "{gone}");
}
