#!/usr/bin/env bash
# Tries an image archive as a container would run it: test.sh ARCHIVE
#
# The image's files alone are the root directory, in namespaces of their own, with a name server that knows the names of a
# cluster. Needs root (or unprivileged user namespaces) and python3.
set -euo pipefail
archive=$(realpath "$1")

if [ -z "${ORLOP_IMAGE_TEST:-}" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    maps=()
    [ "$(id -u)" = 0 ] || maps=(--user --map-root-user)
    ORLOP_IMAGE_TEST=$work unshare "${maps[@]}" --net --mount --pid --fork --kill-child "$0" "$archive"
    exit
fi
work=$ORLOP_IMAGE_TEST
root=$work/root
mkdir "$root"

fail() {
    echo "FAIL  $*" >&2
    exit 1
}
ok() { echo "ok    $*"; }

# What a container engine does: the layer, /proc, and the files of the network.
python3 - "$archive" "$root" "$work" <<'PYTHON'
import hashlib, io, json, sys, tarfile

archive, root, work = sys.argv[1:]
with tarfile.open(archive) as tar:
    def read(name):
        return tar.extractfile(name).read()

    def blob(descriptor):
        content = read("blobs/" + descriptor["digest"].replace(":", "/"))
        assert hashlib.sha256(content).hexdigest() == descriptor["digest"].split(":")[1]
        assert len(content) == descriptor["size"]
        return content

    assert json.loads(read("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(read("index.json"))["manifests"]
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    (layer,) = manifest["layers"]
    content = blob(layer)
    (docker,) = json.loads(read("manifest.json"))
    assert docker["Config"] == "blobs/" + manifest["config"]["digest"].replace(":", "/")
    assert docker["RepoTags"] == [entry["annotations"]["io.containerd.image.name"]]
    assert config["config"]["Entrypoint"] == ["/orlop"], config
    assert config["config"]["User"] == "65532:65532", config
with tarfile.open(fileobj=io.BytesIO(content)) as tar:
    assert all(entry.uid == entry.gid == 0 for entry in tar)
    tar.extractall(root)
PYTHON
ok "the archive is consistent"

[ "$(cd "$root" && find . -type f | sort | tr '\n' ' ')" = \
    "./etc/group ./etc/nsswitch.conf ./etc/passwd ./etc/ssl/certs/ca-certificates.crt ./orlop " ] ||
    fail "the image holds other files than it should: $(cd "$root" && find . -type f)"
ok "the binary, four files in /etc, and nothing else"

mkdir "$root/proc" "$root/dev" "$root/data" "$root/run"
mount -t proc proc "$root/proc"
touch "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
chmod 777 "$root/data" "$root/run"
ip link set lo up
cat > "$root/etc/resolv.conf" <<'RESOLV'
nameserver 127.0.0.1
search velero.svc.cluster.local svc.cluster.local cluster.local
options ndots:5 timeout:1
RESOLV
printf '127.0.0.1 localhost\n127.0.0.2 from-hosts\n' > "$root/etc/hosts"

# A name server, and something that notes who connects to port 7070.
python3 - "$work" <<'PYTHON' &
import socket, struct, sys, threading

NAMES = {
    "orlop.velero.svc.cluster.local": ["127.0.0.3"],
    # More than fits into a datagram: the resolver must ask again by TCP.
    "many.example": ["127.0.0.4"] * 60,
}
work = sys.argv[1]


def answer(question, datagram):
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += question[at] + 1
    (kind,) = struct.unpack(">H", question[at + 1:at + 3])
    asked = question[12:at + 5]
    found = NAMES.get(".".join(labels).lower())
    code = 3 if found is None else 0
    addresses = found if found and kind == 1 else []
    truncated = 0x0200 if datagram and len(addresses) > 20 else 0
    if truncated:
        addresses = []
    out = question[:2] + struct.pack(">HHHHH", 0x8180 | truncated | code, 1, len(addresses), 0, 0) + asked
    for address in addresses:
        out += struct.pack(">HHHIH", 0xC00C, 1, 1, 5, 4) + socket.inet_aton(address)
    return out


def exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def stream(connection):
    try:
        while True:
            (length,) = struct.unpack(">H", exactly(connection, 2))
            reply = answer(exactly(connection, length), False)
            connection.sendall(struct.pack(">H", len(reply)) + reply)
    except (EOFError, OSError):
        connection.close()


def serve_streams(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=stream, args=(connection,), daemon=True).start()


def note_visitors(listener):
    while True:
        connection, _ = listener.accept()
        with open(work + "/visited", "a") as file:
            file.write(connection.getsockname()[0] + "\n")
        connection.close()


names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
for address, serve in ((("127.0.0.1", 53), serve_streams), (("0.0.0.0", 7070), note_visitors)):
    listener = socket.create_server(address)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
open(work + "/ready", "w").close()
while True:
    question, client = names.recvfrom(4096)
    names.sendto(answer(question, True), client)
PYTHON
for _ in $(seq 100); do
    [ -e "$work/ready" ] && break
    sleep 0.1
done
[ -e "$work/ready" ] || fail "the name server does not start"

# As the image's user; as root where this machine knows no other user.
chroot=$(command -v chroot)
inside() {
    env -i PATH=/ SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$chroot" "${user[@]}" "$root" /orlop "$@"
}
user=(--userspec=65532:65532)
inside --version > "$work/out" 2>&1 || user=()
[ "${#user[@]}" = 0 ] || ok "it runs as user 65532"

inside --version
ok "what the init containers run ends with 0"

# It also leaves the certificate and the token that clients want to have.
pod=$root/host_pods/11111111-2222-3333-4444-555555555555
mkdir -p "$pod/volumes/kubernetes.io~empty-dir/notes" "$root/var/log/pods/apps_web-0_11111111-2222-3333-4444-555555555555"
inside standalone --data-dir /data/first --kubelet-dir /host --listen 127.0.0.1:7171 2>"$work/standalone.log" &
server=$!
for _ in $(seq 100); do
    [ -s "$root/run/orlop/token" ] && break
    kill -0 "$server" 2>/dev/null || fail "the server ended: $(cat "$work/standalone.log")"
    sleep 0.1
done
for _ in $(seq 100); do
    inside status --server 127.0.0.1:7171 > "$work/status" 2>&1 || true
    grep -q 'apps/web-0/notes' "$work/status" && break
    sleep 0.2
done
grep -q 'apps/web-0/notes' "$work/status" || fail "the volume below /host_pods was not found: $(cat "$work/status" "$work/standalone.log")"
ok "a server runs, and finds volumes below /host_pods through --kubelet-dir=/host"
echo remember > "$pod/volumes/kubernetes.io~empty-dir/notes/file"
inside backup create first --volume apps/web-0/notes --wait --server 127.0.0.1:7171 > "$work/out" 2>&1 ||
    fail "the backup failed: $(cat "$work/out" "$work/standalone.log")"
inside snapshot ls --server 127.0.0.1:7171 > "$work/out" 2>&1 || true
grep -q 'apps/web-0/notes' "$work/out" || fail "there is no snapshot: $(cat "$work/out")"
ok "and backs them up"

visit() { # NAME ADDRESS: the program connects to the address of the name
    : > "$work/visited"
    inside status --server "$1:7070" > "$work/out" 2>&1 && fail "nobody answers, but status ended with 0"
    grep -qx "$2" "$work/visited" || fail "$1 was not found: $(cat "$work/out")"
    ok "$1 is $2"
}
visit localhost 127.0.0.1
visit from-hosts 127.0.0.2
visit orlop 127.0.0.3
visit orlop.velero.svc 127.0.0.3
visit orlop.velero.svc.cluster.local 127.0.0.3
visit many.example 127.0.0.4
: > "$work/visited"
inside status --server nowhere.example:7070 > "$work/out" 2>&1 && fail "nowhere.example was found"
[ ! -s "$work/visited" ] || fail "nowhere.example was found"
ok "nowhere.example is nowhere"
