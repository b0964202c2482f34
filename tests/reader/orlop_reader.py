#!/usr/bin/env python3
"""Reads a repository of Orlop in a directory, and shares no code with Orlop.

It is written from docs/format.md alone, so that the page is known to be enough: whoever has the page and the
key can read a backup without the program. It needs Debian's python3-cryptography, python3-argon2 and
python3-zstandard, and a little-endian machine. It holds the index in memory: for repositories of any size use
Orlop.
"""

import argparse
import json
import os
import sys

sys.dont_write_bytecode = True

import hashing  # noqa: E402
from damage import Damage, Refused  # noqa: E402
from repository import Repository  # noqa: E402
from trees import Tree  # noqa: E402


def listed(snapshot, as_json):
    if as_json:
        return json.dumps(snapshot.info, sort_keys=True)
    info = snapshot.info
    return f"{info['id']}  {info['volume']}  {info['state']}  {info['stats']['files']} files"


def described(tree, entry, as_json, with_content):
    """One line about an entry; bytes are in hex."""
    if not as_json:
        path = entry["path"].decode(errors="backslashreplace")
        return f"{entry['kind']:12} {entry['mode']:04o} {entry['uid']} {entry['gid']} {entry['size']:>10} {path}"
    out = {key: entry[key] for key in ("kind", "mode", "uid", "gid", "mtime", "size", "flags", "device", "links")}
    out["path"], out["target"] = entry["path"].hex(), entry["target"].hex()
    out["xattrs"] = {name.hex(): value.hex() for name, value in entry["xattrs"]}
    out["status"] = entry["status"]
    out["errno"] = entry["errno"]
    if with_content and entry["kind"] == "file":
        out["blake3"] = hashing.hash(b"".join(tree.content(entry))).hex()
    return json.dumps(out, sort_keys=True)


def verify(repository):
    """Proves all that can be proven; returns what was seen."""
    seen = {"log": repository.entries, "segments": 0, "packs": 0, "frames": 0, "snapshots": 0, "entries": 0}
    tables = {}
    for name in repository.list("p") + repository.list("m") + repository.list("i"):
        repository.named(name)
        # What was deleted may still lie there, and what no segment names belongs to nothing yet.
        if name in repository.dead or name not in repository.indexed:
            continue
        tables[name] = {(id[:16], offset, length, kind) for id, offset, length, _, kind, _ in repository.table(name)}
        seen["packs"] += 1
        seen["frames"] += len(tables[name])
    for name in repository.segments:
        by_pack = {}
        for prefix, place in repository.segment(name):
            by_pack.setdefault(place.pack, set()).add((prefix, place.offset, place.length, place.kind))
        for pack, records in by_pack.items():
            if pack not in repository.dead and tables.get(pack) != records:
                raise Damage(name, f"it does not say what {pack} holds")
        seen["segments"] += 1
    for snapshot in repository.all_snapshots():
        seen["entries"] += Tree(repository, snapshot).verify()
        seen["snapshots"] += 1
    return seen


def find(repository, id):
    matching = [s for s in repository.all_snapshots() if s.id.startswith(id)]
    if len(matching) != 1:
        raise Refused(f"{len(matching)} snapshots begin with {id!r}: `list` shows all")
    return Tree(repository, matching[0])


def run(arguments):
    key_file = passphrase = None
    if arguments.key_file:
        with open(arguments.key_file, "rb") as file:
            key_file = file.read()
    elif arguments.password_file:
        with open(arguments.password_file, "rb") as file:
            passphrase = file.read().rstrip(b"\r\n")
    elif "ORLOP_PASSWORD" in os.environ:
        passphrase = os.environb[b"ORLOP_PASSWORD"]
    else:
        raise Refused("give --key-file, --password-file or ORLOP_PASSWORD")
    repository = Repository(arguments.repository, passphrase, key_file)
    if arguments.command == "list":
        for snapshot in repository.all_snapshots():
            print(listed(snapshot, arguments.json))
    elif arguments.command == "ls":
        tree = find(repository, arguments.snapshot)
        for entry in tree.entries():
            print(described(tree, entry, arguments.json, arguments.content))
    elif arguments.command == "cat":
        tree = find(repository, arguments.snapshot)
        path = os.fsencode(arguments.path)
        entry = next((e for e in tree.entries() if e["path"] == path), None)
        if entry is None or entry["kind"] != "file":
            raise Refused(f"the snapshot holds no file {arguments.path!r}")
        for piece in tree.content(entry):
            sys.stdout.buffer.write(piece)
    elif arguments.command == "artifact":
        with open(arguments.file, "rb") as file:
            sys.stdout.buffer.write(repository.artifact(file.read(), arguments.name))
    else:
        print(json.dumps(verify(repository), sort_keys=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", help="directory that holds repo.cfg")
    parser.add_argument("--key-file")
    parser.add_argument("--password-file")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list snapshots").add_argument("--json", action="store_true")
    ls = commands.add_parser("ls", help="list the entries of a snapshot")
    ls.add_argument("--json", action="store_true", help="all metadata, one object a line, bytes in hex")
    ls.add_argument("--content", action="store_true", help="with the BLAKE3 of each file's content")
    ls.add_argument("snapshot")
    cat = commands.add_parser("cat", help="write a file's content to stdout")
    cat.add_argument("snapshot")
    cat.add_argument("path")
    artifact = commands.add_parser("artifact", help="open a sealed file beside the repository")
    artifact.add_argument("file")
    artifact.add_argument("name", help="its name below the location, such as backups/b/b.tar.gz")
    commands.add_parser("verify", help="read and prove everything that snapshots need")
    try:
        run(parser.parse_args())
    except (Damage, Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
