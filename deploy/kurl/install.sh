# shellcheck shell=bash
# Orlop as kURL's add-on "velero". kURL sources this file and calls velero_pre_init, velero, velero_already_applied, velero_join
# and velero_outro; bail, log… and the like are kURL's. All of them may be called again, and whatever waits has an end.
#
# Read with `set -e`, without `set -u`, by bash 4.2 too.

VELERO_LIB="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib"
# shellcheck source=deploy/kurl/lib/common.sh
. "$VELERO_LIB/common.sh"
# shellcheck source=deploy/kurl/lib/store.sh
. "$VELERO_LIB/store.sh"
# shellcheck source=deploy/kurl/lib/replace.sh
. "$VELERO_LIB/replace.sh"
# shellcheck source=deploy/kurl/lib/render.sh
. "$VELERO_LIB/render.sh"
# shellcheck source=deploy/kurl/lib/uninstall.sh
. "$VELERO_LIB/uninstall.sh"

# Before anything is changed: whether all is there and can be obeyed.
function velero_pre_init() {
    velero_defaults
    velero_check_files
    velero_check_settings
    velero_check_flags
    velero_host_init
}

# Installs, or changes what is installed.
function velero() {
    velero_defaults
    velero_binary
    velero_check_object_store
    velero_replace
    velero_definitions
    velero_namespace
    velero_store
    velero_render
    velero_kubectl apply --server-side --force-conflicts --field-manager=kurl-velero -k "$DIR/kustomize/velero"
    velero_kubectl -n default label --overwrite service/kubernetes velero.io/exclude-from-backup=true
    if [ "$VELERO_DISABLE_RESTIC" = 1 ]; then
        velero_kubectl -n "$VELERO_NAMESPACE" delete daemonset node-agent --ignore-not-found --wait=false
    fi
    velero_wait
    velero_retain_claim
}

# The same again: proxies, certificates and addresses may have changed although the settings have not.
function velero_already_applied() {
    velero
}

# On a node that joins; its images are loaded already.
function velero_join() {
    velero_defaults
    velero_binary
    velero_host_init
}

function velero_outro() {
    if [ -z "$VELERO_VERSION" ] || ! kubernetes_is_master; then
        return 0
    fi
    velero_defaults
    log ""
    log "Keep a copy of the password of backups outside of this cluster. Without it no backup can be read:"
    log "    kubectl -n $VELERO_NAMESPACE get secret velero-repo-credentials -o yaml"
    log ""
}

# What the installer leaves open.
function velero_defaults() {
    VELERO_NAMESPACE="${VELERO_NAMESPACE:-velero}"
    VELERO_LOCAL_BUCKET="${VELERO_LOCAL_BUCKET:-velero}"
    ORLOP_STORE="${ORLOP_STORE:-auto}"
    ORLOP_STORE_DIR="${ORLOP_STORE_DIR:-/var/lib/orlop-backups}"
    ORLOP_STORE_SIZE="${ORLOP_STORE_SIZE:-50Gi}"
    ORLOP_STORE_CLASS="${ORLOP_STORE_CLASS:-}"
    ORLOP_BIN_DIR="${ORLOP_BIN_DIR:-/usr/local/bin}"
}

# Copies that were cut short on their way into an air gap are found here and not half way.
function velero_check_files() {
    local src="$DIR/addons/velero/$VELERO_VERSION"
    local said
    if ! said=$(cd "$src" && LC_ALL=C sha256sum --quiet --check SHA256SUMS 2>&1); then
        bail "Add-on velero $VELERO_VERSION is damaged: fetch its archive again. $said"
    fi
}

function velero_check_settings() {
    if [ -n "$KUBERNETES_TARGET_VERSION_MINOR" ] && [ "$KUBERNETES_TARGET_VERSION_MINOR" -lt 25 ]; then
        bail "Add-on velero $VELERO_VERSION needs Kubernetes 1.25 or newer: raise kubernetes.version"
    fi
    case "$ORLOP_STORE" in
        auto | object-store | directory | claim | none) ;;
        *) bail "ORLOP_STORE is $ORLOP_STORE: it must be auto, object-store, directory, claim or none" ;;
    esac
    # It is written into YAML and given to a root shell: nothing that either could misread.
    if ! [[ "$ORLOP_STORE_DIR" =~ ^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$ ]]; then
        bail "ORLOP_STORE_DIR is $ORLOP_STORE_DIR: it must be an absolute path of letters, digits, and . _ - /"
    fi
    if ! [[ "$ORLOP_STORE_SIZE" =~ ^[1-9][0-9]*([KMGTPE]i?)?$ ]]; then
        bail "ORLOP_STORE_SIZE is $ORLOP_STORE_SIZE: it must be a size such as 50Gi"
    fi
    if ! [[ "$ORLOP_STORE_CLASS" =~ ^[a-z0-9.-]*$ ]]; then
        bail "ORLOP_STORE_CLASS is $ORLOP_STORE_CLASS: it must be the name of a storage class"
    fi
    if [ -n "$VELERO_RESTIC_TIMEOUT" ]; then
        logWarn "velero.resticTimeout ($VELERO_RESTIC_TIMEOUT) has no effect: Orlop has no bound for the time of a whole backup"
    fi
}

