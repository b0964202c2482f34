//! Making, changing and forgetting locations. The file is written first: what was answered outlives everything else.

use orlop_core::LocationSpec;
use orlop_repository::open_store_with;

use super::{Entry, Locations, View, record::Record, unknown};
use crate::{error::Error, runs::Refusal};

impl Locations {
    /// Makes a location, unless the same request was accepted before. True if it is new. It is not looked at yet.
    pub(crate) async fn create(
        &self,
        name: String,
        spec: LocationSpec,
    ) -> Result<(View, bool), Refusal> {
        check(&spec)?;
        let _turn = self.changing.lock().await;
        self.allow_default(&spec, &name)?;
        {
            let table = self.lock();
            if let Some(entry) = table.get(&name) {
                if entry.record.spec != spec {
                    return Err(Refusal::Exists {
                        kind: "location",
                        name,
                    });
                }
                return Ok((super::view(entry, super::default_of(&table)), false));
            }
        }
        let record = Record::new(name, spec, self.clock.now_ms());
        Ok((self.install(record)?, true))
    }

    /// Replaces what a location is. `busy` says why its URL cannot be changed now. It is not looked at yet.
    pub(crate) async fn update(
        &self,
        name: &str,
        spec: LocationSpec,
        version: u64,
        drop_keys: bool,
        busy: impl Fn() -> Option<String>,
    ) -> Result<View, Refusal> {
        check(&spec)?;
        let _turn = self.changing.lock().await;
        let old = self.changeable(name)?;
        if version != 0 && version != old.version {
            return Err(Refusal::Precondition(format!(
                "location {name} has version {} by now, not {version}: look at it again",
                old.version
            )));
        }
        self.allow_default(&spec, name)?;
        let spec = spec.keeping_secrets_of(&old.spec, drop_keys);
        if spec == old.spec {
            return self.get(name);
        }
        if (&spec.url, &spec.repository_path) != (&old.spec.url, &old.spec.repository_path)
            && let Some(reason) = busy()
        {
            return Err(Refusal::Precondition(reason));
        }
        let record = Record {
            version: old.version + 1,
            updated_ms: self.clock.now_ms(),
            spec,
            ..old
        };
        self.install(record)
    }

    /// Forgets a location; one that does not exist is no error. `busy` says why that cannot be done now. True if it
    /// was there.
    pub(crate) async fn delete(
        &self,
        name: &str,
        busy: impl Fn() -> Option<String>,
    ) -> Result<bool, Refusal> {
        let _turn = self.changing.lock().await;
        if !self.lock().contains_key(name) {
            return Ok(false);
        }
        self.changeable(name)?;
        if let Some(reason) = busy() {
            return Err(Refusal::Precondition(reason));
        }
        self.files.remove(name).map_err(|error| failed(&error))?;
        if let Some(gone) = self.lock().remove(name) {
            self.opener.forget(&gone.record.spec);
        }
        Ok(true)
    }

    fn changeable(&self, name: &str) -> Result<Record, Refusal> {
        let table = self.lock();
        let entry = table.get(name).ok_or_else(|| unknown(name, &table))?;
        if entry.fixed {
            return Err(Refusal::Precondition(format!(
                "the coordinator was started with location {name}: start it with another one"
            )));
        }
        Ok(entry.record.clone())
    }

    fn allow_default(&self, spec: &LocationSpec, name: &str) -> Result<(), Refusal> {
        let table = self.lock();
        let fixed = table.values().find(|entry| entry.fixed);
        match fixed.map(|entry| &entry.record.name) {
            Some(fixed) if spec.is_default && fixed != name => Err(Refusal::Invalid {
                field: "is_default",
                message: format!(
                    "the coordinator was started with location {fixed}, which is the default one"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn install(&self, record: Record) -> Result<View, Refusal> {
        self.files.save(&record).map_err(|error| failed(&error))?;
        let name = record.name.clone();
        self.lock()
            .insert(name.clone(), Entry::new(record, false, None));
        self.get(&name)
    }
}

/// What can be checked without asking the store.
fn check(spec: &LocationSpec) -> Result<(), Refusal> {
    let opened = open_store_with(&spec.url, orlop_repository::StoreOptions::default());
    if let Err(error) = opened {
        return Err(Refusal::Invalid {
            field: "url",
            message: error.to_string(),
        });
    }
    let path = spec.url.strip_prefix("file://").unwrap_or(&spec.url);
    if !spec.url.starts_with("s3://") && !path.starts_with('/') {
        return Err(Refusal::Invalid {
            field: "url",
            message: "a directory needs an absolute path: it is the coordinator's".to_owned(),
        });
    }
    Ok(())
}

fn failed(error: &Error) -> Refusal {
    Refusal::Unavailable(crate::runs::with_sources(error))
}
