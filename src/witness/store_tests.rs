use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::ByteString;
use serde_json::json;

use super::*;
use crate::api::witness::ObjectStoreWitness;
use crate::sandbox::ends::objects::{Maker, Objects};
use crate::sandbox::ends::server::{Asked, Fault};
use crate::witness::{Credentials, Ground, connect};

/// A bound for calls that are answered, and for the test of one that is not.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

fn decision(epoch: i64, site: &str) -> Decision {
    Decision { epoch, holders: vec![site.to_owned()], failover: format!("failover-at-{site}") }
}

fn spec(url: &str, endpoint: Option<String>) -> ObjectStoreWitness {
    let region = url.starts_with("s3:").then(|| "us-east-2".to_owned());
    ObjectStoreWitness { url: url.to_owned(), region, endpoint, credentials: None }
}

/// The contents of a Secret for a maker's store, and who that is.
fn secret(maker: Maker) -> (BTreeMap<String, ByteString>, &'static str) {
    let (who, values) = match maker {
        Maker::Amazon => (
            "AKIAPLAYED",
            vec![
                ("AWS_ACCESS_KEY_ID", "AKIAPLAYED".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "planted-secret".to_owned()),
            ],
        ),
        Maker::Google => {
            static KEY: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
                rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key").serialize_pem()
            });
            let who = "witness@finflow.iam.gserviceaccount.com";
            let key = json!({"type": "service_account", "client_email": who, "private_key": *KEY, "private_key_id": "1",
                "gcs_base_url": "http://objects.evil.example", "disable_oauth": true});
            (who, vec![("credentials.json", key.to_string())])
        }
        Maker::Azure => (
            "finflow",
            vec![
                ("AZURE_STORAGE_ACCOUNT", "finflow".to_owned()),
                ("AZURE_STORAGE_KEY", "cGxhbnRlZC1zZWNyZXQ=".to_owned()),
            ],
        ),
    };
    let values = values.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    (values.collect(), who)
}

const MAKERS: [(Maker, &str); 3] = [
    (Maker::Amazon, "s3://witness/payments"),
    (Maker::Google, "gs://witness/payments"),
    (Maker::Azure, "az://witness/payments"),
];

async fn played(maker: Maker) -> Objects {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Objects::serve(maker, "witness", secret(maker).1, 3).await.expect("an object store")
}

fn at(objects: &Objects, maker: Maker, url: &str) -> Witness {
    witness(&objects.end.url(), maker, url)
}

fn witness(endpoint: &str, maker: Maker, url: &str) -> Witness {
    let ground = Ground::of(&spec(url, Some(endpoint.to_owned()))).expect("a ground");
    let credentials = Credentials::of_secret(&ground, "witness", &secret(maker).0).expect("credentials");
    Witness::new(connect(&ground, &credentials).expect("a way"), "payments").with_deadline(LONG)
}

/// A witness in S3 at another address.
pub(super) fn at_url(endpoint: &str) -> Witness {
    witness(endpoint, MAKERS[0].0, MAKERS[0].1)
}

fn in_folder(folder: &std::path::Path) -> Witness {
    let ground = Ground::of(&spec(&format!("file://{}", folder.display()), None)).expect("a ground");
    Witness::new(connect(&ground, &Credentials::None).expect("a way"), "payments").with_deadline(LONG)
}

/// What every ground must do.
pub(super) async fn keeps_what_was_first(witness: &Witness) {
    assert_eq!(witness.list().await, Ok(BTreeMap::new()));
    assert_eq!(witness.after(0).await, Ok(None));
    let (first, second) = (decision(16, "aws"), decision(17, "gcp"));
    assert_eq!(witness.create(0, &first).await, Ok(Creation::Created));
    assert_eq!(witness.create(0, &second).await, Ok(Creation::Exists(first.clone())));
    assert_eq!(witness.create(0, &first).await, Ok(Creation::Created), "whoever made it has made it");
    assert_eq!(witness.after(0).await, Ok(Some(first.clone())));
    let mut all = BTreeMap::from([(0, first)]);
    // Several pages, and more of them than are read at once. By name 112 comes before 16.
    for step in 1..12 {
        let next = decision(16 * (step + 1), "aws");
        assert_eq!(witness.create(16 * step, &next).await, Ok(Creation::Created));
        all.insert(16 * step, next);
    }
    assert_eq!(witness.list().await, Ok(all.clone()));
    assert_eq!(witness.list().await, Ok(all), "and again, from what is known");
}

