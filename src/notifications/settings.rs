//! Destinations, and what each one is told. Pure.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use k8s_openapi::api::core::v1::ObjectReference;
use serde::Deserialize;

use crate::api::notice::Reason;

/// How many destinations there may be: each has a label of its own in metrics.
const MOST: usize = 16;
/// The kinds of which something is told.
const KINDS: [&str; 5] = ["FinService", "CanaryRollout", "FailoverGroup", "Failover", "CloudCluster"];

/// All destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<DestinationSettings>);

impl Settings {
    /// Each of them.
    pub fn all(&self) -> &[DestinationSettings] {
        &self.0
    }

    /// The one of that name.
    pub fn named(&self, name: &str) -> Option<&DestinationSettings> {
        self.0.iter().find(|one| one.name == name)
    }
}

/// How a message looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Format {
    /// As Slack's incoming webhooks take it, and those who speak like them.
    Slack,
    /// As docs/notifications.md has it.
    #[serde(rename = "JSON")]
    Json,
}

/// How serious a transition is: the type of its Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Severity {
    /// Something is wrong.
    Warning,
    /// Something happens as it should.
    Normal,
}

impl Severity {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "Warning",
            Self::Normal => "Normal",
        }
    }

    /// That of a transition.
    pub fn of(reason: Reason) -> Self {
        if reason.is_warning() { Self::Warning } else { Self::Normal }
    }
}

/// Where messages go. An address may be a secret, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// There.
    Url(String),
    /// To the address that this file holds, which is read for each message.
    File(PathBuf),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSettings {
    /// Its name, in metrics and in the log.
    pub name: String,
    /// Where messages go.
    pub address: Address,
    /// How they look.
    pub format: Format,
    severities: Vec<Severity>,
    kinds: Vec<String>,
    reasons: Vec<Reason>,
    namespaces: Vec<String>,
}

impl DestinationSettings {
    /// Whether it is told of a transition of that object. Reasons that are named are told, however serious.
    pub fn wants(&self, about: &ObjectReference, reason: Reason) -> bool {
        let named = |all: &[String], word: &Option<String>| {
            all.is_empty() || word.as_ref().is_some_and(|word| all.contains(word))
        };
        let what = match self.reasons.as_slice() {
            [] => self.severities.contains(&Severity::of(reason)),
            reasons => reasons.contains(&reason),
        };
        what && named(&self.kinds, &about.kind) && named(&self.namespaces, &about.namespace)
    }
}

/// A destination as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    name: String,
    format: Format,
    url: Option<String>,
    url_file: Option<PathBuf>,
    #[serde(default = "warnings")]
    severities: Vec<Severity>,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    namespaces: Vec<String>,
}

fn warnings() -> Vec<Severity> {
    vec![Severity::Warning]
}

impl Written {
    fn read(self) -> Result<DestinationSettings, String> {
        let name = self.name;
        let of = |why: String| format!("notification {name:?}: {why}");
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=63).contains(&name.len()) || !name.chars().all(fits) {
            return Err(of("a name has 1 to 63 lower-case letters, digits and dashes".to_owned()));
        }
        let address = match (self.url, self.url_file) {
            (Some(url), None) if url.starts_with("http://") || url.starts_with("https://") => {
                Address::Url(url)
            }
            (Some(_), None) => return Err(of("url begins with neither https:// nor http://".to_owned())),
            (None, Some(file)) => Address::File(file),
            _ => return Err(of("give either url or urlFile".to_owned())),
        };
        if let Some(kind) = self.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(of(format!("nothing is told of a kind {kind:?}; there are {}", KINDS.join(", "))));
        }
        let reason = |word: &String| {
            let known = || Reason::ALL.map(Reason::as_str).join(", ");
            Reason::named(word)
                .ok_or_else(|| of(format!("there is no reason {word:?}; there are {}", known())))
        };
        let reasons = self.reasons.iter().map(reason).collect::<Result<_, _>>()?;
        let (format, severities) = (self.format, self.severities);
        let (kinds, namespaces) = (self.kinds, self.namespaces);
        Ok(DestinationSettings { name, address, format, severities, kinds, reasons, namespaces })
    }
}

