//! The agent's own routes behind its own TLS, well and badly behaved. Beside it lies a `pg_ctl` that writes down how often
//! it was told to start a server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use axum::http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::sandbox::ends::server::{Asked, Fault, Served, serve};
use crate::stores::agent::programs::Programs;
use crate::stores::agent::work::Worker;
use crate::stores::agent::{Action, State, server};

/// A bound for calls that are answered, and for those that are not.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(500);

/// An agent whose server is stopped.
struct Stage {
    end: Served,
    folder: TempDir,
    agent: Agent,
    _tls: JoinSet<()>,
}

/// What is called in place of PostgreSQL's program: `pg_ctl -D DATA COMMAND …`.
const PG_CTL: &str = r#"#!/bin/sh
case "$3" in
  status) test -e "$2/running" ;;
  start) echo once >> "$2/starts" && touch "$2/running" ;;
esac
"#;

/// A program. Another process writes it: one that this process has open, and that a test beside this one inherits for a
/// moment, could not be run.
fn program(path: &Path, text: &str) {
    let write = r#"printf %s "$2" > "$1" && chmod 700 "$1""#;
    let written = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(text).status();
    assert!(written.expect("a shell").success());
}

fn papers(issuer: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    (params.signed_by(&key, issuer).expect("a certificate").pem(), key.serialize_pem())
}

/// TLS before a server that has none, for as long as what is answered lives.
async fn protected(end: SocketAddr, tls: rustls::ServerConfig) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let (Ok(mut outside), Ok(mut inside)) =
                    (acceptor.accept(stream).await, TcpStream::connect(end).await)
                else {
                    return;
                };
                // How a connection ends is the client's affair.
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (port, task)
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let (bin, data) = (folder.path().join("bin"), folder.path().join("data"));
    std::fs::create_dir(&bin).and_then(|()| std::fs::create_dir(&data)).expect("folders");
    program(&bin.join("pg_ctl"), PG_CTL);
    let replicate_as = folder.path().join("replicate-as");
    let programs = Programs { bin, data, options: String::new(), replicate_as, rewind_as: None };
    let worker = Worker::new(programs, folder.path().join("local")).expect("a worker");
    let end = serve(server::routes(worker)).await.expect("a server");

    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer");
    let (theirs, ours) = (papers(&ca), papers(&ca));
    let tls = server::tls(theirs.0.as_bytes(), theirs.1.as_bytes(), ca.pem().as_bytes()).expect("TLS");
    let (port, _tls) = protected(end.address, tls).await;
    let agent = Agent::new("127.0.0.1", port, ours.0.as_bytes(), ours.1.as_bytes(), ca.pem().as_bytes());
    let agent = Agent { deadline: LONG, ..agent.expect("an agent") };
    Stage { end, folder, agent, _tls }
}

impl Stage {
    /// Who waits as long as that fault needs.
    fn asks(&self, fault: &Fault) -> Agent {
        let deadline = if *fault == Fault::Silence { SHORT } else { LONG };
        Agent { deadline, ..self.agent.clone() }
    }

    /// How often the server was started.
    fn starts(&self) -> usize {
        let file = self.folder.path().join("data/starts");
        std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
    }

    /// How many orders have arrived since this was last asked.
    fn orders(&self) -> usize {
        self.end.desk.take().iter().filter(|asked| is_order(asked)).count()
    }

