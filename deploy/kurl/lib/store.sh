# shellcheck shell=bash
# Where backups are kept: chosen once, when there is no location "default". Later the location is the user's, or KOTS's.

# Which kind of store fits this cluster.
function velero_store_kind() {
    if [ "$ORLOP_STORE" != auto ]; then
        echo "$ORLOP_STORE"
    elif [ "$KOTSADM_DISABLE_S3" != 1 ] && object_store_exists; then
        echo object-store
    else
        echo directory
    fi
}

# Makes the location "default", unless there is one.
function velero_store() {
    if velero_has backupstoragelocation default; then
        velero_look_at_directory
        return 0
    fi
    local kind
    kind=$(velero_store_kind)
    case "$kind" in
        object-store) velero_store_in_object_store ;;
        directory) velero_store_in_directory ;;
        claim) velero_store_in_claim ;;
        none) log "No location of backups is made: save one in the KOTS Admin Console" ;;
    esac
}

# Makes the location: velero_location PROVIDER BUCKET [KEY=VALUE…]
function velero_location() {
    local provider="$1" bucket="$2"
    shift 2
    {
        cat <<YAML
apiVersion: velero.io/v1
kind: BackupStorageLocation
metadata:
  name: default
  namespace: $VELERO_NAMESPACE
  labels:
    component: velero
YAML
        if [ "$provider" = replicated.com/hostpath ]; then
            cat <<YAML
  annotations:
    orlop.io/directory-node: $(velero_quoted "$VELERO_STORE_NODE")
    orlop.io/directory-path: $(velero_quoted "$ORLOP_STORE_DIR")
YAML
        fi
        cat <<YAML
spec:
  provider: $provider
  default: true
  objectStorage:
    bucket: $(velero_quoted "$bucket")
  config:
YAML
        local setting
        for setting in "$@"; do
            echo "    ${setting%%=*}: $(velero_quoted "${setting#*=}")"
        done
    } | velero_kubectl create -f -
}

# kURL's own object store, in the form in which KOTS knows its internal store.
function velero_store_in_object_store() {
    if ! object_store_exists; then
        bail "ORLOP_STORE is object-store, and there is none: add rook or minio to the installer"
    fi
    try_1m object_store_create_bucket "$VELERO_LOCAL_BUCKET"
    if ! velero_has secret cloud-credentials; then
        local keys="[default]
aws_access_key_id=$OBJECT_STORE_ACCESS_KEY
aws_secret_access_key=$OBJECT_STORE_SECRET_KEY
"
        velero_kubectl create -f - <<YAML
apiVersion: v1
kind: Secret
metadata:
  name: cloud-credentials
  namespace: $VELERO_NAMESPACE
  labels:
    component: velero
type: Opaque
stringData:
  cloud: $(velero_quoted "$keys")
YAML
    fi
    local address
    address=$("$DIR/bin/kurl" netutil format-ip-address "$OBJECT_STORE_CLUSTER_IP")
    velero_location aws "$VELERO_LOCAL_BUCKET" \
        region=us-east-1 "s3Url=$OBJECT_STORE_CLUSTER_HOST" "publicUrl=http://$address" s3ForcePathStyle=true
    logSuccess "Backups are kept in bucket $VELERO_LOCAL_BUCKET of the object store"
}

# A directory of this node, to which the coordinator is bound then.
function velero_store_in_directory() {
    local node
    node=$(get_local_node_name)
    VELERO_STORE_NODE=$(velero_kubectl get node "$node" -o 'jsonpath={.metadata.labels.kubernetes\.io/hostname}')
    if [ -z "$VELERO_STORE_NODE" ]; then
        bail "Node $node has no label kubernetes.io/hostname, by which the coordinator finds its directory $ORLOP_STORE_DIR"
    fi
    velero_make_directory "$ORLOP_STORE_DIR"
    velero_location replicated.com/hostpath orlop "path=$ORLOP_STORE_DIR"
    logSuccess "Backups are kept in $ORLOP_STORE_DIR of node $node"
    logWarn "If this machine is lost, so are the backups there: save another location in the KOTS Admin Console, or copy the directory"
}

# A directory that the coordinator, which is not root, may write.
function velero_make_directory() {
    install -d -m 700 -o 65532 -g 65532 "$1"
    if command -v getenforce >/dev/null 2>&1 && [ "$(getenforce)" != Disabled ]; then
        chcon -t container_file_t "$1"
    fi
}

# A claim, made by the coordinator when it sees the location.
function velero_store_in_claim() {
    local classes
    classes=$(velero_kubectl get storageclass -o \
        'jsonpath={range .items[*]}{.metadata.name}={.metadata.annotations.storageclass\.kubernetes\.io/is-default-class}{"\n"}{end}')
    local settings=("storageSize=$ORLOP_STORE_SIZE")
    if [ -n "$ORLOP_STORE_CLASS" ]; then
        if ! echo "$classes" | grep -q "^$ORLOP_STORE_CLASS="; then
            bail "There is no storage class $ORLOP_STORE_CLASS: set ORLOP_STORE_CLASS to another one"
        fi
        settings+=("storageClassName=$ORLOP_STORE_CLASS")
    elif ! echo "$classes" | grep -q '=true$'; then
        bail "There is no default storage class for the claim of backups: set ORLOP_STORE_CLASS, or ORLOP_STORE=directory"
    fi
    velero_location replicated.com/pvc velero-internal-snapshots "${settings[@]}"
    logSuccess "Backups are kept in a claim of $ORLOP_STORE_SIZE"
}

# The volume of backups outlives its claim.
function velero_retain_claim() {
    local provider volume
    provider=$(velero_read backupstoragelocation default '{.spec.provider}')
    if [ "$provider" != replicated.com/pvc ]; then
        return 0
    fi
    if ! velero_until 60 velero_claim_is_bound; then
        logWarn "The claim of backups is not bound yet: once it is, set persistentVolumeReclaimPolicy of its volume to Retain"
        return 0
    fi
    volume=$(velero_read persistentvolumeclaim orlop-store-default '{.spec.volumeName}')
    velero_kubectl patch persistentvolume "$volume" -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
}

function velero_claim_is_bound() {
    local phase
    phase=$(velero_read persistentvolumeclaim orlop-store-default '{.status.phase}') || return 1
    [ "$phase" = Bound ]
}

# A directory that somebody else has chosen, such as the Admin Console for Velero, may belong to Velero's user. What is in it is
# not ours to change.
function velero_look_at_directory() {
    local provider path
    provider=$(velero_read backupstoragelocation default '{.spec.provider}')
    path=$(velero_read backupstoragelocation default '{.spec.config.path}')
    if [ "$provider" = replicated.com/hostpath ] && [ -d "$path" ] && [ "$(stat -c %u "$path")" != 65532 ]; then
        logWarn "If the location of backups does not become available: chown -R 65532:65532 $path, on each node that has it"
    fi
}

# Settings without an object store, and backups in it: kURL removes the store then, and the backups with it.
function velero_check_object_store() {
    if [ "$KOTSADM_DISABLE_S3" != 1 ] || [ -n "$ROOK_VERSION$MINIO_VERSION" ]; then
        return 0
    fi
    local url
    # Before the first installation nobody knows what a location is.
    if ! velero_has crd backupstoragelocations.velero.io; then
        return 0
    fi
    url=$(velero_read backupstoragelocation default '{.spec.config.s3Url}')
    case "$url" in
        http://rook-ceph-rgw-rook-ceph-store.* | http://minio.*)
            bail "Backups are in $url, which this installer removes. First save another location in the KOTS Admin Console; if the \
backups need not be kept: kubectl -n $VELERO_NAMESPACE delete backupstoragelocation default"
            ;;
    esac
}
