//! Conditions and problems: how every resource says whether it is fine, and if not, why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::whole_seconds;

/// The longest sentence in a status, in characters.
///
/// The schema bounds every string, and the API server refuses a status as a whole for one that is longer. What others
/// say (an API server, a webhook, a scheduler) is as long as they like, so whoever makes a sentence makes it [`short`].
pub const LONGEST: usize = 1000;
/// The longest path of a field that a problem names, in characters.
const LONGEST_SOURCE: usize = 253;

/// The text, cut where it is longer than [`LONGEST`].
pub fn short(text: impl Into<String>) -> String {
    cut(text.into(), LONGEST)
}

/// The text, cut where it has more characters than `most`: the last one says that something is missing.
pub fn cut(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.pop();
        text.push('…');
    }
    text
}

/// Something that is wrong, where it comes from, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Path of the field that it comes from, such as `spec.ingress.hosts`.
    #[schemars(length(max = 253))]
    pub source: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What to do about it.
    #[schemars(length(max = 1024))]
    pub remedy: String,
}

/// How bad a problem is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// The service, or a part of it, does not work until a person acts.
    Error,
    /// It works, but something that was asked for is missing or dangerous.
    Warning,
    /// Worth knowing.
    Info,
}

impl Problem {
    /// A problem of that severity.
    pub fn new(
        severity: Severity,
        source: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            source: cut(source.into(), LONGEST_SOURCE),
            severity,
            message: short(message),
            remedy: short(remedy),
        }
    }

    /// Something that does not work until a person acts.
    pub fn error(source: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Error, source, message, remedy)
    }

    /// Something that was asked for and is missing or dangerous.
    pub fn warning(source: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Warning, source, message, remedy)
    }

    /// Something worth knowing.
    pub fn info(source: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Info, source, message, remedy)
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows yet.
    Unknown,
}

impl State {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition as it ought to be, before it is compared with what stands in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its type, such as `Ready`.
    pub kind: &'static str,
    /// Whether it holds.
    pub state: State,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// The conditions in the order of `wanted`. The time of the last transition is kept where the
/// status of the condition stays the same, as the API conventions ask.
pub fn merge(
    current: &[Condition],
    wanted: Vec<Wanted>,
    generation: Option<i64>,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let now = whole_seconds(now);
    wanted
        .into_iter()
        .map(|want| {
            let last_transition_time = current
                .iter()
                .find(|have| have.type_ == want.kind && have.status == want.state.as_str())
                .map_or(Time(now), |have| have.last_transition_time.clone());
            Condition {
                type_: want.kind.to_owned(),
                status: want.state.as_str().to_owned(),
                reason: want.reason.to_owned(),
                message: short(want.message),
                observed_generation: generation,
                last_transition_time,
            }
        })
        .collect()
}

/// What one condition says, without its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    /// Whether it holds.
    pub state: State,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Says {
    /// It is so.
    pub fn new(state: State, reason: &'static str, message: impl Into<String>) -> Self {
        Self { state, reason, message: message.into() }
    }

    /// It holds.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(State::True, reason, message)
    }

    /// It does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(State::False, reason, message)
    }

    /// Nothing is wrong: what Stalled says then.
    pub fn no_problem() -> Self {
        Self::no("NoProblem", "")
    }
}

/// How an object stands, by the rules of kstatus: whether it is as asked for, whether it is being worked on, and whether
/// a person must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The condition Ready.
    pub ready: Says,
    /// The condition Reconciling.
    pub reconciling: Says,
    /// The condition Stalled.
    pub stalled: Says,
}

impl Standing {
    /// Nothing can be done before a person acts: all three say why.
    pub fn stuck(reason: &'static str, message: &str) -> Self {
        Self {
            ready: Says::no(reason, message),
            reconciling: Says::no(reason, message),
            stalled: Says::yes(reason, message),
        }
    }

    /// The conditions; see [`merge`].
    pub fn conditions(
        self,
        current: &[Condition],
        generation: Option<i64>,
        now: jiff::Timestamp,
    ) -> Vec<Condition> {
        let all = [("Ready", self.ready), ("Reconciling", self.reconciling), ("Stalled", self.stalled)];
        let wanted =
            all.map(|(kind, Says { state, reason, message })| Wanted { kind, state, reason, message });
        merge(current, wanted.into(), generation, now)
    }
}

/// Whether two lists of conditions say the same; the times of transitions follow from the rest.
pub fn same(one: &[Condition], other: &[Condition]) -> bool {
    let said = |condition: &Condition| Condition {
        last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        ..condition.clone()
    };
    one.iter().map(said).eq(other.iter().map(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_5_12_what_others_say_is_cut_before_the_schema_refuses_it() {
        let long = "ä".repeat(5000);
        let problem = Problem::error(&long, &long, &long);
        let lengths = [&problem.source, &problem.message, &problem.remedy].map(|text| text.chars().count());
        assert_eq!(lengths, [253, 1000, 1000]);
        assert!(problem.message.ends_with("ä…"), "{}", problem.message);
        let condition = merge(&[], wanted(State::False, &long), None, jiff::Timestamp::UNIX_EPOCH).remove(0);
        assert_eq!(condition.message.chars().count(), 1000);
        assert_eq!(short("short"), "short");
        assert_eq!(cut("abcd".to_owned(), 4), "abcd");
    }

    fn wanted(state: State, message: &str) -> Vec<Wanted> {
        vec![Wanted { kind: "Ready", state, reason: "Because", message: message.to_owned() }]
    }

    #[test]
    fn the_time_of_a_transition_moves_only_with_the_status() {
        let at = |second| jiff::Timestamp::from_second(second).expect("in range");
        let first = merge(&[], wanted(State::False, "a"), Some(1), at(100));
        let second = merge(&first, wanted(State::False, "b"), Some(2), at(200));
        assert_eq!(second[0].last_transition_time.0, at(100));
        assert_eq!((second[0].message.as_str(), second[0].observed_generation), ("b", Some(2)));
        let third = merge(&second, wanted(State::True, "b"), Some(2), at(300));
        assert_eq!(third[0].last_transition_time.0, at(300));
    }
}
