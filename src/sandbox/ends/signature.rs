//! Whether a request to AWS is signed as Signature Version 4 says: written from its description, not with what signs. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// What is signed: the parts of a request.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    /// The method.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: String,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Who signed, for what, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The ID of the access key.
    pub key: String,
    /// The region.
    pub region: String,
    /// The service.
    pub service: String,
    /// When it was signed.
    pub at: SystemTime,
    /// The token of the session, if there is one.
    pub session: Option<String>,
    /// Names of the headers that are signed.
    pub headers: Vec<String>,
    date: String,
    stamp: String,
    signature: String,
    in_query: bool,
}

impl Claim {
    /// What a request says of itself, in its query or in its headers; `None` if it is not signed.
    pub fn of(request: &Signed) -> Option<Self> {
        let query: BTreeMap<String, String> =
            pairs(&request.query).map(|(name, value)| (name, decoded(&value))).collect();
        let in_query = query.contains_key("X-Amz-Signature");
        let mut parts = BTreeMap::new();
        if !in_query {
            let header = request.headers.get("authorization")?.strip_prefix("AWS4-HMAC-SHA256")?;
            parts.extend(header.split(',').filter_map(|part| part.trim().split_once('=')));
        }
        let part = |inside: &str, header: &str| match in_query {
            true => query.get(inside).cloned(),
            false => parts.get(header).map(|value| (*value).to_owned()),
        };
        let named = |inside: &str, header: &str| match in_query {
            true => query.get(inside).cloned(),
            false => request.headers.get(header).cloned(),
        };
        let scope = part("X-Amz-Credential", "Credential")?;
        let [key, date, region, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        let stamp = named("X-Amz-Date", "x-amz-date")?;
        Some(Self {
            key: key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            at: time(&stamp)?,
            session: named("X-Amz-Security-Token", "x-amz-security-token"),
            headers: part("X-Amz-SignedHeaders", "SignedHeaders")?.split(';').map(str::to_owned).collect(),
            date: date.to_owned(),
            stamp,
            signature: part("X-Amz-Signature", "Signature")?,
            in_query,
        })
    }

    /// Whether it was made with that secret, over that request.
    pub fn is_made_with(&self, secret: &str, request: &Signed) -> bool {
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            self.stamp,
            hex(&Sha256::digest(self.canonical(request)))
        );
        let parts = [self.date.as_str(), &self.region, &self.service, "aws4_request", &text];
        let key = format!("AWS4{secret}").into_bytes();
        let made = parts.iter().fold(key, |key, part| hmac(&key, part.as_bytes()).to_vec());
        hex(&made) == self.signature && self.stamp.starts_with(&self.date)
    }

    fn canonical(&self, request: &Signed) -> String {
        let mut query: Vec<(String, String)> =
            pairs(&request.query).filter(|(name, _)| name != "X-Amz-Signature").collect();
        query.sort();
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let header = |name: &String| {
            let value = request.headers.get(name).map(String::as_str).unwrap_or_default();
            format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let headers: String = self.headers.iter().map(header).collect();
        let body = match self.in_query {
            true => hex(&Sha256::digest(b"")),
            false => hex(&Sha256::digest(&request.body)),
        };
        let (method, path, names) = (&request.method, &request.path, self.headers.join(";"));
        format!("{method}\n{path}\n{}\n{headers}\n{names}\n{body}", query.join("&"))
    }
}

/// The fields of a query, as they were sent.
pub fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    })
}

/// A value of a query or a form as it is meant.
pub fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?')),
                _ => bytes.push(b'?'),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A time such as `20260921T101500Z`.
fn time(stamp: &str) -> Option<SystemTime> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp().as_second()).ok()?))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0u8; BLOCK];
    match key.len() > BLOCK {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let pad = |byte: u8| block.map(|part| part ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_digest_is_that_of_its_description() {
        // RFC 4231, the second case.
        let made = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&made), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    /// The example of AWS' own description of Signature Version 4.
    fn example() -> Signed {
        let headers = [
            ("host", "iam.amazonaws.com"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, \
                 Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ];
        Signed {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            query: "Action=ListUsers&Version=2010-05-08".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: Vec::new(),
        }
    }

    #[test]
    fn the_example_of_its_description_is_accepted_and_nothing_else() {
        let (request, secret) = (example(), "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let claim = Claim::of(&request).expect("a signature");
        assert_eq!((&*claim.key, &*claim.region, &*claim.service), ("AKIDEXAMPLE", "us-east-1", "iam"));
        assert!(claim.is_made_with(secret, &request));
        assert!(!claim.is_made_with("another", &request));
        for change in [
            |request: &mut Signed| request.query.push_str("&More=1"),
            |request: &mut Signed| request.body = b"x".to_vec(),
            |request: &mut Signed| request.path = "/other".to_owned(),
        ] {
            let mut changed = example();
            change(&mut changed);
            assert!(!claim.is_made_with(secret, &changed), "{changed:?}");
        }
        assert_eq!(Claim::of(&Signed::default()), None);
    }

    #[test]
    fn what_is_sent_is_what_is_meant() {
        assert_eq!(decoded("a%2Fb+c%"), "a/b c?");
    }
}
