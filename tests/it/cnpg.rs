//! Clusters of CloudNativePG on a real API server, played by [`player`].

pub mod player;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use banyan::api::store::CloudNativePg as Spec;
use banyan::stores::cloudnativepg::CloudNativePg;
use banyan::stores::cloudnativepg::token::Token;
use banyan::stores::reading::Role;
use banyan::stores::{Fence, Promotion, Session, Store, StoreError};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use self::player::{FENCED, Pair, annotations};
use crate::world::until;

const ORDER: Fence = Fence { ballot: 33, follows: 16 };
const SOURCE: &str = "spec.stores[ledger-db].cloudnativepg";

fn store(pair: &Pair, site: &str) -> CloudNativePg {
    let spec = Spec { cluster: format!("{}/ledger-{site}", pair.namespace), sites: None };
    CloudNativePg::new(&spec, site, pair.client.clone(), SOURCE)
        .with_deadline(Duration::from_secs(30))
        .with_patience(Duration::from_secs(60))
}

/// The token that it left for that claim.
async fn token(store: &CloudNativePg, ballot: i64) -> Token {
    let closed = store.closed(ballot).await.expect("it is closed");
    Token::decode(&closed.token.expect("a token")).expect("a token")
}

/// Fences until it is fenced.
async fn fenced(store: &CloudNativePg, order: Fence) -> banyan::stores::Fenced {
    until("the Cluster is fenced", async || match store.fence(order).await {
        Ok(fenced) => Some(fenced),
        Err(StoreError::NotYet { .. }) => None,
        // The player writes its status fifty times a second: then it is asked again.
        Err(error) if error.reason() == "Conflict" => None,
        Err(error) => panic!("{error}"),
    })
    .await
}

#[tokio::test]
async fn a_switchover_loses_nothing_and_git_does_not_undo_the_fence() {
    let pair = Pair::start("cnpg-switchover").await;
    let (aws, gcp) = (store(&pair, "aws"), store(&pair, "gcp"));
    pair.aws.writes(100).await;
    let before = aws.read().await.expect("a reading");
    assert_eq!((before.role, before.timeline, before.row), (Role::Primary, 1, None));
    assert_eq!(gcp.read().await.expect("a reading").role, Role::Standby);

    gcp.fence_standby(ORDER).await.expect("the standby is told");
    let closed = fenced(&aws, ORDER).await;
    let last = pair.aws.position();
    assert_eq!(closed.position.map(|position| position.0), Some(last), "nothing lies beyond its token");
    assert!(!pair.aws.can_write());
    let token = token(&aws, 33).await;

    // Git writes its state with force, again and again, while the other site is promoted.
    let git = pair.aws.git_applies_with_force();
    let mut session = gcp.session().await.expect("a session").with_token(Some(token));
    session.promote(Promotion { ballot: 33, row: Some(33) }).await.expect("promoted");
    assert!(pair.gcp.can_write());
    assert_eq!(pair.gcp.position(), last, "all of it is here");
    gcp.open(33).await.expect("opened");
    let row = gcp.read().await.expect("a reading").row.expect("a row");
    assert_eq!((row.ballot, row.opened_at, row.open), (33, 33, true));
    until("git has applied some times", async || (git.times() > 5).then_some(())).await;
    assert_eq!(pair.aws.written_since_closed(), 0, "the old primary takes no write, whatever git says");
    let read = aws.state().await.expect("a state");
    assert!(read.fenced && read.kept_token.is_some(), "{read:?}");
    git.stop().await;

    // Reprotect: the fence is written again, and then the old primary may follow.
    fenced(&aws, ORDER).await;
    aws.follow(33, "gcp", None).await.expect("it may follow");
    pair.gcp.writes(10).await;
    until("the old primary follows", async || (pair.aws.position() == pair.gcp.position()).then_some(()))
        .await;
    assert!(!pair.aws.can_write());
    until("it says so", async || {
        let reading = aws.read().await.ok()?;
        (reading.role == Role::Standby && reading.timeline == 2).then_some(())
    })
    .await;
}

