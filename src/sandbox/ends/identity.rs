//! What gives a Pod or a machine its identity at AWS: STS, which takes a token for a role; the agent of EKS on the node;
//! the metadata of the machine. All lend the same key, for as long as it is told.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as With;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::server::{Served, serve};
use super::signature::{decoded, pairs};
use crate::clouds::aws::AccessKey;
use crate::runtime::lock::lock;
use crate::sandbox::error::Result;

/// The role of a machine.
const ROLE: &str = "node";
/// What the metadata is asked with.
const MACHINE: &str = "token-of-the-machine";

struct State {
    key: AccessKey,
    life: Duration,
    accepted: Vec<String>,
    shown: Vec<String>,
}

/// What lends a key. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Mutex<State>>);

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// One that lends that key for so long, to who shows one of these tokens. It has a session.
    pub fn new(key: AccessKey, life: Duration, accepted: &[&str]) -> Self {
        let accepted = accepted.iter().map(|token| (*token).to_owned()).collect();
        Self(Arc::new(Mutex::new(State { key, life, accepted, shown: Vec::new() })))
    }

    /// The tokens that were shown since this was last called, accepted or not.
    pub fn shown(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0).shown)
    }

    /// Serves STS at `/`, the agent of EKS at `/v1/credentials`, and the metadata of a machine below `/latest`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn serve(&self) -> Result<Served> {
        serve(Router::new().fallback(answer).with_state(self.clone())).await
    }

    /// The key and when it ends, if the token is one that is accepted.
    fn lend(&self, token: &str) -> Option<(AccessKey, String)> {
        let mut state = lock(&self.0);
        state.shown.push(token.to_owned());
        let ends = jiff::Timestamp::try_from(SystemTime::now() + state.life).ok()?;
        let accepted = state.accepted.iter().any(|accepted| accepted == token);
        accepted.then(|| (state.key.clone(), format!("{ends:.3}")))
    }

    fn sts(&self, form: &str) -> Response {
        let field = |wanted: &str| {
            let found = pairs(form).find(|(name, _)| name == wanted);
            found.map(|(_, value)| decoded(&value)).unwrap_or_default()
        };
        let xml = |status, body: String| (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response();
        let action = "AssumeRoleWithWebIdentity";
        let lent = (field("Action") == action).then(|| self.lend(&field("WebIdentityToken"))).flatten();
        let Some((key, ends)) = lent else {
            let body = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>The ID Token \
                        provided is not a valid JWT.</Message></Error><RequestId>0</RequestId></ErrorResponse>";
            return xml(StatusCode::BAD_REQUEST, body.to_owned());
        };
        xml(
            StatusCode::OK,
            format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
                 <AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
                 <Expiration>{ends}</Expiration></Credentials></{action}Result></{action}Response>",
                key.id,
                key.secret,
                key.session.unwrap_or_default()
            ),
        )
    }

    /// As the agent and the metadata write it.
    fn json(&self, token: &str) -> Response {
        match self.lend(token) {
            None => StatusCode::FORBIDDEN.into_response(),
            Some((key, ends)) => json!({
                "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": key.id, "SecretAccessKey": key.secret,
                "Token": key.session, "Expiration": ends, "LastUpdated": "2026-01-01T00:00:00Z",
            })
            .to_string()
            .into_response(),
        }
    }
}

async fn answer(With(identity): With<Identity>, parts: Parts, body: Bytes) -> Response {
    let shown = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    match parts.uri.path().strip_prefix("/latest/") {
        None if parts.uri.path() == "/v1/credentials" => identity.json(&shown("authorization")),
        None => {
            let form =
                format!("{}&{}", String::from_utf8_lossy(&body), parts.uri.query().unwrap_or_default());
            identity.sts(&form)
        }
        Some("api/token") => ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], MACHINE).into_response(),
        Some(_) if shown("x-aws-ec2-metadata-token") != MACHINE => StatusCode::UNAUTHORIZED.into_response(),
        Some("meta-data/iam/security-credentials/") => ROLE.into_response(),
        Some("meta-data/iam/security-credentials/node") => identity.json(MACHINE),
        Some(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
