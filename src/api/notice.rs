//! What is worth an Event: decided where everything else is decided, published by [`crate::runtime::events`]. Pure.

/// Why an Event is sent: its `reason`, which alerts can match. Values are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A revision takes all traffic.
    RevisionPromoted,
    /// A child was changed or deleted by somebody else, and restored.
    DriftRepaired,
    /// An object that existed before was taken over, because its owner said so.
    Adopted,
    /// A person must act; the note says on what.
    Stalled,
    /// A rollout of a new revision begins.
    RolloutStarted,
    /// The canary's weight goes up.
    WeightShifted,
    /// The canary's weight went to zero, and it is not tried again without a command.
    RolledBack,
    /// A rollout ends before its time without anybody's fault: another template came, or stable's own.
    RolloutCancelled,
    /// A person stopped a rollout, or let it go on.
    RolloutPaused,
    /// A rollout waits: for evidence beyond its time, for pods, for other clusters, for a Failover.
    RolloutHeld,
    /// A rollout waits at a gate.
    GateReached,
    /// A gate opened.
    GateOpened,
    /// The rollback window is over.
    WindowClosed,
    /// What a person said is not carried out; the note says why.
    ActionRefused,
    /// Another site has authority over a FailoverGroup, or this one has it now.
    AuthorityChanged,
    /// A move waits; the note says for what.
    MoveWaits,
    /// A move takes longer than its group allows.
    MoveLate,
    /// A FailoverGroup has moved here.
    Moved,
    /// A move was given up, refused, or another one was faster.
    NotMoved,
    /// What a move did stands in the record of its group; the note has the hash of the last entry.
    Recorded,
}

impl Reason {
    /// The `reason` of the Event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RevisionPromoted => "RevisionPromoted",
            Self::DriftRepaired => "DriftRepaired",
            Self::Adopted => "Adopted",
            Self::Stalled => "Stalled",
            Self::RolloutStarted => "RolloutStarted",
            Self::WeightShifted => "WeightShifted",
            Self::RolledBack => "RolledBack",
            Self::RolloutCancelled => "RolloutCancelled",
            Self::RolloutPaused => "RolloutPaused",
            Self::RolloutHeld => "RolloutHeld",
            Self::GateReached => "GateReached",
            Self::GateOpened => "GateOpened",
            Self::WindowClosed => "WindowClosed",
            Self::ActionRefused => "ActionRefused",
            Self::AuthorityChanged => "AuthorityChanged",
            Self::MoveWaits => "MoveWaits",
            Self::MoveLate => "MoveLate",
            Self::Moved => "Moved",
            Self::NotMoved => "NotMoved",
            Self::Recorded => "Recorded",
        }
    }

    /// The `action` of the Event: what was done about it.
    pub const fn action(self) -> &'static str {
        match self {
            Self::RevisionPromoted => "Promote",
            Self::DriftRepaired => "Repair",
            Self::Adopted => "Adopt",
            Self::Stalled => "Wait",
            Self::GateOpened => "Resume",
            Self::RolloutStarted => "Start",
            Self::WeightShifted => "Shift",
            Self::RolledBack => "RollBack",
            Self::RolloutCancelled => "Cancel",
            Self::RolloutPaused | Self::RolloutHeld | Self::GateReached => "Wait",
            Self::WindowClosed => "Close",
            Self::ActionRefused => "Refuse",
            Self::AuthorityChanged => "Follow",
            Self::MoveWaits | Self::MoveLate => "Wait",
            Self::Moved | Self::NotMoved => "Move",
            Self::Recorded => "Record",
        }
    }

    /// Whether `kubectl` shows it as a warning.
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::DriftRepaired
                | Self::Stalled
                | Self::RolledBack
                | Self::ActionRefused
                | Self::NotMoved
                | Self::MoveLate
        )
    }
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Why it is sent.
    pub reason: Reason,
    /// One sentence.
    pub note: String,
}
