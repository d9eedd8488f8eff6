//! What a cloud of the sandbox is like. Pure.

/// A fifth less time than with Go's default of 100, for 300 MB more memory of each API server that holds little.
const GOGC: u32 = 300;

/// What a cloud is like.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Its name, which is also the site's, such as `aws-us-east-1`.
    pub name: String,
    /// Its region, as the nodes' labels say it.
    pub region: String,
    /// Its zones.
    pub zones: Vec<String>,
    /// How many nodes each zone has.
    pub nodes_per_zone: usize,
    /// Where its pods get their addresses. EndpointSlices refuse loopback, so these are not.
    pub pod_cidr: String,
    /// The third byte of its nodes' addresses.
    pub subnet: u8,
    /// Whether its pods become Ready only when a [`super::traffic::PodRunner`] serves them, and stay for as long as
    /// their `preStop` sleeps when they are to go. Else they are Ready and gone at once, and nothing answers.
    pub served: bool,
    /// Where its API server asks who shows a token that it does not know itself, as clouds have it. Nobody is asked
    /// where it is `None`.
    pub token_review: Option<String>,
    /// More flags for its API server.
    pub apiserver_flags: Vec<String>,
    /// By how many percent its processes, which are written in Go, may grow before garbage is collected (`GOGC`).
    pub gogc: u32,
}

impl CloudOptions {
    /// The cloud `aws-us-east-1`: two nodes in each of three zones.
    pub fn aws() -> Self {
        Self {
            name: "aws-us-east-1".into(),
            region: "us-east-1".into(),
            zones: ["us-east-1a", "us-east-1b", "us-east-1c"].map(String::from).into(),
            nodes_per_zone: 2,
            pod_cidr: "10.250.0.0/17".into(),
            subnet: 1,
            served: false,
            token_review: None,
            apiserver_flags: Vec::new(),
            gogc: GOGC,
        }
    }

    /// The cloud `gcp-us-central1`: two nodes in each of three zones.
    pub fn gcp() -> Self {
        Self {
            name: "gcp-us-central1".into(),
            region: "us-central1".into(),
            zones: ["us-central1-a", "us-central1-b", "us-central1-c"].map(String::from).into(),
            nodes_per_zone: 2,
            pod_cidr: "10.250.128.0/17".into(),
            subnet: 2,
            served: false,
            token_review: None,
            apiserver_flags: Vec::new(),
            gogc: GOGC,
        }
    }
}
