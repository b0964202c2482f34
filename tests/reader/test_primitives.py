"""The primitives of the reader against published test vectors."""

import os
import unittest

import hashing
import sealing

CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"
KEY = b"whats the Elvish word for friend"
# From BLAKE3's test_vectors.json: length of the input, and the first 32 bytes of each mode's output.
BLAKE3 = (
    (
        0,
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
        "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
    ),
    (
        1,
        "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
        "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c",
    ),
    (
        1024,
        "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
        "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
        "7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706",
    ),
    (
        1025,
        "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
        "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
        "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb",
    ),
    (
        3073,
        "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
        "68dede9bef00ba89e43f31a6825f4cf433389fedae75c04ee9f0cf16a427c95a",
        "72613c9ec9ff7e40f8f5c173784c532ad852e827dba2bf85b2ab4b76f7079081",
    ),
    (
        6145,
        "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f",
        "9ac301e9e39e45e3250a7e3b3df701aa0fb6889fbd80eeecf28dbc6300fbc539",
        "379bcc61d0051dd489f686c13de00d5b14c505245103dc040d9e4dd1facab8e5",
    ),
)
# Also the vectors that Orlop itself is tested with: RFC 9180's.
HPKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../repository/golden/hpke.txt")


class Primitives(unittest.TestCase):
    def test_blake3(self):
        for length, plain, keyed, derived in BLAKE3:
            data = bytes(i % 251 for i in range(length))
            self.assertEqual(hashing.hash(data).hex(), plain, length)
            self.assertEqual(hashing.mac(KEY, data).hex(), keyed, length)
            self.assertEqual(hashing.kdf(CONTEXT, data).hex(), derived, length)

    def test_sealing_to_a_key(self):
        with open(HPKE, encoding="ascii") as file:
            lines = [line.split() for line in file if not line.startswith("#")]
        vector = {name: bytes.fromhex(value) for name, value in lines}
        private, public = sealing.derive_key_pair(vector["ikmR"])
        self.assertEqual(public, vector["pkRm"])
        box = vector["enc"] + vector["ct"]
        opened = sealing.unseal_from(private, vector["aad"], box, "vector", vector["info"])
        self.assertEqual(opened, vector["pt"])


if __name__ == "__main__":
    unittest.main()
