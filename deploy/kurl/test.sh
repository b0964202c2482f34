#!/usr/bin/env bash
# Tries the add-on without a cluster: test.sh [DIRECTORY]
#
# The archive is built from a small image, and unpacked as kURL does it; its functions run as in kURL's shell, with a kubectl
# that notes what it is asked. What is rendered is left in DIRECTORY, for checks of the YAML.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rendered=${1:-$work/rendered}
mkdir -p "$rendered" "$work/bin" "$work/image/root"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)

fail() {
    echo "FAIL  ${name:-}: $*" >&2
    if [ -s "${FAKE:-}/out" ]; then
        sed 's/^/      /' "$FAKE/out" >&2
    fi
    exit 1
}
ok() { echo "ok    $*"; }

# --- what stands in for the machine and for kURL ---

cat > "$work/image/root/orlop" <<'SCRIPT'
#!/bin/sh
# The program, as far as it is asked for its flags.
for flag in "$@"; do
    case "$flag" in
        --log-level*) echo "error: unexpected argument '--log-level' found" >&2; exit 2 ;;
    esac
done
SCRIPT
chmod 755 "$work/image/root/orlop"

cat > "$work/bin/kubectl" <<'SCRIPT'
#!/usr/bin/env bash
# Notes each call. Answers by the first line of $FAKE/answers whose pattern fits: PATTERN => TEXT, or PATTERN =!> MESSAGE to fail.
set -u
[ "$1" = --request-timeout=60s ] || { echo "this call may never end: $*" | tee -a "$FAKE/unbounded" >&2; exit 9; }
shift
[ "${1:-}" != -n ] || { space=$2; shift 2; set -- "$@" "in $space"; }
echo "$*" >> "$FAKE/calls"
case "$*" in
    *"-f -"*)
        made=$FAKE/made/$(find "$FAKE/made" -type f | wc -l).yaml
        cat > "$made"
        echo "  $(sed -n 's/^kind: //p' "$made") $(sed -n 's/^  name: //p' "$made")" >> "$FAKE/calls"
        if grep -q '^kind: BackupStorageLocation' "$made"; then
            part() { sed -n "s|^ *$1: \"*\([^\"]*\)\"*\$|\1|p" "$made"; }
            {
                echo "get backupstoragelocation default *-o name* => backupstoragelocation/default"
                echo "get backupstoragelocation default *spec.provider* => $(part provider)"
                echo "get backupstoragelocation default *config.path* => $(part path)"
                echo "get backupstoragelocation default *directory-path* => $(part orlop.io/directory-path)"
                echo "get backupstoragelocation default *directory-node* => $(part orlop.io/directory-node)"
                cat "$FAKE/answers"
            } > "$FAKE/answers.new"
            mv "$FAKE/answers.new" "$FAKE/answers"
        fi
        exit
        ;;
esac
while read -r line; do
    # shellcheck disable=SC2053 # They are patterns.
    if [[ "$line" = *" =!> "* && "$*" = ${line%% =!> *} ]]; then
        echo "${line#* =!> }" >&2
        exit 1
    elif [[ "$line" = *" => "* && "$*" = ${line%% => *} ]]; then
        printf '%b' "${line#* => }"
        exit
    fi
done < "$FAKE/answers"
SCRIPT

# Programs that change the machine are noted. Nobody may call into a network.
for program in install chcon; do
    # shellcheck disable=SC2016 # They are for later.
    printf '#!/bin/sh\necho "%s $*" >> "$FAKE/calls"\n' "$program" > "$work/bin/$program"
done
for program in curl wget; do
    # shellcheck disable=SC2016 # They are for later.
    printf '#!/bin/sh\necho "%s $*" >> "$FAKE/network"\nexit 7\n' "$program" > "$work/bin/$program"
