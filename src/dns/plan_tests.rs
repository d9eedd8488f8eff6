use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dns::stands::SiteStands;
use crate::dns::wanted::SiteWanted;

fn site(weight: u8, off: bool) -> SiteWanted {
    SiteWanted { weight, off, gateway: None }
}

fn wanted(epoch: Option<i64>, sites: &[(&str, u8, bool)]) -> Wanted {
    Wanted {
        group: "payments".to_owned(),
        hosts: vec!["api.finflow.example".to_owned()],
        epoch,
        sites: sites.iter().map(|(name, weight, off)| ((*name).to_owned(), site(*weight, *off))).collect(),
    }
}

fn stands(mark: Option<i64>, sites: &[(&str, Weight, bool)]) -> Stands {
    let one = |weight, on| SiteStands { there: true, on, weight, as_asked: true, ..SiteStands::default() };
    Stands {
        mark: mark.map(|epoch| Mark { group: "payments".to_owned(), epoch, change: 4 }),
        sites: sites.iter().map(|(name, weight, on)| ((*name).to_owned(), one(*weight, *on))).collect(),
        ..Stands::default()
    }
}

/// What stands after the changes are carried out, as a provider with weights would have it.
fn carried_out(mut stands: Stands, changes: &[Change]) -> Stands {
    for change in changes {
        match change {
            Change::Mark { to, .. } => stands.mark = Some(to.clone()),
            Change::Weight { site, to } => stands.sites.get_mut(site).unwrap().weight = Weight::Is(*to),
            Change::Settle { site } => stands.sites.get_mut(site).unwrap().as_asked = true,
            Change::On { site, weight } => {
                let stands = stands.sites.get_mut(site).unwrap();
                (stands.on, stands.as_asked) = (true, true);
                stands.weight = weight.map_or(stands.weight, Weight::Is);
            }
            Change::Off { site } => stands.sites.get_mut(site).unwrap().on = false,
        }
    }
    stands
}

fn words(wanted: &Wanted, stands: &Stands) -> Vec<String> {
    let say = |change: &Change| match change {
        Change::Mark { to, .. } => format!("mark {}.{}", to.epoch, to.change),
        Change::Weight { site, to } => format!("{site} {to}"),
        Change::Settle { site } => format!("{site} settled"),
        Change::On { site, weight } => format!(
            "{site} on {}",
            weight.map_or_else(|| "by health".to_owned(), |weight| weight.to_string())
        ),
        Change::Off { site } => format!("{site} off"),
    };
    plan(wanted, stands).expect("a plan").iter().map(say).collect()
}

#[test]
fn what_fits_is_left_alone() {
    let even = [("aws", 100, false), ("gcp", 100, false)];
    let by_health = [("aws", Weight::ByHealth, true), ("gcp", Weight::ByHealth, true)];
    assert_eq!(words(&wanted(Some(16), &even), &stands(Some(16), &by_health)), [""; 0]);
    let weights = [("aws", Weight::Is(100), true), ("gcp", Weight::Is(100), true)];
    assert_eq!(words(&wanted(Some(16), &even), &stands(Some(16), &weights)), [""; 0]);
    // Before the first claim nobody has a name to write in.
    let off = [("aws", 100, true), ("gcp", 10, false)];
    assert_eq!(words(&wanted(None, &off), &stands(None, &weights)), [""; 0]);
    assert_eq!(words(&wanted(Some(16), &even), &stands(None, &weights)), ["mark 16.1"]);
}

#[test]
fn a_move_opens_before_it_closes() {
    let weights = [("aws", Weight::Is(100), true), ("gcp", Weight::Is(100), false)];
    let moved = wanted(Some(33), &[("aws", 100, true), ("gcp", 100, false)]);
    assert_eq!(words(&moved, &stands(Some(16), &weights)), ["mark 33.1", "gcp on 100", "aws off"]);
    let again = wanted(Some(16), &[("aws", 90, false), ("gcp", 10, false)]);
    let by_health = [("aws", Weight::ByHealth, true), ("gcp", Weight::ByHealth, true)];
    assert_eq!(words(&again, &stands(Some(16), &by_health)), ["mark 16.5", "aws 90", "gcp 10"]);
    let mixed = [("aws", Weight::Mixed, true), ("gcp", Weight::Is(100), true)];
    let even = wanted(Some(16), &[("aws", 100, false), ("gcp", 100, false)]);
    assert_eq!(words(&even, &stands(Some(16), &mixed)), ["mark 16.5", "aws 100"]);
}

