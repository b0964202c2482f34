//! `orlop location create` and `update`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_proto::v1::{self, location_spec::Unlock};
use orlop_repository::Unlock as Secret;

use super::print_one;
use crate::{
    client::{ClientArgs, refused},
    commands::repo::UnlockArgs,
    exit::{self, Outcome},
    output::OutputArgs,
};

/// A new location.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the location
    name: String,
    /// Where it is: a directory of the server, or s3://bucket/prefix?…
    #[arg(long, value_name = "URL")]
    url: String,
    /// Write nothing there: restores only
    #[arg(long)]
    read_only: bool,
    /// Use it for backups that name no location
    #[arg(long)]
    default: bool,
    #[command(flatten)]
    secrets: SecretArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to change.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Name of the location
    name: String,
    /// Where it is: a directory of the server, or s3://bucket/prefix?…
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Whether to write nothing there
    #[arg(long, value_name = "BOOL")]
    read_only: Option<bool>,
    /// Whether to use it for backups that name no location
    #[arg(long, value_name = "BOOL")]
    default: Option<bool>,
    /// Forget the location's own keys: use what the server's environment gives
    #[arg(long, conflicts_with = "keys_from_env")]
    drop_keys: bool,
    #[command(flatten)]
    secrets: SecretArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What opens the location; the server keeps it in files that only it may read.
#[derive(Debug, Args)]
struct SecretArgs {
    /// Give the server the keys of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN for this location
    #[arg(long)]
    keys_from_env: bool,
    /// Certificates in PEM of the authorities that the store's certificate may come from
    #[arg(long, value_name = "FILE")]
    store_ca_file: Option<PathBuf>,
    #[command(flatten)]
    unlock: UnlockArgs,
}

impl SecretArgs {
    fn keys(&self) -> Result<Option<v1::S3Keys>> {
        if !self.keys_from_env {
            return Ok(None);
        }
        let variable = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| exit::usage(format!("--keys-from-env: {name} is not set")))
        };
        Ok(Some(v1::S3Keys {
            access_key_id: variable("AWS_ACCESS_KEY_ID")?,
            secret_access_key: variable("AWS_SECRET_ACCESS_KEY")?,
            session_token: std::env::var("AWS_SESSION_TOKEN").unwrap_or_default(),
        }))
    }

    /// The password or key file if one is given as an option: a variable is meant for other repositories too.
    fn unlock(&self) -> Result<Option<Unlock>> {
        if !self.unlock.is_given() {
            return Ok(None);
        }
        Ok(self.unlock.find()?.map(|secret| match secret {
            Secret::Passphrase(text) => Unlock::Passphrase(text),
            Secret::KeyFile(bytes) => Unlock::KeyFile(bytes.into()),
        }))
    }

    fn ca_pem(&self) -> Result<Vec<u8>> {
        let Some(path) = &self.store_ca_file else {
            return Ok(Vec::new());
        };
        std::fs::read(path)
            .with_context(|| format!("cannot read the certificates {}", path.display()))
    }
}

impl CreateArgs {
    pub(super) async fn run(self) -> Result<Outcome> {
        let spec = v1::LocationSpec {
            url: self.url,
            read_only: self.read_only,
            s3_keys: self.secrets.keys()?,
            ca_pem: self.secrets.ca_pem()?.into(),
            is_default: self.default,
            repository_path: String::new(),
            unlock: self.secrets.unlock()?,
        };
        let request = v1::CreateLocationRequest {
            name: self.name,
            spec: Some(spec),
        };
        let mut locations = self.client.connect().await?.locations();
        let answer = locations.create(request).await.map_err(refused)?;
        let location = answer.into_inner().location.unwrap_or_default();
        let available = location.available;
        print_one(self.output, Some(location))?;
        Ok(Outcome::with_errors(!available))
    }
}

impl UpdateArgs {
    pub(super) async fn run(self) -> Result<Outcome> {
        let mut locations = self.client.connect().await?.locations();
        let name = self.name.clone();
        let request = v1::GetLocationRequest { name };
        let found = locations.get(request).await.map_err(refused)?.into_inner();
        let found = found.location.unwrap_or_default();
        let spec = v1::LocationSpec {
            url: self.url.unwrap_or(found.spec_url),
            read_only: self.read_only.unwrap_or(found.read_only),
            s3_keys: self.secrets.keys()?,
            ca_pem: match &self.secrets.store_ca_file {
                Some(_) => self.secrets.ca_pem()?.into(),
                None => found.ca_pem,
            },
            is_default: self.default.unwrap_or(found.is_default),
            repository_path: found.repository_path,
            unlock: self.secrets.unlock()?,
        };
        let request = v1::UpdateLocationRequest {
            name: found.location,
            spec: Some(spec),
            version: found.version,
            drop_keys: self.drop_keys,
        };
        let answer = locations.update(request).await.map_err(refused)?;
        let location = answer.into_inner().location.unwrap_or_default();
        let available = location.available;
        print_one(self.output, Some(location))?;
        Ok(Outcome::with_errors(!available))
    }
}
