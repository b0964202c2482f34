//! Making, changing and deleting schedules. The store is written first: what was answered outlives everything else.

use std::sync::atomic::Ordering;

use orlop_core::schedule::{ScheduleSpec, Timetable};

use super::{
    Schedules, View,
    record::Record,
    state::{Entry, State},
    unknown,
};
use crate::runs::Refusal;

impl Schedules {
    /// Makes a schedule, unless the same request was accepted before. True if it is new.
    pub(crate) async fn create(
        &self,
        name: String,
        spec: ScheduleSpec,
        paused: bool,
    ) -> Result<(View, bool), Refusal> {
        let timetable = self.check(&spec)?;
        let _turn = self.changing.lock().await;
        if let Some(entry) = self.lock().get(&name) {
            if entry.record.spec != spec || entry.record.paused != paused {
                return Err(Refusal::Exists {
                    kind: "schedule",
                    name,
                });
            }
            return Ok((self.view(entry), false));
        }
        let record = Record::new(name, spec, paused, self.runs.now_ms());
        let state = State::new(&record, None);
        self.put(&record).await?;
        Ok((self.install(record, state, timetable), true))
    }

    /// Replaces what a schedule does.
    pub(crate) async fn update(
        &self,
        name: &str,
        spec: ScheduleSpec,
        version: u64,
    ) -> Result<View, Refusal> {
        self.check(&spec)?;
        let now_ms = self.runs.now_ms();
        self.change(name, version, |record| {
            let times = |spec: &ScheduleSpec| (spec.cron.clone(), spec.time_zone.clone());
            if times(&record.spec) != times(&spec) {
                record.from_ms = now_ms;
            }
            record.spec = spec;
        })
        .await
    }

    /// Lets turns pass without a backup, or ends that; turns that passed are not made up for.
    pub(crate) async fn pause(&self, name: &str, paused: bool) -> Result<View, Refusal> {
        let now_ms = self.runs.now_ms();
        self.change(name, 0, |record| {
            if record.paused && !paused {
                record.from_ms = now_ms;
            }
            record.paused = paused;
        })
        .await
    }

    /// Removes a schedule; one that does not exist is no error. Its backups stay.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Refusal> {
        let _turn = self.changing.lock().await;
        if !self.lock().contains_key(name) {
            return Ok(());
        }
        self.home()?.records.remove_up_to(name, u64::MAX).await?;
        self.lock().remove(name);
        self.runs.remove_schedule(name);
        Ok(())
    }

    /// What can be checked of a spec only here.
    fn check(&self, spec: &ScheduleSpec) -> Result<Timetable, Refusal> {
        if !spec.location.is_empty() {
            self.runs.locations().name_of(&spec.location)?;
        }
        spec.timetable().map_err(|error| Refusal::Invalid {
            field: "cron",
            message: error.to_string(),
        })
    }

    async fn change(
        &self,
        name: &str,
        version: u64,
        change: impl FnOnce(&mut Record),
    ) -> Result<View, Refusal> {
        let _turn = self.changing.lock().await;
        let (old, mut state) = {
            let table = self.lock();
            let entry = table.get(name).ok_or_else(|| unknown(name, &table))?;
            (entry.record.clone(), entry.state.clone())
        };
        if version != 0 && version != old.version {
            return Err(Refusal::Precondition(format!(
                "schedule {name} has version {} by now, not {version}: look at it again",
                old.version
            )));
        }
        let mut record = old.clone();
        change(&mut record);
        if record == old {
            return self.get(name);
        }
        record.version += 1;
        record.updated_ms = self.runs.now_ms();
        let timetable = self.check(&record.spec)?;
        self.put(&record).await?;
        let records = self.home()?.records;
        if let Err(error) = records.remove_up_to(name, old.version).await {
            tracing::warn!(schedule = name, error = %error, "an older version of a schedule stays");
        }
        state.follow(&record);
        Ok(self.install(record, state, timetable))
    }

    async fn put(&self, record: &Record) -> Result<(), Refusal> {
        if self.home()?.records.put(record).await? {
            return Ok(());
        }
        Err(Refusal::Unavailable(format!(
            "somebody else has changed schedule {}: is another coordinator at work on this location? restart this one",
            record.name
        )))
    }

    fn install(&self, record: Record, state: State, timetable: Timetable) -> View {
        self.runs.save_schedule(&record.name, &state.to_json());
        let name = record.name.clone();
        let entry = Entry {
            record,
            state,
            timetable,
            waiting: String::new(),
            retry_at: None,
        };
        let view = self.view(&entry);
        self.lock().insert(name, entry);
        self.unkept.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        view
    }
}