#[tokio::test]
async fn files_keep_what_was_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let witness = in_folder(folder.path());
    keeps_what_was_first(&witness).await;
    let text = std::fs::read_to_string(folder.path().join("after/0")).expect("a file");
    let expected =
        r#"{"group":"payments","follows":0,"epoch":16,"holders":["aws"],"failover":"failover-at-aws"}"#;
    assert_eq!(text, expected);
}

#[tokio::test]
async fn a_folder_that_is_gone_is_not_an_empty_one() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("mounted");
    std::fs::create_dir(&folder).expect("a folder");
    let witness = in_folder(&folder);
    std::fs::remove_dir(&folder).expect("it is gone");
    let gone = RemoteError::Unreachable("the folder is not there: mount its volume".to_owned());
    assert_eq!(witness.after(0).await, Err(gone.clone()));
    assert_eq!(witness.list().await, Err(gone.clone()));
    assert_eq!(witness.create(0, &decision(16, "aws")).await, Err(gone));
    assert!(!folder.exists(), "and none is made");
    let ground = Ground::of(&spec(&format!("file://{}", folder.display()), None)).expect("a ground");
    let problem = connect(&ground, &Credentials::None).expect_err("no folder");
    assert!(problem.message.contains("is not there") && problem.remedy.contains("mount"), "{problem:?}");
}

#[tokio::test]
async fn every_maker_keeps_what_was_first() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        keeps_what_was_first(&at(&objects, maker, url)).await;
        assert_eq!(objects.writes(), 12, "{maker:?}: nothing was written over");
        assert!(objects.keys().iter().all(|key| key.starts_with("payments/after/")), "{:?}", objects.keys());
        // What is known is not read again: the second list of the above asked for names alone.
        objects.end.desk.take();
        at(&objects, maker, url).list().await.expect("a new process");
        let asked = objects.end.desk.take();
        assert_eq!(asked.len(), 12 + 4, "{maker:?}: four pages and twelve objects, once each");
    }
}

#[tokio::test]
async fn of_two_that_want_to_succeed_an_epoch_one_wins_and_both_learn_who() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        let (here, there) = (at(&objects, maker, url), at(&objects, maker, url));
        let mut won = [0, 0];
        for epoch in 0..100 {
            opposing(&here, &there, 16 * epoch, &mut won).await;
        }
        assert_eq!((won[0] + won[1], objects.writes()), (100, 100), "{maker:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (here, there) = (in_folder(folder.path()), in_folder(folder.path()));
    let mut won = [0, 0];
    for epoch in 0..100 {
        opposing(&here, &there, 16 * epoch, &mut won).await;
    }
    assert_eq!(won[0] + won[1], 100);
}

pub(super) async fn opposing(here: &Witness, there: &Witness, follows: i64, won: &mut [u32; 2]) {
    let (ours, theirs) = (decision(follows + 16, "aws"), decision(follows + 17, "gcp"));
    let (first, second) = tokio::join!(here.create(follows, &ours), there.create(follows, &theirs));
    match (first.expect("an answer"), second.expect("an answer")) {
        (Creation::Created, Creation::Exists(stands)) => {
            assert_eq!(stands, ours);
            won[0] += 1;
        }
        (Creation::Exists(stands), Creation::Created) => {
            assert_eq!(stands, theirs);
            won[1] += 1;
        }
        other => panic!("epoch {follows}: {other:?}"),
    }
    assert_eq!(here.after(follows).await, there.after(follows).await);
}

/// What a fault means for a call that only reads.
fn expected(fault: &Fault) -> RemoteError {
    match fault {
        Fault::Status(401, _) => RemoteError::Unauthorized,
        Fault::Status(403, _) => RemoteError::Forbidden,
        Fault::Status(404, _) => RemoteError::Refused {
            code: 404,
            words: "it does not say that an object is missing: is this an object store?".to_owned(),
        },
        Fault::Status(409, _) => RemoteError::Conflict(409),
        Fault::Status(code, _) => RemoteError::Failing(*code),
        Fault::RetryAfter(seconds) => {
            RemoteError::Busy { after: Some(Duration::from_secs(u64::from(*seconds))) }
        }
        Fault::Silence => RemoteError::NoAnswer(SHORT),
        Fault::HalfAnswer => RemoteError::Unreadable("it ends too early, or is too long".to_owned()),
        Fault::AnswerLost => RemoteError::Unreachable(String::new()),
    }
}