# velero.serverFlags are flags of the coordinator. Those of Velero's server would keep it from starting: the program itself
# says which it knows, together with those that it gets anyway.
function velero_check_flags() {
    if [ -z "$VELERO_SERVER_FLAGS" ]; then
        return 0
    fi
    local src="$DIR/addons/velero/$VELERO_VERSION"
    local said flag
    local flags=()
    while read -r flag; do
        flags+=("$flag")
    done < <(velero_own_flags "$src/base/coordinator.yaml"; velero_server_flags)
    if ! said=$("$src/assets/orlop" coordinator "${flags[@]}" --help 2>&1); then
        bail "velero.serverFlags: $(echo "$said" | head -n 1). These are flags of orlop coordinator, not of Velero's server"
    fi
}

# The flags of the installer, one a line.
function velero_server_flags() {
    local flag
    local flags=()
    IFS=',' read -ra flags <<< "$VELERO_SERVER_FLAGS"
    for flag in "${flags[@]}"; do
        if [ -n "$flag" ]; then
            echo "$flag"
        fi
    done
}

# The arguments that the coordinator has in its manifest, one a line.
function velero_own_flags() {
    awk '
        /^      - name: velero$/ { here = 1 }
        here && /^        args:$/ { list = 1; next }
        list && /^        [a-z]/ { exit }
        list && /^        - --/ { print $2 }
    ' "$1"
}

# NFS locations need mount.nfs on the nodes, nothing else does. Where it cannot be had, NFS is all that does not work.
function velero_host_init() {
    local src="$DIR/addons/velero/$VELERO_VERSION"
    if command -v mount.nfs >/dev/null 2>&1 || [ -x /sbin/mount.nfs ]; then
        return 0
    fi
    local shipped
    shipped=$(find "$src" -path '*/archives/*' -name '*nfs*' | head -n 1)
    if [ "$SKIP_SYSTEM_PACKAGE_INSTALL" != 1 ]; then
        if [ -n "$shipped" ] || { [ "$AIRGAP" != 1 ] && ! host_packages_shipped; }; then
            install_nfs_utils_if_missing_common "$src"
            return 0
        fi
    fi
    logWarn "Backups to an NFS server will need the package nfs-utils (on Ubuntu nfs-common) on each node"
}

# The commands, on nodes with an API server.
function velero_binary() {
    local assets="$DIR/addons/velero/$VELERO_VERSION/assets"
    if [ "$VELERO_DISABLE_CLI" = 1 ] || ! kubernetes_is_master; then
        return 0
    fi
    velero_put "$assets/orlop" "$ORLOP_BIN_DIR/orlop"
    if [ -f "$assets/velero" ]; then
        velero_put "$assets/velero" "$ORLOP_BIN_DIR/velero"
    fi
}

# Replaces a program, which may be running.
function velero_put() {
    cp "$1" "$2.new"
    chmod 755 "$2.new"
    mv -f "$2.new" "$2"
}

# Definitions first: kubectl looks kinds up before it makes anything.
function velero_definitions() {
    local file="$DIR/addons/velero/$VELERO_VERSION/crds/velero.yaml"
    velero_kubectl apply --server-side --force-conflicts --field-manager=kurl-velero -f "$file"
    if ! velero_until 60 velero_are_served; then
        bail "The API server does not serve velero.io after a minute: kubectl get crd backupstoragelocations.velero.io -o yaml"
    fi
}

function velero_are_served() {
    velero_kubectl -n default get backupstoragelocations.velero.io,backups.velero.io >/dev/null 2>&1
}

function velero_namespace() {
    local found
    found=$(velero_kubectl get namespace "$VELERO_NAMESPACE" --ignore-not-found -o name)
    if [ -z "$found" ]; then
        velero_kubectl create namespace "$VELERO_NAMESPACE"
    fi
}
