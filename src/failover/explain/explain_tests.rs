use expect_test::expect;
use serde_json::{Value, json};

use super::*;

/// The objects of one cluster of two.
struct Cluster {
    group: Value,
    authority: Option<Value>,
    failovers: Vec<Value>,
}

fn held(holder: &str, epoch: i64, follows: i64) -> Value {
    json!({"epoch": epoch, "follows": follows, "holders": [holder]})
}

fn store(site: &str, primary: bool, open: bool, opened_at: i64, ballot: i64) -> Value {
    json!({"name": "db", "site": site, "primary": primary, "open": open, "openedAt": opened_at, "ballot": ballot})
}

impl Cluster {
    /// `aws` has authority in epoch 16, and its database is open; as `site` sees it.
    fn well(site: &str) -> Self {
        let other = if site == "aws" { "gcp" } else { "aws" };
        let mut own = held("aws", 16, 0);
        let mut there = held("aws", 16, 0);
        (if site == "aws" { &mut own } else { &mut there })["promoted"] = 16.into();
        Self {
            group: json!({
                "apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
                "metadata": {"name": "payments", "namespace": "banyan-system"},
                "spec": {"sites": ["aws", "gcp"], "services": {"namespaces": ["pay"]},
                    "stores": [{"name": "db"}]},
                "status": {
                    "authority": {"state": "Held", "holders": ["aws"], "epoch": 16},
                    "shown": {"site": site, "peers": [{"site": other, "authority": there}],
                        "stores": [store("aws", true, true, 16, 16), store("gcp", false, true, 16, 16)],
                        "witness": {"epoch": 16, "after": 0, "holders": ["aws"]}},
                },
            }),
            authority: Some(own),
            failovers: Vec::new(),
        }
    }

    fn claim(&mut self, ballot: i64, state: &str) {
        let claim = json!({"site": "gcp", "ballot": ballot, "follows": 16, "fence": true, "state": state});
        self.authority.as_mut().unwrap()["claims"] = json!([claim]);
    }

    fn shown(&mut self) -> &mut Value {
        &mut self.group["status"]["shown"]
    }

    fn explained(&self) -> Explained {
        let group = serde_json::from_value(self.group.clone()).unwrap();
        let authority = self.authority.as_ref().map(|spec| {
            let object = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "Authority",
                "metadata": {"name": "payments"}, "spec": spec});
            serde_json::from_value(object).unwrap()
        });
        let failovers: Vec<Failover> =
            self.failovers.iter().map(|one| serde_json::from_value(one.clone()).unwrap()).collect();
        let now = Timestamp::UNIX_EPOCH;
        let told = Told { group: &group, authority: authority.as_ref(), failovers: &failovers, now };
        explain(&told).expect("its operator has looked at it")
    }

    fn text(&self) -> String {
        table::text(&self.explained())
    }
}

