//! Pure. Records of Route 53: which ones a group has, what stands by those that were read, and the batch that changes them.
//!
//! A batch deletes the mark that was read and creates the next one, and does the same with each record that it changes.
//! Route 53 carries out all of it or nothing, and refuses to delete what does not stand exactly so: it is a
//! compare-and-set.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::traffic::{RecordType, Route53Record, Route53Target, Route53Traffic};
use crate::dns::keeper;
use crate::dns::plan::Change;
use crate::dns::problems::LONGEST_LIFETIME;
use crate::dns::stands::{Fallback, Health, Monitor, Oddity, SiteStands, Stands, Weight};
use crate::dns::wanted::{Mark, Wanted};

/// How long the mark may be kept by resolvers, in seconds. Nobody looks it up by DNS but people.
const MARK_TTL: i64 = 60;

/// A record set, with all that ours have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordSet {
    /// Without a dot at the end.
    pub name: String,
    pub kind: String,
    pub set: Option<String>,
    pub weight: Option<i64>,
    pub ttl: Option<i64>,
    pub values: Vec<String>,
    pub alias: Option<Alias>,
    pub health_check: Option<String>,
    /// It has more than the above, so it is none of ours.
    pub other: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Alias {
    pub zone: String,
    pub name: String,
    pub evaluate: bool,
}

/// One step of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Delete(RecordSet),
    Create(RecordSet),
}

/// A health check as it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Check {
    pub id: String,
    pub reference: String,
    pub monitor: Option<Monitor>,
}

/// All that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// Name of the zone, without a dot at the end.
    pub zone: String,
    /// The records of the group's names, its mark among them.
    pub records: Vec<RecordSet>,
    /// Text records by which others remember what is their own.
    pub registry: Vec<RecordSet>,
    /// The health check of each site.
    pub checks: BTreeMap<String, Check>,
    pub health: BTreeMap<String, Health>,
}

/// The name under which a group's mark stands.
pub(super) fn mark_name(group: &str, zone: &str) -> String {
    format!("_banyan.{group}.{zone}")
}

/// The record that bears a mark.
pub(super) fn mark_record(mark: &Mark, zone: &str) -> RecordSet {
    RecordSet {
        name: mark_name(&mark.group, zone),
        kind: "TXT".to_owned(),
        ttl: Some(MARK_TTL),
        values: vec![format!("\"{mark}\"")],
        ..RecordSet::default()
    }
}

fn pointed(set: &mut RecordSet, record: &Route53Record, target: &Route53Target) -> Option<()> {
    let addresses = match record.kind {
        RecordType::A => target.a.clone(),
        RecordType::Aaaa => target.aaaa.clone(),
        RecordType::Cname => target.cname.clone().map(|name| vec![name]),
    };
    match (addresses, &target.alias) {
        (Some(values), _) => {
            set.ttl = Some(record.ttl().into());
            set.values = values;
        }
        (None, Some(alias)) if record.kind != RecordType::Cname => {
            let (zone, name) = (alias.zone_id.clone(), alias.name.clone());
            set.alias = Some(Alias { zone, name, evaluate: false });
        }
        (None, _) => return None,
    }
    Some(())
}

/// The record of a site as it is asked for, with that share.
fn of_site(
    wanted: &Wanted,
    traffic: &Route53Traffic,
    record: &Route53Record,
    site: &str,
    weight: u8,
    check: Option<&Check>,
) -> Option<RecordSet> {
    let mut set = RecordSet {
        name: record.name.clone(),
        kind: record.kind.as_str().to_owned(),
        set: Some(wanted.name_of(site)),
        weight: Some(weight.into()),
        health_check: Some(check?.id.clone()),
        ..RecordSet::default()
    };
    pointed(&mut set, record, traffic.targets.get(site)?)?;
    Some(set)
}

