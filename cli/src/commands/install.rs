//! `orlop install`: puts Orlop into a cluster, or prints the objects.

use std::{fmt::Write as _, io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use orlop_kubernetes::{
    client::Connection,
    install::{InstallChoices, S3Choices, StoreChoice, install, render},
    yaml,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    exit::{self, Outcome},
    text,
};

/// What to install, and where backups are kept.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Print the objects instead, for `kubectl apply --server-side -f -`
    #[arg(long)]
    dry_run: bool,
    /// How to print them
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        requires = "dry_run"
    )]
    output: Printed,
    /// The cluster's kubeconfig (default: KUBECONFIG, or ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace; KOTS and the velero command look for this one
    #[arg(short = 'n', long, value_name = "NAME", default_value = "velero")]
    namespace: String,
    /// The image, with a tag
    #[arg(long, value_name = "IMAGE", default_value = concat!("localhost/orlop:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Secret with which the image is pulled
    #[arg(long, value_name = "SECRET")]
    image_pull_secret: Option<String>,
    /// The kubelet's directory on the nodes
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    kubelet_dir: String,
    /// Leave out the rights that restores need; backups need them not
    #[arg(long)]
    no_restore_rights: bool,
    /// How long to wait until all works, such as 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = text::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Printed {
    /// A document for each object
    #[default]
    Yaml,
    /// One list of all objects
    Json,
}

/// Where backups are kept; without any of them somebody else says, such as the KOTS Admin Console.
#[derive(Debug, Args)]
struct StoreArgs {
    /// Keep backups in this directory of the coordinator's node
    #[arg(long, value_name = "DIR", group = "store")]
    host_path: Option<String>,
    /// Keep backups in this directory of an NFS server
    #[arg(long, value_name = "SERVER:DIR", group = "store", value_parser = nfs)]
    nfs: Option<(String, String)>,
    /// Keep backups in a claim of this size, such as 50Gi
    #[arg(long, value_name = "SIZE", group = "store")]
    pvc: Option<String>,
    /// Keep backups in this bucket of Amazon S3, or of --s3-endpoint
    #[arg(long, value_name = "BUCKET", group = "store")]
    s3_bucket: Option<String>,
    /// What all keys in the bucket begin with
    #[arg(
        long,
        value_name = "PREFIX",
        requires = "s3_bucket",
        default_value = ""
    )]
    s3_prefix: String,
    /// The bucket's region
    #[arg(
        long,
        value_name = "REGION",
        requires = "s3_bucket",
        default_value = "us-east-1"
    )]
    s3_region: String,
    /// URL of a store that is compatible with S3
    #[arg(long, value_name = "URL", requires = "s3_bucket", default_value = "")]
    s3_endpoint: String,
    /// File with certificates of the store's authority
    #[arg(long, value_name = "FILE", requires = "s3_bucket")]
    s3_ca_file: Option<PathBuf>,
    /// File with the keys, as the AWS command line has it (default: the role of the nodes)
    #[arg(long, value_name = "FILE", requires = "s3_bucket")]
    credentials_file: Option<PathBuf>,
}

fn nfs(text: &str) -> Result<(String, String), String> {
    // An IPv6 address has colons of its own.
    let parts = text.split_once(":/");
    let (server, path) = parts.ok_or("it must be SERVER:/DIRECTORY")?;
    Ok((server.to_owned(), format!("/{path}")))
}

impl StoreArgs {
    fn choice(&self) -> Result<Option<StoreChoice>> {
        if let Some(path) = &self.host_path {
            return Ok(Some(StoreChoice::HostPath { path: path.clone() }));
        }
        if let Some((server, path)) = self.nfs.clone() {
            return Ok(Some(StoreChoice::Nfs { server, path }));
        }
        if let Some(size) = &self.pvc {
            return Ok(Some(StoreChoice::Claim { size: size.clone() }));
        }
        let Some(bucket) = &self.s3_bucket else {
            return Ok(None);
        };
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Some(StoreChoice::S3(S3Choices {
            bucket: bucket.clone(),
            prefix: self.s3_prefix.clone(),
            region: self.s3_region.clone(),
            endpoint: self.s3_endpoint.clone(),
            ca_pem: self
                .s3_ca_file
                .as_ref()
                .map(read)
                .transpose()?
                .unwrap_or_default(),
            credentials: self.credentials_file.as_ref().map(read).transpose()?,
        })))
    }
}

impl InstallArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let choices = InstallChoices {
            namespace: self.namespace.clone(),
            image: self.image.clone(),
            pull_secret: self.image_pull_secret.clone(),
            kubelet_dir: self.kubelet_dir.clone(),
            restore_rights: !self.no_restore_rights,
            store: self.store.choice()?,
        };
        let objects = render(&choices).map_err(|error| exit::usage(error.to_string()))?;
        if self.dry_run {
            let printed = match self.output {
                Printed::Yaml => documents(&objects),
                Printed::Json => {
                    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
                    format!("{list:#}\n")
                }
            };
            std::io::stdout().lock().write_all(printed.as_bytes())?;
            return Ok(Outcome::Done);
        }
        let connection = Connection::from_kubeconfig(self.kubeconfig.as_deref(), None)
            .await
            .context("find the cluster")?
            .with_namespace(&self.namespace);
        eprintln!(
            "installing {} objects, and waiting until all works",
            objects.len()
        );
        let installed = install(&connection, &objects, self.timeout, &cancel).await?;
        let kit = recovery_kit(&choices, installed.password.as_deref());
        std::io::stdout().lock().write_all(kit.as_bytes())?;
        Ok(Outcome::Done)
    }
}

