#!/bin/sh
# Makes the image's files: rootfs.sh BINARY CA-BUNDLE DIRECTORY
#
# There is no shell and no library in it: the binary resolves names by itself (docs/decisions/0017-image.md).
set -eu

binary=$1
ca_bundle=$2
root=$3

umask 022
mkdir -p "$root/etc/ssl/certs" "$root/host" "$root/host_pods" "$root/tmp"
cp "$binary" "$root/orlop"
chmod 755 "$root/orlop"
cp "$ca_bundle" "$root/etc/ssl/certs/ca-certificates.crt"
chmod 644 "$root/etc/ssl/certs/ca-certificates.crt"
chmod 1777 "$root/tmp"

cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/:/sbin/nologin
orlop:x:65532:65532:orlop:/tmp:/sbin/nologin
PASSWD
cat > "$root/etc/group" <<'GROUP'
root:x:0:
orlop:x:65532:
GROUP
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"

# The agent looks for pods below --kubelet-dir=/host; the volume has the mount point that Velero's has.
ln -s ../host_pods "$root/host/pods"
