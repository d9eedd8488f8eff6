//! Pure. From what is wanted and what stands to the fewest changes.

use super::stands::{Stands, Weight};
use super::wanted::{Mark, Wanted};

/// One thing to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The mark of the writer. Whatever else is written goes with it.
    Mark {
        /// What stands.
        from: Option<Mark>,
        /// What is to stand.
        to: Mark,
    },
    /// A site gets that share.
    Weight {
        /// The site.
        site: String,
        /// The share.
        to: u8,
    },
    /// What is not a share (target, lifetime, check) is written as the group says.
    Settle {
        /// The site.
        site: String,
    },
    /// A site takes part again, with that share.
    On {
        /// The site.
        site: String,
        /// The share; none where health alone decides.
        weight: Option<u8>,
    },
    /// A site is pinned off.
    Off {
        /// The site.
        site: String,
    },
}

impl Change {
    /// The site that it concerns.
    pub(crate) fn site(&self) -> Option<&str> {
        match self {
            Self::Mark { .. } => None,
            Self::Weight { site, .. }
            | Self::Settle { site }
            | Self::On { site, .. }
            | Self::Off { site } => Some(site),
        }
    }
}

/// Why nothing may be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody wrote in the name of a greater epoch.
    #[error("superseded: epoch {theirs} stands at the provider, and ours is {ours}")]
    Superseded {
        /// The epoch in whose name we would write.
        ours: i64,
        /// The one that stands.
        theirs: i64,
    },
    /// It belongs to another group.
    #[error(
        "it bears the mark of the FailoverGroup {group}: give each group a load balancer or records of its own"
    )]
    OtherGroup {
        /// That group.
        group: String,
    },
}

/// What has to be changed, in the order in which it is safe: who takes part comes before who is pinned off. Empty when
/// all is as wanted. Nothing is planned for what is not there, and nothing without an epoch.
///
/// # Errors
/// If nothing may be written.
pub fn plan(wanted: &Wanted, stands: &Stands) -> Result<Vec<Change>, Refusal> {
    let Some(epoch) = wanted.epoch else { return Ok(Vec::new()) };
    if let Some(mark) = &stands.mark {
        if mark.group != wanted.group {
            return Err(Refusal::OtherGroup { group: mark.group.clone() });
        }
        if mark.epoch > epoch {
            return Err(Refusal::Superseded { ours: epoch, theirs: mark.epoch });
        }
    }
    let there = |site: &str| stands.sites.get(site).filter(|site| site.there);
    let health_decides = wanted.is_even()
        && wanted
            .sites
            .iter()
            .filter(|(_, wanted)| !wanted.off)
            .filter_map(|(site, _)| there(site))
            .all(|stands| stands.weight == Weight::ByHealth);
    let mut changes = Vec::new();
    for (site, wanted) in wanted.sites.iter().filter(|(_, wanted)| !wanted.off) {
        let Some(stands) = there(site) else { continue };
        let (site, weight) = (site.clone(), wanted.weight);
        if !stands.on {
            changes.push(Change::On { site, weight: (!health_decides).then_some(weight) });
            continue;
        }
        if !stands.as_asked {
            changes.push(Change::Settle { site: site.clone() });
        }
        if stands.weight != Weight::Is(weight) && !health_decides {
            changes.push(Change::Weight { site, to: weight });
        }
    }
    // Whoever would be left with nobody is not helped by being left with nobody.
    let somebody = wanted.sites.iter().any(|(site, wanted)| !wanted.off && there(site).is_some());
    for (site, _) in wanted.sites.iter().filter(|(_, wanted)| wanted.off && somebody) {
        if there(site).is_some_and(|stands| stands.on) {
            changes.push(Change::Off { site: site.clone() });
        }
    }
    if !changes.is_empty() || stands.mark.as_ref().is_none_or(|mark| mark.epoch < epoch) {
        let to = Mark::next(stands.mark.as_ref(), &wanted.group, epoch);
        changes.insert(0, Change::Mark { from: stands.mark.clone(), to });
    }
    Ok(changes)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