/// The record that answers while no site does: of weight zero and without a check, so that Route 53 names it when all
/// others are ill.
pub(super) fn of_fallback(
    wanted: &Wanted,
    traffic: &Route53Traffic,
    record: &Route53Record,
) -> Option<RecordSet> {
    let mut set = RecordSet {
        name: record.name.clone(),
        kind: record.kind.as_str().to_owned(),
        set: Some(wanted.name_of("fallback")),
        weight: Some(0),
        ..RecordSet::default()
    };
    pointed(&mut set, record, traffic.fallback.as_ref()?)?;
    Some(set)
}

/// Whether both point to the same, for as long, by the same check.
fn same_but_weight(one: &RecordSet, other: &RecordSet) -> bool {
    let plain = |set: &RecordSet| {
        let mut set = set.clone();
        set.weight = None;
        set.values.sort();
        if let Some(alias) = &mut set.alias {
            alias.name = alias.name.trim_end_matches('.').to_ascii_lowercase();
        }
        set
    };
    plain(one) == plain(other)
}

impl Read {
    fn find(&self, record: &Route53Record, set: &str) -> Option<&RecordSet> {
        let of_record = |found: &&RecordSet| found.name == record.name && found.kind == record.kind.as_str();
        self.records.iter().filter(of_record).find(|found| found.set.as_deref() == Some(set))
    }

    fn at<'a>(&'a self, record: &'a Route53Record) -> impl Iterator<Item = &'a RecordSet> {
        self.records.iter().filter(|set| set.name == record.name && set.kind == record.kind.as_str())
    }

    fn mark_set(&self, wanted: &Wanted) -> Option<&RecordSet> {
        let name = mark_name(&wanted.group, &self.zone);
        self.records.iter().find(|set| set.kind == "TXT" && set.name == name)
    }

    /// What stands, in the words of all providers.
    pub(super) fn stands(&self, wanted: &Wanted, traffic: &Route53Traffic) -> Stands {
        let mut stands = Stands {
            mark: self
                .mark_set(wanted)
                .and_then(|set| set.values.first())
                .and_then(|text| Mark::of_text(text.trim_matches('"'))),
            fallback: self.who_falls_back(wanted, traffic),
            ..Stands::default()
        };
        for (site, asked) in &wanted.sites {
            let Some(check) = self.checks.get(site) else { continue };
            let name = wanted.name_of(site);
            let found: Vec<&RecordSet> =
                traffic.records.iter().filter_map(|record| self.find(record, &name)).collect();
            let as_asked = traffic.records.iter().all(|record| {
                let due = of_site(wanted, traffic, record, site, asked.weight, Some(check));
                let there = self.find(record, &name);
                there.zip(due.as_ref()).is_some_and(|(there, due)| same_but_weight(there, due))
            });
            let weights: BTreeSet<Option<i64>> = found.iter().map(|set| set.weight).collect();
            let weight = match weights.iter().next() {
                Some(Some(weight)) if weights.len() == 1 => match u8::try_from(*weight) {
                    Ok(weight) if weight <= 100 => Weight::Is(weight),
                    _ => Weight::Mixed,
                },
                _ => Weight::Mixed,
            };
            let one = SiteStands {
                // What is shared out in another way than by weights is not ours to change.
                there: traffic.targets.contains_key(site) && !found.iter().any(|set| set.other),
                on: !found.is_empty(),
                weight,
                as_asked,
                health: self.health.get(site).cloned().unwrap_or_default(),
                monitor: check.monitor.clone(),
            };
            stands.sites.insert(site.clone(), one);
        }
        stands.oddities = self.odd(wanted, traffic);
        stands
    }

    fn who_falls_back(&self, wanted: &Wanted, traffic: &Route53Traffic) -> Fallback {
        let name = wanted.name_of("fallback");
        for record in &traffic.records {
            let Some(set) = self.find(record, &name) else { return Fallback::AllSites };
            if set.weight != Some(0) || set.health_check.is_some() {
                return Fallback::Unnamed(format!("the record {name} with a weight or a check"));
            }
            let same = |site: &&String| {
                self.find(record, &wanted.name_of(site))
                    .is_some_and(|own| own.values == set.values && own.alias == set.alias)
            };
            if let Some(site) = wanted.sites.keys().find(same) {
                return Fallback::Site(site.clone());
            }
        }
        Fallback::FixedAnswer
    }

