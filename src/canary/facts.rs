//! What a decision about a rollout is made from, and what it says.

use jiff::{SignedDuration, Timestamp};

use super::policy::Policy;
use crate::actions::{Answered, Said};
use crate::api::Problem;
use crate::api::action::{self, Verb};
use crate::api::canaryrollout::Match;
use crate::api::canarystatus::{Memory, Past};
use crate::api::conditions::{cut, short};
use crate::api::notice::Notice;
use crate::evidence::{Asked, Verdict};
use crate::judge::{Comparison, Evidence, GateAnswer};

use super::mark::Mark;
use super::policy::Affinity;

/// How long a pod must be Ready before requests are moved to it: EndpointSlices, and what proxies are told of them,
/// come after its readiness by a fraction of a second, on a busy control plane by more.
pub const HEARD_SECONDS: i64 = 2;
/// The same.
pub(super) const HEARD: SignedDuration = SignedDuration::from_secs(HEARD_SECONDS);

/// The longest name of a user that is kept, in characters.
const LONGEST_NAME: usize = 512;

/// What is known of the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// They name the revision that the FinService asks for, be it at zero; or there are none.
    Yes,
    /// They do not name it yet.
    NotNamed,
    /// They name it, and a mesh may not have told its proxies of its Service until then.
    Until(Timestamp),
    /// A gateway says that it has yet to read them as they are.
    NotRead,
}

/// All that a decision is made from.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The namespace of the CanaryRollout.
    pub namespace: &'a str,
    /// The name of the CanaryRollout.
    pub name: &'a str,
    /// UID of the FinService.
    pub service: &'a str,
    /// The policy.
    pub policy: &'a Policy,
    /// Whether the policy has an error: then nothing moves but back.
    pub policy_broken: bool,
    /// What of the CanaryRollout cannot be read, in words: then nothing begins either.
    pub unreadable: Option<&'a str>,
    /// Why nothing but the way back is carried out, if so: the FinService is paused, say.
    pub held: Option<Held<'a>>,
    /// How traffic can be shared here.
    pub sharing: Sharing,
    /// How many pods the service needs now.
    pub scale: Scale,
    /// Hash of the revision that the FinService asks for; `None` while that cannot be known.
    pub current: Option<&'a str>,
    /// Its release.
    pub release: &'a str,
    /// Who asked for it, if that is known.
    pub made_by: Option<&'a str>,
    /// What it reads that was changed, such as `ConfigMap fees`, where that is all that it differs in from the one before:
    /// nobody is on record for that.
    pub changed: Option<&'a str>,
    /// Who changed the policy last, if that is known.
    pub policy_by: Option<&'a str>,
    /// Hash of the revision that serves, which the plain Service selects. Where it selects all of them
    /// ([`Route::by_pods`]), the one that the mark names.
    pub stable: Option<&'a str>,
    /// The revisions that exist.
    pub revisions: &'a [RevisionFacts],
    /// The fresh copy of stable, with `baseline: Fresh`.
    pub baseline: Option<&'a RevisionFacts>,
    /// Whether proxies know where to send the first request of the revision that the FinService asks for.
    pub routed: Routed,
    /// What the evidence says.
    pub evidence: Option<&'a Evidence>,
    /// What the gates that were asked answer.
    pub answers: &'a [GateAnswer],
    /// Actions for this CanaryRollout that are not Done or Refused.
    pub actions: &'a [Said],
    /// What is known of the clusters in `after`.
    pub peers: &'a [Peer],
    /// Whether this site sees traffic.
    pub role: Role,
    /// Why a Failover has stopped all rollouts, if it has.
    pub frozen: Option<&'a str>,
    /// The mark that was read from the route.
    pub mark: Option<&'a Mark>,
    /// What is remembered, from the CanaryRollout's status.
    pub memory: &'a Memory,
}

/// Why nothing moves but back, whatever the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    /// Why, in words.
    pub why: &'a str,
    /// Where the rollout stands meanwhile.
    pub phase: Phase,
}

/// A user's name as it is written down: as far as it fits.
pub(super) fn name_of(user: &str) -> String {
    cut(user.to_owned(), LONGEST_NAME)
}

