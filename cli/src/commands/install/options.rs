//! What an installation may choose on the command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use orlop_kubernetes::{
    client::Connection,
    install::{InstallChoices, S3Choices, StoreChoice},
};

use crate::text;

/// What to install, and where backups are kept.
#[derive(Debug, Args)]
pub(crate) struct InstallOptions {
    /// The cluster's kubeconfig (default: KUBECONFIG, or ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig (default: its current one)
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace; KOTS and the velero command look for this one
    #[arg(
        short = 'n',
        long,
        visible_alias = "orlop-namespace",
        env = "ORLOP_NAMESPACE",
        value_name = "NAME",
        default_value = "velero"
    )]
    pub(crate) namespace: String,
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
    pub(crate) timeout: Duration,
    #[command(flatten)]
    store: StoreArgs,
}

impl InstallOptions {
    /// The choices; what is in files is read.
    pub(crate) fn choices(&self) -> Result<InstallChoices> {
        Ok(InstallChoices {
            namespace: self.namespace.clone(),
            image: self.image.clone(),
            pull_secret: self.image_pull_secret.clone(),
            kubelet_dir: self.kubelet_dir.clone(),
            restore_rights: !self.no_restore_rights,
            store: self.store.choice()?,
            read_only: false,
        })
    }

    /// The way to the cluster.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let (file, context) = (self.kubeconfig.as_deref(), self.context.as_deref());
        let connection = Connection::from_kubeconfig(file, context).await;
        let connection = connection.context("find the cluster")?;
        Ok(connection.with_namespace(&self.namespace))
    }
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
}
