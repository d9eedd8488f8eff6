//! The set of services: that there is one, where they are placed, what is missing here, releases, and room. Pure.

use super::found::{Found, Looked, Step, names};
use crate::failovergroup::facts::sum;
use crate::failovergroup::peak::peak_of;

/// With how much of the peak an unplanned failover goes on, in percent, where the group does not say.
const MINIMUM: i32 = 80;

/// Checks them.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    let seen = looked.seen;
    if seen.services.is_empty() {
        return vec![Found::failed(
            Step::Preflight,
            "services",
            "EmptySet",
            "the group holds no FinService at this site: a failover would move nothing",
            "compare spec.services.namespaces and spec.services.selector with `kubectl get finservices -A --show-labels`",
        )];
    }
    let mut found = vec![placed(looked), ready(looked)];
    found.extend(shared(looked));
    found.extend(residency(looked));
    found.extend(peers(looked));
    found.extend(room(looked));
    found
}

/// Whether every service is placed at every site.
fn placed(looked: &Looked<'_>) -> Found {
    let missing = |site: &String| {
        let absent = looked.seen.services.iter().filter(|(_, facts)| !facts.is_placed(site));
        let absent: Vec<String> = absent.map(|(key, _)| key.to_string()).collect();
        (!absent.is_empty()).then(|| format!("{} not at {site}", names(&absent)))
    };
    let missing: Vec<String> = looked.spec.sites.iter().filter_map(missing).collect();
    if missing.is_empty() {
        return Found::passed(
            Step::Preflight,
            "placement",
            "Placed",
            "every service is placed at every site",
        );
    }
    Found::failed(
        Step::Preflight,
        "placement",
        "NotPlaced",
        format!("services are not placed at every site of the group: {}", missing.join("; ")),
        "add the site to spec.placement of these FinServices, or take them out of spec.services",
    )
}

/// Whether every service is well here: images, Secrets, ConfigMaps and certificates are then there.
fn ready(looked: &Looked<'_>) -> Found {
    let here = &looked.seen.site;
    let placed = looked.seen.services.iter().filter(|(_, facts)| facts.is_placed(here));
    let mut unready = Vec::new();
    let mut first = None;
    for (key, facts) in placed {
        let why = match (&facts.error, &facts.ready) {
            (Some((message, remedy)), _) => Some((message.clone(), remedy.clone())),
            (None, Some(Err(message))) => Some((
                message.clone(),
                format!("see `kubectl describe finservice {} -n {}`", key.name, key.namespace),
            )),
            _ => None,
        };
        if let Some((message, remedy)) = why {
            unready.push(key.to_string());
            first.get_or_insert((format!("{key}: {message}"), remedy));
        }
    }
    match first {
        None => Found::passed(Step::Capacity, "services", "Ready", "every service is well at this site"),
        Some((message, remedy)) => Found::failed(
            Step::Capacity,
            "services",
            "NotReady",
            format!("not well at this site: {}. {message}", names(&unready)),
            remedy,
        ),
    }
}

/// Services that another group has too.
fn shared(looked: &Looked<'_>) -> Option<Found> {
    let shared = looked.seen.shared.iter();
    let shared: Vec<String> = shared.map(|(key, other)| format!("{key} with {other}")).collect();
    (!shared.is_empty()).then(|| {
        Found::failed(
            Step::Preflight,
            "one group each",
            "InTwoGroups",
            format!("services are in two FailoverGroups: {}", names(&shared)),
            "narrow spec.services of one of both",
        )
    })
}

fn residency(looked: &Looked<'_>) -> Option<Found> {
    let wanted = looked.spec.residency;
    let other = looked.seen.services.iter().filter_map(|(key, facts)| {
        let own = facts.residency?;
        (Some(own) != wanted).then(|| format!("{key} ({own:?})"))
    });
    let other: Vec<String> = other.collect();
    (!other.is_empty()).then(|| {
        let group = wanted.map_or_else(|| "none".to_owned(), |wanted| format!("{wanted:?}"));
        Found::failed(
            Step::Preflight,
            "residency of services",
            "OtherResidency",
            format!(
                "services must keep their data elsewhere than the group says ({group}): {}",
                names(&other)
            ),
            "set spec.residency of the FailoverGroup, or make a group for each residency",
        )
    })
}

