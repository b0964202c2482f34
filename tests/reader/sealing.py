"""Section 1 of docs/format.md: derived keys, sealed boxes, boxes sealed to a public key."""

import hmac
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import hashing
from damage import Damage


def u64(n):
    return n.to_bytes(8, "little")


def u32(n):
    return n.to_bytes(4, "little")


def derive(key, purpose, *parts):
    data = key
    for part in (purpose.encode(), *parts):
        data += u64(len(part)) + part
    return hashing.kdf("orlop 2026 v0 subkey", data)


def unseal(key, aad, box, what):
    """The plaintext of `nonce ‖ ciphertext ‖ tag`."""
    if len(box) < 28:
        raise Damage(what, "it is too short to be sealed")
    try:
        return AESGCM(key).decrypt(bytes(box[:12]), bytes(box[12:]), aad)
    except InvalidTag:
        raise Damage(what, "it cannot be opened: a byte differs, or the key is another") from None


KEM_SUITE = b"KEM" + (0x20).to_bytes(2, "big")
SUITE = b"HPKE" + (0x20).to_bytes(2, "big") + (1).to_bytes(2, "big") + (2).to_bytes(2, "big")


def _extract(suite, salt, label, ikm):
    return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, sha256).digest()


def _expand(suite, prk, label, info, length):
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def derive_key_pair(seed):
    """DeriveKeyPair of RFC 9180 for X25519: private and public key."""
    prk = _extract(KEM_SUITE, b"", b"dkp_prk", seed)
    private = X25519PrivateKey.from_private_bytes(_expand(KEM_SUITE, prk, b"sk", b"", 32))
    return private, _raw(private.public_key())


def _raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def unseal_from(private, aad, box, what, info=b"orlop 2026 v0 snapshot root"):
    """The plaintext of `encapsulated key 32 ‖ ciphertext`: RFC 9180, base mode, one shot."""
    encapsulated, ciphertext = bytes(box[:32]), bytes(box[32:])
    if len(ciphertext) < 16:
        raise Damage(what, "it is too short to be sealed to a key")
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    except ValueError:
        raise Damage(what, "its encapsulated key is none") from None
    context = encapsulated + _raw(private.public_key())
    secret = _expand(KEM_SUITE, _extract(KEM_SUITE, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    schedule = b"\0" + _extract(SUITE, b"", b"psk_id_hash", b"") + _extract(SUITE, b"", b"info_hash", info)
    secret = _extract(SUITE, secret, b"secret", b"")
    key = _expand(SUITE, secret, b"key", schedule, 32)
    nonce = _expand(SUITE, secret, b"base_nonce", schedule, 12)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Damage(what, "it cannot be opened: a byte differs, or the key is another") from None
