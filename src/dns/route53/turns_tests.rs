//! Lets one request at a time through, of one writer or the other, in an order that a seed gives.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tokio::sync::Notify;

use crate::runtime::lock;
use crate::sandbox::ends::server::{Served, serve};

#[derive(Default)]
struct State {
    waiting: [bool; 2],
    done: [bool; 2],
    next: Option<usize>,
    random: u64,
}

impl State {
    /// Chooses once everybody who is not done waits.
    fn choose(&mut self) {
        let all_wait = (0..2).all(|who| self.waiting[who] || self.done[who]);
        let able: Vec<usize> = (0..2).filter(|who| self.waiting[*who]).collect();
        if self.next.is_some() || !all_wait || able.is_empty() {
            return;
        }
        // Numerical Recipes' generator; its upper bits are good.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.next = Some(able[(self.random >> 60) as usize % able.len()]);
    }
}

#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<State>>, Arc<Notify>);

impl Turns {
    pub fn begin(&self, seed: u64) {
        *lock::lock(&self.0) = State { random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..State::default() };
    }

    pub fn end(&self, who: usize) {
        let mut state = lock::lock(&self.0);
        state.done[who] = true;
        state.choose();
        self.1.notify_waiters();
    }

    async fn wait(&self, who: usize) {
        {
            let mut state = lock::lock(&self.0);
            state.waiting[who] = true;
            state.choose();
            self.1.notify_waiters();
        }
        loop {
            let notified = self.1.notified();
            {
                let mut state = lock::lock(&self.0);
                if state.next == Some(who) {
                    (state.next, state.waiting[who]) = (None, false);
                    return;
                }
            }
            // A turn that is given between looking and waiting is seen at the next look.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(5), notified).await;
        }
    }

    /// A way to the end that waits for its turn.
    pub async fn door(&self, who: usize, to: &str) -> Served {
        let (turns, to, http) = (self.clone(), to.to_owned(), reqwest::Client::new());
        let pass = move |request: Request| {
            let (turns, to, http) = (turns.clone(), to.clone(), http.clone());
            async move {
                turns.wait(who).await;
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.expect("a body");
                let path = parts.uri.path_and_query().expect("a path").as_str();
                let asked = http.request(parts.method, format!("{to}{path}"));
                let answer = asked.headers(parts.headers).body(body).send().await.expect("an answer");
                let (status, headers) = (answer.status(), answer.headers().clone());
                let response: Response =
                    (status, headers, answer.bytes().await.expect("a body")).into_response();
                response
            }
        };
        serve(Router::new().fallback(pass)).await.expect("a server")
    }
}
