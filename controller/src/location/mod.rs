//! `BackupStorageLocation`: where backups live, as locations of the coordinator.

mod address;
mod directories;
mod ini;
mod mount;
mod password;
mod provider;
mod readiness;

use std::{sync::Arc, time::Duration};

use orlop_kubernetes::{
    api::Secret,
    client::{Objects, UnreadableObject},
    velero::{BackupStorageLocation, location::LocationPhase, merge_patch},
};
use orlop_proto::v1::{self, location_spec::Unlock};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    clock,
    engine::{Next, Reconciler},
    error::{Trouble, is_passing},
    parts::Parts,
};
pub use address::{BucketAddress, bucket_address};
use password::{Password, Repositories};
use provider::{InSecret, Wanted};
pub(crate) use readiness::{Readiness, by_name, readiness};

/// How often a location is tried that does not say.
const FREQUENCY: Duration = Duration::from_mins(1);
/// How often a location is looked at whose directory is being mounted.
const MOUNT_WAIT: Duration = Duration::from_secs(2);

/// How often a location is looked at whose repository is being opened; each look waits for it.
const OPENING_WAIT: Duration = Duration::from_secs(1);

/// What came of an attempt to make the coordinator know a location.
#[derive(Debug)]
enum Outcome {
    /// It knows it; this is how it is.
    Known(Box<v1::LocationStatus>),
    /// It cannot be as it is; one line for a person.
    Refused(String),
    /// Its directory is being mounted.
    Mounting,
}

/// Looks after `BackupStorageLocation` objects.
pub(crate) struct Locations(pub(crate) Arc<Parts>);

impl Reconciler for Locations {
    type Object = BackupStorageLocation;

    fn concerns(&self, _location: &BackupStorageLocation) -> bool {
        true
    }

    async fn reconcile(
        &self,
        name: &str,
        object: Option<BackupStorageLocation>,
    ) -> Result<Next, Trouble> {
        let Some(location) = object else {
            self.0.coordinator.delete_location(name).await?;
            self.0.forget(name);
            self.unmount().await?;
            return Ok(Next::Done);
        };
        let untidy = self.tidy(&location).await?;
        let next = self.look(name, &location).await?;
        Ok(match (next, untidy) {
            (next, None) => next,
            (Next::Done, Some(pause)) => Next::After(pause),
            (Next::After(other), Some(pause)) => Next::After(other.min(pause)),
        })
    }

    fn verdict(&self, object: &UnreadableObject) -> Option<Value> {
        Some(json!({"status": {"phase": "Unavailable", "message": object.message}}))
    }
}

impl Locations {
    /// Makes the coordinator know a location, unless it is too early to look again.
    async fn look(&self, name: &str, location: &BackupStorageLocation) -> Result<Next, Trouble> {
        let pause = wait(location, self.0.is_applied(location), clock::now_ms());
        match pause {
            None => return Ok(Next::Done),
            Some(Duration::ZERO) => {}
            Some(pause) => return Ok(Next::After(pause)),
        }
        let outcome = self.apply(name, location).await?;
        let mut after = location.clone();
        let status = &mut after.status;
        let mut next = Next::After(frequency(location).unwrap_or(FREQUENCY));
        match outcome {
            Outcome::Mounting => {
                // Backups wait for it as for one that was never checked.
                status.phase = LocationPhase::Unset;
                "the directory is being mounted: the server starts again with it"
                    .clone_into(&mut status.message);
                next = Next::After(MOUNT_WAIT);
            }
            Outcome::Refused(message) => {
                status.phase = LocationPhase::Unavailable;
                status.message = message;
                status.last_validation_time = clock::time(clock::now_ms());
                self.0.applied(name, &location.spec);
            }
            Outcome::Known(told) if told.opening => {
                status.phase = LocationPhase::Unset;
                // It does not know yet what is there: until then it cannot be asked.
                status.message = told.message;
                next = Next::After(OPENING_WAIT);
            }
            Outcome::Known(told) => {
                (status.phase, status.message) = if told.available {
                    (LocationPhase::Available, String::new())
                } else {
                    (LocationPhase::Unavailable, told.message)
                };
                status.last_validation_time = clock::time(clock::now_ms());
                self.0.applied(name, &location.spec);
            }
        }
        if let Some(patch) = merge_patch(location, &after) {
            self.0.locations.patch(name, &patch).await?;
        }
        Ok(next)
    }
}