    fn odd(&self, wanted: &Wanted, traffic: &Route53Traffic) -> Vec<Oddity> {
        let mut odd = BTreeSet::new();
        let ours: BTreeSet<String> = wanted
            .sites
            .keys()
            .map(String::as_str)
            .chain(["fallback"])
            .map(|site| wanted.name_of(site))
            .collect();
        for record in &traffic.records {
            let at = format!("{} {}", record.kind.as_str(), record.name);
            for set in self.at(record) {
                if !set.set.as_ref().is_some_and(|name| ours.contains(name)) {
                    let to = set.set.as_ref().map_or_else(
                        || "the record without an identifier".to_owned(),
                        |name| format!("the record {name}"),
                    );
                    odd.insert(Oddity::Leak { to, at: at.clone() });
                }
                if let Some(seconds) = set.ttl.filter(|seconds| *seconds > LONGEST_LIFETIME) {
                    odd.insert(Oddity::Lifetime { name: at.clone(), seconds });
                }
            }
            let texts = self.registry.iter().chain(&self.records).filter(|set| set.kind == "TXT");
            for (set, text) in texts.flat_map(|set| set.values.iter().map(move |text| (set, text))) {
                if let Some(who) = keeper::of_registry(&set.name, text, &record.name) {
                    odd.insert(Oddity::Keeper { name: record.name.clone(), who });
                }
            }
        }
        odd.into_iter().collect()
    }

    /// The batch that makes the changes, and nothing if they cannot be made.
    pub(super) fn batch(&self, wanted: &Wanted, traffic: &Route53Traffic, changes: &[Change]) -> Vec<Edit> {
        let mut edits = Vec::new();
        let replace = |old: Option<&RecordSet>, new: Option<RecordSet>, edits: &mut Vec<Edit>| {
            if old == new.as_ref() || old.is_some_and(|set| set.other) {
                return;
            }
            edits.extend(old.cloned().map(Edit::Delete));
            edits.extend(new.map(Edit::Create));
        };
        let mut sites = BTreeSet::new();
        for change in changes {
            if let Change::Mark { to, .. } = change {
                replace(self.mark_set(wanted), Some(mark_record(to, &self.zone)), &mut edits);
            }
            // A site with a new share and a new target is written once.
            let Some(site) = change.site().filter(|site| sites.insert((*site).to_owned())) else { continue };
            let off = matches!(change, Change::Off { .. });
            let weight = wanted.sites.get(site).map_or(0, |site| site.weight);
            for record in &traffic.records {
                let due = of_site(wanted, traffic, record, site, weight, self.checks.get(site));
                let old = self.find(record, &wanted.name_of(site));
                if off {
                    replace(old, None, &mut edits);
                } else if due.is_some() {
                    replace(old, due, &mut edits);
                }
            }
        }
        edits
    }

    /// The records that are missing and are nobody's to pin off: all of them before the first mark, afterwards that of the
    /// fixed answer alone.
    pub(super) fn missing(&self, wanted: &Wanted, traffic: &Route53Traffic) -> Vec<RecordSet> {
        let mut missing = Vec::new();
        for record in &traffic.records {
            if let Some(set) = of_fallback(wanted, traffic, record)
                && self.find(record, &wanted.name_of("fallback")).is_none()
            {
                missing.push(set);
            }
            if self.mark_set(wanted).is_some() {
                continue;
            }
            for (site, asked) in &wanted.sites {
                if self.find(record, &wanted.name_of(site)).is_none() {
                    let check = self.checks.get(site);
                    missing.extend(of_site(wanted, traffic, record, site, asked.weight, check));
                }
            }
        }
        missing
    }
}