/// Whether it is what was expected; the words of a broken connection are the library's, and of half an answer there may
/// be nothing but the broken connection.
fn is(error: &RemoteError, expected: &RemoteError) -> bool {
    match (error, expected) {
        (RemoteError::Unreachable(_), RemoteError::Unreachable(_) | RemoteError::Unreadable(_)) => true,
        _ => error == expected,
    }
}

#[tokio::test]
async fn every_fault_of_reading_is_told_and_nothing_is_asked_twice() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        let long = at(&objects, maker, url);
        let stands = decision(16, "aws");
        long.create(0, &stands).await.expect("it stands");
        for fault in Fault::all() {
            // A bound that is reached only where nothing is answered.
            let deadline = if fault == Fault::Silence { SHORT } else { LONG };
            let witness = at(&objects, maker, url).with_deadline(deadline);
            objects.end.desk.take();
            objects.end.desk.next(|_| true, [fault.clone()]);
            let error = witness.after(0).await.expect_err("a fault");
            assert!(is(&error, &expected(&fault)), "{maker:?} {fault:?}: {error:?}");
            assert_eq!(objects.end.desk.take().len(), 1, "{maker:?} {fault:?}");
            objects.end.desk.next(|_| true, [fault.clone()]);
            let error = witness.list().await.expect_err("a fault");
            assert!(is(&error, &expected(&fault)), "{maker:?} {fault:?}: {error:?}");
            assert_eq!(objects.end.desk.take().len(), 1, "{maker:?} {fault:?}");
            assert_eq!(long.after(0).await, Ok(Some(stands.clone())), "and it is well again");
        }
    }
}

