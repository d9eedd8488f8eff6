//! The steps of a move, as its status, the plan of its group, Actions and the record name them.

/// A step of a move, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Looks at all that standing readiness checks.
    Preflight,
    /// Waits until the groups have moved that move first.
    Turn,
    /// Claims authority, which is a licence to fence.
    Claim,
    /// Brings this site to full size.
    Capacity,
    /// Waits until enough people have approved.
    Approval,
    /// Calls the hooks that come before anything is closed.
    BeforeFence,
    /// Closes the stores of the source.
    Fence,
    /// Waits until all that was acknowledged is here, or knows what is not.
    CatchUp,
    /// Sends requests through this site's own gateway.
    Try,
    /// Commits: the only point of no return.
    Commit,
    /// Promotes the stores here.
    Promote,
    /// Calls the hooks that come before applications may write.
    BeforeOpen,
    /// Verifies them by a write, and opens them.
    Open,
    /// Calls the hooks that come once this site serves.
    AfterTraffic,
    /// Makes the other site the standby.
    Reprotect,
    /// Opens again what was closed, after the claim was given up.
    Undo,
    /// Gives back the size that a rehearsal has asked for.
    Shrink,
}

impl Step {
    /// All of them, in their order.
    const ALL: [Self; 17] = [
        Self::Preflight,
        Self::Turn,
        Self::Claim,
        Self::Capacity,
        Self::Approval,
        Self::BeforeFence,
        Self::Fence,
        Self::CatchUp,
        Self::Try,
        Self::Commit,
        Self::Promote,
        Self::BeforeOpen,
        Self::Open,
        Self::AfterTraffic,
        Self::Reprotect,
        Self::Undo,
        Self::Shrink,
    ];

    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Turn => "turn",
            Self::Claim => "claim",
            Self::Capacity => "capacity",
            Self::Approval => "approval",
            Self::BeforeFence => "before-fence",
            Self::Fence => "fence",
            Self::CatchUp => "catch-up",
            Self::Try => "try",
            Self::Commit => "commit",
            Self::Promote => "promote",
            Self::BeforeOpen => "before-open",
            Self::Open => "open",
            Self::AfterTraffic => "after-traffic",
            Self::Reprotect => "reprotect",
            Self::Undo => "undo",
            Self::Shrink => "shrink",
        }
    }

    /// What is done in it, until something has come of it.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Preflight => "looks at all that standing readiness checks",
            Self::Turn => "waits for the groups that move first",
            Self::Claim => "claims authority here and at the other sites",
            Self::Capacity => "brings the services of this site to full size",
            Self::Approval => "waits for people to agree",
            Self::BeforeFence => "calls the hooks that come before anything is closed",
            Self::Fence => "closes the stores of the source",
            Self::CatchUp => "waits until all that was written at the source is here",
            Self::Try => "sends requests through the gateway of this site",
            Self::Commit => "commits: from then on this site has authority",
            Self::Promote => "promotes the stores here",
            Self::BeforeOpen => "calls the hooks that come before the stores are opened",
            Self::Open => "verifies the stores by a write, and opens them",
            Self::AfterTraffic => "calls the hooks that come once this site serves",
            Self::Reprotect => "makes the other site the standby",
            Self::Undo => "opens again what was closed",
            Self::Shrink => "gives back the size of this site",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}
