# shellcheck shell=bash
# A real Velero in the cluster gives way: its workloads and its rights go, its locations, Secrets, backups and schedules stay.
# Each step looks for itself, so that an installation that was interrupted here goes on when it is run again.

# What Velero gives every repository as its password.
VELERO_PUBLIC_PASSWORD=static-passw0rd

function velero_replace() {
    local found
    found=$(velero_kubectl get namespace "$VELERO_NAMESPACE" --ignore-not-found -o name)
    if [ -z "$found" ]; then
        return 0
    fi
    local workloads
    workloads=$(velero_foreign_workloads) || bail "Cannot find out whether there is a Velero already"
    if [ -n "$workloads" ]; then
        log "Replacing Velero by Orlop"
        velero_wait_for_runs
        velero_keep_record
        velero_set_password_aside
        # Before the workloads, which tell a run that goes on with an interrupted one that there is something to replace;
        # and once more after them, for what they made meanwhile.
        velero_remove_work
        velero_remove_workloads "$workloads"
        velero_remove_work
        logWarn "Velero's own backups stay where they are, and only a Velero can restore their volumes. Back up again now"
    fi
    # Ours has the name of the first, and the role of a binding cannot be changed.
    velero_remove_binding velero
    velero_remove_binding "velero-$VELERO_NAMESPACE"
}

# Deployments and DaemonSets that are Velero's and not ours, one a line: what a container is told to do tells them apart.
# Fails if nobody can say.
function velero_foreign_workloads() {
    local role
    role=$(velero_role deployment velero) || return 1
    case "$role" in
        "" | "velero coordinator") ;;
        *) echo deployment/velero ;;
    esac
    role=$(velero_role daemonset node-agent) || return 1
    case "$role" in
        "" | "node-agent agent") ;;
        *) echo daemonset/node-agent ;;
    esac
    # As it was called before Velero 1.10.
    role=$(velero_role daemonset restic) || return 1
    if [ -n "$role" ]; then
        echo daemonset/restic
    fi
}

# The first container of a workload and its first argument, nothing if there is no such workload.
function velero_role() {
    velero_read "$1" "$2" '{.spec.template.spec.containers[0].name} {.spec.template.spec.containers[0].args[0]}'
}

# Backups and restores under way, one a line; fails if nobody can say.
function velero_runs() {
    local all
    all=$(velero_kubectl -n "$VELERO_NAMESPACE" get backups.velero.io,restores.velero.io \
        -o 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.status.phase}{"\n"}{end}') || return 1
    echo "$all" | awk '$3 ~ /^(InProgress|WaitingForPluginOperations|Finalizing)/'
}

function velero_runs_have_ended() {
    local runs
    runs=$(velero_runs) && [ -z "$runs" ]
}

# Velero cannot go on with a backup that it is made to leave. What it has left already, no wait will end.
function velero_wait_for_runs() {
    local able
    able=$(velero_read deployment velero '{.status.availableReplicas}')
    if [ -z "$able" ] || [ "$able" = 0 ] || ! velero_has crd backups.velero.io; then
        return 0
    fi
    if ! velero_until "${VELERO_WAIT_RUNS:-900}" velero_runs_have_ended; then
        bail "Velero is still at work: $(velero_runs | tr '\n' ';') Run the installer again when it has finished, or scale \
deployment velero in namespace $VELERO_NAMESPACE to 0 first to give that up"
    fi
}

# What is removed, for who wants Velero back.
function velero_keep_record() {
    local file
    file="$DIR/velero-replaced-$(date -u +%Y%m%dT%H%M%SZ).yaml"
    # Settings of locations and workloads; Secrets stay in the cluster.
    (
        umask 077
        velero_kubectl -n "$VELERO_NAMESPACE" get deployments,daemonsets,backupstoragelocations.velero.io,schedules.velero.io \
            -o yaml > "$file"
    )
    log "What Velero was like is kept in $file"
}

# Anybody knows Velero's default password, and Orlop makes no repository with it. A password that somebody has chosen stays.
function velero_set_password_aside() {
    local password
    password=$(velero_read secret velero-repo-credentials '{.data.repository-password}')
    if [ "$(echo "$password" | base64 --decode)" != "$VELERO_PUBLIC_PASSWORD" ]; then
        return 0
    fi
    # A Velero that reads old backups finds it again under its old name once it is copied back.
    if ! velero_has secret velero-repo-credentials-of-velero; then
        velero_kubectl -n "$VELERO_NAMESPACE" create secret generic velero-repo-credentials-of-velero \
            --from-literal="repository-password=$VELERO_PUBLIC_PASSWORD"
    fi
    velero_kubectl -n "$VELERO_NAMESPACE" delete secret velero-repo-credentials --ignore-not-found
}

# Removes workloads, given one a line, and waits until their pods are gone.
function velero_remove_workloads() {
    local workload
    while read -r workload; do
        velero_kubectl -n "$VELERO_NAMESPACE" delete "$workload" --ignore-not-found --wait=false
    done <<< "$1"
    if ! velero_until "${VELERO_WAIT:-300}" velero_pods_are_gone; then
        logWarn "Some pods of Velero have not ended, perhaps on a node that is away: they do no harm any more"
    fi
}

# Whether all pods are gone that no workload of ours makes.
function velero_pods_are_gone() {
    local pods
    pods=$(velero_kubectl -n "$VELERO_NAMESPACE" get pods -l 'component=velero' \
        -o 'jsonpath={range .items[*]}{.spec.containers[0].args[0]}{"\n"}{end}') || return 1
    ! echo "$pods" | grep -qvxE 'coordinator|agent|'
}

# What Velero remembers of its own work, and would be taken for ours. Nobody waits for it.
function velero_remove_work() {
    local kind
    for kind in backuprepositories serverstatusrequests downloadrequests; do
        if velero_has crd "$kind.velero.io"; then
            velero_kubectl -n "$VELERO_NAMESPACE" delete "$kind.velero.io" --all --wait=false
        fi
    done
    velero_kubectl delete crd resticrepositories.velero.io --ignore-not-found --wait=false
}

# Removes a cluster role binding that makes Velero's account an administrator.
function velero_remove_binding() {
    local role
    role=$(velero_read clusterrolebinding "$1" '{.roleRef.name}')
    if [ "$role" = cluster-admin ]; then
        velero_kubectl delete clusterrolebinding "$1" --ignore-not-found --wait=false
    fi
}