#[tokio::test]
async fn every_fault_of_creating_ends_right_and_nothing_is_done_twice() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        for (number, fault) in Fault::all().into_iter().enumerate() {
            let deadline = if fault == Fault::Silence { SHORT } else { LONG };
            let witness = at(&objects, maker, url).with_deadline(deadline);
            let follows = 16 * i64::try_from(number).expect("few");
            let ours = decision(follows + 16, "aws");
            let before = objects.writes();
            objects.end.desk.take();
            let is_put = |asked: &Asked| asked.method == axum::http::Method::PUT;
            objects.end.desk.next(is_put, [fault.clone()]);
            let came = witness.create(follows, &ours).await;
            match fault {
                // Done, and its answer lost: it is made up for by reading.
                Fault::HalfAnswer | Fault::AnswerLost => {
                    assert_eq!(came, Ok(Creation::Created), "{maker:?} {fault:?}");
                }
                _ => {
                    let error = came.expect_err("a fault");
                    assert!(is(&error, &expected(&fault)), "{maker:?} {fault:?}: {error:?}");
                    assert_eq!(objects.writes(), before, "{maker:?} {fault:?}: nothing was done");
                }
            }
            let puts = |asked: &[Asked]| asked.iter().filter(|asked| is_put(asked)).count();
            assert_eq!(puts(&objects.end.desk.take()), 1, "{maker:?} {fault:?}");
            let again = at(&objects, maker, url);
            assert_eq!(again.create(follows, &ours).await, Ok(Creation::Created), "{maker:?} {fault:?}");
            assert_eq!(objects.writes(), before + 1, "{maker:?} {fault:?}: it is done once");
            assert_eq!(
                again.create(follows, &decision(follows + 17, "gcp")).await,
                Ok(Creation::Exists(ours))
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_not_taken_for_ours() {
    let (maker, url) = MAKERS[0];
    let objects = played(maker).await;
    let witness = at(&objects, maker, url);
    let theirs = decision(17, "gcp");
    witness.create(0, &theirs).await.expect("theirs stands");
    let is_put = |asked: &Asked| asked.method == axum::http::Method::PUT;
    objects.end.desk.next(is_put, [Fault::AnswerLost]);
    assert_eq!(witness.create(0, &decision(16, "aws")).await, Ok(Creation::Exists(theirs)));
    // Neither the answer nor what stands can be had: nobody knows.
    objects.end.desk.always(|_| true, Fault::AnswerLost);
    let error = witness.create(16, &decision(32, "aws")).await.expect_err("nobody knows");
    assert!(error.may_be_done(), "{error:?}");
    objects.end.desk.behave();
    assert_eq!(witness.create(16, &decision(32, "aws")).await, Ok(Creation::Created), "it was done");
    assert_eq!(objects.writes(), 2);
}

#[tokio::test]
async fn what_stands_and_cannot_be_understood_is_never_nothing() {
    let (maker, url) = MAKERS[0];
    let objects = played(maker).await;
    let witness = at(&objects, maker, url);
    let ours = decision(32, "aws");
    let other_group = ours.encode("accounts", 16);
    let long = vec![b' '; usize::try_from(MOST_BYTES).expect("small") + 1];
    for (text, words) in [
        (&b""[..], "after/16 is no decision"),
        (b"{", "after/16 is no decision"),
        (&other_group, "belongs to the group \"accounts\""),
        (&long, "payments/after/16 is longer than 16384 bytes"),
    ] {
        objects.set("payments/after/16", Some(text));
        for error in [
            witness.after(16).await.expect_err("it stands"),
            witness.create(16, &ours).await.expect_err("it stands"),
            witness.list().await.expect_err("it stands"),
        ] {
            assert!(matches!(&error, RemoteError::Unreadable(said) if said.contains(words)), "{error:?}");
        }
        assert_eq!(objects.get("payments/after/16").as_deref(), Some(text), "it is left as it is");
    }
    // What is not a decision by its name is nobody's business.
    objects.set("payments/after/16", None);
    for name in ["after/x", "after/016", "after/-1", "after/16/x", "after2/16", "after/"] {
        objects.set(&format!("payments/{name}"), Some(b"{}"));
    }
    assert_eq!(witness.list().await, Ok(BTreeMap::new()));
    // An object that was deleted and made anew is read anew.
    witness.create(16, &ours).await.expect("it is made");
    witness.list().await.expect("it is known");
    let other = decision(33, "gcp");
    objects.set("payments/after/16", Some(&other.encode("payments", 16)));
    assert_eq!(witness.list().await, Ok(BTreeMap::from([(16, other)])));
}

#[tokio::test]
async fn a_bucket_that_is_gone_and_keys_that_are_not_known_are_not_an_empty_witness() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        let elsewhere = at(&objects, maker, &url.replace("witness", "missing"));
        for error in [
            elsewhere.after(0).await.expect_err("no bucket"),
            elsewhere.list().await.expect_err("no bucket"),
            elsewhere.create(0, &decision(16, "aws")).await.expect_err("no bucket"),
        ] {
            let code = if maker == Maker::Azure { "ContainerNotFound" } else { "NoSuchBucket" };
            let expected = RemoteError::Refused { code: 404, words: format!("{code}: Played.") };
            assert_eq!(error, expected, "{maker:?}");
        }
        let strangers = Objects::serve(maker, "witness", "somebody-else", 3).await.expect("a store");
        let witness = at(&strangers, maker, url);
        assert_eq!(witness.after(0).await, Err(RemoteError::Unauthorized), "{maker:?}");
        assert_eq!(witness.create(0, &decision(16, "aws")).await, Err(RemoteError::Unauthorized));
        let unfit = witness.health("aws", Timestamp::UNIX_EPOCH).await.expect_err("no access");
        assert_eq!(unfit, Unfit::NotReadable(RemoteError::Unauthorized));
        assert!(unfit.remedy().contains("Secret"));
        assert_eq!(strangers.writes(), 0);
    }
}

