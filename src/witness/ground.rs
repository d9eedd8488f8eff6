//! Where a witness stands, by its URL. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::api::Problem;
use crate::api::witness::ObjectStoreWitness;

/// The field that problems come from.
pub const SOURCE: &str = "spec.witness.objectStore";

/// A cloud, as a site is found in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Amazon's: the site has a way `eks`, or its nodes say so.
    Aws,
    /// Google's: the site has a way `gke`.
    Google,
    /// Microsoft's.
    Azure,
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aws => "AWS",
            Self::Google => "Google Cloud",
            Self::Azure => "Azure",
        })
    }
}

/// The protocol that a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Amazon's S3, which others speak too.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
    /// A folder.
    File,
}

/// Where a witness stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Bucket or container; empty for a folder.
    pub bucket: String,
    /// What names of objects begin with, without slashes around it; for a folder its path.
    pub prefix: String,
    /// Where it answers, if that is not the maker's own address; without a slash at the end.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
}

impl Ground {
    /// Reads it from the spec. The definition's rules have refused what cannot be; they are checked once more, since an
    /// object may be older than its definition.
    ///
    /// # Errors
    /// If it leads nowhere, or to another machine without TLS: the field and the remedy.
    pub fn of(spec: &ObjectStoreWitness) -> Result<Self, Problem> {
        let wrong = |message: &str, remedy: &str| Problem::error(format!("{SOURCE}.url"), message, remedy);
        let unknown = || {
            let remedy =
                "use s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder";
            wrong("the URL names no object store that is known", remedy)
        };
        let (scheme, rest) = spec.url.split_once("://").ok_or_else(unknown)?;
        let protocol = match scheme {
            "s3" => Protocol::S3,
            "gs" => Protocol::Google,
            "az" => Protocol::Azure,
            "file" => Protocol::File,
            _ => return Err(unknown()),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        // A bucket for all but a folder, which has a path instead.
        let is_folder = protocol == Protocol::File;
        if is_folder != bucket.is_empty() || (is_folder && prefix.is_empty()) {
            return Err(unknown());
        }
        if prefix
            .split('/')
            .any(|part| part == "." || part == ".." || (part.is_empty() && !prefix.is_empty()))
        {
            return Err(wrong("the prefix has an empty part, or one of dots", "write it without them"));
        }
        let endpoint = spec.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        if let Some(endpoint) = &endpoint {
            checked(endpoint)?;
        }
        let prefix = if protocol == Protocol::File { format!("/{prefix}") } else { prefix.to_owned() };
        Ok(Self { protocol, bucket: bucket.to_owned(), prefix, endpoint, region: spec.region.clone() })
    }

    /// Whether it is spoken to without TLS: only on this machine itself.
    pub fn is_plain(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// The cloud that it stands in, as far as its address says so.
    pub fn cloud(&self) -> Option<Cloud> {
        let host = self.endpoint.as_deref().map(host);
        let within = |suffixes: &[&str]| {
            host.is_none_or(|host| {
                suffixes.iter().any(|suffix| host == *suffix || host.ends_with(&format!(".{suffix}")))
            })
        };
        match self.protocol {
            Protocol::S3 if within(&["amazonaws.com", "amazonaws.com.cn", "api.aws"]) => Some(Cloud::Aws),
            // Google's store speaks S3 as well.
            Protocol::S3 if host.is_some_and(|host| host == "storage.googleapis.com") => Some(Cloud::Google),
            Protocol::Google if within(&["googleapis.com", "p.googleapis.com"]) => Some(Cloud::Google),
            Protocol::Azure => Some(Cloud::Azure).filter(|_| {
                within(&[
                    "core.windows.net",
                    "core.usgovcloudapi.net",
                    "core.chinacloudapi.cn",
                    "storage.azure.net",
                ])
            }),
            _ => None,
        }
    }

    /// Says so where it stands in one of the clouds that the group's sites are in: what takes that cloud takes the
    /// witness with it, just when it is needed. `sites` are their names, and the clouds that they are in.
    pub fn own_cloud<'a>(&self, sites: impl IntoIterator<Item = (&'a str, Cloud)>) -> Option<Problem> {
        if self.protocol == Protocol::File {
            return Some(Problem::warning(
                format!("{SOURCE}.url"),
                "the witness is a folder: it decides between two sites only if both have the same volume mounted there",
                "use a bucket that stands in neither cloud of the group, such as s3:// with the endpoint of another maker",
            ));
        }
        let cloud = self.cloud()?;
        let (site, _) = sites.into_iter().find(|(_, of_site)| *of_site == cloud)?;
        Some(Problem::warning(
            format!("{SOURCE}.url"),
            format!(
                "the witness stands in one of the two clouds: it is in {cloud}, as {site} is. If {cloud} fails, the witness may be away just when it is needed"
            ),
            "move it to a bucket in a third cloud, or accept that a Failover then needs an Action assert-fenced",
        ))
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, slash) = match self.protocol {
            Protocol::S3 => ("s3", "/"),
            Protocol::Google => ("gs", "/"),
            Protocol::Azure => ("az", "/"),
            Protocol::File => ("file", ""),
        };
        let slash = if self.prefix.is_empty() { "" } else { slash };
        write!(f, "{scheme}://{}{slash}{}", self.bucket, self.prefix)
    }
}