#[test]
fn a_standby_says_who_may_write_and_what_moves_it() {
    expect![[r#"
        FailoverGroup payments, as gcp sees it
          here     Standby: aws has authority in epoch 16
          next     kubectl banyan failover start payments --reason "…"
          witness  has decided that epoch 16 follows 0: aws

        Authorities
          SITE        EPOCH  AFTER  HOLDERS  OPEN FOR  CLAIMS
          gcp (here)  16     0      aws      -         -
          aws         16     0      aws      16        -

        Stores
          STORE  SITE  STANDS         OPENED FOR  ORDERED BY
          db     aws   primary, open  16          16
          db     gcp   standby        16          16

        db here: it follows what the primary writes

        An order here now would
          Switchover  begin at once
          Failover    begin at once
    "#]]
    .assert_eq(&Cluster::well("gcp").text());
}

#[test]
fn a_closed_store_says_who_closed_it_and_each_thing_that_opens_it() {
    let mut source = Cluster::well("aws");
    source.claim(17, "Open");
    source.shown()["stores"][0] = store("aws", true, false, 16, 17);
    expect![[r#"
        FailoverGroup payments, as aws sees it
          here     Held: this site has authority in epoch 16
          witness  has decided that epoch 16 follows 0: aws

        Authorities
          SITE        EPOCH  AFTER  HOLDERS  OPEN FOR  CLAIMS
          aws (here)  16     0      aws      16        17 of gcp, after 16: under way, closes the holder's stores
          gcp         16     0      aws      -         -

        Stores
          STORE  SITE  STANDS           OPENED FOR  ORDERED BY
          db     aws   primary, closed  16          17
          db     gcp   standby          16          16

        db here: the claim 17 of gcp closed it, and nobody shows that it was given up
          it opens once the claim 17 of gcp is given up
            → kubectl banyan failover abort, in the cluster of gcp
          it opens once this site takes the group over, with a claim above 17
            → kubectl banyan failover start payments --unplanned --reason "…"

        An order here now would
          Switchover  be refused: aws has authority already: there is nothing to move
          Failover    begin at once
    "#]].assert_eq(&source.text());
    // It is what duty says: once the claim is given up, nobody has to type anything.
    source.claim(17, "Withdrawn");
    let line = &source.explained().stores[0];
    assert!(line.why.as_ref().unwrap().contains("was given up: it is to be opened again"), "{line:?}");
    assert!(line.opens.is_empty());
}

#[test]
fn a_store_that_waits_for_a_site_to_be_read_names_it() {
    let mut source = Cluster::well("aws");
    source.claim(17, "Withdrawn");
    source.shown()["stores"][0] = store("aws", true, false, 16, 17);
    source.shown()["peers"][0] = json!({"site": "gcp", "error": "no answer within 5 s"});
    let opens: Vec<_> = source.explained().stores.swap_remove(0).opens;
    assert_eq!(opens[0].when, "gcp can be read: others may have gone on without this site");
    assert_eq!(opens[0].next.as_deref(), Some("kubectl describe cloudcluster gcp -n banyan-system"));
    assert!(opens.last().unwrap().next.as_ref().unwrap().contains("failover start payments --unplanned"));
}

#[test]
fn a_store_that_the_witness_may_give_back_says_so() {
    let mut source = Cluster::well("aws");
    source.claim(17, "Open");
    source.shown()["stores"][0] = store("aws", true, false, 16, 17);
    let by_witness = |source: &Cluster| {
        let opens = source.explained().stores[0].opens.iter().map(|one| one.when.clone()).collect::<Vec<_>>();
        opens.iter().any(|when| when.contains("the witness decides for this one"))
    };
    assert!(!by_witness(&source), "others may decide it");
    source.authority.as_mut().unwrap()["claims"][0]["byWitness"] = true.into();
    assert!(by_witness(&source));
}

#[test]
fn who_is_lost_says_whom_it_must_read_and_opens_nothing() {
    let mut lost = Cluster::well("gcp");
    lost.shown()["peers"][0] = json!({"site": "aws", "error": "no answer within 5 s"});
    lost.shown()["witness"] = json!({"error": "no answer within 5 s"});
    // The database here has the row of an epoch that this site has never read.
    lost.shown()["stores"] = json!([store("gcp", false, true, 32, 32)]);
    let explained = lost.explained();
    assert_eq!(explained.state, "Lost");
    assert_eq!(explained.next.as_deref(), Some("kubectl describe cloudcluster aws -n banyan-system"));
    let orders: Vec<_> = explained.orders.iter().map(|order| order.reason.as_deref()).collect();
    assert_eq!(orders, [Some("Lost"), Some("Lost")]);
}

#[test]
fn while_nobody_ever_had_authority_the_field_that_begins_it_is_named() {
    let mut unclaimed = Cluster::well("aws");
    unclaimed.authority = Some(json!({"epoch": 0, "follows": 0}));
    unclaimed.group["status"]["authority"] = Value::Null;
    unclaimed.shown()["peers"][0]["authority"] = json!({"epoch": 0, "follows": 0});
    unclaimed.shown()["witness"] = json!({"epoch": 0});
    unclaimed.shown()["stores"] = json!([{"name": "db", "site": "aws", "primary": true, "open": true}, {"name": "db", "site": "gcp", "error": "no answer"}]);
    expect![[r#"
        FailoverGroup payments, as aws sees it
          here     Unclaimed: nobody ever had authority; set spec.initialSite of the FailoverGroup to the site that is active now
          next     set spec.initialSite of the FailoverGroup to the site that serves now
          witness  has decided nothing

        Authorities
          SITE        EPOCH  AFTER  HOLDERS  OPEN FOR  CLAIMS
          aws (here)  0      0      -        -         -
          gcp         0      0      -        -         -

        Stores
          STORE  SITE  STANDS                     OPENED FOR  ORDERED BY
          db     aws   primary, open              -           -
          db     gcp   cannot be read: no answer  -           -

        db here: nobody ever had authority: all is as it was before the group

        An order here now would
          Switchover  wait at preflight: nobody ever had authority over the group: set spec.initialSite of the FailoverGroup to the site that is active now (docs/runbooks/Unclaimed.md)
          Failover    wait at preflight: nobody ever had authority over the group: set spec.initialSite of the FailoverGroup to the site that is active now (docs/runbooks/Unclaimed.md)
    "#]].assert_eq(&unclaimed.text());
    unclaimed.group["spec"]["initialSite"] = "aws".into();
    assert_eq!(unclaimed.explained().state, "Unclaimed", "it is not made yet");
}

#[test]
fn the_old_holder_waits_for_the_new_one_to_be_open_and_then_follows() {
    let mut former = Cluster::well("aws");
    former.authority = Some(json!({"epoch": 17, "follows": 16, "holders": ["gcp"], "promoted": 16}));
    former.shown()["peers"][0]["authority"] = json!({"epoch": 17, "follows": 16, "holders": ["gcp"]});
    former.shown()["stores"] = json!([store("aws", true, false, 16, 17), store("gcp", true, false, 16, 17)]);
    former.shown()["witness"] = Value::Null;
    expect![[r#"
        FailoverGroup payments, as aws sees it
          here  Standby: gcp has authority in epoch 17
          next  kubectl banyan failover start payments --reason "…"

        Authorities
          SITE        EPOCH  AFTER  HOLDERS  OPEN FOR  CLAIMS
          aws (here)  17     16     gcp      16        -
          gcp         17     16     gcp      -         -

        Stores
          STORE  SITE  STANDS           OPENED FOR  ORDERED BY
          db     aws   primary, closed  16          17
          db     gcp   primary, closed  16          17

        db here: closed by 17 of gcp: gcp has authority, and it is to follow the store there
          it opens once this site takes the group over, with a claim above 17
            → kubectl banyan failover start payments --unplanned --reason "…"

        An order here now would
          Switchover  begin at once
          Failover    begin at once
    "#]]
    .assert_eq(&former.text());
    former.shown()["stores"][1] = store("gcp", true, true, 17, 17);
    let why = former.explained().stores[0].why.clone().unwrap();
    assert!(why.starts_with("gcp has authority: it is to follow the store there"), "{why}");
}

#[test]
fn an_order_that_would_not_begin_says_what_it_would_wait_for() {
    let mut standby = Cluster::well("gcp");
    standby.group["status"]["checks"] = json!([
        {"name": "capacity", "state": "Failed", "message": "no room"},
        {"name": "witness's ground", "state": "Warning", "message": "it stands in aws"},
        {"name": "services", "state": "Failed", "message": "pay/ledger is not Ready", "remedy": "see its pods"},
    ]);
    let would = |cluster: &Cluster| -> Vec<String> {
        cluster.explained().orders.iter().map(|order| order.would.clone()).collect()
    };
    assert_eq!(
        would(&standby),
        ["wait at preflight: pay/ledger is not Ready; see its pods", "begin at once"]
    );
    standby.group["status"]["checks"] = json!([
        {"name": "peer aws by kubeconfig", "state": "Failed", "message": "no answer within 5 s"},
    ]);
    assert!(
        would(&standby)[0].starts_with("wait at preflight: aws does not answer"),
        "{:?}",
        would(&standby)
    );
    standby.failovers = vec![json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "Failover",
        "metadata": {"name": "move"}, "spec": {"group": "payments", "action": "Switchover", "reason": "a drill"},
        "status": {"phase": "Preparing"}})];
    assert_eq!(would(&standby)[1], "be refused: move moves the group");
    assert_eq!(standby.explained().next.as_deref(), Some("kubectl banyan failover status move"));
    assert_eq!(
        would(&Cluster::well("aws"))[0],
        "be refused: aws has authority already: there is nothing to move"
    );
}

fn order(name: &str, action: &str) -> Value {
    json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "Failover", "metadata": {"name": name},
        "spec": {"group": "payments", "action": action, "reason": "a drill"}, "status": {"phase": "Preparing"}})
}

#[test]
fn a_rehearsal_and_a_plan_hold_no_order_up_and_a_move_does() {
    let mut standby = Cluster::well("gcp");
    standby.failovers = vec![order("tried", "Rehearsal"), order("asked", "Plan")];
    assert!(standby.text().ends_with("Switchover  begin at once\n  Failover    begin at once\n"));
    standby.failovers.push(order("moves", "Switchover"));
    assert!(standby.text().contains("Switchover  be refused: moves moves the group"), "{}", standby.text());
}

#[test]
fn an_order_that_others_must_agree_to_says_so() {
    let mut standby = Cluster::well("gcp");
    standby.group["spec"]["approval"] = json!({"people": 2});
    let orders = standby.explained().orders;
    let reasons: Vec<_> = orders.iter().map(|order| order.reason.as_deref()).collect();
    // A Switchover claims first, and waits before it closes anything.
    assert_eq!(reasons, [None, Some("NotApproved")]);
}

#[test]
fn nodes_that_the_last_order_has_stopped_are_told_with_what_brings_them_back() {
    let mut standby = Cluster::well("gcp");
    let mut first = order("first", "Failover");
    first["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    first["status"] = json!({"phase": "Aborted", "nodes": {"site": "aws", "cluster": "prod", "message": "all are gone",
        "orderedAt": "2026-01-01T00:00:05Z", "pools": [
            {"name": "blue", "nodes": 3, "least": 1, "most": 9, "atZero": true, "restore": "aws eks …"},
            {"name": "green", "nodes": 0, "least": 0, "most": 9, "atZero": true}]}});
    standby.failovers = vec![first.clone()];
    let words = "\nfirst has scaled the nodes of aws to zero: all are gone\n  it brings them back: aws eks …\n\nAn order";
    assert!(standby.text().contains(words), "{}", standby.text());
    let mut next = order("next", "Switchover");
    next["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    standby.failovers.push(next);
    assert!(standby.text().contains(words), "one that has not moved yet changes nothing");
    standby.failovers[1]["status"]["phase"] = json!("Done");
    assert_eq!(standby.explained().nodes, None, "the other site follows again");
    first["status"]["nodes"].as_object_mut().unwrap().remove("orderedAt");
    standby.failovers = vec![first];
    assert_eq!(standby.explained().nodes, None, "it only looked");
}
