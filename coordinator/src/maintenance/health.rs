//! The loop that looks at all locations, each for itself.

use std::sync::Arc;

use orlop_runtime::memory;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Maintenance;
use crate::{
    locations::{Checked, View},
    runs::Refusal,
};

impl Maintenance {
    /// Opens all locations at the start, before anybody calls.
    ///
    /// # Errors
    /// The location that the coordinator is started with cannot be opened, and waiting would not help.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<(), Refusal> {
        let mut looks = JoinSet::new();
        for name in self.runs.locations().names() {
            let own = Arc::clone(self);
            looks.spawn(async move { (own.look(&name, false, true).await, name) });
        }
        while let Some(look) = looks.join_next().await {
            let Ok((looked, name)) = look else { continue };
            let view = self.runs.locations().get(&name)?;
            if view.fixed && !view.health.available && view.health.permanent {
                return Err(Refusal::Precondition(view.health.message));
            }
            if view.fixed && view.health.available {
                looked?;
            }
        }
        Ok(())
    }

    /// Looks at every location again and again, until `shutdown`.
    pub(crate) async fn run_health(self: Arc<Self>, shutdown: CancellationToken) {
        let every = self.runs.parts.limits.validate_every;
        let mut looks = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(every) => {}
            }
            for name in self.runs.locations().names() {
                let own = Arc::clone(&self);
                looks.spawn(async move {
                    if let Err(reason) = own.look(&name, false, false).await {
                        tracing::warn!(location = name, %reason, "cannot read what is recorded in a location");
                    }
                });
            }
            // A location that does not answer does not hold up the end.
            while !looks.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = looks.join_next() => {}
                }
            }
            // What collections and checks have freed, too.
            memory::give_back();
        }
        looks.shutdown().await;
    }

    /// Looks at one location; if it answers, what is recorded there is read.
    ///
    /// # Errors
    /// There is no such location, or its records cannot be read. That it does not answer is no error.
    pub(crate) async fn look(
        &self,
        name: &str,
        write: bool,
        at_start: bool,
    ) -> Result<View, Refusal> {
        let locations = self.runs.locations();
        let name = locations.name_of(name)?;
        let Checked { repository, health } = locations.check(&name, write).await?;
        if let Some(repository) = repository.filter(|_| health.available) {
            self.runs.sync(&name, at_start).await?;
            if locations.default_name().as_deref() == Some(&name) {
                self.schedules.adopt(&repository).await?;
            }
        }
        locations.get(&name)
    }
}
