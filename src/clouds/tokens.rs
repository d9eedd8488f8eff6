//! Keeps a token fresh: asks for the next one before this one ends, one at a time.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{CloudError, Cluster, Token};

/// A token is renewed after four fifths of its life, so that there is a fifth left for trying: three minutes of fifteen.
const RENEWED_AT: f64 = 0.8;
/// How long it is waited after a first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long it is waited at the most. A token service that is back is used again within that time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is there of a token now.
#[derive(Clone, Debug, Default)]
struct State {
    token: Option<Token>,
    header: Option<HeaderValue>,
    error: Option<CloudError>,
}

/// A token that stays fresh as long as this lives.
pub struct Tokens {
    state: watch::Receiver<State>,
    now: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is read by whoever sends requests. Cheap to clone.
#[derive(Clone)]
pub struct Bearer {
    state: watch::Receiver<State>,
    now: Arc<Notify>,
}

impl Bearer {
    /// The header `Authorization`; `None` while there is no token that lives.
    pub fn header(&self) -> Option<HeaderValue> {
        let state = self.state.borrow();
        state.token.as_ref().filter(|token| token.ends > Instant::now())?;
        state.header.clone()
    }

    /// Says that the token was refused: a new one is asked for at once. The one that is there is kept, since the refusal
    /// may have another reason.
    pub fn refused(&self) {
        self.now.notify_one();
    }
}

impl Tokens {
    /// Begins to ask for tokens.
    pub fn keep(cluster: Arc<dyn Cluster>) -> Self {
        let (sender, state) = watch::channel(State::default());
        let now = Arc::new(Notify::new());
        let task = tokio::spawn(renew(cluster, sender, Arc::clone(&now))).abort_handle();
        Self { state, now, task }
    }

    /// For whoever sends requests.
    pub fn bearer(&self) -> Bearer {
        Bearer { state: self.state.clone(), now: Arc::clone(&self.now) }
    }

    /// Waits for the first answer, for at most that long, and says whether there is a token that lives.
    ///
    /// # Errors
    /// Why there is none; `None` if nothing has been answered yet.
    pub async fn ready(&self, patience: Duration) -> Result<(), Option<CloudError>> {
        let mut state = self.state.clone();
        let there = |state: &State| state.token.is_some() || state.error.is_some();
        // It ends early only with the process.
        let _ = tokio::time::timeout(patience, state.wait_for(there)).await;
        let state = state.borrow().clone();
        match state.token {
            Some(token) if token.ends > Instant::now() => Ok(()),
            _ => Err(state.error),
        }
    }
}

/// When a token is renewed.
fn due(token: &Token) -> Instant {
    token.made + token.ends.saturating_duration_since(token.made).mul_f64(RENEWED_AT)
}

async fn renew(cluster: Arc<dyn Cluster>, state: watch::Sender<State>, now: Arc<Notify>) {
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        let wait = match cluster.token().await {
            Ok(token) => {
                failures = 0;
                let next = due(&token);
                let header = bearer(&token.value);
                state.send_modify(|state| *state = State { token: Some(token), header, error: None });
                // However short its life is, tokens are not asked for in a circle.
                next.max(asked + FIRST_PAUSE)
            }
            Err(error) => {
                let pause = error.after().unwrap_or_else(|| pause(failures));
                failures += 1;
                // The old one stays until it ends.
                state.send_modify(|state| state.error = Some(error));
                Instant::now() + pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(wait) => {}
            () = refused(&now, asked + LONGEST_PAUSE), if failures == 0 => {}
        }
    }
}

/// Returns when the token was refused, and not before that moment.
async fn refused(now: &Notify, earliest: Instant) {
    now.notified().await;
    tokio::time::sleep_until(earliest).await;
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE)
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;

    use super::*;
    use crate::clouds::Found;
    use crate::runtime::remote::RemoteError;

    /// A cloud whose tokens live so long, and which fails as often as it is told to.
    struct Played {
        life: Duration,
        made: AtomicU32,
        failures: Mutex<Vec<RemoteError>>,
        at_once: AtomicU32,
        takes: Duration,
    }

    fn played(life: u64, failures: Vec<RemoteError>) -> Arc<Played> {
        let (life, failures) = (Duration::from_secs(life), Mutex::new(failures));
        let takes = Duration::from_millis(50);
        Arc::new(Played { life, made: AtomicU32::new(0), failures, at_once: AtomicU32::new(0), takes })
    }

    impl Cluster for Played {
        fn find(&self) -> BoxFuture<'_, Result<Found, CloudError>> {
            unreachable!("it is asked for tokens alone")
        }

        fn token(&self) -> BoxFuture<'_, Result<Token, CloudError>> {
            Box::pin(async {
                assert_eq!(self.at_once.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                tokio::time::sleep(self.takes).await;
                self.at_once.fetch_sub(1, Ordering::SeqCst);
                let failure = self.failures.lock().unwrap().pop();
                if let Some(error) = failure {
                    return Err(CloudError::Remote { what: "the cloud:".into(), error, remedy: None });
                }
                let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
                Ok(Token::living(format!("token-{number}"), self.life))
            })
        }
    }

    fn shows(bearer: &Bearer) -> Option<String> {
        bearer.header().map(|header| header.to_str().unwrap().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_it_ends_and_never_shown_after() {
        let cloud = played(10, Vec::new());
        let tokens = Tokens::keep(cloud.clone());
        let bearer = tokens.bearer();
        assert_eq!(shows(&bearer), None);
        tokens.ready(Duration::from_secs(5)).await.unwrap();
        for _ in 0..2000 {
            assert!(shows(&bearer).is_some());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // A life of 10 s, of which 8 are used: 1000 s make 124 tokens; each takes 50 ms more.
        let made = cloud.made.load(Ordering::SeqCst);
        assert!((120..=126).contains(&made), "{made}");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_next_one_fails_the_old_one_is_used_until_it_ends() {
        let cloud = played(100, Vec::new());
        let tokens = Tokens::keep(cloud.clone());
        tokens.ready(Duration::from_secs(5)).await.unwrap();
        *cloud.failures.lock().unwrap() = vec![RemoteError::Failing(500); 1000];
        let bearer = tokens.bearer();
        tokio::time::sleep(Duration::from_secs(99)).await;
        assert_eq!(shows(&bearer).as_deref(), Some("Bearer token-1"));
        tokens.ready(Duration::ZERO).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shows(&bearer), None, "an ended token is shown to nobody");
        let error = tokens.ready(Duration::ZERO).await.unwrap_err().unwrap();
        assert_eq!(error.to_string(), "the cloud: it answers with 500");
        cloud.failures.lock().unwrap().clear();
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(shows(&bearer).as_deref(), Some("Bearer token-2"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_it_is_asked_to_and_renews_what_was_refused() {
        let after = Some(Duration::from_secs(7));
        let cloud = played(1000, vec![RemoteError::Busy { after }]);
        let tokens = Tokens::keep(cloud.clone());
        let bearer = tokens.bearer();
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(shows(&bearer), None);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shows(&bearer).as_deref(), Some("Bearer token-1"));
        // Refused again and again, a new one is asked for twice a minute at the most.
        for _ in 0..60 {
            bearer.refused();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let made = cloud.made.load(Ordering::SeqCst);
        assert!((2..=4).contains(&made), "{made}");
    }

    #[test]
    fn nothing_shows_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let token = Token::living("planted".to_owned(), Duration::from_secs(1));
            let state = State { header: bearer(&token.value), token: Some(token.clone()), error: None };
            assert!(!format!("{token:?} {state:?}").contains("planted"));
        });
    }
}
