use super::*;
use crate::dns::stands::{Health, Monitor, Weight};
use crate::dns::wanted::{Mark, SiteWanted};

fn wanted() -> Wanted {
    let site = SiteWanted { weight: 100, off: false, gateway: None };
    Wanted {
        group: "payments".to_owned(),
        hosts: vec!["api.finflow.example".to_owned()],
        epoch: Some(16),
        sites: [("aws".to_owned(), site.clone()), ("gcp".to_owned(), site)].into(),
    }
}

fn well() -> Stands {
    let monitor = Monitor { path: "/authority/payments".to_owned(), every: 60, strict: true };
    let site = SiteStands {
        there: true,
        on: true,
        weight: Weight::ByHealth,
        as_asked: true,
        health: Health::Healthy,
        monitor: Some(monitor),
    };
    Stands {
        mark: None,
        sites: [("aws".to_owned(), site.clone()), ("gcp".to_owned(), site)].into(),
        fallback: Fallback::FixedAnswer,
        oddities: Vec::new(),
    }
}

fn reasons(change: impl FnOnce(&mut Stands)) -> Vec<&'static str> {
    let mut stands = well();
    change(&mut stands);
    problems(&stands, &wanted(), None).iter().map(|finding| finding.reason).collect()
}

fn gcp(stands: &mut Stands) -> &mut SiteStands {
    stands.sites.get_mut("gcp").expect("the site")
}

fn monitor(stands: &mut Stands) -> &mut Monitor {
    gcp(stands).monitor.as_mut().expect("a monitor")
}

#[test]
fn what_stands_well_has_no_problem_and_each_fault_has_its_own() {
    assert_eq!(reasons(|_| {}), [""; 0]);
    assert_eq!(reasons(|stands| gcp(stands).there = false), ["PoolMissing"]);
    assert_eq!(reasons(|stands| drop(stands.sites.remove("gcp"))), ["PoolMissing"]);
    assert_eq!(reasons(|stands| gcp(stands).on = false), ["PinnedOff"]);
    assert_eq!(reasons(|stands| gcp(stands).as_asked = false), ["NotAsAsked"]);
    assert_eq!(reasons(|stands| gcp(stands).monitor = None), ["MonitorMissing"]);
    assert_eq!(reasons(|stands| monitor(stands).path = "/healthz".to_owned()), ["MonitorElsewhere"]);
    assert_eq!(reasons(|stands| monitor(stands).strict = false), ["MonitorLenient"]);
    assert_eq!(reasons(|stands| monitor(stands).every = 300), ["MonitorSlow"]);
    assert_eq!(reasons(|stands| stands.fallback = Fallback::Site("aws".to_owned())), ["LiveFallback"]);
    assert_eq!(reasons(|stands| stands.fallback = Fallback::AllSites), ["LiveFallback"]);
    assert_eq!(reasons(|stands| stands.fallback = Fallback::Unnamed("x".to_owned())), ["UnknownFallback"]);
    let mark = |group: &str, epoch| Some(Mark { group: group.to_owned(), epoch, change: 1 });
    assert_eq!(reasons(|stands| stands.mark = mark("payments", 33)), ["Superseded"]);
    assert_eq!(reasons(|stands| stands.mark = mark("lending", 1)), ["OtherGroup"]);
    let oddities = [
        (Oddity::Missing { what: "x".to_owned() }, "NotThere"),
        (Oddity::Disabled { what: "x".to_owned() }, "Disabled"),
        (Oddity::Leak { to: "x".to_owned(), at: "y".to_owned() }, "ResidencyLeak"),
        (Oddity::LeftOut { site: "x".to_owned(), at: "y".to_owned() }, "SiteLeftOut"),
        (Oddity::Lifetime { name: "x".to_owned(), seconds: 300 }, "LivesTooLong"),
        (Oddity::Keeper { name: "x".to_owned(), who: "y".to_owned() }, "OtherController"),
        (Oddity::OtherName { name: "x".to_owned() }, "OtherName"),
    ];
    for (oddity, reason) in oddities {
        assert_eq!(reasons(|stands| stands.oddities = vec![oddity]), [reason]);
    }
}

#[test]
fn rights_are_told_and_the_worst_comes_first() {
    let of = |rights: Rights| {
        let found = problems(&well(), &wanted(), Some(&rights));
        found.iter().map(|finding| finding.reason).collect::<Vec<_>>()
    };
    assert_eq!(of(Rights::default()), ["NotAccepted"]);
    assert_eq!(of(Rights { accepted: true, ..Rights::default() }), [""; 0]);
    let both = Rights {
        accepted: true,
        sees_too_much: vec!["12 zones".to_owned()],
        cannot_write: vec!["pools".to_owned()],
    };
    assert_eq!(of(both), ["CannotWrite", "SeesTooMuch"]);
    // A site that is to be off is not told to be off, and an empty set is never well.
    let mut off = wanted();
    off.sites.get_mut("gcp").expect("the site").off = true;
    let mut stands = well();
    gcp(&mut stands).on = false;
    assert_eq!(problems(&stands, &off, None), []);
    let empty = Wanted { sites: [].into(), ..wanted() };
    assert_eq!(problems(&well(), &empty, None)[0].reason, "NoSites");
}
