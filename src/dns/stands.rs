//! Pure. What stands at a provider, in words that are the same for all of them.

use std::collections::BTreeMap;

use super::wanted::Mark;

/// What stands at the provider for one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stands {
    /// What the last writer left.
    pub mark: Option<Mark>,
    /// By site. A site that the provider knows nothing of has [`SiteStands::there`] false.
    pub sites: BTreeMap<String, SiteStands>,
    /// Who answers while no site does.
    pub fallback: Fallback,
    /// What else was found.
    pub oddities: Vec<Oddity>,
}

/// What stands for one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteStands {
    /// Whether what carries its traffic is there at all: its pool, or its health check.
    pub there: bool,
    /// Whether it takes part; otherwise it is pinned off.
    pub on: bool,
    /// Its share.
    pub weight: Weight,
    /// Whether all else is as the group says: target, lifetime, check.
    pub as_asked: bool,
    /// What the provider's own checks say.
    pub health: Health,
    /// What those checks ask.
    pub monitor: Option<Monitor>,
}

/// The share of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// There are no weights: health alone decides.
    #[default]
    ByHealth,
    /// So much, relative to the others.
    Is(u8),
    /// Different ones in different records.
    Mixed,
}

/// What the provider's checks say of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It answers well.
    Healthy,
    /// It does not; with the provider's own words, which stay the same while the reason does.
    Unhealthy(String),
    /// The provider does not say, or was not asked.
    #[default]
    Unknown,
}

/// What a provider's check asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitor {
    /// The path.
    pub path: String,
    /// How often, in seconds, from each place.
    pub every: u32,
    /// Whether any answer other than a well one counts as a failure. Redirects and 503 must.
    pub strict: bool,
}

/// Who answers while no site does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Something that always gives the same answer.
    FixedAnswer,
    /// A site of the group, though its checks say that it may not.
    Site(String),
    /// Something that is neither a site nor named in the group.
    Unnamed(String),
    /// All sites alike, though their checks say that they may not.
    AllSites,
    /// Not known.
    #[default]
    Unknown,
}

/// Something that is not as it should be, and is not a weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// What carries all traffic is not there.
    Missing {
        /// What, such as `the load balancer api.finflow.example`.
        what: String,
    },
    /// What carries all traffic is switched off.
    Disabled {
        /// What.
        what: String,
    },
    /// Something outside of the group may get its requests.
    Leak {
        /// What may get them.
        to: String,
        /// Where that is written.
        at: String,
    },
    /// A site is missing where a part of the requests is shared out.
    LeftOut {
        /// The site.
        site: String,
        /// Where.
        at: String,
    },
    /// Answers live too long in resolvers.
    Lifetime {
        /// The record.
        name: String,
        /// How long, in seconds.
        seconds: i64,
    },
    /// Somebody else writes the same record, or shadows it.
    Keeper {
        /// The record.
        name: String,
        /// Who, as far as it can be told.
        who: String,
    },
    /// The load balancer has another name than the group's hosts.
    OtherName {
        /// Its name.
        name: String,
    },
}

/// What the credentials are good for, tried without changing anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Whether they are accepted at all.
    pub accepted: bool,
    /// What they may not write, though it is needed.
    pub cannot_write: Vec<String>,
    /// What they may see, though it is not needed.
    pub sees_too_much: Vec<String>,
}