    async fn until_done(&self, order: &Order) {
        let begin = Instant::now();
        while self.agent.order(order).await.expect("it is well again").state != State::Done {
            assert!(begin.elapsed() < LONG, "it is not done");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn is_order(asked: &Asked) -> bool {
    asked.method == Method::POST && asked.path == "/v1/orders"
}

fn start() -> Order {
    Order { id: "start-17".to_owned(), ballot: 17, action: Action::Start }
}

fn assert_is(fault: &Fault, error: &StoreError) {
    let StoreError::Remote(remote) = error else { panic!("{fault:?}: {error:?}") };
    let expected = match fault {
        Fault::Status(401, _) => RemoteError::Unauthorized,
        Fault::Status(403, _) => RemoteError::Forbidden,
        Fault::Status(404, _) => RemoteError::NotFound,
        Fault::Status(code @ 409, _) => RemoteError::Conflict(*code),
        Fault::Status(code, _) => RemoteError::Failing(*code),
        Fault::RetryAfter(seconds) => {
            RemoteError::Busy { after: Some(Duration::from_secs(u64::from(*seconds))) }
        }
        Fault::Silence => RemoteError::NoAnswer(SHORT),
        Fault::HalfAnswer | Fault::AnswerLost => {
            let unknown = matches!(remote, RemoteError::Unreachable(_) | RemoteError::Unreadable(_));
            return assert!(unknown && remote.may_be_done(), "{fault:?}: {remote:?}");
        }
    };
    assert_eq!(*remote, expected, "{fault:?}");
}

#[tokio::test]
async fn every_fault_of_an_order_ends_right_and_nothing_is_done_twice() {
    let each = Fault::all().into_iter().map(async |fault| {
        let stage = stage().await;
        stage.end.desk.next(is_order, [fault.clone()]);
        let begin = Instant::now();
        assert_is(&fault, &stage.asks(&fault).order(&start()).await.expect_err("a fault"));
        assert!(fault != Fault::Silence || begin.elapsed() < LONG, "silence ends");
        assert_eq!(stage.orders(), 1, "{fault:?}: it is not given again by itself");
        // What was lost may have been done; to give it again is to ask how it fares.
        stage.until_done(&start()).await;
        assert_eq!(stage.starts(), 1, "{fault:?}");
        stage.until_done(&start()).await;
        assert_eq!(stage.starts(), 1, "{fault:?}: it is done once");
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn every_fault_of_a_question_is_told_and_nothing_is_asked_twice() {
    let stage = stage().await;
    for fault in Fault::all() {
        stage.end.desk.next(|asked| asked.path == "/v1/status", [fault.clone()]);
        assert_is(&fault, &stage.asks(&fault).status().await.expect_err("a fault"));
        assert_eq!(stage.end.desk.take().len(), 1, "{fault:?}: it is not asked again");
        assert!(!stage.agent.status().await.expect("it is well again").running);
        stage.end.desk.take();
    }
    assert_eq!(stage.starts(), 0);
}

#[tokio::test]
async fn what_an_agent_refuses_is_told_in_its_words_and_what_another_answers_is_not_taken_for_it() {
    let stage = stage().await;
    let refused =
        |code: u16, words: &str| StoreError::Remote(RemoteError::Refused { code, words: words.to_owned() });
    let cases = [
        (409, json!({"greater": {"known": 33}}), StoreError::Refused { asked: 17, known: 33 }),
        (409, json!({"busy": {"id": "copy-16"}}), RemoteError::Busy { after: None }.into()),
        (
            409,
            json!({"unknown": {"why": "no answer within 4 s"}}),
            refused(409, "the authority row cannot be read: no answer within 4 s"),
        ),
        (400, json!({"wrong": {"why": "it is no order"}}), refused(400, "it is no order")),
        // A proxy in between, say.
        (409, json!("<html>"), RemoteError::Conflict(409).into()),
        (400, json!({"message": "bad request"}), refused(400, "")),
        (502, json!({"greater": {"known": 33}}), RemoteError::Failing(502).into()),
    ];
    for (code, body, expected) in cases {
        stage.end.desk.next(is_order, [Fault::Status(code, body.to_string())]);
        assert_eq!(stage.agent.order(&start()).await, Err(expected), "{code} {body}");
    }
    // An answer that is none, and one that is too long.
    for text in ["{}".to_owned(), "x".repeat(LONGEST + 1)] {
        stage.end.desk.next(is_order, [Fault::Status(200, text)]);
        let error = stage.agent.order(&start()).await.expect_err("no answer of an agent");
        assert!(matches!(error, StoreError::Remote(RemoteError::Unreadable(_))), "{error:?}");
    }
    assert_eq!((stage.orders(), stage.starts()), (9, 0));
}
