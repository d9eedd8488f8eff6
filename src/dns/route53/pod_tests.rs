//! Route 53 with the identity that a Pod is given.

use std::path::Path;

use super::*;
use crate::clouds::aws::AccessKey;
use crate::runtime::pod_tests::{in_pod, is_inside, say, variable};
use crate::sandbox::ends::identity::Identity;

const END: &str = "BANYAN_TEST_END";
const FILE: &str = "BANYAN_TEST_FILE";
/// What the file of the Pod holds, one after the other. The last is accepted by nobody.
const TOKENS: [&str; 3] = ["first", "second", "strange"];
const LENT: &str = "ASIAEXAMPLE";

/// Inside: what stands is read with each token in turn, and once more when there is no file.
async fn read_with_each() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let traffic = Route53Traffic { zone_id: Route53Options::default().zone_id, ..Route53Traffic::default() };
    let provider = Route53::new(&traffic, None, Some(&variable(END))).await;
    let wanted = wanted(Some(16), &[]);
    let read = async || match provider.read(&wanted).await {
        Ok(_) => say("well"),
        Err(error) => say(&format!("{} {error}", error.reason())),
    };
    for token in TOKENS {
        std::fs::write(variable(FILE), token).expect("written");
        read().await;
    }
    std::fs::remove_file(variable(FILE)).expect("removed");
    read().await;
}

/// Credentials that are lent for so short a time are asked for again before each call.
async fn is_read_anew(
    test: &str,
    variables: impl Fn(&str, &str) -> Vec<(&'static str, String)>,
) -> Vec<String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let keys = [(LENT.to_owned(), SECRET.to_owned())].into();
    let end = Route53End::start(Route53Options { keys, ..Route53Options::default() }).await.expect("the end");
    let session = Some("planted-session".to_owned());
    let key = AccessKey { id: LENT.to_owned(), secret: SECRET.to_owned(), session };
    let identity = Identity::new(key, Duration::from_secs(5), &TOKENS[..2]);
    let lends = identity.serve().await.expect("a server");
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("token").display().to_string();
    let mut all = variables(&lends.url(), &file);
    all.extend([(END, end.served.url()), (FILE, file)]);
    let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let home: &Path = home.path();
    let said = in_pod(&format!("dns::route53::tests::pod::{test}"), home, &all).await;
    assert_eq!(said[..2], ["well", "well"]);
    let mut shown = identity.shown();
    shown.dedup();
    assert_eq!(shown, TOKENS);
    said
}

fn is_remedied(words: &str) {
    assert!(words.contains("give the operator's ServiceAccount an EKS Pod Identity or a role"), "{words}");
    assert!(words.contains("route53.credentials"), "{words}");
    assert!(!words.contains("planted") && !TOKENS.iter().any(|token| words.contains(token)), "{words}");
}

#[tokio::test]
async fn a_web_identity_is_read_anew_and_its_refusal_names_the_remedy() {
    if is_inside() {
        return read_with_each().await;
    }
    let machine = Identity::new(
        AccessKey { id: String::new(), secret: String::new(), session: None },
        Duration::ZERO,
        &[],
    );
    let machine = machine.serve().await.expect("a server");
    let metadata = machine.url();
    let test = "a_web_identity_is_read_anew_and_its_refusal_names_the_remedy";
    let said = is_read_anew(test, |lends, file| {
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_owned()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/banyan".to_owned()),
            ("AWS_ENDPOINT_URL_STS", lends.to_owned()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.clone()),
        ]
    });
    let said = said.await;
    said[2..].iter().for_each(|words| is_remedied(words));
    assert_eq!(machine.desk.take(), [], "a Pod with an identity of its own does not ask its machine");
}

#[tokio::test]
async fn a_pod_identity_is_read_anew_and_its_refusal_names_the_remedy() {
    if is_inside() {
        return read_with_each().await;
    }
    let test = "a_pod_identity_is_read_anew_and_its_refusal_names_the_remedy";
    let said = is_read_anew(test, |lends, file| {
        vec![
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_owned()),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{lends}/v1/credentials")),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    });
    said.await[2..].iter().for_each(|words| is_remedied(words));
}