impl FromStr for Settings {
    type Err = String;

    /// Reads a list in JSON; nothing of an empty text. An error repeats no address.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let written: Vec<Written> =
            serde_json::from_str(text).map_err(|error| format!("it is no list of notifications: {error}"))?;
        if written.len() > MOST {
            return Err(format!("there are {} notifications, and at most {MOST} may be", written.len()));
        }
        let all: Vec<DestinationSettings> =
            written.into_iter().map(Written::read).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        match all.iter().find(|one| !names.insert(one.name.as_str())) {
            Some(twice) => Err(format!("there are two notifications {:?}", twice.name)),
            None => Ok(Self(all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(kind: &str, namespace: &str) -> ObjectReference {
        let (kind, namespace) = (Some(kind.to_owned()), Some(namespace.to_owned()));
        ObjectReference { kind, namespace, ..ObjectReference::default() }
    }

    fn one(more: &str) -> Result<DestinationSettings, String> {
        let text = format!(r#"[{{"name":"ops","format":"Slack","url":"https://example/secret"{more}}}]"#);
        text.parse::<Settings>().map(|settings| settings.all()[0].clone())
    }

    #[test]
    fn warnings_are_told_unless_something_else_is_asked_for() {
        let plain = one("").expect("a destination");
        assert!(plain.wants(&about("FinService", "pay"), Reason::Stalled));
        assert!(!plain.wants(&about("FinService", "pay"), Reason::RevisionPromoted));
        let moves = one(r#","reasons":["MoveWaits","Moved"]"#).expect("a destination");
        assert!(moves.wants(&about("Failover", "banyan-system"), Reason::MoveWaits), "however serious");
        assert!(!moves.wants(&about("Failover", "banyan-system"), Reason::NotMoved));
        let narrow = one(r#","kinds":["CanaryRollout"],"namespaces":["pay"],"severities":["Normal"]"#);
        let narrow = narrow.expect("a destination");
        assert!(narrow.wants(&about("CanaryRollout", "pay"), Reason::WeightShifted));
        for (kind, namespace, reason) in [
            ("FinService", "pay", Reason::WeightShifted),
            ("CanaryRollout", "shop", Reason::WeightShifted),
            ("CanaryRollout", "pay", Reason::RolledBack),
        ] {
            assert!(!narrow.wants(&about(kind, namespace), reason), "{kind} {namespace} {reason:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_address_is_shown() {
        assert_eq!("".parse::<Settings>(), Ok(Settings::default()));
        for (more, named) in [
            (r#","kinds":["Deployment"]"#, "Deployment"),
            (r#","reasons":["Stuck"]"#, "RolledBack"),
            (r#","urlFile":"/run/url""#, "either url or urlFile"),
            (r#","channel":"ops""#, "channel"),
            (r#","severities":["Loud"]"#, "Loud"),
        ] {
            let error = one(more).expect_err(more);
            assert!(error.contains(named) && !error.contains("secret"), "{error}");
        }
        let wrong = |text: &str| text.parse::<Settings>().expect_err(text);
        assert!(wrong(r#"[{"name":"Ops","format":"JSON","url":"https://a"}]"#).contains("lower-case"));
        assert!(wrong(r#"[{"name":"a","format":"JSON","url":"ftp://a"}]"#).contains("https://"));
        let twice = r#"{"name":"a","format":"JSON","url":"https://a"}"#;
        assert!(wrong(&format!("[{twice},{twice}]")).contains("two notifications"));
        assert!(wrong(&format!("[{}]", [twice; 17].join(","))).contains("at most 16"));
        let shown = format!("{:?}", one(""));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
