//! What clients of Velero download, as they do it: by a `DownloadRequest` and plain HTTP.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use orlop_kubernetes::files::{FileError, Tarball, TarballLimits, gunzip};
use orlop_tests::eventually;
use serde_json::{Value, json};

use crate::cluster::{create, get, kubectl, object};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The URL of an artifact, which is good once.
pub(crate) fn url(kind: &str, name: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let own = format!("e2e-{}-{number}", std::process::id());
    let target = json!({"target": {"kind": kind, "name": name}});
    create(&object("DownloadRequest", &own, &target));
    let url = eventually(&format!("a URL of {kind} {name}"), || {
        let request = get("downloadrequests.velero.io", &own)?;
        request["status"]["downloadURL"]
            .as_str()
            .filter(|url| !url.is_empty())
            .map(str::to_owned)
    });
    kubectl(&[
        "-n",
        "velero",
        "delete",
        "downloadrequests.velero.io",
        &own,
        "--wait=false",
    ]);
    url
}

/// The bytes at a URL; the error is what curl says.
pub(crate) fn fetch(url: &str, prefix: &[&str]) -> Result<Vec<u8>, String> {
    let mut words: Vec<&str> = prefix.to_vec();
    words.extend([
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        "20",
        url,
    ]);
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn content(kind: &str, name: &str) -> Vec<u8> {
    fetch(&url(kind, name), &[]).unwrap()
}

/// The log of a backup.
pub(crate) fn log(name: &str) -> String {
    let log = gunzip(&content("BackupLog", name)[..], 64 << 20).unwrap();
    String::from_utf8(log).unwrap()
}

/// A file of JSON.
pub(crate) fn json_file(kind: &str, name: &str) -> Value {
    let text = gunzip(&content(kind, name)[..], 64 << 20).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The objects in the tarball of a backup, each as `resource/namespace/name`, without repetitions.
pub(crate) fn objects(name: &str) -> Vec<String> {
    let bytes = content("BackupContents", name);
    let mut found = Vec::new();
    let read = Tarball::open(&bytes[..], TarballLimits::default()).read(|item| {
        let path = item.path;
        let namespace = path.namespace.as_deref().unwrap_or("");
        found.push(format!("{}/{namespace}/{}", path.resource, path.name));
        Ok::<_, FileError>(())
    });
    assert_eq!(read.unwrap(), "1.1.0");
    found.sort();
    found.dedup();
    found
}
