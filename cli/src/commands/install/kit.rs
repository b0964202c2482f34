//! The recovery kit: what somebody needs on the day when the cluster is lost.

use std::fmt::Write as _;

use orlop_kubernetes::install::{InstallChoices, PASSWORD_KEY, PASSWORD_SECRET, StoreChoice};

/// What somebody needs on the day when the cluster is lost.
pub(crate) fn recovery_kit(choices: &InstallChoices, password: Option<&str>) -> String {
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
    let option = option(choices, store);
    let _ = write!(
        kit,
        "RECOVERY KIT: keep this page outside of the cluster. Without the password no backup can be read.\n\n\
         \x20 password  {password}\n\
         \x20 location  {}\n\n\
         In a new cluster, which lists the backups and restores one of them:\n\n\
         \x20 export ORLOP_PASSWORD='{password}'\n\
         \x20 orlop bootstrap {option}\n\
         \x20 orlop bootstrap {option} --restore BACKUP --wait\n\n\
         Or, where manifests are applied, first the password, then Orlop with the same location:\n\n\
         \x20 kubectl create namespace {namespace}\n\
         \x20 kubectl -n {namespace} create secret generic {PASSWORD_SECRET} --from-literal={PASSWORD_KEY}='{password}'\n\
         \x20 orlop install {option} --dry-run -o yaml | kubectl apply --server-side -f -\n\
         \x20 kubectl -n {namespace} get backups.velero.io     # they appear within a minute\n\
         \x20 velero -n {namespace} restore create --from-backup BACKUP --wait\n\n\
         Of a KOTS instance the same with kubectl kots restore --from-backup BACKUP at the end.\n",
        place(store),
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

/// The options that choose the same again.
fn option(choices: &InstallChoices, store: &StoreChoice) -> String {
    let mut option = format!("--namespace {}", choices.namespace);
    let usual = InstallChoices::default();
    let others = [
        ("image", &choices.image, &usual.image),
        ("kubelet-dir", &choices.kubelet_dir, &usual.kubelet_dir),
    ];
    for (name, value, usual) in others {
        if value != usual {
            let _ = write!(option, " --{name} {value}");
        }
    }
    if let Some(secret) = &choices.pull_secret {
        let _ = write!(option, " --image-pull-secret {secret}");
    }
    format!("{option} {}", store_option(store))
}

fn store_option(store: &StoreChoice) -> String {
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
    use orlop_kubernetes::install::S3Choices;

    use super::*;

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
            "orlop bootstrap --namespace velero --s3-bucket b",
            "--s3-bucket b --s3-region r --s3-prefix p/ --s3-endpoint https://s:1 --credentials-file FILE",
            "'s3://b/p/kopia/orlop?region=r&endpoint=https://s:1&path-style=true'",
        ] {
            assert!(kit.contains(part), "{part} in {kit}");
        }
    }
}
