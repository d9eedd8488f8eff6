//! What an answer or a silence of an object store means. The library beneath keeps of an answer only its text; here each
//! exchange is seen as it happens, so that a refusal keeps its meaning and its `Retry-After`.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// Most bytes of an answer: a list of a thousand names has some three hundred thousand.
const MOST_BYTES: usize = 4 << 20;

tokio::task_local! {
    /// What the last exchange of this call came to, if it failed.
    static FAILED: RefCell<Option<RemoteError>>;
}

/// Carries out one call to a store, for at most `deadline`.
///
/// # Errors
/// What it came to.
pub async fn asked<T>(
    deadline: Duration,
    call: impl Future<Output = object_store::Result<T>>,
) -> Result<T, RemoteError> {
    let call = async {
        let done = call.await;
        let failed = FAILED.with(RefCell::take);
        done.map_err(|error| failed.unwrap_or_else(|| inside(&error)))
    };
    within(deadline, FAILED.scope(RefCell::new(None), call)).await
}

/// What an error means that came without a failed exchange: from a file, or from an answer that cannot be understood.
fn inside(error: &object_store::Error) -> RemoteError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(at) = cause {
        if let Some(error) = at.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::NotFound => RemoteError::NotFound,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => RemoteError::Forbidden,
                io::ErrorKind::AlreadyExists => RemoteError::Conflict(409),
                _ => RemoteError::of_connection(error),
            };
        }
        cause = at.source();
    }
    match error {
        object_store::Error::NotFound { .. } => RemoteError::NotFound,
        object_store::Error::AlreadyExists { .. } => RemoteError::Conflict(409),
        object_store::Error::Precondition { .. } => RemoteError::Conflict(412),
        object_store::Error::PermissionDenied { .. } => RemoteError::Forbidden,
        object_store::Error::Unauthenticated { .. } => RemoteError::Unauthorized,
        // Its words may hold a URL with a signature in it, or a piece of a key.
        _ => RemoteError::Unreadable("it is none of an object store".to_owned()),
    }
}

/// What an answer other than success means.
fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RemoteError {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 << 10)]);
    let code = element(&text, "Code").unwrap_or_default();
    let message = element(&text, "Message").or_else(|| element(&text, "Details")).unwrap_or_default();
    let words = match (code.is_empty(), message.is_empty()) {
        (false, false) => format!("{code}: {message}"),
        (false, true) => code.to_owned(),
        _ => String::new(),
    };
    let refused = |words: &str| RemoteError::of_status(422, headers, words);
    match (status.as_u16(), code) {
        (
            400 | 403,
            "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "ExpiredTokenException"
            | "InvalidIdentityToken"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "AuthenticationFailed"
            | "InvalidSecurity",
        ) => RemoteError::Unauthorized,
        (300..400, _) => {
            let words = match headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok()) {
                Some(region) => format!("the bucket is in region {region}: set region to it"),
                None => "the bucket is elsewhere: correct region or endpoint".to_owned(),
            };
            as_code(refused(&words), status)
        }
        // Only what says so means that an object is not there; a bucket that is gone, or a proxy in between, says
        // nothing about what was decided.
        (404, "NoSuchKey" | "BlobNotFound") => RemoteError::NotFound,
        (404, "") => {
            as_code(refused("it does not say that an object is missing: is this an object store?"), status)
        }
        (404, _) => as_code(refused(&words), status),
        (code, _) => RemoteError::of_status(code, headers, &words),
    }
}

fn as_code(error: RemoteError, status: StatusCode) -> RemoteError {
    match error {
        RemoteError::Refused { words, .. } => RemoteError::Refused { code: status.as_u16(), words },
        other => other,
    }
}

/// The text of the first element of that name: errors of all three makers are small XML documents.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0.trim())
}

/// What makes connections that are watched.
#[derive(Debug, Default)]
pub struct Connector(ReqwestConnector);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Watched(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Watched(HttpClient);

impl Watched {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, (RemoteError, HttpError)> {
        let answer = self.0.execute(request).await.map_err(|error| {
            let meaning = match error.kind() {
                HttpErrorKind::Timeout => RemoteError::NoAnswer(DEADLINE),
                _ => RemoteError::of_connection(&error),
            };
            (meaning, error)
        })?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await.map_err(|error| {
            let meaning = RemoteError::Unreadable("it ends too early, or is too long".to_owned());
            (meaning, HttpError::new_boxed(HttpErrorKind::Decode, error))
        })?;
        Ok(HttpResponse::from_parts(parts, body.to_bytes().into()))
    }

    async fn watched(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (failed, answer) = match self.exchange(request).await {
            Err((meaning, error)) => (Some(meaning), Err(error)),
            Ok(answer) if answer.status().is_success() => (None, Ok(answer)),
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let text = body.bytes().await?;
                let failed = of_answer(parts.status, &parts.headers, &text);
                (Some(failed), Ok(HttpResponse::from_parts(parts, text.into())))
            }
        };
        // Outside of a call nobody asks what came of it.
        let _ = FAILED.try_with(|last| last.replace(failed));
        answer
    }
}

impl HttpService for Watched {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.watched(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> RemoteError {
        let status = StatusCode::from_u16(status).expect("a status");
        of_answer(status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn only_an_object_that_is_missing_is_missing() {
        let xml = |code: &str| {
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Why.</Message></Error>")
        };
        assert_eq!(of(404, &xml("NoSuchKey")), RemoteError::NotFound);
        assert_eq!(of(404, &xml("BlobNotFound")), RemoteError::NotFound);
        let refused = |code, words: &str| RemoteError::Refused { code, words: words.to_owned() };
        assert_eq!(of(404, &xml("NoSuchBucket")), refused(404, "NoSuchBucket: Why."));
        let stranger = refused(404, "it does not say that an object is missing: is this an object store?");
        assert_eq!(of(404, "<html>nginx</html>"), stranger);
        assert_eq!(of(403, &xml("AccessDenied")), RemoteError::Forbidden);
        assert_eq!(of(403, &xml("InvalidAccessKeyId")), RemoteError::Unauthorized);
        assert_eq!(of(400, &xml("ExpiredToken")), RemoteError::Unauthorized);
        assert_eq!(of(400, &xml("InvalidRequest")), refused(400, "InvalidRequest: Why."));
        assert_eq!(of(301, ""), refused(301, "the bucket is elsewhere: correct region or endpoint"));
        let headers = [("x-amz-bucket-region", "eu-west-1")];
        let headers =
            headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        let moved = of_answer(StatusCode::MOVED_PERMANENTLY, &headers.into_iter().collect(), b"");
        assert_eq!(moved, refused(301, "the bucket is in region eu-west-1: set region to it"));
    }

    #[test]
    fn what_is_signed_is_not_quoted() {
        let body = "<Error><Code>AccessDenied</Code><StringToSign>secret</StringToSign></Error>";
        assert!(!of(400, body).to_string().contains("secret"));
        let generic = object_store::Error::Generic { store: "S3", source: "https://a/?sig=secret".into() };
        assert!(!inside(&generic).to_string().contains("secret"));
    }
}