fn documents(objects: &[Value]) -> String {
    let documents: Vec<String> = objects.iter().map(yaml::document).collect();
    documents.join("---\n")
}

/// What somebody needs on the day when the cluster is lost.
fn recovery_kit(choices: &InstallChoices, password: Option<&str>) -> String {
    let namespace = &choices.namespace;
    let mut kit = format!("Orlop is installed in namespace {namespace}.\n\n");
    let (Some(store), Some(password)) = (&choices.store, password) else {
        let _ = writeln!(
            kit,
            "Say next where backups are kept: in the KOTS Admin Console, or with orlop install again and one of\n\
             --host-path, --nfs, --pvc, --s3-bucket. The recovery kit is printed then.",
        );
        return kit;
    };
    let _ = write!(
        kit,
        "RECOVERY KIT: keep this page outside of the cluster. Without the password no backup can be read.\n\n\
         \x20 password  {password}\n\
         \x20 location  {}\n\n\
         In a new cluster, first the password, then Orlop with the same location:\n\n\
         \x20 kubectl create namespace {namespace}\n\
         \x20 kubectl -n {namespace} create secret generic velero-repo-credentials --from-literal=repository-password='{password}'\n\
         \x20 orlop install --namespace {namespace} {}\n\
         \x20 kubectl -n {namespace} get backups        # they appear within a minute\n",
        place(store),
        option(store),
    );
    if let Some(repository) = repository(store) {
        let _ = write!(
            kit,
            "\nWithout any cluster, for the files alone:\n\n\
             \x20 ORLOP_PASSWORD='{password}' orlop repo snapshots -r '{repository}'\n\
             \x20 ORLOP_PASSWORD='{password}' orlop repo restore -r '{repository}' SNAPSHOT --target DIRECTORY\n",
        );
    }
    kit
}

fn place(store: &StoreChoice) -> String {
    match store {
        StoreChoice::HostPath { path } => format!("directory {path} of the coordinator's node"),
        StoreChoice::Nfs { server, path } => format!("directory {path} of the NFS server {server}"),
        StoreChoice::Claim { size } => {
            format!("a claim of {size} in this cluster: if the cluster is lost, so are the backups")
        }
        StoreChoice::S3(s3) => match s3.endpoint.as_str() {
            "" => format!("bucket {} of Amazon S3, region {}", s3.bucket, s3.region),
            endpoint => format!("bucket {} of {endpoint}", s3.bucket),
        },
    }
}

/// The options that choose the store again.
fn option(store: &StoreChoice) -> String {
    match store {
        StoreChoice::HostPath { path } => format!("--host-path {path}"),
        StoreChoice::Nfs { server, path } => format!("--nfs {server}:{path}"),
        StoreChoice::Claim { size } => format!("--pvc {size}"),
        StoreChoice::S3(s3) => {
            let mut option = format!("--s3-bucket {} --s3-region {}", s3.bucket, s3.region);
            for (name, value) in [("prefix", &s3.prefix), ("endpoint", &s3.endpoint)] {
                if !value.is_empty() {
                    let _ = write!(option, " --s3-{name} {value}");
                }
            }
            if !s3.ca_pem.is_empty() {
                option.push_str(" --s3-ca-file FILE");
            }
            if s3.credentials.is_some() {
                option.push_str(" --credentials-file FILE");
            }
            option
        }
    }
}

/// The URL of the repository, if this machine may reach it.
fn repository(store: &StoreChoice) -> Option<String> {
    const BELOW: &str = "kopia/orlop";
    match store {
        StoreChoice::HostPath { path } => Some(format!("{path}/{BELOW}")),
        StoreChoice::Nfs { .. } | StoreChoice::Claim { .. } => None,
        StoreChoice::S3(s3) => {
            let prefix = s3.prefix.trim_matches('/');
            let dir = if prefix.is_empty() {
                BELOW.to_owned()
            } else {
                format!("{prefix}/{BELOW}")
            };
            let mut url = format!("s3://{}/{dir}?region={}", s3.bucket, s3.region);
            if !s3.endpoint.is_empty() {
                let _ = write!(url, "&endpoint={}&path-style=true", s3.endpoint);
            }
            Some(url)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nfs_server_is_parted_from_its_directory() {
        let parts = |server: &str, path: &str| Ok((server.to_owned(), path.to_owned()));
        assert_eq!(nfs("store:/a/b"), parts("store", "/a/b"));
        assert_eq!(nfs("fd00::1:/a"), parts("fd00::1", "/a"));
        assert!(nfs("store").is_err() && nfs("store:a").is_err());
    }

    #[test]
    fn a_kit_has_what_is_needed_and_none_is_promised_without_a_location() {
        let mut choices = InstallChoices::default();
        assert!(!recovery_kit(&choices, Some("secret")).contains("secret"));
        choices.store = Some(StoreChoice::S3(S3Choices {
            bucket: "b".to_owned(),
            prefix: "p/".to_owned(),
            region: "r".to_owned(),
            endpoint: "https://s:1".to_owned(),
            credentials: Some(String::new()),
            ..S3Choices::default()
        }));
        let kit = recovery_kit(&choices, Some("secret"));
        for part in [
            "repository-password='secret'",
            "--s3-bucket b --s3-region r --s3-prefix p/ --s3-endpoint https://s:1 --credentials-file FILE",
            "'s3://b/p/kopia/orlop?region=r&endpoint=https://s:1&path-style=true'",
        ] {
            assert!(kit.contains(part), "{part} in {kit}");
        }
    }
}