impl Facts<'_> {
    /// Why nothing goes forward, whatever the evidence says and whoever asks.
    pub(super) fn stopped(&self) -> Option<&str> {
        let broken =
            self.policy_broken.then_some("the CanaryRollout has errors, which status.problems lists");
        self.unreadable.or(self.held.map(|held| held.why)).or(broken)
    }

    /// Who is on record for the revision that the FinService asks for, or why nobody is.
    pub(super) fn on_record(&self) -> (Option<String>, Option<String>) {
        match (self.changed, self.made_by) {
        (Some(changed), _) => (
            None,
            Some(short(format!(
                "nobody is on record for the change of {changed}; have somebody stand for it: set spec.version of the \
                 FinService to another one"
            ))),
        ),
        (None, Some(who)) => (Some(name_of(who)), None),
        (None, None) => (
            None,
            Some(
                "nobody is on record for the change of the FinService, which has no annotation banyan.dev/changed-by; \
                 turn on admission.stampAuthors of the chart (Kubernetes 1.36), or write your own user name there when \
                 you apply it"
                    .to_owned(),
            ),
        ),
    }
    }

    /// The command with which a person tells this rollout something.
    pub fn command(&self, verb: Verb) -> String {
        action::command(verb, self.namespace, self.name)
    }
}

/// How traffic can be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Routes hold for every client in the mesh.
    Mesh,
    /// Routes hold for what comes through the gateway; clients of the plain Service see stable alone.
    Ingress,
    /// By numbers of pods.
    Pods,
}

/// How many pods the service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The fixed number, or the autoscaler's least.
    pub least: i32,
    /// The fixed number, or the autoscaler's most.
    pub most: i32,
    /// Pods that the load of now asks for, of all revisions together, before `least` and `most`; `None`
    /// without an autoscaler.
    pub need: Option<i32>,
}

impl Scale {
    /// Pods for the total demand of now.
    pub fn demand(self) -> i32 {
        self.need.unwrap_or(self.least).clamp(self.least, self.most.max(self.least))
    }
}

/// A revision that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevisionFacts {
    /// Its hash.
    pub hash: String,
    /// Its release.
    pub release: String,
    /// Its pods.
    pub pods: Vec<PodFacts>,
    /// Pods that are Ready as its Deployment counts them, which may be before or after their own words arrive.
    pub available: i32,
}

impl RevisionFacts {
    /// Pods that are Ready.
    pub fn ready(&self) -> i32 {
        self.pods.iter().filter(|pod| pod.ready_since.is_some()).count() as i32
    }

    /// Pods that have been Ready for long enough at that time that proxies have heard of them, and when the next one
    /// will have been.
    pub fn heard_of(&self, now: Timestamp) -> (i32, Option<Timestamp>) {
        let since = self.pods.iter().filter_map(|pod| pod.ready_since);
        let from = since.map(|since| since.saturating_add(HEARD).unwrap_or(Timestamp::MAX));
        let (heard, waiting): (Vec<Timestamp>, Vec<Timestamp>) = from.partition(|from| *from <= now);
        (heard.len() as i32, waiting.into_iter().min())
    }

    /// Whether any of its pods answers, as far as anybody knows.
    pub fn answers(&self) -> bool {
        self.ready() > 0 || self.available > 0
    }

    /// Restarts of containers in all its pods.
    pub fn restarts(&self) -> i64 {
        self.pods.iter().map(|pod| i64::from(pod.restarts)).sum()
    }
}

/// A pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Since when it is Ready.
    pub ready_since: Option<Timestamp>,
    /// How often its containers have restarted since it was first Ready.
    pub restarts: u32,
}

/// What is known of another cluster about the release of this rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub cluster: String,
    /// How the release fares there.
    pub fares: Fares,
}

/// How a release fares in another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fares {
    /// It serves, since then, and all is well.
    Promoted(Timestamp),
    /// It was taken back; why.
    RolledBack(String),
    /// It is on its way.
    Running,
    /// It has not been seen there.
    Unseen,
    /// The cluster does not answer; how.
    Unreachable(String),
}

/// Whether a site sees traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It does.
    #[default]
    Active,
    /// It has a part of the capacity, and perhaps no traffic at all: what it sees is judged, and what it does not see
    /// holds up nothing.
    Partial,
    /// It does not.
    Standby,
}

impl Role {
    /// Whether it goes back with the clusters that go first.
    pub fn follows(self) -> bool {
        self != Self::Active
    }
}

/// Where requests go. Hashes are owned, or borrowed as `Destination<&str>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination<Hash = String> {
    /// A revision, by its hash.
    Revision(Hash),
    /// The fresh copy of a revision, by that one's hash.
    Baseline(Hash),
    /// The old backend.
    Legacy,
}

impl Destination {
    /// The same, with a borrowed hash.
    pub fn borrowed(&self) -> Destination<&str> {
        match self {
            Self::Revision(hash) => Destination::Revision(hash),
            Self::Baseline(hash) => Destination::Baseline(hash),
            Self::Legacy => Destination::Legacy,
        }
    }

    /// Hash of the revision whose template it runs; none of the old backend.
    pub fn hash(&self) -> Option<&str> {
        match self {
            Self::Revision(hash) | Self::Baseline(hash) => Some(hash),
            Self::Legacy => None,
        }
    }
}

