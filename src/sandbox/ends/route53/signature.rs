//! Whether a request was signed with a key that is known (AWS Signature Version 4).

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

/// Why a request is not believed: the code of AWS.
pub(super) type Disbelief = &'static str;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id of the key that signed the request, of those that are known with their secrets.
pub(super) fn signer(
    parts: &Parts,
    body: &[u8],
    keys: &BTreeMap<String, String>,
) -> Result<String, Disbelief> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let signed = header("authorization").ok_or("MissingAuthenticationToken")?;
    let fields: BTreeMap<&str, &str> = signed
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("IncompleteSignature")?
        .split(',')
        .filter_map(|field| field.trim().split_once('='))
        .collect();
    let field = |name: &str| fields.get(name).copied().ok_or("IncompleteSignature");
    let mut scope = field("Credential")?.split('/');
    let (Some(id), Some(_), Some(region), Some(service)) =
        (scope.next(), scope.next(), scope.next(), scope.next())
    else {
        return Err("IncompleteSignature");
    };
    let secret = keys.get(id).ok_or("InvalidClientTokenId")?;
    let date = header("x-amz-date").ok_or("IncompleteSignature")?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)
        .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|_| "IncompleteSignature")?
        .timestamp();
    let mut query: Vec<&str> =
        parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let names = field("SignedHeaders")?;
    let headers: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name).unwrap_or_default().trim()))
        .collect();
    let canonical = [
        parts.method.as_str(),
        parts.uri.path(),
        &query.join("&"),
        &headers,
        names,
        &hex(&Sha256::digest(body)),
    ]
    .join("\n");
    let day = &date[..date.len().min(8)];
    let asked = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/{service}/aws4_request\n{}",
        hex(&Sha256::digest(canonical))
    );
    let key = generate_signing_key(secret, SystemTime::from(time), region, service);
    if calculate_signature(key, asked.as_bytes()) == field("Signature")? {
        Ok(id.to_owned())
    } else {
        Err("SignatureDoesNotMatch")
    }
}
