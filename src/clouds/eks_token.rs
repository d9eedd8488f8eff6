//! The token of an EKS cluster: a signed request to STS, which the cluster sends there to learn who made it. Here
//! nothing is sent.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What the token begins with.
pub const PREFIX: &str = "k8s-aws-v1.";
/// The header that binds a token to one cluster.
pub const CLUSTER: &str = "x-k8s-aws-id";
/// How long EKS accepts a token after it was signed, whatever it says itself.
pub const LIFE: Duration = Duration::from_secs(15 * 60);
/// What the request says of its own life: what EKS' own tools say.
const SAID: Duration = Duration::from_secs(60);

/// The token for that cluster.
///
/// # Errors
/// If the region is none.
pub fn token(
    cluster: &str,
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<String, String> {
    let url = format!("https://{}/?Action=GetCallerIdentity&Version=2011-06-15", host(region));
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(SAID);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers = std::iter::once((CLUSTER, cluster));
    let request = SignableRequest::new("GET", url.as_str(), headers, SignableBody::Bytes(&[]))
        .map_err(|error| error.to_string())?;
    let (signed, _) = sign(request, &params).map_err(|error| error.to_string())?.into_parts();
    let mut request = http::Request::get(&url).body(()).map_err(|error| error.to_string())?;
    signed.apply_to_request_http1x(&mut request);
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(request.uri().to_string())))
}

/// The regional STS: the global one is in a single region, whose outage would be everybody's.
fn host(region: &str) -> String {
    host_of("sts", region)
}

/// Where a service of AWS is in a region.
pub(super) fn host_of(service: &str, region: &str) -> String {
    let suffix = match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ => "amazonaws.com",
    };
    format!("{service}.{region}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(session: Option<&str>) -> String {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "planted", session.map(str::to_owned), None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let token = token("prod", "us-east-1", credentials, now).expect("a token");
        let url = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).expect("its beginning")).expect("base64");
        String::from_utf8(url).expect("text")
    }

    #[test]
    fn it_is_a_request_to_the_regional_sts_that_names_the_cluster() {
        let url = signed(None);
        assert!(url.starts_with("https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity"), "{url}");
        for part in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIDEXAMPLE%2F20260921%2Fus-east-1%2Fsts%2Faws4_request",
            "X-Amz-Expires=60",
            "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id",
            "X-Amz-Signature=",
        ] {
            assert!(url.contains(part), "{part} in {url}");
        }
        assert!(!url.contains("planted"));
        assert!(signed(Some("session")).contains("X-Amz-Security-Token=session"));
    }

    #[test]
    fn each_part_of_aws_has_its_own_sts() {
        assert_eq!(host("eu-central-1"), "sts.eu-central-1.amazonaws.com");
        assert_eq!(host("cn-north-1"), "sts.cn-north-1.amazonaws.com.cn");
        assert_eq!(host("us-gov-west-1"), "sts.us-gov-west-1.amazonaws.com");
    }
}
