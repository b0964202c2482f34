"""The wire format of Protocol Buffers, as far as docs/format.md uses it."""

from damage import Damage


def _varint(data, at, what):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Damage(what, "a number of its protobuf is cut off or too long")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at


def zigzag(n):
    return (n >> 1) ^ -(n & 1)


def signed(n):
    return n - (1 << 64) if n >> 63 else n


class Message:
    """The fields of one message, by number; what is asked for must have the wire type that it needs."""

    def __init__(self, data, what):
        self.what, self.fields, at = what, {}, 0
        while at < len(data):
            tag, at = _varint(data, at, what)
            number, kind = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise Damage(what, "a field of its protobuf has a number that none can have")
            if kind == 0:
                value, at = _varint(data, at, what)
            elif kind in (1, 2, 5):
                size = 8 if kind == 1 else 4
                if kind == 2:
                    size, at = _varint(data, at, what)
                if size > len(data) - at:
                    raise Damage(what, f"field {number} of its protobuf is cut off")
                value, at = data[at : at + size], at + size
            else:
                raise Damage(what, f"field {number} of its protobuf is of a kind that is not used")
            self.fields.setdefault(number, []).append((kind, value))

    def _all(self, number, kind):
        for found, value in self.fields.get(number, ()):
            if found != kind:
                raise Damage(self.what, f"field {number} has the wrong wire type")
            yield value

    def _last(self, number, kind, default):
        values = list(self._all(number, kind))
        return values[-1] if values else default

    def uint(self, number, bits=64):
        value = self._last(number, 0, 0)
        if value >> bits:
            raise Damage(self.what, f"field {number} is larger than {bits} bits")
        return value

    def int(self, number):
        return signed(self._last(number, 0, 0))

    def sint(self, number):
        return zigzag(self._last(number, 0, 0))

    def fixed32(self, number):
        return int.from_bytes(self._last(number, 5, b""), "little")

    def bytes(self, number, length=None):
        value = bytes(self._last(number, 2, b""))
        if length is not None and len(value) != length:
            raise Damage(self.what, f"field {number} has {len(value)} bytes and must have {length}")
        return value

    def text(self, number):
        return self._text(self._last(number, 2, b""))

    def texts(self, number):
        return [self._text(value) for value in self._all(number, 2)]

    def _text(self, value):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise Damage(self.what, "a text is not UTF-8") from None

    def message(self, number):
        return Message(self._last(number, 2, b""), self.what)

    def messages(self, number):
        return [Message(value, self.what) for value in self._all(number, 2)]

    def uints(self, number):
        """A repeated number, packed or not."""
        out = []
        for kind, value in self.fields.get(number, ()):
            if kind == 0:
                out.append(value)
                continue
            if kind != 2:
                raise Damage(self.what, f"field {number} has the wrong wire type")
            at = 0
            while at < len(value):
                one, at = _varint(value, at, self.what)
                out.append(one)
        return out

    def sints(self, number):
        return [zigzag(n) for n in self.uints(number)]

    def fixed32s(self, number):
        out = []
        for value in self._all(number, 2):
            if len(value) % 4:
                raise Damage(self.what, f"field {number} is cut off")
            out += [int.from_bytes(value[i : i + 4], "little") for i in range(0, len(value), 4)]
        return out

    def chunks(self, number, size):
        """The parts of `size` bytes that a field of bytes consists of."""
        value = self.bytes(number)
        if len(value) % size:
            raise Damage(self.what, f"field {number} is no multiple of {size} bytes")
        return [value[i : i + size] for i in range(0, len(value), size)]

    def only(self, *numbers):
        extra = set(self.fields) - set(numbers)
        if extra:
            raise Damage(self.what, f"it has field {min(extra)}, which must not be")
