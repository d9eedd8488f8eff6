//! What tests of the providers share: sites that answer on `/authority`, a wait, and a log that is read afterwards.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use super::wanted::{Gateway, SiteWanted, Wanted};
use crate::runtime::lock;
use crate::sandbox::ends::server::{Served, serve};

/// The deadline of a call where silence is tried, and of all others: a busy machine is not silence.
pub const SHORT: Duration = Duration::from_secs(3);
pub const LONG: Duration = Duration::from_secs(30);
/// What must have come true by then.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A site: its gateway, which answers with its name, and whether it has authority.
pub struct Site {
    pub name: &'static str,
    pub served: Served,
    authority: Arc<AtomicBool>,
}

impl Site {
    pub async fn start(name: &'static str, has_authority: bool) -> Self {
        let authority = Arc::new(AtomicBool::new(has_authority));
        let asked = Arc::clone(&authority);
        let say = async move || match asked.load(Ordering::SeqCst) {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let routes = Router::new().route("/authority/payments", get(say)).fallback(
            move |request: axum::extract::Request| async move {
                format!("{name} {} {}", request.method(), request.uri())
            },
        );
        Self { name, served: serve(routes).await.expect("a server"), authority }
    }

    pub fn set(&self, has_authority: bool) {
        self.authority.store(has_authority, Ordering::SeqCst);
    }

    fn wanted(&self) -> SiteWanted {
        let gateway = Gateway { tls: false, host: "127.0.0.1".to_owned(), port: self.served.address.port() };
        SiteWanted { weight: 100, off: false, gateway: Some(gateway) }
    }
}

/// All sites with the same share, in the name of that epoch.
pub fn wanted(epoch: Option<i64>, sites: &[Site]) -> Wanted {
    Wanted {
        group: "payments".to_owned(),
        hosts: vec!["api.finflow.example".to_owned()],
        epoch,
        sites: sites.iter().map(|site| (site.name.to_owned(), site.wanted())).collect(),
    }
}

/// The same with other shares; a share of nothing pins off.
pub fn shared(wanted: &Wanted, epoch: i64, shares: &[(&str, Option<u8>)]) -> Wanted {
    let mut wanted = Wanted { epoch: Some(epoch), ..wanted.clone() };
    for (site, share) in shares {
        let site = wanted.sites.get_mut(*site).expect("the site");
        (site.weight, site.off) = (share.unwrap_or(100), share.is_none());
    }
    wanted
}

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All that was logged, at every level and by every crate.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything on this thread is logged into it as long as the guard lives.
    pub fn listen(&self) -> tracing::subscriber::DefaultGuard {
        // As long as there is but one subscriber, whoever logs first on another thread decides that nobody listens.
        static ANOTHER: LazyLock<tracing::Dispatch> =
            LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
        LazyLock::force(&ANOTHER);
        let log = self.clone();
        let all = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(all.finish())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock::lock(&self.0)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock::lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
