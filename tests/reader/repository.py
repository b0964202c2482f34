"""Sections 2 to 7 of docs/format.md: a repository in a directory, opened to be read."""

import os
import re
from dataclasses import dataclass, field

import zstandard
from argon2.low_level import Type, hash_secret_raw

import hashing
from damage import Damage, Refused
from sealing import derive, derive_key_pair, u32, u64, unseal, unseal_from
from wire import Message

FORMAT = 1
READ_FEATURES = set()
STATES = {1: "complete", 2: "partial", 3: "inconsistent"}
HASHED = re.compile(r"^(.*/)?([0-9a-f]{64})\.([0-9]+)$")


def word(data, at, size=4):
    return int.from_bytes(data[at : at + size], "little")


@dataclass
class Place:
    pack: str
    offset: int
    length: int
    kind: int


@dataclass
class Snapshot:
    """A snapshot object, opened."""

    name: str
    id: str
    refset: str
    root: bytes
    capsule: bytes
    info: dict = field(default_factory=dict)


class Repository:
    def __init__(self, directory, passphrase=None, key_file=None):
        self.directory = directory
        config = self.object("repo.cfg")
        self.config = self._parse_config(config)
        held = self._unlock(passphrase, key_file)
        self.maintenance = derive(held[0][0], "maintenance")
        self.mac_key = derive(self.maintenance, "mac")
        self.records = derive(self.maintenance, "records")
        if hashing.mac(self.mac_key, config[:-32]) != config[-32:]:
            raise Damage("repo.cfg", "its authentication code is wrong")
        self.epochs = [self.config.bytes(4, 32)]
        self._read_log()
        self._choose(held)
        self._read_index()
        self._packs = {}

    # Objects

    def object(self, name):
        path = os.path.join(self.directory, name)
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise Damage(name, "it does not exist") from None

    def named(self, name):
        """An object whose name holds its hash; and the session in the name."""
        match = HASHED.match(name)
        if not match:
            raise Damage(name, "its name is not <hash>.<session>")
        data = self.object(name)
        if hashing.hash(data).hex() != match[2]:
            raise Damage(name, "its bytes do not match its name")
        return data, int(match[3])

    def list(self, *parts):
        """The objects below a directory, sorted."""
        top, out = os.path.join(self.directory, *parts), []
        for directory, _, files in os.walk(top):
            for name in files:
                out.append(os.path.relpath(os.path.join(directory, name), self.directory))
        return sorted(out)

    # Keys

    def session(self, number):
        return derive(self.maintenance, "session", u64(number))

    def domain(self, namespace):
        """The domain keys of all epochs, the newest first."""
        parts = ("domain", namespace.encode())
        return [derive(root, *parts, u32(e)) for e, root in reversed(list(enumerate(self.roots)))]

    def volume(self, namespace, lineage):
        parts = ("volume", namespace.encode(), lineage.encode())
        return [derive(root, *parts) for root in reversed(self.roots)]

    def refs(self, namespace, lineage):
        return [derive(self.maintenance, "refs", namespace.encode(), lineage.encode())]

    def pseudonym(self, kind, name):
        return derive(self.maintenance, "pseudonym", kind.encode(), name.encode())[:10].hex()

    def _parse_config(self, data):
        what = "repo.cfg"
        if data[:8] != b"ORLOPCFG" or not 48 <= len(data) <= 1 << 16:
            raise Damage(what, "it is no configuration")
        if word(data, 8) != FORMAT:
            raise Refused(f"the repository has format {word(data, 8)}, this reader reads {FORMAT}")
        if word(data, 12) != len(data) - 48:
            raise Damage(what, "its length is wrong")
        config = Message(data[16:-32], what)
        unknown = set(config.texts(10)) - READ_FEATURES
        if unknown:
            raise Refused(f"the repository needs the feature {min(unknown)} to be read")
        if config.uint(1) != FORMAT or config.uint(5) != 1 or len(config.bytes(2)) != 16:
            raise Damage(what, "a field is out of range")
        return config

    def _unlock(self, passphrase, key_file):
        names, held = self.list("keys"), []
        for name in names:
            data = self.object(name)
            if hashing.hash(data)[:16].hex() != name.split("/")[1]:
                raise Damage(name, "its bytes do not match its name")
            key = Message(data, name)
            salt, memory, passes, lanes = key.bytes(2), key.uint(3), key.uint(4), key.uint(5)
            if key.uint(1) == 1 and passphrase is not None:
                ranges = 8 <= memory <= 1 << 20 and 1 <= passes <= 64 and 1 <= lanes <= 16
                if not ranges or not 8 <= len(salt) <= 64:
                    raise Damage(name, "its parameters are out of range")
                wrapping = hash_secret_raw(passphrase, salt, passes, memory, lanes, 32, Type.ID, 19)
            elif key.uint(1) == 2 and key_file is not None:
                wrapping = derive(hashing.hash(key_file), "key file", salt)
            else:
                continue
            aad = b"orlop 2026 v0 wrapped root key"
            aad += b"\0" + key.bytes(8) if key.bytes(8) else b""
            try:
                roots = unseal(wrapping, aad, key.bytes(6), name)
            except Damage:
                continue
            if len(roots) % 32 == 0 and 1 <= len(roots) // 32 <= 256:
                held.append([roots[at : at + 32] for at in range(0, len(roots), 32)])
        if held:
            return held
        raise Refused(f"none of {len(names)} keys opens with that passphrase or key file")

    def _choose(self, held):
        """The root keys of the object that knows those of all epochs."""
        for roots in held:
            pairs = [derive_key_pair(derive(root, "read")) for root in roots[: len(self.epochs)]]
            if [public for _, public in pairs] == self.epochs:
                self.roots = roots[: len(pairs)]
                self.privates = [private for private, _ in pairs]
                return
        raise Refused("that passphrase or key file does not open what was stored last: its key was replaced")

    # The log

    def _read_log(self):
        self.snapshots, self.segments, self.dead, self.entries = {}, [], set(), 0
        self.damaged, self.pins = set(), {}
        previous = b""
        for number, name in enumerate(self.list("log"), 1):
            if name != f"log/{number:016}":
                raise Damage(f"log/{number:016}", "it is missing, and there are entries behind it")
            data = self.object(name)
            if data[:8] != b"ORLOPLG0" or not 40 <= len(data) <= 16 << 20:
                raise Damage(name, "it is no log entry")
            if hashing.mac(self.mac_key, data[:-32]) != data[-32:]:
                raise Damage(name, "its authentication code is wrong")
            entry = Message(data[8:-32], name)
            if entry.uint(1) != number or entry.bytes(2) != previous:
                raise Damage(name, "it does not follow the entry before it")
            kinds = [n for n in entry.fields if n > 3]
            if len(kinds) != 1 or not 4 <= kinds[0] <= 15:
                raise Damage(name, "its kind is unknown")
            self._follow(kinds[0], entry, name)
            previous, self.entries = hashing.hash(data), number

    def _follow(self, kind, entry, name):
        if kind == 6:
            self.pins.pop(entry.uint(6), None)
            return
        body = entry.message(kind)
        if kind == 4:
            self.pins[entry.uint(1)] = set(body.texts(4))
        elif kind == 8:
            for session in body.uints(1):
                self.pins.pop(session, None)
        elif kind == 5:
            session, snapshot, partial = body.uint(1), body.text(2), body.uint(5)
            if self.pins.get(session, set()) & self.damaged:
                self.damaged.add(snapshot)
            if not partial:
                self.pins.pop(session, None)
            volume = snapshot.rpartition("/")[0]
            for old, (of, _, was_partial) in list(self.snapshots.items()):
                same = old.rpartition("/")[0] == volume
                if same and was_partial and (of == session or not partial):
                    del self.snapshots[old]
            self.snapshots[snapshot] = (session, body.text(3), partial)
            self.segments += [s for s in body.texts(4) if s not in self.segments]
        elif kind == 9:
            for snapshot in body.texts(1):
                if self.snapshots.pop(snapshot, None) is None:
                    raise Damage(name, "it forgets a snapshot that is not there")
        elif kind == 10:
            removed = set(body.texts(3))
            self.segments = [s for s in self.segments if s not in removed] + body.texts(2)
            self.dead -= set(body.texts(4))
            self.damaged = (self.damaged | set(body.texts(5))) - set(body.texts(6))
        elif kind == 12:
            self.dead.update(o for o in body.texts(3) if o[:2] in ("p/", "m/"))
        elif kind == 14:
            if body.uint(1) != len(self.epochs):
                raise Damage(name, "its epoch is not the next one")
            self.epochs.append(body.bytes(2, 32))
        elif kind == 15:
            for pair in body.messages(2):
                self._rename(pair.text(1), pair.text(2), name)

    def _rename(self, old, new, name):
        if old not in self.snapshots:
            raise Damage(name, "it seals a snapshot anew that is not there")
        self.snapshots[new] = self.snapshots.pop(old)
        for names in (self.damaged, *self.pins.values()):
            if old in names:
                names.discard(old)
                names.add(new)

    # The index

    def _read_index(self):
        """Where each chunk is, by the first 16 bytes of its id."""
        self.index, self.indexed = {}, set()
        for name in self.segments:
            for prefix, place in self.segment(name):
                if place.pack in self.dead:
                    continue
                places = self.index.setdefault(prefix, [])
                if place not in places:
                    places.append(place)

    def segment(self, name):
        data, session = self.named(name)
        if data[:8] != b"ORLOPIX0" or len(data) > 256 << 20 or word(data, 8, 8) != session:
            raise Damage(name, "it is no index segment")
        body = unseal(self.session(session), b"orlop 2026 v0 index segment", data[16:], name)
        packs, at = [], 4
        for _ in range(word(body, 0)):
            if at >= len(body):
                raise Damage(name, "its packs are cut off")
            size = body[at]
            packs.append(body[at + 1 : at + 1 + size].decode())
            self.indexed.add(packs[-1])
            at += 1 + size + 8
        count, at = word(body, at), at + 4
        if len(body) - at != count * 28:
            raise Damage(name, "its records are cut off")
        out, before = [], None
        for at in range(at, len(body), 28):
            pack, offset, last = word(body, at + 16), word(body, at + 20), word(body, at + 24)
            order = (body[at : at + 16], pack, offset, last)
            if pack >= len(packs) or (before is not None and before > order):
                raise Damage(name, "its records are out of order or name no pack")
            before = order
            place = Place(packs[pack], offset, last & 0xFFFFFFF, last >> 28)
            out.append((body[at : at + 16], place))
        return out

    # Packs and frames

    def pack(self, name):
        """The bytes of a pack, proven to be those that its name says."""
        if name not in self._packs:
            while len(self._packs) >= 8:
                self._packs.pop(next(iter(self._packs)))
            self._packs[name] = self.named(name)[0]
        return self._packs[name]

    def table(self, name):
        """The frames of a pack: (id, offset, length, plain length, kind, codec)."""
        data, session = self.named(name)
        header = b"ORLOPPK0" + name[:1].encode() + bytes(7) + u64(session) + bytes(8)
        if data[:32] != header or len(data) % 4096:
            raise Damage(name, "it is no pack")
        key = self.session(session)
        trailer = unseal(key, b"orlop 2026 v0 pack trailer", data[-44:], name)
        offset, length, frames = word(trailer, 0, 8), word(trailer, 8), word(trailer, 12)
        if len(trailer) != 16 or length != frames * 48 + 28 or offset + length > len(data) - 44:
            raise Damage(name, "its trailer makes no sense")
        table = unseal(key, b"orlop 2026 v0 frame table", data[offset : offset + length], name)
        if any(data[offset + length : -44]):
            raise Damage(name, "it is not filled with zeros")
        out, end = [], 32
        for at in range(0, len(table), 48):
            entry = (table[at : at + 32], word(table, at + 32), word(table, at + 36), word(table, at + 40))
            if entry[1] != end or table[at + 46 : at + 48] != b"\0\0":
                raise Damage(name, "its table makes no sense")
            end += entry[2]
            out.append(entry + (table[at + 44], table[at + 45]))
        if end != offset:
            raise Damage(name, "its frames do not end where its table begins")
        return out

    def chunk(self, secret, kind, keys):
        """The plaintext of the chunk of that content secret, which was made with one of `keys`."""
        id = hashing.kdf("orlop 2026 v0 chunk id", secret)
        failed = Damage(f"chunk {id.hex()}", "the index has no place for it")
        for place in self.index.get(id[:16], ()):
            try:
                frame = self.pack(place.pack)[place.offset : place.offset + place.length]
                return self._open_frame(frame, place, id, secret, kind, keys)
            except Damage as error:
                failed = error
        raise failed

    def _open_frame(self, frame, place, id, secret, kind, keys):
        what = f"{place.pack}, chunk {id.hex()}"
        if len(frame) < 6 + 28 or len(frame) != place.length or frame[0] != kind or place.kind != kind:
            raise Damage(what, "there is no frame of that kind")
        length = word(frame, 2)
        if length > (16 << 20 if kind == 1 else 4 << 20):
            raise Damage(what, "it says that it holds too much")
        aad = bytes(4) + frame[:6] + id
        body = unseal(hashing.kdf("orlop 2026 v0 frame key", secret), aad, frame[6:], what)
        if frame[1] == 1:
            try:
                if zstandard.frame_content_size(body) not in (-1, length):
                    raise Damage(what, "its zstd frame is of another length")
                body = zstandard.ZstdDecompressor().decompress(body, max_output_size=length)
            except zstandard.ZstdError as error:
                raise Damage(what, str(error)) from None
        elif frame[1] != 0:
            raise Damage(what, "its codec is unknown")
        if len(body) != length or all(hashing.mac(key, body) != secret for key in keys):
            raise Damage(what, "its content is not what its secret was made of")
        return body

    # Snapshots

    def open_snapshot(self, name):
        data = self.object(name)
        message = Message(data, name)
        message.only(1, 2, 3, 4)
        format, sealed, record = message.uint(1), message.bytes(2), message.bytes(3)
        aad = b"orlop 2026 v0 snapshot record" + u32(format) + hashing.hash(sealed)
        aad += hashing.hash(message.bytes(4)) + name.encode()
        r = Message(unseal(self.records, aad, record, name), name)
        volume = "/".join(r.text(i) for i in (1, 2, 3))
        epoch = r.uint(14)
        if epoch >= len(self.privates):
            raise Damage(name, "its root is sealed to a key that the log does not name")
        root = Message(unseal_from(self.privates[epoch], b"orlop 2026 v0 root", sealed, name), name)
        if root.text(2) != volume:
            raise Damage(name, "its root was sealed for another volume")
        if r.uint(6) not in STATES:
            raise Damage(name, "its state is unknown")
        domain, lineage = self.pseudonym("domain", r.text(1)), self.pseudonym("lineage", r.text(4))
        leaf = name.split("/")[-1]
        if name != f"s/{domain}/{lineage}/{leaf}":
            raise Damage(name, "its name is of another volume")
        id, state = leaf.split("-")[0], STATES[r.uint(6)]
        if name in self.damaged and state == "complete":
            state = "inconsistent"
        stats = r.message(11)
        counts = ("files", "dirs", "others", "logical_bytes", "uploaded_bytes", "warnings", "errors")
        info = {
            "id": id,
            "volume": volume,
            "lineage": r.text(4),
            "time_ms": r.int(5),
            "state": state,
            "parent": base32(r.bytes(7)) if r.bytes(7) else None,
            "backup": r.text(8),
            "node": r.text(9),
            "tags": r.texts(10),
            "stats": {count: stats.uint(i) for i, count in enumerate(counts, 1)},
            "session": r.uint(12),
        }
        refset = self.snapshots[name][1]
        return Snapshot(name, id, refset, root.bytes(1, 32), message.bytes(4), info)

    def all_snapshots(self):
        return [self.open_snapshot(name) for name in self.snapshots]

    def artifact(self, data, name):
        """What a sealed artifact of that name holds; others are in the clear."""
        if data[:8] != b"ORLOPART":
            return data
        aad = b"orlop 2026 v0 artifact " + name.encode()
        for private in reversed(self.privates):
            try:
                key = unseal_from(private, aad, data[8:88], name)
            except Damage as error:
                failed = error
                continue
            return unseal(key, aad, data[88:], name)
        raise failed


def base32(id):
    """Crockford's base 32 of 128 bits: 26 lower-case characters, the first of which has three bits."""
    if len(id) != 16:
        raise Damage("an id", "it has not 16 bytes")
    number = int.from_bytes(id, "big")
    return "".join("0123456789abcdefghjkmnpqrstvwxyz"[number >> 5 * i & 31] for i in reversed(range(26)))
