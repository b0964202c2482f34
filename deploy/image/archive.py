#!/usr/bin/env python3
"""Writes the files of a directory as an image archive, without a container engine; the same files give the same bytes.

  archive.py ROOTFS NAME:TAG OUTPUT [--arch amd64] [--epoch SECONDS] [--version VERSION] [--revision COMMIT]

The archive is an OCI layout with Docker's manifest.json beside it: `ctr images import`, `podman load`, `skopeo` and
`docker load` all take it. All files belong to root; times are EPOCH.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import time


def layer(rootfs, epoch):
    """The directory as an uncompressed tar, sorted by path."""
    found = []
    for directory, directories, files in os.walk(rootfs):
        found += [os.path.join(directory, name) for name in directories + files]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(found, key=lambda path: os.path.relpath(path, rootfs).split(os.sep)):
            status = os.lstat(path)
            entry = tarfile.TarInfo(os.path.relpath(path, rootfs))
            entry.mode = stat.S_IMODE(status.st_mode)
            entry.mtime = epoch
            if stat.S_ISDIR(status.st_mode):
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif stat.S_ISLNK(status.st_mode):
                entry.type = tarfile.SYMTYPE
                entry.mode = 0o777
                entry.linkname = os.readlink(path)
                tar.addfile(entry)
            elif stat.S_ISREG(status.st_mode):
                entry.size = status.st_size
                with open(path, "rb") as file:
                    tar.addfile(entry, file)
            else:
                raise SystemExit(f"{path} is neither a file, a directory, nor a link")
    return out.getvalue()


def compact(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rootfs")
    parser.add_argument("name")
    parser.add_argument("output")
    parser.add_argument("--arch", default="amd64")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--version", default="")
    parser.add_argument("--revision", default="")
    args = parser.parse_args()
    tag = args.name.rpartition("/")[2].partition(":")[2]
    if not tag:
        parser.error(f"{args.name} has no tag, and KOTS wants one")

    plain = layer(args.rootfs, args.epoch)
    packed = gzip.compress(plain, compresslevel=9, mtime=0)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(args.epoch))
    blobs = {}

    def blob(content, media_type, **more):
        digest = hashlib.sha256(content).hexdigest()
        blobs["blobs/sha256/" + digest] = content
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(content), **more}

    labels = {
        "org.opencontainers.image.title": "orlop",
        "org.opencontainers.image.description": "Backs up and restores the volumes of Kubernetes pods",
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    if args.version:
        labels["org.opencontainers.image.version"] = args.version
    if args.revision:
        labels["org.opencontainers.image.revision"] = args.revision
    config = blob(
        compact({
            "architecture": args.arch,
            "os": "linux",
            "created": created,
            "config": {
                "Entrypoint": ["/orlop"],
                "Env": ["PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
                "Labels": labels,
                "User": "65532:65532",
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
            "history": [{"created": created, "created_by": "deploy/image/build.sh"}],
        }),
        "application/vnd.oci.image.config.v1+json",
    )
    layers = [blob(packed, "application/vnd.oci.image.layer.v1.tar+gzip")]
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = blob(
        compact({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers}),
        manifest_type,
        platform={"architecture": args.arch, "os": "linux"},
        annotations={"io.containerd.image.name": args.name, "org.opencontainers.image.ref.name": tag},
    )

    def place(descriptor):
        return "blobs/sha256/" + descriptor["digest"].partition(":")[2]

    files = {
        **blobs,
        "index.json": compact({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        }),
        "manifest.json": compact([{
            "Config": place(config),
            "RepoTags": [args.name],
            "Layers": [place(one) for one in layers],
        }]),
        "oci-layout": compact({"imageLayoutVersion": "1.0.0"}),
    }
    unfinished = args.output + ".tmp"
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o644
            entry.mtime = args.epoch
            tar.addfile(entry, io.BytesIO(files[name]))
    os.replace(unfinished, args.output)
    print(f"{args.output}: {args.name} {manifest['digest']} {os.path.getsize(args.output)} bytes")


if __name__ == "__main__":
    main()