/// Where requests go, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Shares in percent; they add up to 100, and none is 0.
    pub shares: Vec<(Destination, i32)>,
    /// Requests that always go to a destination.
    pub matches: Vec<(Match, Destination)>,
    /// Where a share of stable's requests is mirrored to, in percent.
    pub mirror: Option<(Destination, i32)>,
    /// How clients are kept; the cookie's value is the hash of the revision.
    pub affinity: Option<Affinity>,
    /// The host under which a revision can be seen before it serves.
    pub preview: Option<(String, Destination)>,
    /// Whether shares are made by numbers of pods: the plain Service selects all revisions in `pods`.
    pub by_pods: bool,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The first revision starts.
    Starting,
    /// Nothing rolls out.
    #[default]
    Settled,
    /// Other clusters go first.
    Waiting,
    /// Pods of the next step get ready.
    Preparing,
    /// The canary has a weight and is judged.
    Analysing,
    /// A gate is closed.
    Gated,
    /// `maxHold` is over without a verdict.
    Inconclusive,
    /// A person stopped it.
    Paused,
    /// All the weight is the canary's; soon it is called stable.
    Promoting,
    /// Promoted; the old revision is warm.
    Warm,
    /// It failed, and is not tried again without a command.
    RolledBack,
    /// A Failover goes first.
    Frozen,
    /// The policy has an error.
    Blocked,
    /// The policy cannot be read.
    Unreadable,
}

impl Phase {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Settled => "Settled",
            Self::Waiting => "Waiting",
            Self::Preparing => "Preparing",
            Self::Analysing => "Analysing",
            Self::Gated => "Gated",
            Self::Inconclusive => "Inconclusive",
            Self::Paused => "Paused",
            Self::Promoting => "Promoting",
            Self::Warm => "Warm",
            Self::RolledBack => "RolledBack",
            Self::Frozen => "Frozen",
            Self::Blocked => "Blocked",
            Self::Unreadable => "Unreadable",
        }
    }
}

/// What is to be counted, for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The attempt: its evidence starts from nothing.
    pub attempt: i64,
    /// The weight: a new one begins a new step of the evidence.
    pub weight: i32,
    /// The weight that a Pass lets it go on to.
    pub next: i32,
    /// The arm that the canary is compared with.
    pub stable: Destination,
    /// The canary.
    pub canary: Destination,
    /// How the requests of both are to be shared; `None` where nobody can say: clients are kept, or pods are chosen by
    /// their number.
    pub share: Option<Asked>,
}

impl Sampling {
    /// The comparison that this asks for.
    pub fn comparison(&self) -> Comparison {
        let beside = match &self.stable {
            Destination::Revision(hash) => hash.clone(),
            Destination::Baseline(hash) => format!("a fresh copy of {hash}"),
            Destination::Legacy => "the legacy backend".to_owned(),
        };
        let others = self.stable == Destination::Legacy;
        let (attempt, weight, next, share) = (self.attempt, self.weight, self.next, self.share);
        Comparison { attempt, weight, next, beside, share, others }
    }
}

/// What is decided about a rollout, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The revision that serves: the plain Service selects it.
    pub stable: Option<String>,
    /// The revision that is on its way in.
    pub canary: Option<String>,
    /// Where requests go.
    pub route: Route,
    /// Pods of each revision in play, at the least: with an autoscaler this is its lower bound. A revision
    /// that is not named here has lost its traffic, and its pods go after the usual grace (at once where
    /// weights are numbers of pods).
    pub pods: Vec<(String, i32)>,
    /// Pods of the fresh copy of stable.
    pub baseline_pods: i32,
    /// The flag's percentage, with `via: FeatureFlag`; `None` leaves it as it is.
    pub flag: Option<i32>,
    /// What is written on the route in the same write as its weights.
    pub mark: Option<Mark>,
    /// Where it stands.
    pub phase: Phase,
    /// Steps entered, of how many.
    pub step: (i32, i32),
    /// The canary's weight in percent.
    pub weight: i32,
    /// What the evidence says.
    pub verdict: Option<Verdict>,
    /// Why a person must act, if one must: a word for the condition, and a sentence.
    pub stalled: Option<(&'static str, String)>,
    /// What it waits for; the first is the one that matters.
    pub reasons: Vec<String>,
    /// What is worth an Event.
    pub notices: Vec<Notice>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// When to look again although nothing has changed.
    pub again_at: Option<Timestamp>,
    /// What is remembered.
    pub memory: Memory,
    /// What became of Actions.
    pub answered: Vec<Answered>,
    /// Rollouts that ended in this decision.
    pub ended: Vec<Past>,
    /// Gates that are to be asked, by their place in the spec.
    pub ask: Vec<usize>,
    /// What is to be counted.
    pub sampling: Option<Sampling>,
}
