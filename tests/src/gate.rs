//! A gate at which a moment is held until a test lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// How a gate is.
#[derive(Debug, Default)]
struct State {
    open: bool,
    /// How many have come to it while it was closed, those that have gone since included.
    came: u64,
}

/// What some part of a test's world waits at. Copies are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

impl Gate {
    /// One that nobody passes until it is opened.
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Lets all pass, those that wait and those that will come.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.0.borrow().open
    }

    /// Passes if it is open. Who does not is one that has come.
    pub fn try_pass(&self) -> bool {
        self.0.send_if_modified(|state| {
            state.came += u64::from(!state.open);
            !state.open
        });
        self.is_open()
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        if !self.try_pass() {
            self.until(|state| state.open).await;
        }
    }

    /// Waits until somebody has come to it while it was closed.
    pub async fn met(&self) {
        self.until(|state| state.came > 0).await;
    }

    async fn until(&self, is_it: impl FnMut(&State) -> bool) {
        let waited = self.0.subscribe().wait_for(is_it).await.map(drop);
        waited.expect("the sender is in this value");
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gate {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_passes_before_it_is_opened() {
        let gate = Gate::closed();
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        gate.met().await;
        assert!(!waits.is_finished() && !gate.try_pass());
        gate.open();
        waits.await.unwrap();
        assert!(gate.try_pass());
        gate.pass().await;
    }
}
