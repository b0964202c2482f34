"""BLAKE3: hash, keyed hash and key derivation, after the paper by O'Connor, Aumasson, Neves and Wilcox-O'Hearn.

All full chunks of an input are hashed side by side: a word of each lies in a lane of 64 bits of one large
integer, so that one addition of Python adds thousands of words.
"""

from array import array

CHUNK = 1024
BLOCK = 64
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
DERIVE_CONTEXT, DERIVE_MATERIAL = 32, 64
# Columns, then diagonals.
QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


class Lanes:
    """Arithmetic of 32-bit words in so many lanes."""

    def __init__(self, count):
        self.count = count
        self.ones = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * count, "little")
        self.mask = self.ones * 0xFFFFFFFF

    def pack(self, words):
        return int.from_bytes(array("Q", words).tobytes(), "little")

    def unpack(self, lanes):
        return array("Q", lanes.to_bytes(8 * self.count, "little"))

    def compress(self, cv, message, counter, length, flags):
        """The first eight words of the compression's output; `cv` and `message` are of packed words."""
        mask, ones = self.mask, self.ones
        low = self.pack([n & 0xFFFFFFFF for n in counter])
        high = self.pack([n >> 32 for n in counter])
        v = list(cv) + [ones * word for word in IV[:4]] + [low, high, ones * length, ones * flags]
        for turn in range(7):
            for i, (a, b, c, d) in enumerate(QUARTERS):
                va, vb, vc, vd = v[a], v[b], v[c], v[d]
                va = (va + vb + message[2 * i]) & mask
                vd ^= va
                vd = (vd >> 16 | vd << 16) & mask
                vc = (vc + vd) & mask
                vb ^= vc
                vb = (vb >> 12 | vb << 20) & mask
                va = (va + vb + message[2 * i + 1]) & mask
                vd ^= va
                vd = (vd >> 8 | vd << 24) & mask
                vc = (vc + vd) & mask
                vb ^= vc
                vb = (vb >> 7 | vb << 25) & mask
                v[a], v[b], v[c], v[d] = va, vb, vc, vd
            if turn < 6:
                message = [message[p] for p in PERMUTATION]
        return [v[i] ^ v[i + 8] for i in range(8)]


ONE = Lanes(1)


def _words(data):
    return array("I", data)


def _full_chunks(data, count, key, flags):
    """Chaining values of `count` whole chunks, none of which is the root: a list of 8 arrays."""
    lanes = Lanes(count)
    words = _words(data[: count * CHUNK])
    cv = [lanes.ones * word for word in key]
    for block in range(16):
        message = [lanes.pack(words[block * 16 + i :: 256]) for i in range(16)]
        extra = (CHUNK_START if block == 0 else 0) | (CHUNK_END if block == 15 else 0)
        cv = lanes.compress(cv, message, range(count), BLOCK, flags | extra)
    return [lanes.unpack(word) for word in cv]


def _last_chunk(data, counter, key, flags, root):
    """Chaining value of one chunk of up to 1024 bytes."""
    cv = list(key)
    blocks = max(1, (len(data) + BLOCK - 1) // BLOCK)
    for block in range(blocks):
        piece = data[block * BLOCK : (block + 1) * BLOCK]
        extra = CHUNK_START if block == 0 else 0
        if block == blocks - 1:
            extra |= CHUNK_END | (ROOT if root else 0)
        message = list(_words(piece.ljust(BLOCK, b"\0")))
        cv = ONE.compress(cv, message, [counter], len(piece), flags | extra)
    return cv


def _parents(level, key, flags):
    """The level of the tree above `level`: a list of 8 arrays; a node without a sibling moves up as it is."""
    count = len(level[0])
    pairs = count // 2
    lanes = Lanes(pairs)
    message = [lanes.pack(word[0 : 2 * pairs : 2]) for word in level]
    message += [lanes.pack(word[1 : 2 * pairs : 2]) for word in level]
    extra = PARENT | (ROOT if count == 2 else 0)
    cv = lanes.compress([lanes.ones * word for word in key], message, [0] * pairs, BLOCK, flags | extra)
    above = [lanes.unpack(word) for word in cv]
    if count % 2:
        for word, new in zip(level, above):
            new.append(word[-1])
    return above


def _blake3(data, key, flags):
    data = bytes(data)
    if len(data) <= CHUNK:
        cv = _last_chunk(data, 0, key, flags, True)
    else:
        full = (len(data) - 1) // CHUNK
        level = _full_chunks(data, full, key, flags)
        last = _last_chunk(data[full * CHUNK :], full, key, flags, False)
        for word, new in zip(level, last):
            word.append(new)
        while len(level[0]) > 1:
            level = _parents(level, key, flags)
        cv = [word[0] for word in level]
    return array("I", cv).tobytes()


def hash(data):
    return _blake3(data, IV, 0)


def mac(key, data):
    return _blake3(data, tuple(_words(key)), KEYED)


def kdf(context, data):
    key = _blake3(context.encode(), IV, DERIVE_CONTEXT)
    return _blake3(data, tuple(_words(key)), DERIVE_MATERIAL)
