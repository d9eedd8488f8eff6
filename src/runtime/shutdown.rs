//! The word to stop, which any number of tasks can hear.

use std::sync::Arc;

use tokio::sync::watch;

/// A switch that is thrown once. Cloning gives another handle of the same switch.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A switch that nobody has thrown yet.
    pub fn new() -> Self {
        Self { sender: Arc::new(watch::channel(false).0) }
    }

    /// Throws the switch. Doing so again changes nothing.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    /// Whether the switch was thrown.
    pub fn is_triggered(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns once the switch is thrown; at once if it was.
    pub async fn triggered(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.sender.subscribe().wait_for(|thrown| *thrown).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it_early_or_late() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.triggered().await }
        });
        tokio::task::yield_now().await;
        assert!(!early.is_finished() && !shutdown.is_triggered());
        shutdown.clone().trigger();
        early.await.unwrap();
        shutdown.triggered().await;
        assert!(shutdown.is_triggered());
    }
}
