# shellcheck shell=bash
# What the other files use: calls that end, and waits that end.

# No call waits for ever for an API server that does not answer.
function velero_kubectl() {
    kubectl --request-timeout=60s "$@"
}

# Repeats a command until it succeeds: velero_until SECONDS COMMAND…; 1 if the time is over.
function velero_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$end" ]; then
            return 1
        fi
        sleep "${VELERO_PAUSE:-2}"
    done
}

# A part of an object of our namespace, nothing if there is no such object: velero_read KIND NAME JSONPATH.
# Fails if the API server does not answer, which must not be taken for "there is none".
function velero_read() {
    velero_kubectl -n "$VELERO_NAMESPACE" get "$1" "$2" --ignore-not-found -o "jsonpath=$3"
}

# Whether an object of our namespace is there: velero_has KIND NAME. Ends the installation if nobody can say.
function velero_has() {
    local found
    if ! found=$(velero_kubectl -n "$VELERO_NAMESPACE" get "$1" "$2" --ignore-not-found -o name); then
        bail "Cannot find out whether there is a $1 $2 in namespace $VELERO_NAMESPACE"
    fi
    [ -n "$found" ]
}

# A text as a YAML string in double quotes. Bash's own replacing differs between versions where quotes and backslashes are concerned.
function velero_quoted() {
    printf '%s\n' "$1" | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' |
        awk 'BEGIN { printf "\"" } NR > 1 { printf "\\n" } { printf "%s", $0 } END { printf "\"" }'
}

# Whether the coordinator that runs is made by the Deployment as it is now.
function velero_coordinator_is_ready() {
    local state
    state=$(velero_read deployment velero \
        '{.metadata.generation} {.status.observedGeneration} {.status.replicas} {.status.updatedReplicas} {.status.availableReplicas}') ||
        return 1
    [[ "$state" =~ ^([0-9]+)\ ([0-9]+)\ 1\ 1\ 1$ ]] && [ "${BASH_REMATCH[1]}" -le "${BASH_REMATCH[2]}" ]
}

# Whether every agent that should run does.
function velero_agents_are_ready() {
    local state
    state=$(velero_read daemonset node-agent \
        '{.metadata.generation} {.status.observedGeneration} {.status.desiredNumberScheduled} {.status.updatedNumberScheduled} {.status.numberAvailable}') ||
        return 1
    [[ "$state" =~ ^([0-9]+)\ ([0-9]+)\ ([0-9]+)\ ([0-9]+)\ ([0-9]+)$ ]] &&
        [ "${BASH_REMATCH[1]}" -le "${BASH_REMATCH[2]}" ] &&
        [ "${BASH_REMATCH[3]}" = "${BASH_REMATCH[4]}" ] &&
        [ "${BASH_REMATCH[3]}" = "${BASH_REMATCH[5]}" ]
}

function velero_location_is_available() {
    local phase
    phase=$(velero_read backupstoragelocation default '{.status.phase}') || return 1
    [ "$phase" = Available ]
}

# Waits until all works. Without its coordinator nothing does; agents of nodes that have no image yet, and a store
# elsewhere that does not answer, are no reason to end the installation of a cluster.
function velero_wait() {
    log "Waiting for velero to start"
    if ! velero_until "${VELERO_WAIT:-300}" velero_coordinator_is_ready; then
        velero_kubectl -n "$VELERO_NAMESPACE" get pods -o wide || true
        velero_kubectl -n "$VELERO_NAMESPACE" logs deployment/velero --all-containers --tail=20 || true
        bail "Deployment velero did not start"
    fi
    if [ "$VELERO_DISABLE_RESTIC" != 1 ] && ! velero_until "${VELERO_WAIT:-300}" velero_agents_are_ready; then
        velero_kubectl -n "$VELERO_NAMESPACE" get pods -o wide -l name=node-agent || true
        logWarn "Not every agent of velero runs yet. Nodes get its image when the command for remote nodes is run there"
    fi
    if velero_has backupstoragelocation default && ! velero_until "${VELERO_WAIT:-300}" velero_location_is_available; then
        logWarn "The location of backups is not available yet: $(velero_read backupstoragelocation default '{.status.message}' || true)"
    fi
    logSuccess "Velero is ready"
}
