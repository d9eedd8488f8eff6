//! The providers behind one interface.

use std::time::Duration;

use super::cloudflare::Cloudflare;
use super::error::DnsError;
use super::plan::Change;
use super::problems::{Finding, problems};
use super::route53::Route53;
use super::stands::{Rights, Stands};
use super::wanted::Wanted;

/// How long all that is written at once may take.
pub const TOTAL: Duration = Duration::from_secs(30);
/// When what was written is read once more, where there is no compare-and-set.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often it is read while nothing changes.
pub const AT_REST: Duration = Duration::from_secs(300);
/// How often credentials are tried while nothing changes.
pub const TRY_RIGHTS: Duration = Duration::from_secs(3600);
/// How often it is tried to write what somebody else changes at the same time.
pub(super) const TRIES: u32 = 3;

/// What came of writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was changed; nothing where all stood as wanted.
    pub changes: Vec<Change>,
    /// How many requests changed something.
    pub requests: u32,
    /// What stands, as it was read back. Health is not part of it.
    pub stands: Stands,
    /// Whether all of the provider's servers have it, where the provider says so.
    pub everywhere: Option<bool>,
}

impl Applied {
    pub(super) fn standing(self, stands: Stands) -> Self {
        Self { stands, ..self }
    }
}

/// Where a group's traffic is steered.
#[derive(Clone, Debug)]
pub enum Provider {
    /// A load balancer of Cloudflare.
    Cloudflare(Cloudflare),
    /// Records of Route 53.
    Route53(Route53),
    /// Somewhere else, of which nothing is known here.
    External,
}

impl Provider {
    /// What stands. Without a provider of ours, nothing is known, and nothing is to be done.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(&self, wanted: &Wanted) -> Result<Stands, DnsError> {
        match self {
            Self::Cloudflare(provider) => provider.read(wanted).await,
            Self::Route53(provider) => provider.read(wanted).await,
            Self::External => Ok(Stands::default()),
        }
    }

    /// Makes it so: reads, plans, writes, and reads back. To call it again costs the reading alone.
    ///
    /// # Errors
    /// If it is not so afterwards, as far as anybody can tell.
    pub async fn apply(&self, wanted: &Wanted) -> Result<Applied, DnsError> {
        match self {
            Self::Cloudflare(provider) => provider.apply(wanted).await,
            Self::Route53(provider) => provider.apply(wanted).await,
            Self::External => Ok(Applied::default()),
        }
    }

    /// [`Self::apply`], and where there is no compare-and-set once more after `pause` (see [`LOOK_AGAIN`]), which
    /// corrects whoever wrote late.
    ///
    /// # Errors
    /// If it is not so afterwards, as far as anybody can tell.
    pub async fn settle(&self, wanted: &Wanted, pause: Duration) -> Result<Applied, DnsError> {
        let first = self.apply(wanted).await?;
        if !matches!(self, Self::Cloudflare(_)) || first.requests == 0 {
            return Ok(first);
        }
        tokio::time::sleep(pause).await;
        let mut second = self.apply(wanted).await?;
        second.requests += first.requests;
        second.changes = first.changes.into_iter().chain(second.changes).collect();
        Ok(second)
    }

    /// Makes what is missing, and that alone: pools, monitors, health checks, the load balancer, records. Answers with the
    /// names of what it made.
    ///
    /// # Errors
    /// If something is missing that cannot be made.
    pub async fn ensure(&self, wanted: &Wanted) -> Result<Vec<String>, DnsError> {
        match self {
            Self::Cloudflare(provider) => provider.ensure(wanted).await,
            Self::Route53(provider) => provider.ensure(wanted).await,
            Self::External => Ok(Vec::new()),
        }
    }

    /// All that is wrong, worst first; see [`problems`]. Where nothing is known, that is only what the group itself lacks.
    pub fn problems(&self, stands: &Stands, wanted: &Wanted, rights: Option<&Rights>) -> Vec<Finding> {
        let mut found = problems(stands, wanted, rights);
        if matches!(self, Self::External) {
            found.retain(|finding| finding.reason == "NoSites");
        }
        found
    }

    /// What the credentials are good for, tried without changing anything.
    ///
    /// # Errors
    /// If the provider does not answer.
    pub async fn rights(&self, wanted: &Wanted) -> Result<Rights, DnsError> {
        match self {
            Self::Cloudflare(provider) => provider.rights().await,
            Self::Route53(provider) => provider.rights(wanted).await,
            Self::External => Ok(Rights { accepted: true, ..Rights::default() }),
        }
    }
}