/// The host of a URL, without its port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(inside) => inside.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// TLS, except to this machine itself, and nothing secret in the address.
fn checked(endpoint: &str) -> Result<(), Problem> {
    let problem = |message: &str, remedy: &str| Problem::error(format!("{SOURCE}.endpoint"), message, remedy);
    if endpoint.contains(['@', '?', '#']) {
        return Err(problem(
            "the endpoint has a user, a query or a fragment in it",
            "put credentials into a Secret, and name it in credentials.secretRef",
        ));
    }
    let host = host(endpoint);
    let here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    match endpoint.split_once("://").map(|(scheme, _)| scheme) {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if here => Ok(()),
        Some("http") => Err(problem(
            "the endpoint is another machine's, without TLS",
            "use https://; http:// is for this machine alone",
        )),
        _ => Err(problem("the endpoint is no address", "write it as https://host or https://host:port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str, endpoint: Option<&str>) -> ObjectStoreWitness {
        ObjectStoreWitness {
            url: url.to_owned(),
            region: None,
            endpoint: endpoint.map(str::to_owned),
            credentials: None,
        }
    }

    fn ground(url: &str, endpoint: Option<&str>) -> Ground {
        Ground::of(&spec(url, endpoint)).expect(url)
    }

    #[test]
    fn urls_lead_somewhere() {
        for (url, protocol, bucket, prefix) in [
            ("s3://witness/payments", Protocol::S3, "witness", "payments"),
            ("gs://witness/a/b/", Protocol::Google, "witness", "a/b"),
            ("az://witness", Protocol::Azure, "witness", ""),
            ("file:///mnt/witness", Protocol::File, "", "/mnt/witness"),
        ] {
            let ground = ground(url, None);
            assert_eq!(
                (ground.protocol, &*ground.bucket, &*ground.prefix),
                (protocol, bucket, prefix),
                "{url}"
            );
            assert_eq!(ground.to_string(), url.trim_end_matches('/'));
        }
        for url in
            ["", "witness", "ftp://a/b", "s3:///b", "file://host/b", "file:///", "s3://a/../b", "s3://a/b//c"]
        {
            let problem = Ground::of(&spec(url, None)).expect_err(url);
            assert_eq!(problem.source, "spec.witness.objectStore.url");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for (endpoint, plain) in [
            ("https://objects.example:9000/", false),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost", true),
        ] {
            assert_eq!(ground("s3://w/p", Some(endpoint)).is_plain(), plain, "{endpoint}");
        }
        for endpoint in [
            "http://objects.example",
            "http://localhost.objects.example",
            "http://127.0.0.1@objects.example",
            "https://key:secret@objects.example",
            "https://objects.example?X-Amz-Signature=1",
            "https://",
            "objects.example",
        ] {
            let problem = Ground::of(&spec("s3://w/p", Some(endpoint))).expect_err(endpoint);
            assert_eq!(problem.source, "spec.witness.objectStore.endpoint");
            assert!(!problem.message.contains("secret"));
        }
    }

    #[test]
    fn a_witness_in_one_of_the_two_clouds_says_so() {
        let sites = [("aws-us-east-1", Cloud::Aws), ("gcp-us-central1", Cloud::Google)];
        let own = |url, endpoint| ground(url, endpoint).own_cloud(sites).map(|problem| problem.message);
        let message = own("s3://w/p", None).expect("Amazon's");
        assert!(
            message.starts_with(
                "the witness stands in one of the two clouds: it is in AWS, as aws-us-east-1 is"
            )
        );
        assert!(own("s3://w/p", Some("https://s3.us-east-2.amazonaws.com")).is_some());
        assert!(
            own("s3://w/p", Some("https://storage.googleapis.com"))
                .expect("Google's")
                .contains("Google Cloud")
        );
        assert!(own("gs://w/p", None).expect("Google's").contains("gcp-us-central1"));
        for (url, endpoint) in [
            ("s3://w/p", Some("https://account.r2.cloudflarestorage.com")),
            ("s3://w/p", Some("https://amazonaws.com.example")),
            ("az://w/p", Some("https://account.blob.core.windows.net")),
        ] {
            assert_eq!(own(url, endpoint), None, "{endpoint:?}");
        }
        assert!(own("file:///mnt/w", None).expect("a folder").contains("same volume"));
        let azure = ground("az://w/p", Some("https://account.blob.core.windows.net"));
        assert!(azure.own_cloud([("one", Cloud::Azure)]).is_some());
    }
}
