//! Topics that are somebody else's too, or that their owners do not let one use. Pure.

use crate::api::{FinServiceSpec, Problem};
use crate::finservice::children::Way;
use crate::finservice::index::Observed;
use crate::finservice::index::topics::{LostTopic, RefusedTopic};

/// Adds what is wrong with topics.
pub fn add(spec: &FinServiceSpec, seen: &Observed, problems: &mut Vec<Problem>) {
    problems.extend(seen.told_topics.lost.iter().filter_map(|lost| named_twice(spec, lost)));
    problems.extend(seen.told_topics.refused.iter().map(|refused| not_allowed(seen, refused)));
}

/// That somebody else names it as its own too.
fn named_twice(spec: &FinServiceSpec, lost: &LostTopic) -> Option<Problem> {
    let LostTopic { name, in_kafka, cluster, holder, owner, same_object, same_owner } = lost;
    let source = "spec.data.topics";
    if *same_object {
        if *same_owner {
            let message = format!(
                "topic {name} is made by FinService {holder}, which is older: what is said of it here is not followed"
            );
            return Some(Problem::info(source, message, "Nothing to do if both say the same of it."));
        }
        let message = format!(
            "topic {name} of Kafka cluster {cluster} is owned by FinService {holder} of {owner} too, which is older; that one \
             makes it, and what is said of it here is not followed, and {} may read and write it",
            spec.owner
        );
        let remedy = "Take it out of data.topics of one of both, or give it another name there.";
        return Some(Problem::warning(source, message, remedy));
    }
    let message = format!(
        "topic {in_kafka} of Kafka cluster {cluster} is owned by FinService {holder} of {owner}, which is older: it is not made \
         here, and only what that one allows is allowed here"
    );
    let remedy = format!(
        "Name it in data.reads or data.writes instead, and have {owner} name this FinService in readers or writers of the topic. \
         If each namespace has its own Kafka cluster, install the chart with kafkaPerNamespace=true."
    );
    Some(Problem::warning(source, message, remedy))
}

/// That it may not be used.
fn not_allowed(seen: &Observed, refused: &RefusedTopic) -> Problem {
    let RefusedTopic { name, way, cluster, holder } = refused;
    let (field, uses, list) = match way {
        Way::Read => ("spec.data.reads", "read", "readers"),
        Way::Write => ("spec.data.writes", "written", "writers"),
    };
    let metadata = &seen.service.metadata;
    let me = format!(
        "{{service: {}, namespace: {}}}",
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default()
    );
    match holder {
        Some(holder) => Problem::error(
            field,
            format!("topic {name} may not be {uses}: FinService {holder} owns it, and does not allow it"),
            format!("Have {me} added to {list} of the topic in spec.data.topics of FinService {holder}."),
        ),
        None => Problem::error(
            field,
            format!(
                "topic {name} may not be {uses}: no FinService owns it in Kafka cluster {cluster}, so that nobody can allow it"
            ),
            format!(
                "Correct the name; or have the FinService that it belongs to name it in spec.data.topics, with {list}: [{me}]."
            ),
        ),
    }
}
