//! What a row is, which there must be, and which are missing.

use std::{collections::BTreeSet, fs, pin::Pin};

use orlop_tests::repository_root;

use super::{client::Client, world::World};

/// Whose requests a row sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// kotsadm, its operator, or `kubectl kots`.
    Kots,
    /// The `velero` command.
    Cli,
}

/// What carries out a row.
pub(crate) type Run =
    for<'a> fn(&'a World, &'a Client) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What a client does and must find done.
pub(crate) struct Row {
    /// The row of the reference, one of [`REFERENCE`], and after `/` which part of it.
    pub(crate) id: &'static str,
    pub(crate) who: Who,
    /// The requests that are sent, in this order among others: method, path and query, type of the body; `*` is any text.
    pub(crate) requests: &'static [&'static str],
    /// What must change.
    pub(crate) change: &'static str,
    /// Where it was read: in KOTS at 370ae903, in Velero at d30d389b.
    pub(crate) source: &'static str,
    /// Whether it may run beside others in a real cluster, alone, or in memory only.
    pub(crate) place: Place,
    pub(crate) run: Run,
}

/// Where a row can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Everywhere.
    Anywhere,
    /// Everywhere; it replaces pods of the installation.
    Alone,
    /// It needs another store or another cluster than the one at hand; why.
    Memory(&'static str),
}

/// The rows that the clients' contract has. 2.11 is the `velero` command, 2.12 is KOTS, A is what phases mean to either.
pub(crate) const REFERENCE: &[&str] = &[
    "2.11 version",
    "2.11 plugin get",
    "2.11 install",
    "2.11 backup create",
    "2.11 backup create --wait",
    "2.11 backup create --from-schedule",
    "2.11 backup get",
    "2.11 backup describe",
    "2.11 backup describe --details",
    "2.11 backup logs",
    "2.11 backup download",
    "2.11 backup delete",
    "2.11 restore create",
    "2.11 restore create --wait",
    "2.11 restore get",
    "2.11 restore describe",
    "2.11 restore logs",
    "2.11 restore delete",
    "2.11 schedule",
    "2.11 backup-location",
    "2.11 repo get",
    "2.11 debug",
    "2.11 download protocol",
    "2.12.1 namespace",
    "2.12.1 workloads",
    "2.12.1 pods",
    "2.12.1 version",
    "2.12.1 minimal RBAC",
    "2.12.1 embedded cluster",
    "2.12.2",
    "2.12.3 app",
    "2.12.3 instance",
    "2.12.3 improved DR",
    "2.12.3 shutdown pods",
    "2.12.4",
    "2.12.5 volumes",
    "2.12.5 running",
    "2.12.5 log",
    "2.12.5 scripts",
    "2.12.6 delete",
    "2.12.6 restart",
    "2.12.7 restore",
    "2.12.7 progress",
    "2.12.7 again",
    "2.12.7 failed",
    "2.12.8 admin console",
    "2.12.8 apps",
    "2.12.9",
    "2.12.10",
    "2.12.11 save",
    "2.12.11 running backup",
    "2.12.11 aws",
    "2.12.11 instance role",
    "2.12.11 other",
    "2.12.11 internal",
    "2.12.11 internal PVC",
    "2.12.11 NFS",
    "2.12.11 host path",
    "2.12.11 GCP",
    "2.12.11 Azure",
    "2.12.12",
    "A new",
    "A in progress",
    "A finalizing",
    "A completed",
    "A partially failed",
    "A failed",
    "A failed validation",
    "A deleting",
];

/// Rows that no test sends, each with the reason.
const MISSING: &[(&str, &str)] = &[
    (
        "2.11 install",
        "`velero install` would put a real Velero in our place; beside one the controller does not start",
    ),
    (
        "2.12.1 embedded cluster",
        "Embedded Cluster installs Velero by a Helm chart of its own, by whose labels kotsadm looks for pods",
    ),
    (
        "2.12.9",
        "kotsadm answers these routes itself; what it asks of the installation then is in the other rows",
    ),
];

/// Rows that are tried elsewhere, some of them besides: row, file, test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "2.12.1 workloads",
        "tests/tests/manifests/kots.rs",
        "the_coordinator_looks_like_velero",
    ),
    (
        "2.12.1 workloads",
        "tests/tests/manifests/kots.rs",
        "the_agent_looks_like_veleros",
    ),
    (
        "2.12.6 restart",
        "tests/tests/manifests/kots.rs",
        "kots_can_restart_both_by_their_own_labels",
    ),
    (
        "2.12.10",
        "tests/tests/controller.rs",
        "an_old_backup_goes_and_one_that_is_not_old_stays",
    ),
    (
        "2.12.11 NFS",
        "tests/tests/controller.rs",
        "a_directory_is_mounted_before_anything_is_written_there",
    ),
    (
        "2.12.11 instance role",
        "controller/src/location/ini.rs",
        "what_people_write_is_read",
    ),
    (
        "2.12.12",
        "tests/tests/manifests/kurl.rs",
        "its_own_test_passes_and_what_it_renders_fits_the_base",
    ),
    (
        "2.12.12",
        "tests/tests/kubernetes/restore/settings.rs",
        "the_admin_console_gets_the_proxies_of_the_cluster_that_it_comes_to",
    ),
    (
        "2.11 install",
        "tests/tests/controller.rs",
        "beside_a_real_velero_it_does_not_start",
    ),
];

/// The row of the reference that an id belongs to.
fn of_reference(id: &str) -> &str {
    id.split_once('/').map_or(id, |(row, _)| row)
}

/// Whether every row is tried or missing with a reason. Prints what is missing.
pub(crate) fn check(rooms: &[&[Row]]) {
    let tried: BTreeSet<&str> = rooms
        .iter()
        .flat_map(|rows| rows.iter())
        .map(|row| of_reference(row.id))
        .collect();
    let mut ids = BTreeSet::new();
    for row in rooms.iter().flat_map(|rows| rows.iter()) {
        assert!(ids.insert(row.id), "two rows are called {}", row.id);
        assert!(
            REFERENCE.contains(&of_reference(row.id)),
            "{} is no row of the reference",
            row.id
        );
        assert!(!row.requests.is_empty(), "{} sends nothing", row.id);
        assert!(row.source.contains(".go"), "{} has no source", row.id);
        let who = if row.id.starts_with("2.11") {
            Who::Cli
        } else {
            Who::Kots
        };
        assert!(row.who == who || row.id.starts_with('A'), "{}", row.id);
    }
    for (id, reason) in MISSING {
        println!("missing: {id}: {reason}");
        assert!(REFERENCE.contains(id) && !reason.is_empty());
        assert!(!tried.contains(id), "{id} is not missing");
    }
    for (id, file, test) in ELSEWHERE {
        let path = repository_root().join(file);
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.contains(&format!("fn {test}(")),
            "{id}: {file}: {test}"
        );
        assert!(REFERENCE.contains(id));
    }
    for id in REFERENCE {
        let known = tried.contains(id)
            || MISSING.iter().any(|(one, _)| one == id)
            || ELSEWHERE.iter().any(|(one, ..)| one == id);
        assert!(known, "{id} is neither tried nor missing with a reason");
    }
}