/// How often a location is to be tried; `None` for once.
fn frequency(location: &BackupStorageLocation) -> Option<Duration> {
    match location.spec.validation_frequency {
        None => Some(FREQUENCY),
        Some(frequency) => frequency.to_std().filter(|frequency| !frequency.is_zero()),
    }
}

/// How long a location need not be looked at; `None` for as long as it does not change.
fn wait(location: &BackupStorageLocation, is_applied: bool, now_ms: i64) -> Option<Duration> {
    let last = location.status.last_validation_time.as_ref().map(clock::ms);
    let Some(last_ms) = last.filter(|_| is_applied) else {
        return Some(Duration::ZERO);
    };
    let frequency_ms = i64::try_from(frequency(location)?.as_millis()).unwrap_or(i64::MAX);
    // A clock that was set back must not put it off for long.
    let due_ms = last_ms.min(now_ms).saturating_add(frequency_ms);
    Some(clock::until(due_ms, now_ms))
}

impl Locations {
    async fn apply(
        &self,
        name: &str,
        location: &BackupStorageLocation,
    ) -> Result<Outcome, Trouble> {
        let wanted = match provider::wanted(name, &location.spec, &self.0.config.stores) {
            Ok(wanted) => wanted,
            Err(message) => return Ok(Outcome::Refused(message)),
        };
        match self.mount(location, &wanted).await? {
            None => {}
            Some(outcome) => return Ok(outcome),
        }
        let mut spec = match self.spec(&wanted).await? {
            Ok(spec) => spec,
            Err(message) => return Ok(Outcome::Refused(message)),
        };
        let all = self.0.coordinator.all_locations().await?;
        let known = all.iter().find(|one| one.location == name);
        let repositories = Repositories {
            opened: known.is_some_and(|one| !one.repository_id.is_empty()),
            unlocked: known.is_some_and(|one| one.has_unlock),
            others: all.iter().any(|one| one.location != name && one.has_unlock),
        };
        let password = match self.password(repositories).await? {
            Ok(password) => password,
            Err(message) => return Ok(Outcome::Refused(message)),
        };
        let only_open = matches!(password, Password::OnlyOpen(_));
        spec.unlock = match password {
            Password::Use(text) | Password::OnlyOpen(text) => Some(Unlock::Passphrase(text)),
            _ => None,
        };
        spec.read_only |= only_open;
        let told = self.send(name, spec.clone(), known.is_some()).await;
        let told = match told {
            Ok(told) if only_open && told.repository_id.is_empty() => {
                return Ok(Outcome::Refused(password::public(self.0.namespace())));
            }
            // There is a repository already: it may be written to.
            Ok(_) if spec.read_only != wanted.read_only => {
                spec.read_only = wanted.read_only;
                self.send(name, spec, true).await
            }
            told => told,
        };
        match told {
            Ok(mut told) => {
                if !told.available && speaks_of_password(&told.message) {
                    told.message = password::wrong(&told.message, self.0.namespace());
                }
                Ok(Outcome::Known(Box::new(told)))
            }
            Err(status) => self.refused(status),
        }
    }

    /// Tells the coordinator what a location is, unless it knows, and lets it look.
    async fn send(
        &self,
        name: &str,
        spec: v1::LocationSpec,
        exists: bool,
    ) -> Result<v1::LocationStatus, Status> {
        let coordinator = &self.0.coordinator;
        if !exists || !self.0.was_sent(name, &spec) {
            let drop_keys = spec.s3_keys.is_none();
            coordinator
                .apply_location(name, spec.clone(), drop_keys, exists)
                .await?;
            self.0.sent(name, spec);
        }
        coordinator.validate_location(name).await
    }

    fn refused(&self, status: Status) -> Result<Outcome, Trouble> {
        if is_passing(&status)
            || matches!(
                status.code(),
                Code::Unauthenticated | Code::PermissionDenied
            )
        {
            return Err(status.into());
        }
        let message = status.message();
        Ok(Outcome::Refused(if speaks_of_password(message) {
            password::wrong(message, self.0.namespace())
        } else {
            message.to_owned()
        }))
    }

