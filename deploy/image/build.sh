#!/usr/bin/env bash
# Builds the image without a container engine and writes it as an archive.
#
#   deploy/image/build.sh
#   ctr -n k8s.io images import target/image/orlop.tar
#
# Settings, from the environment:
#   TAG        the image's tag (default: the workspace's version)
#   NAME       the image's name without tag (default: localhost/orlop)
#   OUTPUT     the archive (default: image/orlop.tar in cargo's target directory)
#   BINARY     a static orlop that was built before (default: cargo builds it)
#   CA_BUNDLE  certificates of the authorities to trust (default: this machine's)
#   SOURCE_DATE_EPOCH  the time of all files (default: 0)
#
# Needs Rust, a C compiler, and python3. The C library must be glibc 2.34 or newer, which resolves names in a static program.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
triple=x86_64-unknown-linux-gnu

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
tag=${TAG:-$version}
name=${NAME:-localhost/orlop}
output=${OUTPUT:-$target_dir/image/orlop.tar}

ca_bundle=${CA_BUNDLE:-}
if [ -z "$ca_bundle" ]; then
    for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
        if [ -s "$file" ]; then
            ca_bundle=$file
            break
        fi
    done
fi
[ -s "$ca_bundle" ] || fail "no certificates of authorities: install ca-certificates, or set CA_BUNDLE"

binary=${BINARY:-}
if [ -z "$binary" ]; then
    # The libraries of older versions open libnss_*.so at run time, which the image has not.
    libc=$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)
    [ "$(printf '%s\n2.34\n' "$libc" | sort -V | head -n 1)" = 2.34 ] ||
        fail "glibc $libc cannot resolve names in a static program: build on a system with 2.34 or newer"
    separator=$(printf '\037')
    flags="-Ctarget-feature=+crt-static"
    flags+="${separator}--remap-path-prefix=$root=/orlop-src"
    flags+="${separator}--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    (
        cd "$root"
        CARGO_ENCODED_RUSTFLAGS=$flags CARGO_TARGET_DIR=$target_dir \
            cargo build --release --locked --target "$triple" -p orlop-cli --bin orlop
    )
    binary=$target_dir/$triple/release/orlop
fi
# A dynamic program names its interpreter; a static one has none.
if LC_ALL=C readelf -lW "$binary" | grep -q INTERP; then
    fail "$binary is not static"
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
strip --strip-debug -o "$stage/orlop" "$binary"
"$here/rootfs.sh" "$stage/orlop" "$ca_bundle" "$stage/root"

mkdir -p "$(dirname "$output")"
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || true)
python3 "$here/archive.py" "$stage/root" "$name:$tag" "$output" \
    --epoch "${SOURCE_DATE_EPOCH:-0}" --version "$version" --revision "$revision"
