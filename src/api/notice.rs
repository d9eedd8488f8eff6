//! What is worth an Event: decided where everything else is decided, published by [`crate::runtime::events`]. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

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
    /// A site cannot be reached any more, or a FailoverGroup could not fail over any more; the note says why.
    NotReady,
    /// It can again.
    ReadyAgain,
    /// No standby follows a FailoverGroup any more.
    NotProtected,
    /// One does again.
    ProtectedAgain,
    /// A move waits; the note says for what.
    MoveWaits,
    /// A move takes longer than its group allows.
    MoveLate,
    /// A FailoverGroup has moved here.
    Moved,
    /// A rehearsal went through, or a plan is made; nothing has moved.
    Rehearsed,
    /// A move was given up, refused, or another one was faster.
    NotMoved,
    /// What a move did stands in the record of its group; the note has the hash of the last entry.
    Recorded,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::RevisionPromoted,
        Self::DriftRepaired,
        Self::Adopted,
        Self::Stalled,
        Self::RolloutStarted,
        Self::WeightShifted,
        Self::RolledBack,
        Self::RolloutCancelled,
        Self::RolloutPaused,
        Self::RolloutHeld,
        Self::GateReached,
        Self::GateOpened,
        Self::WindowClosed,
        Self::ActionRefused,
        Self::AuthorityChanged,
        Self::NotReady,
        Self::ReadyAgain,
        Self::NotProtected,
        Self::ProtectedAgain,
        Self::MoveWaits,
        Self::MoveLate,
        Self::Moved,
        Self::Rehearsed,
        Self::NotMoved,
        Self::Recorded,
    ];

    /// The one of that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

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
            Self::NotReady => "NotReady",
            Self::ReadyAgain => "ReadyAgain",
            Self::NotProtected => "NotProtected",
            Self::ProtectedAgain => "ProtectedAgain",
            Self::MoveWaits => "MoveWaits",
            Self::MoveLate => "MoveLate",
            Self::Moved => "Moved",
            Self::Rehearsed => "Rehearsed",
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
            Self::NotReady | Self::ReadyAgain | Self::NotProtected | Self::ProtectedAgain => "Check",
            Self::MoveWaits | Self::MoveLate => "Wait",
            Self::Moved | Self::Rehearsed | Self::NotMoved => "Move",
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
                | Self::NotReady
                | Self::NotProtected
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

/// What is worth an Event when the conditions Ready and Protected turn: that it is known not to be so, and that it is so
/// again. That nobody can tell, as after a restart, is no news.
pub fn turned(old: &[Condition], new: &[Condition]) -> Vec<Notice> {
    let said = |all: &'_ [Condition], kind: &str| {
        all.iter().find(|one| one.type_ == kind).map(|one| (one.status.clone(), one.message.clone()))
    };
    let kinds = [
        ("Ready", Reason::NotReady, Reason::ReadyAgain),
        ("Protected", Reason::NotProtected, Reason::ProtectedAgain),
    ];
    let notices = kinds.into_iter().filter_map(|(kind, lost, again)| {
        let ((before, _), (now, note)) = (said(old, kind)?, said(new, kind)?);
        match (before.as_str(), now.as_str()) {
            ("True" | "Unknown", "False") => Some(Notice { reason: lost, note }),
            ("False", "True") => Some(Notice { reason: again, note }),
            _ => None,
        }
    });
    notices.collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn conditions(ready: &str, protected: &str) -> Vec<Condition> {
        let condition = |kind: &str, status: &str| Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: "Because".to_owned(),
            message: format!("{kind} is {status}"),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        vec![condition("Ready", ready), condition("Protected", protected)]
    }

    #[test]
    fn all_reasons_are_listed() {
        let own = include_str!("notice.rs");
        let words =
            own.lines().filter(|line| line.trim_start().starts_with("Self::") && line.contains("=> \""));
        let named: std::collections::BTreeSet<&str> = words
            .filter_map(|line| line.split('"').nth(1))
            .filter(|word| Reason::named(word).is_some())
            .collect();
        assert_eq!(named.len(), Reason::ALL.len());
        let variants = own.split("pub enum Reason {").nth(1).and_then(|rest| rest.split("\n}").next());
        let variants = variants.expect("an enum").lines().filter(|line| line.ends_with(',')).count();
        assert_eq!(variants, Reason::ALL.len());
        let page = include_str!("../../docs/notifications.md");
        let told = |reason: &Reason| page.contains(&format!("`{}`", reason.as_str()));
        assert_eq!(
            Reason::ALL.into_iter().find(|reason| !told(reason)),
            None,
            "docs/notifications.md has it"
        );
    }

    #[test]
    fn what_is_lost_and_what_comes_back_is_told_and_nothing_in_between() {
        let told = |old: &[Condition], new: &[Condition]| {
            let notices = turned(old, new).into_iter();
            notices.map(|notice| format!("{} {}", notice.reason.as_str(), notice.note)).collect::<Vec<_>>()
        };
        let well = conditions("True", "True");
        assert_eq!(told(&[], &conditions("False", "False")), [""; 0], "it is new");
        assert_eq!(told(&well, &conditions("False", "Unknown")), ["NotReady Ready is False"]);
        assert_eq!(told(&conditions("Unknown", "False"), &well), ["ProtectedAgain Protected is True"]);
        let lost = conditions("False", "False");
        assert_eq!(told(&lost, &lost), [""; 0]);
        assert_eq!(told(&well, &lost), ["NotReady Ready is False", "NotProtected Protected is False"]);
    }
}