#[tokio::test]
async fn health_is_written_once_an_hour_and_leaves_one_object() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        let witness = at(&objects, maker, url);
        let begin: Timestamp = "2026-11-28T02:00:00Z".parse().expect("a time");
        let after = |minutes| begin + SignedDuration::from_mins(minutes);
        assert_eq!(witness.health("aws", begin).await, Ok(begin), "{maker:?}");
        assert_eq!(objects.keys(), ["payments/probe/aws"]);
        for minutes in 1..60 {
            assert_eq!(witness.health("aws", after(minutes)).await, Ok(begin));
        }
        assert_eq!(objects.writes(), 1);
        // The process after this one goes on where it was, and asks for the object once.
        let next = at(&objects, maker, url);
        objects.end.desk.take();
        assert_eq!(next.health("aws", after(59)).await, Ok(begin));
        assert_eq!(next.health("aws", after(59)).await, Ok(begin));
        assert_eq!(objects.end.desk.take().len(), 3, "{maker:?}: two lists and one object");
        assert_eq!(next.health("aws", after(60)).await, Ok(after(60)));
        assert_eq!((objects.writes(), objects.keys().len()), (2, 1));
        assert_eq!(next.list().await, Ok(BTreeMap::new()), "a probe is no decision");
        // Another site has its own; a clock that went back writes again.
        assert_eq!(next.health("aws", begin).await, Ok(begin));
        assert_eq!(at(&objects, maker, url).health("gcp", begin).await, Ok(begin));
        assert_eq!(objects.keys(), ["payments/probe/aws", "payments/probe/gcp"]);
    }
}

#[tokio::test]
async fn health_says_what_cannot_be_done_and_does_not_hammer() {
    let (maker, url) = MAKERS[0];
    let objects = played(maker).await;
    let witness = at(&objects, maker, url);
    let now: Timestamp = "2026-11-28T02:00:00Z".parse().expect("a time");
    let is_put = |asked: &Asked| asked.method == axum::http::Method::PUT;
    objects.end.desk.always(is_put, Fault::status(403));
    let unfit = Unfit::NotWritable(RemoteError::Forbidden);
    assert_eq!(witness.health("aws", now).await, Err(unfit.clone()));
    assert!(unfit.remedy().contains("list, read and write below the prefix"));
    objects.end.desk.take();
    objects.end.desk.behave();
    let soon = now + SignedDuration::from_secs(59);
    assert_eq!(witness.health("aws", soon).await, Err(unfit));
    assert!(!objects.end.desk.take().iter().any(is_put), "within a minute it is not tried again");
    let later = now + SignedDuration::from_secs(60);
    assert_eq!(witness.health("aws", later).await, Ok(later));
    // Lost answers are made up for.
    objects.end.desk.next(is_put, [Fault::AnswerLost]);
    let hour = later + SignedDuration::from_hours(1);
    assert_eq!(witness.health("aws", hour).await, Ok(hour));
}

#[tokio::test]
async fn a_store_that_heeds_no_conditions_is_found_before_it_is_needed() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        objects.heed_conditions(false);
        let unfit =
            at(&objects, maker, url).health("aws", Timestamp::UNIX_EPOCH).await.expect_err("no witness");
        assert_eq!(unfit, Unfit::NoConditions, "{maker:?}");
        assert!(unfit.remedy().contains("conditional writes"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(in_folder(folder.path()).health("aws", now).await, Ok(now));
}

#[tokio::test]
async fn nobody_there_and_too_much_there() {
    let (maker, url) = MAKERS[0];
    let objects = played(maker).await;
    for number in 0..=MOST_DECISIONS {
        objects.set(&format!("payments/after/{number}"), Some(b"{}"));
    }
    let witness = at(&objects, maker, url);
    let error = witness.list().await.expect_err("too many");
    assert_eq!(error.to_string(), "its answer cannot be read: more than 1000 objects lie under after/");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    assert_eq!(at_url(&nobody).after(0).await, Err(RemoteError::NobodyListens));
}

#[tokio::test]
async fn what_is_secret_is_not_shown() {
    for (maker, url) in MAKERS {
        let objects = played(maker).await;
        let ground = Ground::of(&spec(url, Some(objects.end.url()))).expect("a ground");
        let credentials = Credentials::of_secret(&ground, "witness", &secret(maker).0).expect("credentials");
        let shown = format!("{credentials:?} {:?}", at(&objects, maker, url));
        assert!(!shown.contains("planted") && !shown.contains("PRIVATE"), "{shown}");
    }
}

#[tokio::test]
async fn calls_go_side_by_side() {
    let (maker, url) = MAKERS[0];
    let objects = played(maker).await;
    let witness = Arc::new(at(&objects, maker, url));
    let made = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..20)
        .map(|number: i64| {
            let (witness, made) = (Arc::clone(&witness), Arc::clone(&made));
            tokio::spawn(async move {
                let ours = decision(16 + number, "aws");
                if witness.create(0, &ours).await == Ok(Creation::Created) {
                    made.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!((made.load(Ordering::SeqCst), objects.writes()), (1, 1));
}