    /// The spec without what opens the repository.
    async fn spec(&self, wanted: &Wanted) -> Result<Result<v1::LocationSpec, String>, Trouble> {
        let mut ca_pem = wanted.ca_pem.clone();
        if let Some(place) = &wanted.ca_secret {
            match self.value(place).await? {
                Ok(value) => ca_pem = value.unwrap_or_default(),
                Err(message) => return Ok(Err(message)),
            }
        }
        let mut s3_keys = None;
        if let Some((place, profile)) = &wanted.credentials {
            let file = match self.value(place).await? {
                Ok(file) => file.unwrap_or_default(),
                Err(message) => return Ok(Err(message)),
            };
            match ini::keys(&file, profile) {
                Ok(keys) => {
                    s3_keys = keys.map(|keys| v1::S3Keys {
                        access_key_id: keys.access_key_id,
                        secret_access_key: keys.secret_access_key,
                        session_token: keys.session_token,
                    });
                }
                Err(error) => {
                    return Ok(Err(format!(
                        "key {} of Secret {}: {error}",
                        place.key, place.name
                    )));
                }
            }
        }
        Ok(Ok(v1::LocationSpec {
            url: wanted.url.clone(),
            read_only: wanted.read_only,
            is_default: wanted.is_default,
            s3_keys,
            unlock: None,
            ca_pem: ca_pem.into(),
            repository_path: provider::REPOSITORY_PATH.to_owned(),
        }))
    }

    fn secrets(&self) -> Objects<Secret> {
        Objects::of(&self.0.connection, Some(self.0.namespace()))
    }

    /// A value of a Secret; the inner error is one line for a person.
    async fn value(&self, place: &InSecret) -> Result<Result<Option<Vec<u8>>, String>, Trouble> {
        let secret = self.secrets().get(&place.name).await?;
        let value = secret.and_then(|secret| secret.data?.remove(&place.key));
        let missing = || {
            let (name, key, namespace) = (&place.name, &place.key, self.0.namespace());
            format!(
                "Secret {name} has no key {key}: run kubectl -n {namespace} create secret generic {name} --from-file={key}=FILE"
            )
        };
        Ok(match value {
            Some(value) => Ok(Some(value.0)),
            None if place.optional => Ok(None),
            None => Err(missing()),
        })
    }

    /// What opens the repository. A new password is kept before anybody uses it.
    async fn password(&self, known: Repositories) -> Result<Result<Password, String>, Trouble> {
        let secrets = self.secrets();
        let secret = secrets.get(password::SECRET).await?;
        let exists = secret.is_some();
        let value = secret.and_then(|secret| secret.data?.remove(password::KEY));
        let value = value.as_ref().map(|value| value.0.as_slice());
        match password::decide(value, known, self.0.namespace()) {
            Password::Refuse(message) => Ok(Err(message)),
            Password::Make => {
                let new = password::random();
                let object = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": password::SECRET, "namespace": self.0.namespace()},
                    "type": "Opaque",
                    "stringData": {password::KEY: new},
                });
                if exists {
                    let patch = json!({"stringData": {password::KEY: new}});
                    secrets.merge_patch(password::SECRET, &patch).await?;
                } else {
                    let object: Secret = serde_json::from_value(object)
                        .map_err(|error| Trouble::Unreadable(error.to_string()))?;
                    // Whoever was faster has made one that must be used: then this is tried again.
                    secrets.create(&object).await?;
                }
                tracing::info!(
                    secret = password::SECRET,
                    "a password for repositories was made: keep a copy of this Secret elsewhere, without it no backup can be read"
                );
                Ok(Ok(Password::Use(new)))
            }
            password => Ok(Ok(password)),
        }
    }
}

/// Whether a message of the coordinator is about what opens the repository.
fn speaks_of_password(message: &str) -> bool {
    ["password", "passphrase", "key file"]
        .iter()
        .any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045_000;

    fn location(frequency: Option<&str>, last_ms: i64) -> BackupStorageLocation {
        let mut location: BackupStorageLocation = serde_json::from_value(json!({
            "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}, "validationFrequency": frequency},
        }))
        .unwrap();
        location.status.last_validation_time = clock::time(last_ms);
        location
    }

    #[test]
    fn a_location_is_tried_as_often_as_it_says() {
        let seconds = |s| Some(Duration::from_secs(s));
        let cases = [
            (location(None, 0), true, seconds(0)),
            (location(None, NOW - 10_000), true, seconds(50)),
            (location(None, NOW - 60_000), true, seconds(0)),
            (location(None, NOW - 10_000), false, seconds(0)),
            (location(Some("5m"), NOW - 60_000), true, seconds(240)),
            (location(Some("0s"), NOW - 10_000), true, None),
            (location(Some("0s"), 0), true, seconds(0)),
            // The clock was set back.
            (location(None, NOW + 999_000), true, seconds(60)),
        ];
        for (location, applied, want) in cases {
            assert_eq!(wait(&location, applied, NOW), want, "{location:?}");
        }
    }
}