#[test]
fn the_last_one_is_not_pinned_off_and_what_is_missing_is_not_written() {
    let all_off = wanted(Some(33), &[("aws", 100, true), ("gcp", 100, true)]);
    let weights = [("aws", Weight::Is(100), true), ("gcp", Weight::Is(100), true)];
    assert_eq!(words(&all_off, &stands(Some(33), &weights)), [""; 0]);
    let moved = wanted(Some(33), &[("aws", 100, true), ("gcp", 100, false)]);
    let only_aws = [("aws", Weight::Is(100), true)];
    assert_eq!(words(&moved, &stands(Some(33), &only_aws)), [""; 0]);
}

#[test]
fn whoever_is_late_is_told() {
    let late = wanted(Some(16), &[("aws", 100, false)]);
    let newer = stands(Some(33), &[("aws", Weight::Is(1), false)]);
    assert_eq!(plan(&late, &newer), Err(Refusal::Superseded { ours: 16, theirs: 33 }));
    let mut other = newer;
    other.mark.as_mut().unwrap().group = "lending".to_owned();
    let refusal = plan(&late, &other).expect_err("a refusal");
    assert_eq!(refusal, Refusal::OtherGroup { group: "lending".to_owned() });
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let site = (0_u8..=100, any::<bool>()).prop_map(|(weight, off)| site(weight, off));
    let sites = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), site, 1..4);
    (sites, 0_i64..4).prop_map(|(sites, epoch)| Wanted {
        sites: sites.into_iter().map(|(name, site)| (name.to_owned(), site)).collect(),
        ..wanted(Some(epoch), &[])
    })
}

fn any_stands() -> impl Strategy<Value = Stands> {
    let weight = prop_oneof![Just(Weight::ByHealth), Just(Weight::Mixed), (0_u8..=100).prop_map(Weight::Is)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let site = (weight, flags).prop_map(|(weight, (there, on, as_asked))| SiteStands {
        there,
        on,
        weight,
        as_asked,
        ..SiteStands::default()
    });
    // `d` is somebody else's.
    let sites = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c", "d"]), site, 0..5);
    (sites, prop::option::of(0_i64..4)).prop_map(|(sites, mark)| Stands {
        sites: sites.into_iter().map(|(name, site)| (name.to_owned(), site)).collect(),
        ..stands(mark, &[])
    })
}

proptest! {
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(wanted in any_wanted(), before in any_stands()) {
        let Ok(changes) = plan(&wanted, &before) else {
            prop_assert!(before.mark.as_ref().is_some_and(|mark| Some(mark.epoch) > wanted.epoch));
            return Ok(());
        };
        let after = carried_out(before.clone(), &changes);
        prop_assert_eq!(plan(&wanted, &after), Ok(Vec::new()));
        // What is of others, or is not there, stays as it is.
        let others = |stands: &Stands| -> BTreeMap<String, SiteStands> {
            let ours = |name: &String, site: &SiteStands| wanted.sites.contains_key(name) && site.there;
            stands.sites.clone().into_iter().filter(|(name, site)| !ours(name, site)).collect()
        };
        prop_assert_eq!(others(&after), others(&before));
        // Each change is one: without it something is left to do.
        for place in 0..changes.len() {
            let mut fewer = changes.clone();
            fewer.remove(place);
            let left = plan(&wanted, &carried_out(before.clone(), &fewer)).expect("a plan");
            let only_the_mark = matches!(changes[place], Change::Mark { .. }) && changes.len() > 1;
            prop_assert!(!left.is_empty() || only_the_mark, "{:?} was not needed", changes[place]);
        }
        // While somebody may serve, somebody does after each step.
        let serves = |stands: &Stands| wanted.sites.keys().any(|name| {
            stands.sites.get(name).is_some_and(|site| site.there && site.on)
        });
        if serves(&before) {
            for place in 0..=changes.len() {
                prop_assert!(serves(&carried_out(before.clone(), &changes[..place])));
            }
        }
    }
}
