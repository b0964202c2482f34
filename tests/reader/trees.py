"""Section 8 of docs/format.md: the entries of a snapshot, and proof that its three trees agree."""

import hashing
from damage import Damage
from sealing import derive, unseal
from wire import Message

KINDS = {1: "file", 2: "directory", 3: "symlink", 4: "fifo", 5: "socket", 6: "char-device", 7: "block-device"}
STATUS = {0: "ok", 1: "changed", 2: "unreadable"}
MANIFEST, SIDECAR, REFS, EXTENTS = 2, 3, 4, 5
DEPTH_MAX = 12
# Numbers that follow an extent's kind.
NUMBERS = {0: 2, 1: 3, 2: 1, 3: 1, 4: 1}


class Tree:
    """A snapshot of a repository."""

    def __init__(self, repository, snapshot):
        self.repository, self.snapshot = repository, snapshot
        self.what = f"snapshot {snapshot.id}"
        namespace, lineage = snapshot.info["volume"].split("/")[0], snapshot.info["lineage"]
        self.domain = repository.domain(namespace)
        self.volume = repository.volume(namespace, lineage)
        self.refs = repository.refs(namespace, lineage)
        self.digests = [derive(key, "small file digest") for key in self.domain]

    # Entries

    def entries(self):
        """All entries in listing order."""
        before = None
        for leaf in self.leaves(self.snapshot.root):
            for entry in leaf:
                key = order(entry["path"])
                if before is None and entry["path"]:
                    raise Damage(self.what, "its first entry is not the root")
                if before is not None and before >= key:
                    raise Damage(self.what, f"{entry['path']!r} is out of order")
                before = key
                yield entry

    def leaves(self, secret, depth=0, expected=None):
        kind, page = self.page(secret, MANIFEST, self.domain)
        if kind == b"L":
            leaf = self.leaf(page)
            self.agrees(leaf, expected)
            yield leaf
            return
        if depth == DEPTH_MAX:
            raise Damage(self.what, "its manifest is too deep")
        first, count = True, 0
        for child in page.messages(1):
            path = child.bytes(2)
            if first and expected is not None and expected[0] != path:
                raise Damage(self.what, "a node does not begin as the node above it says")
            first, count = False, count + child.uint(3)
            yield from self.leaves(child.bytes(1, 32), depth + 1, (path, child.uint(3)))
        if first or (expected is not None and expected[1] != count):
            raise Damage(self.what, "a node has not as many entries as the node above it says")

    def agrees(self, leaf, expected):
        if expected is not None and (not leaf or (leaf[0]["path"], len(leaf)) != expected):
            raise Damage(self.what, "a leaf does not hold what the node above it says")

    def page(self, secret, kind, keys):
        """A page's letter and its message."""
        data = self.repository.chunk(secret, kind, keys)
        if data[:1] not in (b"L", b"N"):
            raise Damage(self.what, "a page is neither leaf nor node")
        return data[:1], Message(data[1:], self.what)

    def leaf(self, page):
        secrets, out = page.chunks(2, 32), []
        for directory in page.messages(1):
            path = directory.bytes(1)
            if path and not all(sane(name) for name in path.split(b"/")):
                raise Damage(self.what, f"{path!r} is no path")
            out += [self.entry(path, message, secrets) for message in directory.messages(2)]
        return out

    def entry(self, directory, m, secrets):
        name, kind = m.bytes(1), KINDS.get(m.uint(2))
        is_root = not directory and not name
        if not is_root and not sane(name):
            raise Damage(self.what, f"{name!r} is no name")
        status = STATUS.get(m.uint(19))
        if kind is None or status is None or m.uint(3) > 0o7777 or m.fixed32(7) >= 10**9:
            raise Damage(self.what, f"the entry {name!r} is out of range")
        entry = {
            "path": directory + b"/" + name if directory else name,
            "kind": kind,
            "mode": m.uint(3),
            "uid": m.uint(4, 32),
            "gid": m.uint(5, 32),
            "mtime": [m.sint(6), m.fixed32(7)],
            "size": m.uint(8),
            "target": m.bytes(9),
            "flags": m.uint(10, 32),
            "device": m.uint(11),
            "links": [m.uint(12), m.uint(13)],
            "xattrs": [(x.bytes(1), x.bytes(2)) for x in m.messages(14)],
            "status": status,
            "errno": m.int(20),
            "digest": m.bytes(18),
            "pages": [(p[:32], p[32:]) for p in m.chunks(17, 64)],
            "extents": [],
        }
        if kind == "file" and status != "unreadable" and not entry["pages"]:
            entry["extents"] = self.extents(m.uints(15), m.bytes(16), secrets)
        return entry

    # Content

    def extents(self, numbers, inline, secrets):
        out, at, taken = [], 0, 0
        while at < len(numbers):
            kind = numbers[at]
            values = numbers[at + 1 : at + 1 + NUMBERS.get(kind, 0)]
            if kind not in NUMBERS or len(values) != NUMBERS[kind]:
                raise Damage(self.what, "a list of extents makes no sense")
            at += 1 + len(values)
            if kind in (0, 1):
                if values[0] >= len(secrets):
                    raise Damage(self.what, "an extent names no secret")
                values[0] = secrets[values[0]]
            if kind == 2:
                values = [inline[taken : taken + values[0]], values[0]]
                taken += values[1]
                if len(values[0]) != values[1]:
                    raise Damage(self.what, "an inline extent is cut off")
            out.append((kind, *values))
        return out

    def all_extents(self, entry):
        yield from entry["extents"]
        for secret, _ in entry["pages"]:
            data = self.repository.chunk(secret, EXTENTS, self.domain)
            page = Message(data, self.what)
            yield from self.extents(page.uints(1), b"", page.chunks(2, 32))

    def content(self, entry):
        """The bytes of a file, piece by piece; holes and zeros as zeros."""
        size, last = 0, (None, None)
        for kind, *values in self.all_extents(entry):
            length = values[-1]
            if kind in (0, 1):
                if last[0] != values[0]:
                    last = (values[0], self.repository.chunk(values[0], 1, self.domain))
                begin = values[1] if kind == 1 else 0
                piece = last[1][begin : begin + length]
                if len(piece) != length or (kind == 0 and length != len(last[1])):
                    raise Damage(self.what, f"a chunk of {entry['path']!r} has another length")
                yield piece
            elif kind == 2:
                yield values[0]
            else:
                for begin in range(0, length, 1 << 20):
                    yield bytes(min(1 << 20, length - begin))
            size += length
        if size != entry["size"]:
            raise Damage(self.what, f"{entry['path']!r} has {size} bytes and says {entry['size']}")

    # Proof

    def verify(self):
        """Reads everything of the snapshot and compares its trees; the number of entries."""
        capsule = Message(self.capsule(), self.what)
        if capsule.bytes(1, 32) != self.snapshot.root:
            raise Damage(self.what, "its capsule and its root name different manifests")
        needed, count = set(), 0
        for entry in self.entries():
            count += 1
            content = b"".join(self.content(entry)) if entry["kind"] == "file" else b""
            if entry["status"] == "unreadable":
                continue
            if entry["digest"] and all(
                hashing.mac(key, content)[:16] != entry["digest"] for key in self.digests
            ):
                raise Damage(self.what, f"{entry['path']!r} has another digest")
            for kind, *values in self.all_extents(entry):
                if kind in (0, 1):
                    needed.add(prefix(values[0]))
            needed.update(prefix(secret) for secret, _ in entry["pages"])
        self.compare(capsule.bytes(1, 32), capsule.bytes(2, 32), needed)
        missing = needed - self.referenced(capsule.bytes(3, 32))
        if missing:
            raise Damage(self.what, f"its reference pages lack {len(missing)} of {len(needed)} chunks and pages")
        return count

    def compare(self, manifest, sidecar, needed, depth=0):
        """Proves that the sidecar is about the same entries; adds the pages of both to `needed`."""
        needed.update((prefix(manifest), prefix(sidecar)))
        kind, page = self.page(manifest, MANIFEST, self.domain)
        other, stat = self.page(sidecar, SIDECAR, self.volume)
        if kind != other or depth > DEPTH_MAX:
            raise Damage(self.what, "manifest and sidecar have different shapes")
        if kind == b"N":
            ours, theirs = page.messages(1), stat.messages(1)
            pairs = [(c.bytes(1), c.bytes(2), c.uint(3)) for c in ours]
            if pairs != [(c.bytes(1), c.bytes(4), c.uint(5)) for c in theirs]:
                raise Damage(self.what, "manifest and sidecar have different children")
            for child in theirs:
                self.compare(child.bytes(1, 32), child.bytes(2, 32), needed, depth + 1)
            return
        ours = [(e["path"], e["kind"], tuple(e["mtime"])) for e in self.leaf(page)]
        if ours != self.stat(stat):
            raise Damage(self.what, "manifest and sidecar tell of different entries")

    def capsule(self):
        """What the next backup of the lineage needs, sealed with the volume key of some epoch."""
        for key in self.volume:
            try:
                return unseal(key, b"orlop 2026 v0 capsule", self.snapshot.capsule, self.what)
            except Damage:
                continue
        raise Damage(self.what, "its capsule cannot be opened")

    def stat(self, m):
        """Path, kind and mtime of the entries of a sidecar leaf."""
        names, lengths, kinds = m.bytes(2), m.uints(3), m.bytes(4)
        columns = [lengths, m.sints(5), m.uints(6), m.sints(7), m.fixed32s(8), m.sints(9), m.fixed32s(10)]
        if any(len(column) != len(kinds) for column in columns) or sum(lengths) != len(names):
            raise Damage(self.what, "the columns of a sidecar are not equally long")
        out, at, seconds = [], 0, 0
        directories = [d.bytes(1) for d in m.messages(1) for _ in range(min(d.uint(2, 32), len(kinds) + 1))]
        if len(directories) != len(kinds):
            raise Damage(self.what, "the directories of a sidecar do not add up")
        for i, directory in enumerate(directories):
            name = names[at : at + lengths[i]]
            at += lengths[i]
            seconds += columns[3][i]
            path = directory + b"/" + name if directory else name
            out.append((path, KINDS.get(kinds[i] & 0x7F), (seconds, columns[4][i])))
        return out

    def referenced(self, root):
        """The id prefixes that the refset reaches."""
        name, r = self.snapshot.refset, self.repository
        part = unseal(r.records, b"orlop 2026 v0 refset" + name.encode(), r.object(name), name)
        part, info = Message(part, name), self.snapshot.info
        if (part.text(2), part.text(3)) != (info["lineage"], info["volume"].split("/")[0]):
            raise Damage(name, "it is of another volume")
        todo, seen, ids = [part.bytes(1, 32)], set(), set()
        while todo:
            secret = todo.pop()
            if secret in seen:
                continue
            seen.add(secret)
            ids.add(prefix(secret))
            page = Message(r.chunk(secret, REFS, self.refs), name)
            here = page.chunks(1, 16)
            if here != sorted(here):
                raise Damage(name, "the ids of a reference page are not sorted")
            ids.update(here)
            todo += page.chunks(2, 32)
        if root not in seen:
            raise Damage(name, "its top page does not reach the tree's root page")
        return ids


def prefix(secret):
    return hashing.kdf("orlop 2026 v0 chunk id", secret)[:16]


def sane(name):
    return 0 < len(name) <= 4095 and name not in (b".", b"..") and not set(b"/\0") & set(name)


def order(path):
    """What sorts paths as a listing does: by directory, name by name, and then by name."""
    if not path:
        return ()
    directory, _, name = path.rpartition(b"/")
    return (tuple(directory.split(b"/")) if directory else (), name)