done
# shellcheck disable=SC2016 # They are for later.
printf '#!/bin/sh\n[ -n "$SELINUX" ] && echo "$SELINUX" || echo Disabled\n' > "$work/bin/getenforce"
chmod 755 "$work"/bin/*

cat > "$work/kurl.sh" <<'SCRIPT'
# kURL's shell, as far as add-ons use it.
set -eE
trap 'echo "error in ${FUNCNAME[0]:-} at line $LINENO" >&2' ERR
MASTER=1
VELERO_PAUSE=0
VELERO_WAIT=${VELERO_WAIT-1}
function log() { echo "$*" >&2; }
function logSuccess() { log "$@"; }
function logWarn() { log "warning: $*"; }
function logFail() { log "$@"; }
function bail() { logFail "bail: $*"; exit 1; }
function kubernetes_is_master() { [ "$MASTER" = 1 ]; }
function get_local_node_name() { echo node-1; }
function host_packages_shipped() { [ "$SHIPPED" = 1 ]; }
function install_nfs_utils_if_missing_common() { echo "install_nfs $1" >> "$FAKE/calls"; }
function object_store_exists() { [ -n "$OBJECT_STORE_ACCESS_KEY" ]; }
function object_store_create_bucket() { echo "bucket $1" >> "$FAKE/calls"; }
function try_1m() { "$@"; }
. "$DIR/addons/velero/$VELERO_VERSION/install.sh"
for step in "$@"; do
    $step
done
SCRIPT

# --- the archive ---

python3 "$root/deploy/image/archive.py" "$work/image/root" registry.example/orlop:7 "$work/image/orlop.tar" > /dev/null
build() { # OUTPUT [SETTING…]
    local output=$1
    shift
    env IMAGE="$work/image/orlop.tar" OUTPUT="$output" "$@" "$here/build.sh"
}
name=archive
build "$work/first.tar.gz" > /dev/null
(umask 077; build "$work/second.tar.gz" > /dev/null)
cmp "$work/first.tar.gz" "$work/second.tar.gz" || fail "two builds differ"
ok "two builds are the same"
if build "$work/third.tar.gz" IMAGE_SHA256=0 2> /dev/null || [ -e "$work/third.tar.gz" ]; then
    fail "an image of another digest is taken"
fi
if build "$work/third.tar.gz" VELERO_CLI="$work/kurl.sh" 2> /dev/null; then
    fail "a command without a digest is taken"
fi
python3 - "$work/image/orlop.tar" "$work/image/damaged.tar" <<'PYTHON'
import io, sys, tarfile
with tarfile.open(sys.argv[1]) as old, tarfile.open(sys.argv[2], "w") as new:
    for entry in old:
        content = old.extractfile(entry).read()
        if entry.name.startswith("blobs/") and content[:2] == b"\x1f\x8b":
            content = content[:-1] + bytes([content[-1] ^ 1])
        new.addfile(entry, io.BytesIO(content))
PYTHON
if build "$work/third.tar.gz" IMAGE="$work/image/damaged.tar" 2> /dev/null; then
    fail "a damaged image is taken"
fi
ok "images and commands of another digest are refused"
mkdir "$work/packages" && mkdir -p "$work/packages/ubuntu-22.04/archives" && touch "$work/packages/ubuntu-22.04/archives/nfs-common.deb"
build "$work/full.tar.gz" VELERO_CLI="$work/kurl.sh" VELERO_CLI_SHA256="$(sha256sum "$work/kurl.sh" | cut -d ' ' -f 1)" \
    HOST_PACKAGES="$work/packages" > /dev/null
tar -tzf "$work/full.tar.gz" > "$work/listing"
for file in assets/velero ubuntu-22.04/archives/nfs-common.deb images/orlop.tar.gz Manifest install.sh host-preflight.yaml; do
    grep -qx "addons/velero/$version/$file" "$work/listing" || fail "the archive lacks $file"
done
ok "the archive has what kURL looks for"

# --- scenarios ---

# Begins a scenario: begin NAME, with answers on standard input.
begin() {
    name=$1
    export FAKE=$work/$name DIR=$work/$name/kurl
    mkdir -p "$FAKE/made" "$FAKE/bin" "$DIR/bin" "$DIR/kustomize"
    # shellcheck disable=SC2016 # It is for later.
    printf '#!/bin/sh\nshift 2\necho "$1"\n' > "$DIR/bin/kurl"
    chmod 755 "$DIR/bin/kurl"
    tar -xzf "${archive:-$work/first.tar.gz}" --no-same-owner -C "$DIR"
    touch "$FAKE/calls"
    {
        cat
        cat <<'ANSWERS'
get deployment velero *observedGeneration* => 2 2 1 1 1
get daemonset node-agent *observedGeneration* => 1 1 3 3 3
get backupstoragelocation default *status.phase* => Available
get node node-1 * => host-1
ANSWERS
    } > "$FAKE/answers"
}
# Runs functions as kURL does: run [SETTING=VALUE…] FUNCTION…; the status is theirs.
run() {
    local settings=()
    while [[ "$1" = *=* ]]; do
        settings+=("$1")
        shift
    done
    env -i PATH="$work/bin:$PATH" HOME="$work" FAKE="$FAKE" DIR="$DIR" VELERO_VERSION="$version" BASH_COMPAT=4.2 \
        ORLOP_BIN_DIR="$FAKE/bin" AIRGAP=1 SHIPPED=1 KUBERNETES_TARGET_VERSION_MINOR=28 "${settings[@]}" \
        bash "$work/kurl.sh" "$@" > "$FAKE/out" 2>&1
}
works() { run "$@" || fail "it ended with an error"; }
refused() { # WORD, then as for run
    local word=$1
    shift
    if run "$@"; then
        fail "it was not refused: $*"
    fi
    grep -q "^bail: .*$word" "$FAKE/out" || fail "nothing was said of $word"
}
called() { grep -qF -- "$1" "$FAKE/calls" || fail "there was no call: $1"; }
not_called() { ! grep -qF -- "$1" "$FAKE/calls" || fail "there was a call: $(grep -F -- "$1" "$FAKE/calls" | head -n 1)"; }
said() { grep -qF -- "$1" "$FAKE/out" || fail "it was not said: $1"; }
# Whether calls came in this order.
in_order() {
    local last=0 line one
    for one in "$@"; do
        line=$(grep -nF -- "$one" "$FAKE/calls" | cut -d : -f 1 | awk -v last="$last" '$1 > last && !found { print; found = 1 }') || true
        [ -n "$line" ] || fail "there was no such call in its turn: $one"
        last=$line
    done
}
has_line() { # FILE LINE
    grep -qxF -- "$2" "$1" || fail "$1 lacks: $2"
}
no_line() { # FILE TEXT
    ! grep -qF -- "$2" "$1" || fail "$1 has: $2"
}
made() { # KIND: the file of an object that was made
    local file
    file=$(grep -lx "kind: $1" "$FAKE"/made/*.yaml 2> /dev/null) || fail "no $1 was made"
    echo "$file"
}
# Ends a scenario: what was rendered is kept.
end() {
    [ ! -s "$FAKE/unbounded" ] || fail "$(cat "$FAKE/unbounded")"
    [ ! -s "$FAKE/network" ] || fail "something was fetched: $(cat "$FAKE/network")"
    if [ -d "$DIR/kustomize/velero" ]; then
        rm -rf "${rendered:?}/$name"
        mkdir -p "$rendered/$name"
        cp -R "$DIR/kustomize/velero/." "$rendered/$name/"
        local file
        for file in "$FAKE"/made/*.yaml; do
            [ ! -e "$file" ] || cp "$file" "$rendered/$name/made-$(basename "$file")"
        done
    fi
    ok "$name"
}

object_store=(
    OBJECT_STORE_ACCESS_KEY=kurl 'OBJECT_STORE_SECRET_KEY=se"cr\et' OBJECT_STORE_CLUSTER_IP=10.96.0.7
    OBJECT_STORE_CLUSTER_HOST=http://minio.minio
)

begin object-store < /dev/null
works "${object_store[@]}" VELERO_LOCAL_BUCKET=snaps velero_pre_init velero velero_outro
in_order "apply --server-side --force-conflicts --field-manager=kurl-velero -f $DIR/addons/velero/$version/crds/velero.yaml" \
    "create namespace velero" "bucket snaps" "create -f -" "  Secret cloud-credentials" "create -f -" \
    "  BackupStorageLocation default" "apply --server-side --force-conflicts --field-manager=kurl-velero -k $DIR/kustomize/velero" \
    "label --overwrite service/kubernetes velero.io/exclude-from-backup=true"
file=$(made Secret)
has_line "$file" '  cloud: "[default]\naws_access_key_id=kurl\naws_secret_access_key=se\"cr\\et\n"'
file=$(made BackupStorageLocation)
for line in '  provider: aws' '  default: true' '    bucket: "snaps"' '    region: "us-east-1"' '    s3Url: "http://minio.minio"' \
    '    publicUrl: "http://10.96.0.7"' '    s3ForcePathStyle: "true"'; do
    has_line "$file" "$line"
done
has_line "$DIR/kustomize/velero/kustomization.yaml" '  newName: registry.example/orlop'
has_line "$DIR/kustomize/velero/kustomization.yaml" '  newTag: "7"'
has_line "$DIR/addons/velero/$version/Manifest" 'image orlop registry.example/orlop:7'
has_line "$DIR/kustomize/velero/downloads.yaml" '    nodePort: 30771'
no_line "$DIR/kustomize/velero/coordinator.yaml" nodeSelector
no_line "$DIR/kustomize/velero/coordinator.yaml" PROXY
[ -x "$FAKE/bin/orlop" ] || fail "the program is not in its place"
not_called delete
said velero-repo-credentials
end

begin directory <<'ANSWERS'
get services --all-namespaces * => 30771 8800 30772
ANSWERS
works KOTSADM_DISABLE_S3=1 "${object_store[@]}" MINIO_VERSION=1 SELINUX=Enforcing velero_pre_init velero
in_order "get node node-1" "install -d -m 700 -o 65532 -g 65532 /var/lib/orlop-backups" \
    "chcon -t container_file_t /var/lib/orlop-backups" "  BackupStorageLocation default"
file=$(made BackupStorageLocation)
has_line "$file" '  provider: replicated.com/hostpath'
has_line "$file" '    path: "/var/lib/orlop-backups"'
has_line "$DIR/kustomize/velero/coordinator.yaml" '        kubernetes.io/hostname: "host-1"'
has_line "$DIR/kustomize/velero/downloads.yaml" '    nodePort: 30773'
not_called cloud-credentials
not_called bucket
end

# The same again, from another node: nothing is made, and the same is rendered.
name=already-applied
cp -R "$DIR/kustomize/velero" "$work/before"
: > "$FAKE/calls"
sed -i '1i get namespace velero * => namespace/velero\nget service orlop-downloads * => 30773\nget deployment velero *args* => velero coordinator\nget daemonset node-agent *args* => node-agent agent' "$FAKE/answers"
works KOTSADM_DISABLE_S3=1 MINIO_VERSION=1 ORLOP_STORE_DIR=/elsewhere velero_pre_init velero_already_applied
diff -r "$work/before" "$DIR/kustomize/velero" || fail "a second run renders something else"
not_called create
not_called delete
not_called "install -d"
end

# The location was changed in the Admin Console meanwhile: the coordinator may run anywhere again.
name=moved
sed -i '1i get backupstoragelocation default *config.path* => /srv/other' "$FAKE/answers"
works KOTSADM_DISABLE_S3=1 MINIO_VERSION=1 velero
no_line "$DIR/kustomize/velero/coordinator.yaml" nodeSelector
end

begin claim <<'ANSWERS'
get storageclass -o * => slow=\nfast=true\n
get persistentvolumeclaim orlop-store-default *status.phase* => Bound
get persistentvolumeclaim orlop-store-default *volumeName* => pv-1
ANSWERS
works ORLOP_STORE=claim ORLOP_STORE_SIZE=20Gi ORLOP_STORE_CLASS=slow velero_pre_init velero
file=$(made BackupStorageLocation)
for line in '  provider: replicated.com/pvc' '    bucket: "velero-internal-snapshots"' '    storageSize: "20Gi"' '    storageClassName: "slow"'; do
    has_line "$file" "$line"
done
called 'patch persistentvolume pv-1 -p {"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
end

begin claim-without-class <<'ANSWERS'
get storageclass -o * => slow=\n
ANSWERS
refused ORLOP_STORE_CLASS ORLOP_STORE=claim velero
refused "no storage class gold" ORLOP_STORE=claim ORLOP_STORE_CLASS=gold velero
not_called BackupStorageLocation
end

begin no-store < /dev/null
works ORLOP_STORE=none velero_pre_init velero
not_called BackupStorageLocation
end

begin settings < /dev/null
refused ORLOP_STORE ORLOP_STORE=tape velero_pre_init
refused ORLOP_STORE_DIR 'ORLOP_STORE_DIR=/a/../b' velero_pre_init
refused ORLOP_STORE_DIR 'ORLOP_STORE_DIR=/a"b' velero_pre_init
refused ORLOP_STORE_SIZE ORLOP_STORE_SIZE=much velero_pre_init
refused ORLOP_STORE_CLASS 'ORLOP_STORE_CLASS=.*|' velero_pre_init
refused "1.25" KUBERNETES_TARGET_VERSION_MINOR=24 velero_pre_init
refused "log-level" VELERO_SERVER_FLAGS=--collect-every=6h,--log-level=debug velero_pre_init
refused "object-store" ORLOP_STORE=object-store velero
works VELERO_RESTIC_TIMEOUT=6h velero_pre_init
said "velero.resticTimeout (6h) has no effect"
end

begin flags < /dev/null
works "${object_store[@]}" VELERO_SERVER_FLAGS=--collect-every=6h,--downloads-url=http://a:1 VELERO_RESTIC_REQUIRES_PRIVILEGED=1 \
    velero_pre_init velero
has_line "$DIR/kustomize/velero/flags.yaml" '  value: "--collect-every=6h"'
has_line "$DIR/kustomize/velero/flags.yaml" '  value: "--downloads-url=http://a:1"'
has_line "$DIR/kustomize/velero/agent.yaml" '          privileged: true'
end

begin no-agents <<'ANSWERS'
get daemonset node-agent *observedGeneration* =>
ANSWERS
works "${object_store[@]}" VELERO_DISABLE_RESTIC=1 VELERO_DISABLE_CLI=1 VELERO_NAMESPACE=backups velero_pre_init velero
# shellcheck disable=SC2016 # It is kustomize's.
has_line "$DIR/kustomize/velero/agent.yaml" '$patch: delete'
has_line "$DIR/kustomize/velero/kustomization.yaml" 'namespace: backups'
called "delete daemonset node-agent --ignore-not-found --wait=false in backups"
has_line "$(made BackupStorageLocation)" '  namespace: backups'
[ ! -e "$FAKE/bin/orlop" ] || fail "the program was installed"
end

begin proxy < /dev/null
printf '%s\r\n' 'A comment: "quoted"' '-----BEGIN CERTIFICATE-----' 'TUlJ' '-----END CERTIFICATE-----' \
    '-----BEGIN TRUSTED CERTIFICATE-----' 'bm8=' '-----END TRUSTED CERTIFICATE-----' > "$FAKE/bundle.pem"
sed -i '1i get configmap kotsadm-private-cas * => -----BEGIN CERTIFICATE-----\\nUFJJ\\n-----END CERTIFICATE-----\\n' "$FAKE/answers"
works "${object_store[@]}" PROXY_ADDRESS='http://u:p"w@proxy:3128' NO_PROXY_ADDRESSES=localhost,.svc,10.96.0.0/16 \
    KOTSADM_TRUSTED_CERT_MOUNT="$FAKE/bundle.pem" velero_pre_init velero
file=$DIR/kustomize/velero/coordinator.yaml
grep -A1 -x '        - name: HTTPS_PROXY' "$file" | grep -qxF '          value: "http://u:p\"w@proxy:3128"' || fail "no HTTPS_PROXY"
grep -A1 -x '        - name: HTTP_PROXY' "$file" | grep -qxF '          value: "http://u:p\"w@proxy:3128"' || fail "no HTTP_PROXY"
has_line "$file" '          value: "localhost,.svc,10.96.0.0/16,minio.minio,10.96.0.7"'
has_line "$file" '          value: "/etc/orlop/host-ca/ca-bundle.pem"'
file=$DIR/kustomize/velero/host-ca.yaml
[ "$(grep -c '    -----BEGIN CERTIFICATE-----' "$file")" = 2 ] || fail "there are not two certificates in $file"
has_line "$file" '    TUlJ'
has_line "$file" '    UFJJ'
no_line "$file" bm8=
no_line "$file" comment
file=$DIR/kustomize/velero/kotsadm-restore-config.yaml
has_line "$file" '    kurl.sh/restore-kotsadm-plugin: "RestoreItemAction"'
has_line "$file" '  NO_PROXY: "localhost,.svc,10.96.0.0/16"'
has_line "$file" "  hostCAPath: \"$FAKE/bundle.pem\""
sum=$(sed -n 's/.*orlop.io\/host-ca: //p' "$DIR/kustomize/velero/coordinator.yaml")
echo '-----BEGIN CERTIFICATE-----
bmV3
-----END CERTIFICATE-----' >> "$FAKE/bundle.pem"
works "${object_store[@]}" PROXY_HTTPS_ADDRESS=http://only:1 KOTSADM_TRUSTED_CERT_MOUNT="$FAKE/bundle.pem" velero
[ "$sum" != "$(sed -n 's/.*orlop.io\/host-ca: //p' "$DIR/kustomize/velero/coordinator.yaml")" ] || fail "new certificates make no new pod"
no_line "$DIR/kustomize/velero/coordinator.yaml" 'name: HTTP_PROXY'
has_line "$DIR/kustomize/velero/coordinator.yaml" '          value: "localhost,127.0.0.1,.svc,.local,minio.minio,10.96.0.7"'
end

begin longhorn <<'ANSWERS'
get storageclass longhorn * => true
ANSWERS
works ORLOP_STORE=none velero
has_line "$DIR/kustomize/velero/change-storage-class.yaml" '  default: longhorn'
end

# An air gap: no call leaves the machine, and what was damaged on its way is found before anything is changed.
archive=$work/full.tar.gz begin air-gap < /dev/null
works "${object_store[@]}" velero_pre_init velero
[ -x "$FAKE/bin/velero" ] || fail "the velero command is not in its place"
called "install_nfs $DIR/addons/velero/$version"
: > "$FAKE/calls"
works MASTER=0 velero_join
not_called delete
truncate -s -1 "$DIR/addons/velero/$version/images/orlop.tar.gz"
refused "orlop.tar.gz" velero_pre_init
end

begin packages < /dev/null
works velero_pre_init
said "nfs-utils"
not_called install_nfs
works AIRGAP= SHIPPED= velero_pre_init
called install_nfs
end

from_velero() {
    cat <<'ANSWERS'
get namespace velero * => namespace/velero
get crd backups.velero.io * => customresourcedefinition/backups.velero.io
get crd backupstoragelocations.velero.io * => customresourcedefinition/backupstoragelocations.velero.io
get crd backuprepositories.velero.io * => customresourcedefinition/backuprepositories.velero.io
get backupstoragelocation default *-o name* => backupstoragelocation/default
get backupstoragelocation default *spec.provider* => aws
get backupstoragelocation default *s3Url* => http://minio.minio
get deployment velero *args* => velero server
get deployment velero *-o jsonpath={.status.availableReplicas} in velero => 1
get daemonset node-agent *args* => node-agent server
get clusterrolebinding velero * => cluster-admin
get secret velero-repo-credentials *data* => c3RhdGljLXBhc3N3MHJk
get pods -l component=velero -o jsonpath* => coordinator\nagent\n\n
ANSWERS
}

begin upgrade < <(from_velero)
works "${object_store[@]}" MINIO_VERSION=1 velero_pre_init velero
in_order "get backups.velero.io,restores.velero.io" \
    "get deployments,daemonsets,backupstoragelocations.velero.io,schedules.velero.io -o yaml" \
    "create secret generic velero-repo-credentials-of-velero --from-literal=repository-password=static-passw0rd in velero" \
    "delete secret velero-repo-credentials --ignore-not-found in velero" \
    "delete deployment/velero --ignore-not-found --wait=false in velero" \
    "delete daemonset/node-agent --ignore-not-found --wait=false in velero" \
    "delete backuprepositories.velero.io --all --wait=false in velero" \
    "delete clusterrolebinding velero --ignore-not-found --wait=false" \
    "-k $DIR/kustomize/velero"
[ "$(grep -c 'delete secret' "$FAKE/calls")" = 1 ] || fail "more Secrets were removed"
for kept in "delete namespace" "delete backups" "delete schedules" "delete persistentvolumeclaim" daemonset/restic "create -f -"; do
    not_called "$kept"
done
[ "$(stat -c %a "$DIR"/velero-replaced-*.yaml)" = 600 ] || fail "the record is for everybody to read"
end

begin upgrade-own-password < <(from_velero)
sed -i '1i get secret velero-repo-credentials *data* => bWluZQ==\nget daemonset restic *args* => restic restic\nget clusterrolebinding velero * => velero' "$FAKE/answers"
works "${object_store[@]}" MINIO_VERSION=1 velero
not_called "delete secret"
not_called "delete clusterrolebinding"
called "delete daemonset/restic"
end

begin upgrade-while-running < <(from_velero)
sed -i '1i get backups.velero.io,restores.velero.io * => Backup old Completed\\nRestore r1 InProgress\\n' "$FAKE/answers"
refused "Restore r1 InProgress" "${object_store[@]}" MINIO_VERSION=1 VELERO_WAIT_RUNS=0 velero
not_called delete
# What nobody works at will not end.
sed -i '1i get deployment velero *-o jsonpath={.status.availableReplicas} in velero => 0' "$FAKE/answers"
works "${object_store[@]}" MINIO_VERSION=1 VELERO_WAIT_RUNS=0 velero
called "delete deployment/velero"
end

begin server-away < <(from_velero)
sed -i '1i get daemonset node-agent *args* =!> the server is away' "$FAKE/answers"
refused "already" "${object_store[@]}" MINIO_VERSION=1 velero
not_called delete
sed -i '1i get backups.velero.io,restores.velero.io * =!> the server is away\nget daemonset node-agent *args* => node-agent server' "$FAKE/answers"
refused "still at work" "${object_store[@]}" MINIO_VERSION=1 VELERO_WAIT_RUNS=0 velero
not_called delete
end

begin store-goes-away < <(from_velero)
refused "http://minio.minio" KOTSADM_DISABLE_S3=1 velero
not_called delete
not_called apply
end

begin never-ready <<'ANSWERS'
get deployment velero *observedGeneration* => 3 2 1 1 1
ANSWERS
refused "did not start" ORLOP_STORE=none VELERO_WAIT=0 velero
called "logs deployment/velero"
sed -i '1i get deployment velero *observedGeneration* => 3 3 1 1 1\nget daemonset node-agent *observedGeneration* => 1 1 3 2 2\nget backupstoragelocation default *-o name* => x\nget backupstoragelocation default *phase* => Unavailable\nget backupstoragelocation default *message* => no route' "$FAKE/answers"
works ORLOP_STORE=none VELERO_WAIT=0 velero
said "Not every agent"
said "no route"
end

begin uninstall <<'ANSWERS'
get crd -o name => customresourcedefinition/restores.velero.io\ncustomresourcedefinition/other.example\n
get restores.velero.io -A * => velero\nvelero\n
get secret velero-repo-credentials * => secret/velero-repo-credentials
get crd backupstoragelocations.velero.io * => x
get restores.velero.io *deletionTimestamp* => r2\n
get restores.velero.io *finalizers* => r1\nr2\n
ANSWERS
works velero_uninstall
not_called "patch restores.velero.io r1"
called 'patch restores.velero.io r2 --type=merge -p {"metadata":{"finalizers":null}} in velero'
for kept in "delete namespace" "delete customresourcedefinition" "delete secret" "other.example" "get secrets"; do
    not_called "$kept"
done
# With everything: the password first, and no wait without an end.
: > "$FAKE/calls"
refused "still being deleted" VELERO_WAIT=0 "velero_uninstall all"
in_order "get secrets,backupstoragelocations.velero.io -o yaml" "delete deployment/velero" 'patch restores.velero.io r1' \
    "delete namespace velero --ignore-not-found --wait=false" "delete customresourcedefinition/restores.velero.io"
not_called "delete customresourcedefinition/other.example"
sed -i '1i get secrets,backupstoragelocations.velero.io * =!> forbidden' "$FAKE/answers"
: > "$FAKE/calls"
refused "nothing was removed" "velero_uninstall all"
not_called delete
refused "uninstall what" "velero_uninstall everything"
sed -i '/=!> forbidden/d' "$FAKE/answers"
# What other namespaces have is not lost with it.
sed -i '1i get restores.velero.io -A * => velero\\nbackups\\n' "$FAKE/answers"
: > "$FAKE/calls"
refused "also backups" "velero_uninstall all"
not_called delete
sed -i '1i get restores.velero.io -A * =!> no answer' "$FAKE/answers"
refused "nothing was removed" "velero_uninstall all"
not_called delete
sed -i '1,2d' "$FAKE/answers"
# An earlier run has removed the Secrets, or the definitions, and goes on without them.
sed -i '1i get secret velero-repo-credentials * => \\c' "$FAKE/answers"
: > "$FAKE/calls"
refused "still being deleted" VELERO_WAIT=0 "velero_uninstall all"
said "There is no password"
called "delete namespace velero"
sed -i '1d' "$FAKE/answers"
sed -i '1i get crd backupstoragelocations.velero.io * => \\c' "$FAKE/answers"
: > "$FAKE/calls"
refused "still being deleted" VELERO_WAIT=0 "velero_uninstall all"
called "get secrets -o yaml"
sed -i '1d' "$FAKE/answers"
end

sed -i '1i get crd -o name => customresourcedefinition/other.example\n' "$FAKE/answers"
env -i PATH="$work/bin:$PATH" FAKE="$FAKE" DIR="$FAKE" VELERO_WAIT=0 VELERO_PAUSE=0 VELERO_VERSION="$version" \
    "$DIR/addons/velero/$version/uninstall.sh" all > "$FAKE/out" 2>&1 || fail "uninstall.sh ended with an error"
said "Orlop is removed"
ok "uninstall.sh"

if command -v kubectl > /dev/null && [ -n "${ORLOP_KUSTOMIZE:-}" ]; then
    for directory in "$rendered"/*/; do
        kubectl kustomize "$directory" > "$directory/all.out" || fail "kustomize does not take $directory"
    done
    ok "kustomize takes what was rendered"
fi
