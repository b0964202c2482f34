# shellcheck shell=bash
# The way out. Nothing is waited for without end: finalizers are taken off when who would obey them is gone.

# Removes Orlop from the cluster. Backups in their store are never touched.
#   velero_uninstall      workloads, Services, rights; what says which backups there are stays, and the password
#   velero_uninstall all  also the namespace and the definitions, after the password was written to a file
function velero_uninstall() {
    local all="${1:-}"
    case "$all" in
        "" | all) ;;
        *) bail "uninstall what? It is $all, and must be all, or nothing" ;;
    esac
    velero_defaults
    if [ "$all" = all ]; then
        velero_check_others
        velero_save_secrets
    fi
    local kind
    for kind in deployment/velero daemonset/node-agent service/orlop service/orlop-downloads \
        rolebinding/velero role/velero; do
        velero_kubectl -n "$VELERO_NAMESPACE" delete "$kind" --ignore-not-found --wait=false
    done
    velero_kubectl delete clusterrolebinding/velero clusterrolebinding/velero-restore \
        clusterrole/velero clusterrole/velero-restore --ignore-not-found --wait=false
    if ! velero_until "${VELERO_WAIT:-300}" velero_no_pods; then
        logWarn "Some pods have not ended, perhaps on a node that is away"
    fi
    # Of objects that stay they stay too: Orlop may come back.
    if [ "$all" != all ]; then
        velero_take_finalizers_off deletionTimestamp
    else
        velero_take_finalizers_off finalizers
        velero_kubectl delete namespace "$VELERO_NAMESPACE" --ignore-not-found --wait=false
        local definition
        for definition in $(velero_definitions_there); do
            velero_kubectl delete "$definition" --ignore-not-found --wait=false
        done
        if ! velero_until "${VELERO_WAIT:-300}" velero_is_gone; then
            bail "Namespace $VELERO_NAMESPACE or definitions of velero.io are still being deleted: kubectl get namespace $VELERO_NAMESPACE -o yaml says why"
        fi
    fi
    logSuccess "Orlop is removed"
}

# Definitions are the whole cluster's: with them goes what other namespaces have of them, a Velero or an Orlop that is not meant.
function velero_check_others() {
    local definition definitions found others=""
    if ! definitions=$(velero_kubectl get crd -o name); then
        bail "Cannot find out which definitions there are, and nothing was removed"
    fi
    for definition in $(echo "$definitions" | grep '\.velero\.io$' || true); do
        if ! found=$(velero_kubectl get "${definition#*/}" -A -o 'jsonpath={range .items[*]}{.metadata.namespace}{"\n"}{end}'); then
            bail "Cannot find out in which namespaces there are ${definition#*/}, and nothing was removed"
        fi
        others+=$(echo "$found" | grep -vxF -e "$VELERO_NAMESPACE" -e "" || true)$'\n'
    done
    others=$(echo "$others" | sort -u | xargs)
    if [ -n "$others" ]; then
        bail "Namespace $VELERO_NAMESPACE is not the only one with objects of velero.io, and all of them would be lost: also $others. \
Nothing was removed. If Orlop is there, say so: VELERO_NAMESPACE=NAME before the command"
    fi
}

# The password and the keys of locations, for the day when the backups are wanted. An earlier run may have removed them already.
function velero_save_secrets() {
    local kinds=secrets password=1
    if ! velero_has secret velero-repo-credentials; then
        password=""
    fi
    if velero_has crd backupstoragelocations.velero.io; then
        kinds+=,backupstoragelocations.velero.io
    fi
    local file
    file="$DIR/velero-secrets-$(date -u +%Y%m%dT%H%M%SZ).yaml"
    if ! (
        umask 077
        velero_kubectl -n "$VELERO_NAMESPACE" get "$kinds" -o yaml > "$file"
    ); then
        bail "The password of backups cannot be saved to $file, and nothing was removed"
    fi
    if [ -n "$password" ]; then
        logWarn "Without $file no backup can be read: keep it in a safe place"
    else
        logWarn "There is no password of backups in namespace $VELERO_NAMESPACE: an earlier run may have saved it. What Secrets there are is in $file"
    fi
}

function velero_no_pods() {
    local pods
    pods=$(velero_kubectl -n "$VELERO_NAMESPACE" get pods -l component=velero -o name) && [ -z "$pods" ]
}

function velero_definitions_there() {
    velero_kubectl get crd -o name | grep '\.velero\.io$' || true
}

# Objects whose finalizers nobody obeys any more would keep their namespace for ever. Of objects that have this field in their
# metadata: velero_take_finalizers_off FIELD
function velero_take_finalizers_off() {
    local definition kind object
    for definition in $(velero_definitions_there); do
        kind="${definition#*/}"
        velero_kubectl -n "$VELERO_NAMESPACE" get "$kind" \
            -o 'jsonpath={range .items[?(@.metadata.'"$1"')]}{.metadata.name}{"\n"}{end}' | while read -r object; do
            velero_kubectl -n "$VELERO_NAMESPACE" patch "$kind" "$object" --type=merge \
                -p '{"metadata":{"finalizers":null}}' </dev/null || true
        done
    done
}

function velero_is_gone() {
    local namespace definitions
    namespace=$(velero_kubectl get namespace "$VELERO_NAMESPACE" --ignore-not-found -o name) &&
        definitions=$(velero_kubectl get crd -o name) &&
        [ -z "$namespace" ] && ! echo "$definitions" | grep -q '\.velero\.io$'
}
