//! What unmodified KOTS and the unmodified `velero` command ask of the installation: a table of rows, each with the requests
//! that they send, the change that they expect, and the file of theirs that it was read in.
//!
//! The rows run against an API server in this process, around which coordinator, controller and agent work as in a cluster.
//! With `KUBE_BIN` and `KUBECONFIG` (see CONTRIBUTING.md) they also run against a real one with an installation; without,
//! that half says `skipped`. `ORLOP_ROW=2.12.5` runs the rows whose id begins so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "contract/cli_backups.rs"]
mod cli_backups;
#[path = "contract/cli_files.rs"]
mod cli_files;
#[path = "contract/cli_others.rs"]
mod cli_others;
#[path = "contract/cli_restores.rs"]
mod cli_restores;
#[path = "contract/client.rs"]
mod client;
#[path = "contract/download.rs"]
mod download;
#[path = "contract/go.rs"]
mod go;
#[path = "contract/holds.rs"]
mod holds;
#[path = "contract/kots.rs"]
mod kots;
#[path = "contract/kots_actions.rs"]
mod kots_actions;
#[path = "contract/kots_backups.rs"]
mod kots_backups;
#[path = "contract/kots_detail.rs"]
mod kots_detail;
#[path = "contract/kots_detection.rs"]
mod kots_detection;
#[path = "contract/kots_restores.rs"]
mod kots_restores;
#[path = "contract/kots_saving.rs"]
mod kots_saving;
#[path = "contract/kots_settings.rs"]
mod kots_settings;
#[path = "contract/kots_storages.rs"]
mod kots_storages;
#[path = "contract/kubelet.rs"]
mod kubelet;
#[path = "contract/kubelet_applications.rs"]
mod kubelet_applications;
#[path = "contract/kubelet_programs.rs"]
mod kubelet_programs;
#[path = "contract/logfmt.rs"]
mod logfmt;
#[path = "contract/phases.rs"]
mod phases;
#[path = "contract/rows.rs"]
mod rows;
#[path = "contract/runner.rs"]
mod runner;
#[path = "contract/world.rs"]
mod world;

use rows::Row;

/// All rows, by the tests that run them.
const ROOMS: [&[Row]; 11] = [
    kots_detection::ROWS,
    kots_backups::ROWS,
    kots_detail::ROWS,
    kots_restores::ROWS,
    kots_settings::ROWS,
    kots_storages::ROWS,
    phases::ROWS,
    cli_backups::ROWS,
    cli_files::ROWS,
    cli_restores::ROWS,
    cli_others::ROWS,
];

/// Two tests for the rows of a room: one in memory, one in the cluster at hand.
macro_rules! rooms {
    ($($room:ident: $in_memory:ident, $in_a_cluster:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $in_memory() {
            runner::in_memory($room::ROWS).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $in_a_cluster() {
            runner::in_a_cluster($room::ROWS).await;
        }
    )*};
}

rooms! {
    kots_detection: kots_finds_the_installation, kots_finds_the_installation_in_a_cluster;
    kots_backups: kots_makes_and_deletes_backups, kots_makes_and_deletes_backups_in_a_cluster;
    kots_detail: kots_shows_backups, kots_shows_backups_in_a_cluster;
    kots_restores: kots_restores_backups, kots_restores_backups_in_a_cluster;
    kots_settings: kots_saves_settings, kots_saves_settings_in_a_cluster;
    kots_storages: kots_saves_each_kind_of_storage, kots_saves_each_kind_of_storage_in_a_cluster;
    phases: phases_are_those_that_clients_know, phases_are_those_that_clients_know_in_a_cluster;
    cli_backups: the_velero_command_handles_backups, the_velero_command_handles_backups_in_a_cluster;
    cli_files: the_velero_command_fetches_files, the_velero_command_fetches_files_in_a_cluster;
    cli_restores: the_velero_command_handles_restores, the_velero_command_handles_restores_in_a_cluster;
    cli_others: the_velero_command_handles_the_rest, the_velero_command_handles_the_rest_in_a_cluster;
}

#[test]
fn every_row_of_the_reference_is_tried_or_says_why_not() {
    rows::check(&ROOMS);
}
