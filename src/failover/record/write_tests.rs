use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use super::*;
use crate::failover::record::document::Document;
use crate::failover::record::verify::{Whole, verify};

/// What goes wrong with the next write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It is carried out, and its answer is lost.
    Deaf,
    /// Somebody else writes just before.
    Raced,
    /// It is refused.
    Forbidden,
}

/// An API server with ConfigMaps: writes over a version, and immutable ones.
#[derive(Clone, Default)]
struct Server {
    maps: Arc<Mutex<Vec<Value>>>,
    version: Arc<Mutex<u64>>,
    fault: Arc<Mutex<Option<Fault>>>,
}

fn failed(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}))
}

impl Server {
    fn api(&self) -> Api<ConfigMap> {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let name = head.uri.path().rsplit_once("/configmaps/").map(|(_, name)| name.to_owned());
                let (code, answer) = server.answer(&head.method, name, serde_json::from_slice(&body).ok());
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Api::namespaced(Client::new(service, "default"), "banyan-system")
    }

    fn answer(&self, method: &Method, name: Option<String>, body: Option<Value>) -> (u16, Value) {
        if *method == Method::GET {
            let items = self.maps.lock().unwrap().clone();
            return (
                200,
                json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": items}),
            );
        }
        let fault = self.fault.lock().unwrap().take();
        if fault == Some(Fault::Forbidden) {
            return failed(403, "Forbidden");
        }
        if fault == Some(Fault::Raced) {
            self.next();
            let version = *self.version.lock().unwrap();
            let mut maps = self.maps.lock().unwrap();
            maps.last_mut().unwrap()["metadata"]["resourceVersion"] = version.to_string().into();
        }
        let mut body = body.expect("an object");
        let version = self.next();
        let mut maps = self.maps.lock().unwrap();
        let place = |name: &str| maps.iter().position(|map| map["metadata"]["name"] == name);
        let answer = match name {
            None => {
                let name = body["metadata"]["name"].as_str().expect("a name").to_owned();
                if place(&name).is_some() {
                    return failed(409, "AlreadyExists");
                }
                body["metadata"]["resourceVersion"] = version.into();
                maps.push(body.clone());
                (201, body)
            }
            Some(name) => {
                let place = place(&name).expect("it is there");
                let map = &mut maps[place];
                if body["metadata"]["resourceVersion"] != map["metadata"]["resourceVersion"] {
                    return failed(409, "Conflict");
                }
                assert_ne!(map["immutable"], true, "nothing is added to what is full");
                map["metadata"]["resourceVersion"] = version.into();
                if let Some(text) = body["data"].get(ENTRIES) {
                    map["data"][ENTRIES] = text.clone();
                }
                if body["immutable"] == true {
                    map["immutable"] = true.into();
                }
                (200, map.clone())
            }
        };
        if fault == Some(Fault::Deaf) { failed(504, "Timeout") } else { answer }
    }

    fn next(&self) -> String {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        version.to_string()
    }

    fn fails(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    async fn whole(&self) -> Whole {
        let parts = read(&self.api(), "payments").await.unwrap();
        verify(&Document::of("payments", &lines(&parts)), None).unwrap()
    }
}

fn pending(numbers: std::ops::RangeInclusive<i64>, bytes: usize) -> Vec<String> {
    let words = "x".repeat(bytes);
    let entry = |number: i64| json!({"number": number, "at": "t", "event": "E", "words": words}).to_string();
    numbers.map(entry).collect()
}

const ONE: Of<'_> = Of { group: "payments", site: "gcp", failover: "one", uid: "u-1" };

#[tokio::test]
async fn what_stands_there_is_not_added_again() {
    let server = Server::default();
    let api = server.api();
    add(&api, &ONE, &pending(1..=2, 9)).await.unwrap();
    // The operator was killed before it wrote down that they are there.
    let last = add(&api, &ONE, &pending(1..=3, 9)).await.unwrap();
    let other = Of { failover: "two", uid: "u-2", ..ONE };
    add(&api, &other, &pending(1..=1, 9)).await.unwrap();
    let whole = server.whole().await;
    assert_eq!((last.entries, whole.entries, whole.moves), (3, 4, 2));
    let again = add(&api, &ONE, &pending(1..=3, 9)).await.unwrap();
    assert_eq!((again.entries, Some(again.head)), (4, whole.head), "it says where the record stands");
}

#[tokio::test]
async fn a_lost_answer_or_a_faster_writer_doubles_nothing() {
    let server = Server::default();
    let api = server.api();
    for (number, fault) in [(1, Fault::Deaf), (2, Fault::Deaf), (3, Fault::Raced), (4, Fault::Forbidden)] {
        server.fails(fault);
        let failed = add(&api, &ONE, &pending(1..=number, 9)).await.unwrap_err();
        assert_eq!(matches!(failed, NotWritten::Again), fault == Fault::Raced, "{failed}");
        add(&api, &ONE, &pending(1..=number, 9)).await.unwrap();
        assert_eq!(server.whole().await.entries, usize::try_from(number).unwrap());
    }
}

#[tokio::test]
async fn a_full_part_is_closed_before_the_next_one_begins() {
    let server = Server::default();
    let api = server.api();
    for number in 1..=12 {
        if number == 10 {
            // Killed between the two writes.
            server.fails(Fault::Deaf);
            let _ = add(&api, &ONE, &pending(number..=number, 150_000)).await;
        }
        add(&api, &ONE, &pending(number..=number, 150_000)).await.unwrap();
    }
    let whole = server.whole().await;
    assert_eq!((whole.entries, whole.moves), (12, 1));
    let parts = read(&api, "payments").await.unwrap();
    let full: Vec<bool> = parts.iter().map(|part| part.full).collect();
    assert_eq!(full, [true, true, false], "five fit into a part");
    assert!(parts.iter().all(|part| part.text.len() <= MOST_BYTES));
}
