//! The word to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{Context, Result};

/// Ctrl-C, SIGTERM or the end of the terminal.
pub(super) struct Interrupt([Signal; 3]);

impl Interrupt {
    /// Listens from now on.
    pub(super) fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context(|| "listening to signals");
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    /// The answer, or `None` where somebody asked for the end before.
    pub(super) async fn or<T>(&mut self, answer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            answer = answer => Some(answer),
            () = self.wait() => None,
        }
    }
}
