//! What a tour of failover explains. Pure: every number in it is of how the tour is played, none is of what is seen.

/// Requests a second that are sent to the load balancer.
pub const RATE: f64 = 50.0;

/// The acts' titles and what is said before each.
pub fn acts([aws, gcp]: [&str; 2], group: &str) -> [(String, String); 5] {
    [
        (
            format!("{aws} serves, {gcp} follows"),
            format!(
                "FailoverGroup {group} says what moves together: services, a PostgreSQL whose standby in {gcp} follows the \
                 primary in {aws}, and a load balancer. A client writes to the database all the while; {RATE} requests a \
                 second go to the load balancer, which asks each site whether traffic is to come there. Before anybody \
                 orders a move it is known whether one would succeed, and what would hold it:"
            ),
        ),
        (
            format!("switchover to {gcp}"),
            format!(
                "Both clouds answer, so nothing may be lost. {gcp} is brought to full size first. Then the database in {aws} \
                 is closed, what was written there arrives in {gcp}, {gcp} gets authority (the point of no return), and its \
                 database is promoted, tried and opened. Writes stand still in between; the load balancer follows within \
                 its own checks."
            ),
        ),
        (
            format!("the way back to {aws}"),
            format!("The same the other way round, ordered in {aws}: the old primary has followed since."),
        ),
        (
            format!("{aws} is lost"),
            format!(
                "Operator and API server of {aws} hang, its database is killed, and nobody answers load balancers there. \
                 Nobody can close what does not answer, so the failover stops where only a person can know, says what it \
                 needs to hear, and the tour types it."
            ),
        ),
        (
            format!("{aws} returns"),
            format!(
                "Its database comes back as the primary that it was. Its operator reads that {gcp} has authority, closes it, \
                 and has it rewound: it follows, and the group is protected again."
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_names_the_sites_and_none_counts_what_is_not_seen() {
        let acts = acts(["aws", "gcp"], "payments");
        assert!(
            acts.iter()
                .all(|(title, words)| title.contains("aws") || title.contains("gcp") || words.is_empty())
        );
        assert!(acts[0].1.contains("50 requests a second"), "{}", acts[0].1);
    }
}
