#!/usr/bin/env bash
# Removes Orlop from a kURL cluster, as root on a node with an API server: uninstall.sh [all]
#
# Backups stay in their store. Without "all" their list, schedules, locations and the password stay in the cluster too.
set -e
here="$(cd "$(dirname "$0")" && pwd)"
export KUBECONFIG="${KUBECONFIG:-/etc/kubernetes/admin.conf}"
# Where files are written; kURL has its own.
DIR="${DIR:-$PWD}"

# What kURL would provide.
function log() { echo "$*" >&2; }
function logSuccess() { log "$@"; }
function logWarn() { log "$@"; }
function logFail() { log "$@"; }
function bail() {
    log "$@"
    exit 1
}

# shellcheck source=deploy/kurl/install.sh
. "$here/install.sh"
velero_uninstall "$@"