/// What differs at the peers.
fn peers(looked: &Looked<'_>) -> Vec<Found> {
    let here = &looked.seen.services;
    let mut found = Vec::new();
    for peer in &looked.seen.peers {
        let check = format!("releases at {}", peer.name);
        let Some(there) = &peer.services else {
            found.push(Found::unknown(
                Step::Preflight,
                check,
                "NotRead",
                format!("the FinServices of {} have not been read", peer.name),
                format!(
                    "let {} be reached, with the ClusterRole banyan-peer bound there to this operator's user",
                    peer.name
                ),
            ));
            continue;
        };
        let absent = there
            .keys()
            .filter(|key| !here.contains_key(*key))
            .map(|key| format!("{key} only at {}", peer.name));
        let extra = here.keys().filter(|key| !there.contains_key(*key)).map(|key| format!("{key} only here"));
        let skewed = here.iter().filter_map(|(key, facts)| {
            let other = there.get(key)?;
            let (one, two) = (facts.release.as_ref()?, other.release.as_ref()?);
            (one != two).then(|| format!("{key} ({one} here, {two} at {})", peer.name))
        });
        let differs: Vec<String> = absent.chain(extra).chain(skewed).collect();
        found.push(if differs.is_empty() {
            Found::passed(Step::Preflight, check, "SameReleases", format!("{} runs the same releases", peer.name))
        } else {
            Found::failed(
                Step::Preflight,
                check,
                "OtherReleases",
                format!("the sites do not run the same: {}", names(&differs)),
                "let git and the rollouts of both sites come to the same release; `kubectl banyan canary list` shows what is on its way",
            )
        });
    }
    found
}

/// Whether the peak of those who serve fits here.
fn room(looked: &Looked<'_>) -> Option<Found> {
    if looked.holds(&looked.seen.site) {
        return None;
    }
    let Some((cpu, memory, pods)) = peak_of(looked.seen.status().and_then(|status| status.peak.as_ref()))
    else {
        return Some(Found::unknown(
            Step::Capacity,
            "capacity",
            "NoPeak",
            "it is not known yet how many pods the active site has at its peak",
            "wait until the active site has been read; its FinServices must be Ready",
        ));
    };
    let Some(nodes) = &looked.seen.nodes else {
        return Some(Found::unknown(
            Step::Capacity,
            "capacity",
            "NodesNotRead",
            "the nodes of this site have not been counted",
            "let the operator's ClusterRole list nodes and pods",
        ));
    };
    let Some(requested) = nodes.requested else {
        return Some(Found::unknown(
            Step::Capacity,
            "capacity",
            "PodsNotRead",
            "it cannot be read what the pods of this site ask for",
            "let the operator's ClusterRole list pods",
        ));
    };
    let (here_cpu, here_memory, _) = sum(&looked.seen.services);
    let lacks = |need: i64, here: i64, allocatable: i64, requested: i64, percent: i32| {
        let need = need.saturating_mul(i64::from(percent)) / 100;
        need.saturating_sub(here) > allocatable.saturating_sub(requested)
    };
    let mib = |bytes: i64| bytes / (1 << 20);
    let short = |percent: i32| {
        lacks(cpu, here_cpu, nodes.allocatable.cpu, requested.cpu, percent)
            || lacks(memory, here_memory, mib(nodes.allocatable.memory), mib(requested.memory), percent)
    };
    let minimum =
        looked.spec.capacity.as_ref().and_then(|capacity| capacity.minimum_percent).unwrap_or(MINIMUM);
    Some(if short(minimum) {
        Found::failed(
            Step::Capacity,
            "capacity",
            "NoRoom",
            format!(
                "the nodes of this site have no room for {minimum} % of the peak of the last 24 hours ({pods} pods)"
            ),
            "add nodes, raise the minimum of the node pool or the limit of the autoscaler, or lower spec.capacity.minimumPercent",
        )
    } else if short(100) {
        Found::warning(
            Step::Capacity,
            "capacity",
            "LittleRoom",
            format!(
                "the nodes of this site have room for {minimum} % of the peak of the last 24 hours ({pods} pods), and not for all of it"
            ),
            "add nodes, or let the autoscaler add some: until then a failover serves with fewer pods",
        )
    } else {
        Found::passed(
            Step::Capacity,
            "capacity",
            "Room",
            "the nodes of this site have room for the peak of the last 24 hours",
        )
    })
}
