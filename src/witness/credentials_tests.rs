use super::*;
use crate::api::witness::ObjectStoreWitness;

fn ground(url: &str, endpoint: Option<&str>) -> Ground {
    let endpoint = endpoint.map(str::to_owned);
    let spec = ObjectStoreWitness { url: url.to_owned(), region: None, endpoint, credentials: None };
    Ground::of(&spec).expect("a ground")
}

fn s3() -> Ground {
    ground("s3://w/p", None)
}

fn gs() -> Ground {
    ground("gs://w/p", None)
}

fn az() -> Ground {
    ground("az://w/p", Some("https://finflow.blob.core.windows.net"))
}

fn secret(ground: &Ground, values: &[(&str, &str)]) -> Result<Credentials, Problem> {
    let data = values.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    Credentials::of_secret(ground, "witness", &data.collect())
}

#[test]
fn a_secret_is_read_as_the_makers_tools_read_it() {
    let keys = secret(&s3(), &[("AWS_ACCESS_KEY_ID", "AKIA\n"), ("AWS_SECRET_ACCESS_KEY", "planted")]);
    let expected =
        Credentials::AwsKeys { id: "AKIA".to_owned(), secret: "planted".to_owned(), session: None };
    assert_eq!(keys, Ok(expected), "a line's end belongs to the file that it came from");
    let (account, key) = ("finflow".to_owned(), "planted".to_owned());
    assert_eq!(
        secret(&az(), &[("AZURE_STORAGE_KEY", "planted")]),
        Ok(Credentials::AzureKey { account, key })
    );
    let (account, sas) = ("other".to_owned(), "sv=1&sig=planted".to_owned());
    let named = [("AZURE_STORAGE_ACCOUNT", "other"), ("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=planted")];
    assert_eq!(secret(&az(), &named), Ok(Credentials::AzureSas { account, sas }));
    let file = r#"{"type": "service_account", "client_email": "a@b", "private_key": "planted",
        "gcs_base_url": "http://evil.example", "disable_oauth": true}"#;
    let Ok(Credentials::GoogleKey(key)) = secret(&gs(), &[("credentials.json", file)]) else {
        panic!("a key")
    };
    assert_eq!(key, r#"{"client_email":"a@b","private_key":"planted","private_key_id":""}"#);
}

#[test]
fn what_is_missing_or_wrong_is_named_and_not_quoted() {
    type Values<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Ground, Values<'_>, &str); 9] = [
        (s3(), &[], "AWS_ACCESS_KEY_ID is missing"),
        (s3(), &[("AWS_ACCESS_KEY_ID", "planted")], "AWS_SECRET_ACCESS_KEY is missing"),
        (
            s3(),
            &[("AWS_ACCESS_KEY_ID", "[default]\nplanted"), ("AWS_SECRET_ACCESS_KEY", "planted")],
            "AWS_ACCESS_KEY_ID has more than one line",
        ),
        (gs(), &[("credentials.json", "planted")], "credentials.json is no JSON"),
        (gs(), &[("credentials.json", r#"{"key": "planted"}"#)], "credentials.json is no credentials file"),
        (
            gs(),
            &[("credentials.json", r#"{"type": "authorized_user", "refresh_token": "planted"}"#)],
            "credentials.json is of type \"authorized_user\", which is not known",
        ),
        (
            gs(),
            &[("credentials.json", r#"{"type": "service_account", "private_key": "planted"}"#)],
            "credentials.json has no client_email or no private_key",
        ),
        (az(), &[("AZURE_STORAGE_ACCOUNT", "finflow")], "AZURE_STORAGE_KEY is missing"),
        (
            az(),
            &[("AZURE_STORAGE_KEY", "planted"), ("AZURE_STORAGE_SAS_TOKEN", "planted")],
            "AZURE_STORAGE_KEY and AZURE_STORAGE_SAS_TOKEN are both there",
        ),
    ];
    for (ground, values, words) in cases {
        let problem = secret(&ground, values).expect_err(words);
        assert_eq!(problem.message, format!("the Secret witness cannot be used: {words}"));
        assert_eq!(problem.source, "spec.witness.objectStore.credentials.secretRef");
        assert!(!format!("{problem:?}").contains("planted"), "{problem:?}");
    }
    let private = ground("az://w/p", Some("https://storage.internal.example"));
    let problem = secret(&private, &[("AZURE_STORAGE_KEY", "planted")]).expect_err("no account");
    assert!(problem.remedy.contains("AZURE_STORAGE_ACCOUNT"));
}

fn pod(ground: &Ground, given: &[(&str, &str)], file: &str) -> Result<Credentials, Problem> {
    let variable =
        |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Credentials::of_pod(ground, variable, |path| (path == "/creds").then(|| file.as_bytes().to_vec()))
}

#[test]
fn a_pods_own_identity_is_taken_and_a_machines_is_not() {
    let irsa = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/creds"), ("AWS_ROLE_ARN", "arn")];
    assert!(matches!(pod(&s3(), &irsa, ""), Ok(Credentials::AwsWebIdentity { .. })));
    let agent = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/creds"),
    ];
    assert!(matches!(pod(&s3(), &agent, ""), Ok(Credentials::AwsPodIdentity { .. })));
    let entra =
        [("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t"), ("AZURE_FEDERATED_TOKEN_FILE", "/creds")];
    assert!(matches!(pod(&az(), &entra, ""), Ok(Credentials::AzureWorkloadIdentity { .. })));
    for (ground, given) in [
        (s3(), &[][..]),
        (s3(), &[("AWS_ROLE_ARN", "arn")]),
        (s3(), &[("AWS_ACCESS_KEY_ID", "somebody's"), ("AWS_SECRET_ACCESS_KEY", "shell")]),
        (gs(), &[]),
        (gs(), &[("GOOGLE_APPLICATION_CREDENTIALS", "/missing")]),
        (az(), &[("AZURE_CLIENT_ID", "c")]),
    ] {
        let problem = pod(&ground, given, "").expect_err("no identity");
        assert_eq!(problem.source, "spec.witness.objectStore.credentials");
        assert!(problem.remedy.contains("secretRef"), "{problem:?}");
    }
}

#[test]
fn an_external_account_takes_its_token_from_a_file_and_gives_it_to_google_alone() {
    let file = |source: &str, token_url: &str| {
        let text = format!(
            r#"{{"type": "external_account", "audience": "a", "subject_token_type": "jwt", "token_url": "{token_url}", "credential_source": {source}}}"#
        );
        pod(&gs(), &[("GOOGLE_APPLICATION_CREDENTIALS", "/creds")], &text)
    };
    let (token, google) = (r#"{"file": "/var/run/token"}"#, "https://sts.googleapis.com/v1/token");
    assert!(matches!(file(token, google), Ok(Credentials::GoogleExternal(_))));
    for (source, url) in [
        (r#"{"executable": {"command": "/bin/sh"}}"#, google),
        (r#"{"file": "/t", "executable": {"command": "/bin/sh"}}"#, google),
        (r#"{"url": "http://169.254.169.254/token"}"#, google),
        (r#"{"environment_id": "aws1", "region_url": "http://169.254.169.254"}"#, google),
        ("null", google),
        (token, "https://sts.googleapis.com.evil.example/token"),
        (token, "https://evil.example?a=.googleapis.com"),
        (token, "https://user@sts.googleapis.com/"),
        (token, "http://sts.googleapis.com/v1/token"),
    ] {
        assert!(file(source, url).is_err(), "{source} {url}");
    }
}