/// The gap that the docs name: while CloudNativePG demotes, it takes the fence away, and a controller that writes its state
/// back has the Cluster promoted again. The fence then is not told as one until a token speaks for all that was written.
#[tokio::test]
async fn where_git_undoes_a_demotion_no_fence_is_told_that_is_none() {
    let pair = Pair::start("cnpg-undone").await;
    let aws = store(&pair, "aws");
    pair.aws.writes(30).await;
    let git = pair.aws.git_applies_with_force();
    for _ in 0..60 {
        match aws.fence(ORDER).await {
            // Git may have written once more since.
            Ok(closed) => assert_eq!(closed.position.map(|position| position.0), Some(pair.aws.position())),
            Err(StoreError::NotYet { .. }) => {}
            Err(error) => assert_eq!(error.reason(), "Conflict", "{error}"),
        }
        pair.aws.writes(1).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    git.stop().await;
    // It may wait for a token for ever, where it was let go and not promoted: an abort is the way out.
    let began = std::time::Instant::now();
    let mut since = began;
    let closed = loop {
        match aws.fence(ORDER).await {
            Ok(closed) => break closed,
            Err(error) => assert!(began.elapsed() < crate::world::PATIENCE, "{error}"),
        }
        if since.elapsed() > Duration::from_secs(5) {
            since = std::time::Instant::now();
            until("it is lifted", async || aws.lift(33).await.ok()).await;
            until("it takes writes", async || pair.aws.can_write().then_some(())).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(!pair.aws.can_write());
    assert_eq!(
        closed.position.map(|position| position.0),
        Some(pair.aws.position()),
        "its token speaks for all"
    );
}

#[tokio::test]
async fn a_promotion_that_was_ordered_before_a_fence_comes_too_late() {
    let pair = Pair::start("cnpg-late").await;
    let gcp = store(&pair, "gcp");
    gcp.fence_standby(ORDER).await.expect("the standby is told");
    let mut paused = gcp.session().await.expect("a session");
    // While its caller is paused, another claim is made.
    gcp.fence_standby(Fence { ballot: 48, follows: 16 }).await.expect("the standby is told");
    let late = paused.promote(Promotion { ballot: 33, row: Some(33) }).await;
    assert_eq!(late, Err(StoreError::Refused { asked: 33, known: 48 }));
    assert!(!pair.gcp.can_write());
    assert_eq!(
        gcp.state().await.expect("a state").primary.as_deref(),
        Some("ledger-aws"),
        "nothing was written"
    );
    let older = gcp.fence_standby(ORDER).await;
    assert_eq!(older, Err(StoreError::Refused { asked: 33, known: 48 }));

    // What CloudNativePG writes into its status all the while is no fence.
    let mut session = gcp.session().await.expect("a session");
    pair.gcp.status_has_changed(3).await;
    session.promote(Promotion { ballot: 48, row: Some(48) }).await.expect("promoted");
    assert!(pair.gcp.can_write());
    let again =
        gcp.session().await.expect("a session").promote(Promotion { ballot: 48, row: Some(48) }).await;
    assert_eq!(again, Ok(None), "whoever asks again is told that it is done");
    assert_eq!(pair.gcp.promotions(), 1);
}

#[tokio::test]
async fn what_a_claim_closed_it_opens_again_and_nobody_else() {
    let pair = Pair::start("cnpg-lift").await;
    let aws = store(&pair, "aws");
    pair.aws.writes(20).await;
    fenced(&aws, ORDER).await;
    let last = pair.aws.position();
    aws.lift(17).await.expect("nothing to do");
    assert!(!pair.aws.can_write(), "another claim opens nothing");
    aws.lift(33).await.expect("lifted");
    until("it takes writes again", async || pair.aws.can_write().then_some(())).await;
    assert_eq!(pair.aws.position(), last, "nothing was lost");
    aws.lift(33).await.expect("nothing to do");
    let gcp = store(&pair, "gcp");
    gcp.fence_standby(ORDER).await.expect("the standby is told");
    gcp.lift(33).await.expect("nothing to do");
    assert_eq!(gcp.read().await.expect("a reading").role, Role::Standby, "lifting promotes nobody");
    // A later claim closes it once more, with a token of its own.
    fenced(&aws, Fence { ballot: 49, follows: 16 }).await;
    assert_eq!(token(&aws, 49).await.timeline, 2);
    assert_eq!(aws.fence(ORDER).await, Err(StoreError::Refused { asked: 33, known: 49 }));
}

#[tokio::test]
async fn a_token_that_does_not_fit_promotes_nobody() {
    let pair = Pair::start("cnpg-token").await;
    let (aws, gcp) = (store(&pair, "aws"), store(&pair, "gcp"));
    pair.link(false);
    pair.aws.writes(50).await;
    fenced(&aws, ORDER).await;
    let token = token(&aws, 33).await;
    // Not all of it has arrived: CloudNativePG waits, and so do we.
    let gcp = gcp.with_patience(Duration::from_secs(1));
    let promotion = Promotion { ballot: 33, row: None };
    let mut session = gcp.session().await.expect("a session").with_token(Some(token.clone()));
    let waits = session.promote(promotion).await;
    assert!(matches!(waits, Err(StoreError::NotYet { .. })), "{waits:?}");
    assert!(!pair.gcp.can_write());
    pair.link(true);
    let gcp = gcp.with_patience(Duration::from_secs(60));
    let again = Promotion { ballot: 33, row: Some(33) };
    gcp.session().await.expect("a session").promote(again).await.expect("promoted");
    assert_eq!(pair.gcp.position(), token.position.0);

    // A token of another cluster of servers is refused before anything is written.
    gcp.open(33).await.expect("opened");
    aws.follow(33, "gcp", None).await.expect("it may follow");
    pair.aws.of_another_system("9").await;
    let mut session = aws.session().await.expect("a session").with_token(Some(token));
    let refused = session.promote(Promotion { ballot: 49, row: Some(33) }).await;
    assert!(
        matches!(&refused, Err(StoreError::Problem(problem)) if problem.message.contains("never one")),
        "{refused:?}"
    );
    assert_eq!(aws.state().await.expect("a state").ballot, Some(33), "nothing was written");
}

#[tokio::test]
async fn the_definition_refuses_what_the_webhook_refuses() {
    let pair = Pair::start("cnpg-webhook").await;
    let patch = |change: Value| {
        let api = pair.gcp.api().clone();
        async move {
            let answer = api.patch("ledger-gcp", &PatchParams::default(), &Patch::Merge(&change)).await;
            answer.expect_err("refused").to_string()
        }
    };
    let replica = json!({"spec": {"replica": {"promotionToken": "a"}}});
    assert!(patch(replica).await.contains("promotionToken is only allowed for primary clusters"));
    let delayed =
        json!({"spec": {"replica": {"promotionToken": "a", "primary": "ledger-gcp", "minApplyDelay": "1h"}}});
    assert!(patch(delayed).await.contains("minApplyDelay cannot be applied with a promotion token"));
}

#[tokio::test]
async fn who_would_undo_it_is_told_until_it_leaves_the_fields_alone() {
    let pair = Pair::start("cnpg-owners").await;
    let aws = store(&pair, "aws");
    let undone = async || {
        let problems = aws.read().await.expect("a reading").problems;
        problems.into_iter().find(|problem| problem.message.starts_with("git would undo it"))
    };
    assert_eq!(undone().await, None);
    let api = pair.aws.api();
    let apply = async |replica: Value| {
        let object = json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
            "metadata": {"name": "ledger-aws"}, "spec": {"replica": replica}});
        let parameters = PatchParams::apply("argocd-controller").force();
        api.patch("ledger-aws", &parameters, &Patch::Apply(&object)).await.expect("applied");
    };
    apply(json!({"primary": "ledger-aws", "source": "ledger-gcp"})).await;
    let problem = undone().await.expect("a problem");
    assert!(
        problem
            .message
            .contains("spec.replica.primary of the Cluster ledger-aws is written by argocd-controller")
    );
    assert!(
        problem.remedy.contains("ignoreDifferences") && problem.remedy.contains("'.spec.replica.primary'")
    );
    apply(json!({"source": "ledger-gcp"})).await;
    assert_eq!(undone().await, None, "it was left to us");
}

#[tokio::test]
async fn two_claims_at_once_close_it_for_the_greater_one() {
    let pair = Pair::start("cnpg-two").await;
    let (first, second) = (store(&pair, "aws"), store(&pair, "aws"));
    let greater = Fence { ballot: 49, follows: 16 };
    let refused = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&refused);
    let older = tokio::spawn(async move {
        for _ in 0..40 {
            if let Err(StoreError::Refused { known: 49, .. }) = first.fence(ORDER).await {
                seen.store(true, Ordering::SeqCst);
                return;
            }
        }
    });
    fenced(&second, greater).await;
    older.await.expect("no panic");
    let object = pair.aws.api().get("ledger-aws").await.expect("an object");
    assert_eq!(annotations(&object)["banyan.dev/ballot"], "49");
    assert_eq!(annotations(&object)[FENCED], r#"["*"]"#);
    assert!(refused.load(Ordering::SeqCst), "the older one learns of it");
}
