//! The identities by which a witness is asked without a Secret: each is read anew before what it lends ends.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use object_store::client::{HttpClient, HttpError, HttpRequest, HttpResponse, HttpService};
use serde_json::json;

use super::*;
use crate::api::witness::ObjectStoreWitness;
use crate::clouds::aws::AccessKey;
use crate::runtime::remote::RemoteError;
use crate::sandbox::ends::identity::Identity;
use crate::sandbox::ends::objects::{Maker, Objects};
use crate::sandbox::ends::server::{Served, serve};
use crate::witness::{Unfit, Witness};

const WHO: &str = "ASIAPLAYED";
/// STS behind a private link.
const STS: &str = "https://sts.private.example";
/// The library lends anew what ends within five minutes, but not twice in this time.
const PAUSE: Duration = Duration::from_millis(150);

/// What asks a server here instead of AWS' STS, which is asked over TLS.
#[derive(Clone, Debug)]
struct Elsewhere(String);

#[derive(Debug)]
struct Led(HttpClient, String);

impl HttpConnector for Elsewhere {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inside = Connector::default().connect(&options.clone().with_allow_http(true))?;
        Ok(HttpClient::new(Led(inside, self.0.clone())))
    }
}

impl HttpService for Led {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let uri = request.uri().to_string();
        if let Some(rest) = uri.strip_prefix(STS) {
            *request.uri_mut() = format!("{}{rest}", self.1).parse().expect("an address");
        }
        Box::pin(self.0.execute(request))
    }
}

struct Stage {
    objects: Objects,
    identity: Identity,
    lends: Served,
    folder: tempfile::TempDir,
}

async fn stage() -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let session = Some("planted-session".to_owned());
    let key = AccessKey { id: WHO.to_owned(), secret: "planted-secret".to_owned(), session };
    let identity = Identity::new(key, Duration::from_secs(60), &["first", "second"]);
    Stage {
        objects: Objects::serve(Maker::Amazon, "witness", WHO, 100).await.expect("a store"),
        lends: identity.serve().await.expect("a server"),
        identity,
        folder: tempfile::tempdir().expect("a folder"),
    }
}

fn ground(url: &str, objects: &Objects) -> Ground {
    let region = url.starts_with("s3:").then(|| "us-east-2".to_owned());
    let endpoint = Some(objects.end.url());
    let spec = ObjectStoreWitness { url: url.to_owned(), region, endpoint, credentials: None };
    Ground::of(&spec).expect("a ground")
}

impl Stage {
    fn file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// With an identity that the Pod has by these variables.
    fn witness(&self, variables: &[(&str, String)]) -> Witness {
        let ground = ground("s3://witness/payments", &self.objects);
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        let credentials = Credentials::of_pod(&ground, variable, |path| std::fs::read(path).ok());
        let way = connect_by(&ground, &credentials.expect("an identity"), Elsewhere(self.lends.url()));
        Witness::new(way.expect("a way"), "payments")
    }

    /// Asks with each token, and without a file.
    async fn is_read_anew(&self, variables: &[(&str, String)]) {
        std::fs::write(self.file(), "first").expect("written");
        let witness = self.witness(variables);
        for token in ["first", "second"] {
            std::fs::write(self.file(), token).expect("written");
            tokio::time::sleep(PAUSE).await;
            witness.list().await.expect("it is read");
            assert_eq!(self.identity.shown().last().map(String::as_str), Some(token));
        }
        std::fs::write(self.file(), "planted-and-strange").expect("written");
        tokio::time::sleep(PAUSE).await;
        let refused = witness.list().await.expect_err("it is accepted by nobody");
        assert!(matches!(refused, RemoteError::Unauthorized | RemoteError::Forbidden), "{refused:?}");
        let unfit = Unfit::NotReadable(refused);
        assert!(unfit.remedy().contains("identity"), "{}", unfit.remedy());
        std::fs::remove_file(self.file()).expect("removed");
        let gone = witness.list().await.expect_err("there is no file");
        let shown = format!("{unfit} {unfit:?} {gone} {gone:?} {witness:?}");
        assert!(!shown.contains("planted"), "{shown}");
    }
}

#[tokio::test]
async fn a_web_identity_is_read_anew_and_its_refusal_names_the_remedy() {
    let stage = stage().await;
    let file = stage.file().display().to_string();
    let role = "arn:aws:iam::123456789012:role/witness".to_owned();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file),
        ("AWS_ROLE_ARN", role),
        ("AWS_ENDPOINT_URL_STS", STS.to_owned()),
    ];
    stage.is_read_anew(&variables).await;
}

#[tokio::test]
async fn a_pod_identity_is_read_anew_and_its_refusal_names_the_remedy() {
    let stage = stage().await;
    let file = stage.file().display().to_string();
    let agent = format!("{}/v1/credentials", stage.lends.url());
    let variables =
        [("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)];
    stage.is_read_anew(&variables).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_told_with_the_variable_that_names_it() {
    let stage = stage().await;
    let ground = ground("s3://witness/payments", &stage.objects);
    for given in [
        [("AWS_WEB_IDENTITY_TOKEN_FILE", "/missing"), ("AWS_ROLE_ARN", "arn")],
        [
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/missing"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ],
    ] {
        let variable =
            |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let problem = Credentials::of_pod(&ground, variable, |_| None).expect_err("there is no file");
        assert!(problem.message.contains(given[0].0), "{problem:?}");
        assert!(problem.remedy.contains("service account"), "{problem:?}");
    }
}

#[tokio::test]
async fn an_external_account_of_google_takes_its_token_from_the_file() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let who = "witness@finflow.iam.gserviceaccount.com";
    let objects = Objects::serve(Maker::Google, "witness", who, 100).await.expect("a store");
    let claims = URL_SAFE_NO_PAD.encode(json!({"iss": who}).to_string());
    let given = json!({"access_token": format!("x.{claims}.y"), "token_type": "Bearer", "expires_in": 3600,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
    let sts = serve(Router::new().route("/v1/token", post(async move || axum::Json(given)))).await;
    let sts = sts.expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let account = json!({"type": "external_account", "audience": "//iam.googleapis.com/pool",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{}/v1/token", sts.url()),
        "credential_source": {"file": file}});
    // Each witness asks once, and its library keeps what was lent until shortly before it ends.
    for token in ["first", "second"] {
        std::fs::write(&file, token).expect("written");
        let way = connect(
            &ground("gs://witness/payments", &objects),
            &Credentials::GoogleExternal(account.clone()),
        );
        Witness::new(way.expect("a way"), "payments").list().await.expect("it is read");
        let asked = sts.desk.take();
        let body = String::from_utf8_lossy(&asked[0].body).into_owned();
        assert!(asked.len() == 1 && body.contains(&format!("subject_token={token}")), "{asked:?}");
    }
    std::fs::remove_file(&file).expect("removed");
    let way = connect(&ground("gs://witness/payments", &objects), &Credentials::GoogleExternal(account));
    let gone = Witness::new(way.expect("a way"), "payments").list().await.expect_err("there is no file");
    assert_eq!(gone, RemoteError::Unauthorized);
}
