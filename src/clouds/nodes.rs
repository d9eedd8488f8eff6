//! What a cloud says of the nodes of a cluster, and whether by that none is left, and none comes back by itself. Pure.
//!
//! What is not certain is no yes: a number that was not told is an error of who asks, and never a zero.

/// The most pools of a cluster that are noted with their sizes. None is scaled whose size was not noted before.
pub const MOST_POOLS: usize = 200;

/// The nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// The cluster, as people call it: `Amazon EKS cluster prod in us-east-1`.
    pub cluster: String,
    /// What its cloud calls the pools: `node groups` or `node pools`.
    pub called: &'static str,
    /// Its pools.
    pub pools: Vec<Pool>,
    /// How many machines of it there are still, those that are being stopped or can be started again included.
    pub left: u32,
    /// What else may run in it, or bring nodes back, whatever its pools say.
    pub others: Vec<Other>,
}

/// Nodes of one kind that a cloud adds and takes away together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many nodes it is to have.
    pub nodes: u32,
    /// The least that it is to have, where it is scaled by itself.
    pub least: u32,
    /// The most that it is to have, where it is scaled by itself.
    pub most: u32,
    /// Whether the cloud itself adds nodes where pods find no room.
    pub scales: bool,
    /// Whether something is being done to it, of which the end is not known.
    pub changing: bool,
    /// The command that gives it the size that it has now.
    pub restore: String,
}

impl Pool {
    /// Whether it is set to zero, and to stay there.
    pub fn is_at_zero(&self) -> bool {
        self.nodes == 0 && self.least == 0 && !self.scales
    }

    /// How it stands, in words.
    fn stands(&self) -> String {
        let Self { name, nodes, least, most, scales, .. } = self;
        match (*nodes, scales) {
            (_, true) => format!("{name} has {nodes} and scales by itself up to {most}"),
            (0, false) => format!("{name} has none and is to have {least} at the least"),
            (_, false) => format!("{name} has {nodes}"),
        }
    }
}

/// Something that may run in a cluster, or bring nodes back, whatever its pools say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// What it is, in one sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Other {
    /// One of these.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

/// What came of setting pools to zero, by their names.
pub type Set = Vec<(String, Result<(), Other>)>;

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No node is left, and none comes back by itself. What speaks for it.
    Gone(String),
    /// All is set to zero, and not yet gone. What is left.
    Going(String),
    /// Some pools are not set to zero, or would not stay there. Which.
    Up(String),
    /// It can never be known by this.
    Never(Other),
}

impl Nodes {
    /// What may run there, or come back, whatever becomes of the pools; `None` if that can be told by the pools.
    pub fn never(&self) -> Option<Other> {
        let Self { cluster, called, pools, .. } = self;
        if let Some(other) = self.others.first() {
            return Some(Other::new(format!("{cluster}: {}", other.message), other.remedy.clone()));
        }
        if pools.is_empty() {
            return Some(Other::new(
                format!("{cluster} has no {called}: what brings its nodes is not known"),
                "see that nobody writes there, and say so; it cannot be confirmed for this cluster",
            ));
        }
        (pools.len() > MOST_POOLS).then(|| {
            Other::new(
                format!(
                    "{cluster} has {} {called}, of which no more than {MOST_POOLS} are noted",
                    pools.len()
                ),
                "see that nobody writes there, and say so",
            )
        })
    }

    /// Its pools that are not set to zero, or would not stay there.
    pub fn up(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(|pool| !pool.is_at_zero())
    }

    /// What follows from it.
    pub fn verdict(&self) -> Verdict {
        let Self { cluster, called, pools, left, .. } = self;
        if let Some(other) = self.never() {
            return Verdict::Never(other);
        }
        let up: Vec<String> = self.up().map(Pool::stands).collect();
        if !up.is_empty() {
            return Verdict::Up(format!("the {called} of {cluster} are not all at zero: {}", up.join(", ")));
        }
        let changing: Vec<&str> =
            pools.iter().filter(|pool| pool.changing).map(|pool| pool.name.as_str()).collect();
        let all = format!("the {called} of {cluster} are at zero");
        match (*left, changing.is_empty()) {
            (0, true) => Verdict::Gone(format!(
                "{all}, nothing scales them, and no machine of it is left: {}",
                pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ")
            )),
            (0, false) => {
                Verdict::Going(format!("{all}, and {} are still being changed", changing.join(", ")))
            }
            (1, _) => Verdict::Going(format!("{all}, and 1 machine of it is left")),
            (left, _) => Verdict::Going(format!("{all}, and {left} machines of it are left")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, nodes: u32, least: u32) -> Pool {
        Pool { name: name.to_owned(), nodes, least, most: 9, ..Pool::default() }
    }

    fn nodes(pools: Vec<Pool>, left: u32) -> Nodes {
        let cluster = "Amazon EKS cluster prod in us-east-1".to_owned();
        Nodes { cluster, called: "node groups", pools, left, others: Vec::new() }
    }

    #[test]
    fn only_what_is_at_zero_stays_there_and_has_left_no_machine_is_gone() {
        let gone = nodes(vec![pool("blue", 0, 0), pool("green", 0, 0)], 0);
        let words = "the node groups of Amazon EKS cluster prod in us-east-1 are at zero, nothing scales them, and no \
                     machine of it is left: blue, green";
        assert_eq!(gone.verdict(), Verdict::Gone(words.to_owned()));
        assert!(matches!(nodes(gone.pools.clone(), 1).verdict(), Verdict::Going(_)), "one is still stopped");
        let changing = Pool { changing: true, ..pool("blue", 0, 0) };
        assert!(matches!(nodes(vec![changing], 0).verdict(), Verdict::Going(_)));
        for up in [pool("red", 1, 0), pool("red", 0, 1), Pool { scales: true, ..pool("red", 0, 0) }] {
            let verdict = nodes(vec![pool("blue", 0, 0), up], 0).verdict();
            assert!(matches!(&verdict, Verdict::Up(words) if words.contains("red has")), "{verdict:?}");
        }
    }

    #[test]
    fn what_may_run_beside_the_pools_is_never_gone() {
        let mut fargate = nodes(vec![pool("blue", 0, 0)], 0);
        fargate.others.push(Other::new("pods may run on Fargate", "delete the profile"));
        assert!(matches!(fargate.verdict(), Verdict::Never(other) if other.message.contains("Fargate")));
        assert!(matches!(nodes(Vec::new(), 0).verdict(), Verdict::Never(_)), "who brings its nodes?");
        let many = (0..=MOST_POOLS).map(|place| pool(&place.to_string(), 0, 0)).collect();
        assert!(matches!(nodes(many, 0).verdict(), Verdict::Never(_)));
    }
}
