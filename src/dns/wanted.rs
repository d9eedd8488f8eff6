//! Pure. What is wanted of a provider: who gets traffic, in whose name, and the mark that each write carries.

use std::collections::BTreeMap;
use std::fmt;

/// How a group's traffic is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the FailoverGroup.
    pub group: String,
    /// Host names of its users, the first being the one that load balancers are called by.
    pub hosts: Vec<String>,
    /// The epoch in whose name is written. Without one, before the first claim, no weight is written and nothing is
    /// pinned off.
    pub epoch: Option<i64>,
    /// The sites of the group, by name.
    pub sites: BTreeMap<String, SiteWanted>,
}

impl Wanted {
    /// The path that monitors must ask.
    pub fn path(&self) -> String {
        format!("/authority/{}", self.group)
    }

    /// What the things of a site are called at the provider, and `fallback` what those of the fixed answer are.
    pub fn name_of(&self, site: &str) -> String {
        format!("banyan-{}-{site}", self.group)
    }

    /// The host that load balancers and checks are called by.
    pub fn host(&self) -> &str {
        self.hosts.first().map(String::as_str).unwrap_or_default()
    }

    /// Whether all sites that are not pinned off have the same weight, which is what checks of health bring about by
    /// themselves.
    pub(crate) fn is_even(&self) -> bool {
        let mut weights = self.sites.values().filter(|site| !site.off).map(|site| site.weight);
        let first = weights.next();
        first != Some(0) && weights.all(|weight| Some(weight) == first)
    }
}

/// How one site is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteWanted {
    /// Its share of what the sites that are well get, relative to the others: 0 to 100.
    pub weight: u8,
    /// Whether it is pinned off: gets nothing, whatever its checks say.
    pub off: bool,
    /// Its gateway, from which pools and checks are made where they are missing.
    pub gateway: Option<Gateway>,
}

/// A site's gateway as users reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Host or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Gateway {
    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`; what follows is not looked at.
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, port.parse().ok()?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        (!host.is_empty()).then(|| Self { tls, host: host.to_owned(), port })
    }
}

/// What each write leaves at the provider, so that a writer who was away sees that it is too late.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The epoch of the writer.
    pub epoch: i64,
    /// How many writes there were in that epoch.
    pub change: u32,
    /// The group.
    pub group: String,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "banyan group={} epoch={} change={}", self.group, self.epoch, self.change)
    }
}

impl Mark {
    /// The mark in a text of its own.
    pub fn of_text(text: &str) -> Option<Self> {
        let mut words = text.trim().split(' ');
        if words.next() != Some("banyan") {
            return None;
        }
        let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        let (group, epoch, change) = (value("group")?, value("epoch")?, value("change")?);
        Some(Self { group, epoch: epoch.parse().ok()?, change: change.parse().ok()? })
    }

    /// The mark in brackets at the end of a description that is otherwise somebody else's.
    pub(crate) fn of_description(text: &str) -> Option<Self> {
        let begin = text.rfind("[banyan ")?;
        let inner = text[begin + 1..].split(']').next()?;
        Self::of_text(inner)
    }

    /// The description with this mark instead of the one before; all other words stay.
    pub(crate) fn written_into(&self, text: &str) -> String {
        let before = match text.rfind("[banyan ") {
            Some(begin) if Self::of_description(text).is_some() => {
                let end = text[begin..].find(']').map_or(text.len(), |end| begin + end + 1);
                format!("{}{}", &text[..begin], &text[end..])
            }
            _ => text.to_owned(),
        };
        let before = before.trim_end();
        if before.is_empty() { format!("[{self}]") } else { format!("{before} [{self}]") }
    }

    /// The one that the next write carries.
    pub(crate) fn next(before: Option<&Self>, group: &str, epoch: i64) -> Self {
        let change =
            before.filter(|mark| mark.epoch == epoch).map_or(1, |mark| mark.change.saturating_add(1));
        Self { group: group.to_owned(), epoch, change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_beside_the_words_of_others() {
        let mark = Mark::next(None, "payments", 33);
        assert_eq!(mark.to_string(), "banyan group=payments epoch=33 change=1");
        assert_eq!(Mark::of_text(&mark.to_string()), Some(mark.clone()));
        let text = mark.written_into("owned by team edge [INC-1]");
        assert_eq!(text, "owned by team edge [INC-1] [banyan group=payments epoch=33 change=1]");
        let next = Mark::next(Mark::of_description(&text).as_ref(), "payments", 33);
        assert_eq!(
            next.written_into(&text),
            "owned by team edge [INC-1] [banyan group=payments epoch=33 change=2]"
        );
        assert_eq!(Mark::next(Some(&next), "payments", 48).change, 1);
        for other in ["", "banyan", "banyan group=a epoch=x change=1", "a banyan group=a epoch=1 change=1"] {
            assert_eq!(Mark::of_text(other), None, "{other}");
        }
        assert_eq!(Mark::of_description("[banyan is a tree]"), None);
        assert_eq!(mark.written_into("[banyan is a tree]"), format!("[banyan is a tree] [{mark}]"));
    }

    #[test]
    fn a_gateway_is_read_from_its_address() {
        let read = |url: &str| Gateway::of_url(url).map(|gateway| (gateway.tls, gateway.host, gateway.port));
        assert_eq!(read("https://gw.example/x"), Some((true, "gw.example".to_owned(), 443)));
        assert_eq!(read("http://127.0.0.1:8080"), Some((false, "127.0.0.1".to_owned(), 8080)));
        assert_eq!(read("http://gw.example"), Some((false, "gw.example".to_owned(), 80)));
        for wrong in ["gw.example", "ftp://gw.example", "https://", "https://a:99999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
