#!/usr/bin/env bash
# Makes the add-on's archive for kURL, the same bytes from the same files.
#
#   deploy/image/build.sh
#   deploy/kurl/build.sh
#
# Settings, from the environment:
#   IMAGE         the image's archive (default: image/orlop.tar in cargo's target directory); the program is taken out of it
#   IMAGE_SHA256  what the archive must have, if somebody says
#   VELERO_CLI    a velero command for linux/amd64 that is put beside it, with VELERO_CLI_SHA256 (both or none)
#   HOST_PACKAGES a directory of packages for hosts, as kURL lays them out: ubuntu-22.04/archives/…, rhel-8/archives/…
#   OUTPUT        the archive (default: kurl/velero-VERSION.tar.gz in cargo's target directory)
#   SOURCE_DATE_EPOCH  the time of all files (default: 0)
#
# Needs GNU tar, gzip and python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
image=${IMAGE:-$target_dir/image/orlop.tar}
output=${OUTPUT:-$target_dir/kurl/velero-$version.tar.gz}
[ -f "$image" ] || fail "there is no $image: run deploy/image/build.sh, or set IMAGE"

checked() { # FILE SHA256
    local sum
    sum=$(sha256sum "$1" | cut -d ' ' -f 1)
    [ "$sum" = "$2" ] || fail "$1 has SHA-256 $sum and not $2: fetch it again"
}
[ -z "${IMAGE_SHA256:-}" ] || checked "$image" "$IMAGE_SHA256"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
addon=$stage/addons/velero/$version
mkdir -p "$addon/assets" "$addon/images"
cp "$here/install.sh" "$here/uninstall.sh" "$here/host-preflight.yaml" "$addon/"
cp -R "$here/lib" "$root/deploy/base" "$root/deploy/crds" "$addon/"

# The program of the image, after all digests of the archive were compared; its name and tag are printed.
name=$(python3 - "$image" "$addon/assets/orlop" <<'PYTHON'
import hashlib, io, json, sys, tarfile

image, program = sys.argv[1:]
with tarfile.open(image) as tar:
    def read(name):
        return tar.extractfile(name).read()

    def blob(descriptor):
        content = read("blobs/" + descriptor["digest"].replace(":", "/"))
        found = "sha256:" + hashlib.sha256(content).hexdigest()
        if found != descriptor["digest"]:
            sys.exit(f"build.sh: {image} is damaged: {descriptor['digest']} is {found}")
        return content

    (entry,) = json.loads(read("index.json"))["manifests"]
    manifest = json.loads(blob(entry))
    blob(manifest["config"])
    (layer,) = manifest["layers"]
    layer = blob(layer)
    (docker,) = json.loads(read("manifest.json"))
    (name,) = docker["RepoTags"]
with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
    content = tar.extractfile("orlop").read()
with open(program, "wb") as file:
    file.write(content)
print(name)
PYTHON
)
gzip -n -9 -c "$image" > "$addon/images/orlop.tar.gz"

if [ -n "${VELERO_CLI:-}" ]; then
    [ -n "${VELERO_CLI_SHA256:-}" ] || fail "VELERO_CLI needs VELERO_CLI_SHA256, the digest that its publisher names"
    checked "$VELERO_CLI" "$VELERO_CLI_SHA256"
    cp "$VELERO_CLI" "$addon/assets/velero"
fi
if [ -n "${HOST_PACKAGES:-}" ]; then
    cp -R "$HOST_PACKAGES/." "$addon/"
fi
sed "s|^image orlop .*|image orlop $name|" "$here/Manifest" > "$addon/Manifest"
(cd "$addon" && for asset in assets/*; do echo "asset ${asset#assets/} $asset"; done) >> "$addon/Manifest"

find "$stage/addons" -type d -exec chmod 755 {} +
find "$addon" -type f -exec chmod 644 {} +
chmod 755 "$addon"/assets/* "$addon/uninstall.sh"
(cd "$addon" && find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) > "$stage/SHA256SUMS"
mv "$stage/SHA256SUMS" "$addon/SHA256SUMS"
chmod 644 "$addon/SHA256SUMS"

mkdir -p "$(dirname "$output")"
tar --create --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" \
    --directory "$stage" addons | gzip -n -9 > "$output.tmp"
mv "$output.tmp" "$output"
echo "$output: add-on velero $version with $name, SHA-256 $(sha256sum "$output" | cut -d ' ' -f 1)"
