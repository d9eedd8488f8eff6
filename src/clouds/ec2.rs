//! The machines of a cluster in Amazon EC2: whether one is left is told by nobody else. EKS tells how many nodes a group is
//! to have, while some of them may still be draining.
//!
//! One operation of EC2 is asked for here, over its own wire: its whole client is larger than all else of AWS together.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::CONTENT_TYPE;
use reqwest::{Client, Request, Url};
use serde::Deserialize;

use super::eks_token::host_of;
use crate::runtime::fetch::{Answer, builder, whole};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// After so many pages it is given up, and nothing is known.
const PAGES: usize = 20;
/// The largest page that is read: a thousand machines have some three megabytes.
const LARGEST: usize = 16 << 20;
/// All states of a machine but the one from which none returns. One that is stopped may be started again.
const STATES: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];
/// With what a whole answer ends.
const END: &str = "</DescribeInstancesResponse>";

/// EC2 in a region, as somebody.
pub(super) struct Ec2 {
    http: Client,
    url: String,
    region: String,
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    reservation_set: Reservations,
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct Reservations {
    #[serde(default)]
    item: Vec<Reservation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reservation {
    instances_set: Machines,
}

#[derive(Deserialize)]
struct Machines {
    #[serde(default)]
    item: Vec<Machine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    instance_id: String,
}

impl Ec2 {
    /// One at that address, or in its usual place.
    ///
    /// # Errors
    /// If there is no client for HTTP.
    pub(super) fn new(
        address: Option<&str>,
        region: &str,
        credentials: Credentials,
    ) -> Result<Self, RemoteError> {
        let http = builder().build().map_err(|_| RemoteError::unreadable("there is no client for HTTP"))?;
        let url = match address {
            Some(address) => format!("{}/", address.trim_end_matches('/')),
            None => format!("https://{}/", host_of("ec2", region)),
        };
        Ok(Self { http, url, region: region.to_owned(), credentials })
    }

    /// The machines that a filter finds and that are not gone for good, by their IDs.
    ///
    /// # Errors
    /// If EC2 gives no whole answer, or refuses.
    pub(super) async fn machines(&self, filter: &str, values: &[String]) -> Result<Vec<String>, RemoteError> {
        let (mut found, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = within(DEADLINE, self.page(filter, values, next.as_deref())).await?;
            let machines = page.reservation_set.item.into_iter().flat_map(|one| one.instances_set.item);
            found.extend(machines.map(|machine| machine.instance_id));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(RemoteError::unreadable("it has more pages than are read"))
    }

    async fn page(&self, filter: &str, values: &[String], next: Option<&str>) -> Result<Page, RemoteError> {
        let answer = whole(self.asked(&form(filter, values, next))?, LARGEST).await?;
        if !answer.status.is_success() {
            return Err(bad(&answer));
        }
        let text = std::str::from_utf8(&answer.body).map_err(|_| RemoteError::unreadable("it is no text"))?;
        let broken = || RemoteError::unreadable("it broke off, or is of another form");
        match text.trim_end().ends_with(END) {
            true => quick_xml::de::from_str(text).map_err(|_| broken()),
            false => Err(broken()),
        }
    }

    /// The request, signed.
    fn asked(&self, form: &str) -> Result<reqwest::RequestBuilder, RemoteError> {
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| RemoteError::unreadable(error.to_string()))?
            .into();
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let headers = std::iter::once((CONTENT_TYPE.as_str(), kind));
        let body = SignableBody::Bytes(form.as_bytes());
        let request = SignableRequest::new("POST", self.url.as_str(), headers, body)
            .map_err(|error| RemoteError::unreadable(error.to_string()))?;
        let (signed, _) =
            sign(request, &params).map_err(|error| RemoteError::unreadable(error.to_string()))?.into_parts();
        let mut request = http::Request::post(&self.url)
            .header(CONTENT_TYPE, kind)
            .body(form.to_owned())
            .map_err(|error| RemoteError::unreadable(error.to_string()))?;
        signed.apply_to_request_http1x(&mut request);
        let request =
            Request::try_from(request).map_err(|error| RemoteError::unreadable(error.to_string()))?;
        Ok(reqwest::RequestBuilder::from_parts(self.http.clone(), request))
    }
}

/// What is asked, as a form. Only the query of the URL is used.
fn form(filter: &str, values: &[String], next: Option<&str>) -> String {
    let mut url = Url::parse("http://form").expect("a URL");
    let mut form = url.query_pairs_mut();
    form.append_pair("Action", "DescribeInstances").append_pair("Version", "2016-11-15");
    form.append_pair("MaxResults", "1000");
    form.append_pair("Filter.1.Name", filter);
    for (place, value) in values.iter().enumerate() {
        form.append_pair(&format!("Filter.1.Value.{}", place + 1), value);
    }
    form.append_pair("Filter.2.Name", "instance-state-name");
    for (place, state) in STATES.iter().enumerate() {
        form.append_pair(&format!("Filter.2.Value.{}", place + 1), state);
    }
    if let Some(next) = next {
        form.append_pair("NextToken", next);
    }
    drop(form);
    url.query().unwrap_or_default().to_owned()
}

/// What an answer that is no success means: by its code, which comes with a status of its own.
fn bad(answer: &Answer) -> RemoteError {
    let text = String::from_utf8_lossy(&answer.body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code.map_or("", |(code, _)| code) {
        "RequestLimitExceeded" | "Throttling" => RemoteError::of_status(429, &answer.headers, ""),
        "AuthFailure"
        | "InvalidClientTokenId"
        | "RequestExpired"
        | "ExpiredToken"
        | "SignatureDoesNotMatch" => RemoteError::Unauthorized,
        "UnauthorizedOperation" => RemoteError::Forbidden,
        code => {
            let plain: String = code.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
            answer.bad(&plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_leaves_out_only_machines_that_are_gone_for_good() {
        let form = form("tag-key", &["kubernetes.io/cluster/prod".to_owned()], None);
        assert!(form.contains("Filter.1.Value.1=kubernetes.io%2Fcluster%2Fprod"), "{form}");
        assert!(form.contains("stopped") && !form.contains("terminated"), "{form}");
    }

    #[test]
    fn an_answer_without_its_set_of_machines_is_none() {
        let read = |inside: &str| {
            let text = format!("<DescribeInstancesResponse>{inside}</DescribeInstancesResponse>");
            quick_xml::de::from_str::<Page>(&text).map(|page| page.reservation_set.item.len())
        };
        assert_eq!(read("<requestId>1</requestId><reservationSet/>").ok(), Some(0));
        let one = "<item><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></item>";
        assert_eq!(read(&format!("<reservationSet>{one}{one}</reservationSet><nextToken/>")).ok(), Some(2));
        assert!(read("<requestId>1</requestId>").is_err());
        assert!(read("<reservationSet><item><ownerId>1</ownerId></item></reservationSet>").is_err());
    }
}
