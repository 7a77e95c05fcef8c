"""Encrypts files in the format of age (https://age-encryption.org), with one X25519 key per file.

Written out in plain Python, because a component cannot run packages with native code. Other users
of the machine could measure how long it takes, so use a library outside a component.
"""

import base64
import hmac
import secrets
from array import array

_VERSION = b"age-encryption.org/v1"
_INFO = b"age-encryption.org/v1/X25519"
_CHUNK = 64 * 1024
_TAG = 16
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


class AgeError(Exception):
    """A key or a file cannot be used. The text contains neither."""


class Key:
    """The key of one file, which encrypts and decrypts it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._public = _x25519(secret, _BASE)

    @classmethod
    def generate(cls) -> "Key":
        """Returns a random key."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Parses an age identity, as :meth:`text` returns it. White space around it is ignored."""
        secret = _bech32_decode("age-secret-key-", text.strip().lower())
        if secret is None or len(secret) != 32:
            raise AgeError(
                "the key is not an age identity: it has to be one line that starts with "
                "`AGE-SECRET-KEY-1`"
            )
        return cls(secret)

    def text(self) -> str:
        """Returns the key as text, to be stored only in a vault."""
        return _bech32_encode("age-secret-key-", self._secret).upper()

    def encrypt(self, plain: bytes) -> bytes:
        """Encrypts ``plain`` for this key."""
        file_key, ephemeral, nonce = (secrets.token_bytes(n) for n in (16, 32, 16))
        share = _x25519(ephemeral, _BASE)
        wrapping = self._wrapping(_x25519(ephemeral, self._public), share)
        stanza = b"-> X25519 " + _encode64(share) + b"\n"
        stanza += _encode64(_seal(wrapping, bytes(12), file_key)) + b"\n"
        header = _VERSION + b"\n" + stanza + b"---"
        mac = hmac.digest(_hkdf(file_key, b"", b"header"), header, "sha256")
        out = [header, b" ", _encode64(mac), b"\n", nonce]
        key = _hkdf(file_key, nonce, b"payload")
        for index in range(max(1, -(-len(plain) // _CHUNK))):
            chunk = plain[index * _CHUNK : (index + 1) * _CHUNK]
            last = (index + 1) * _CHUNK >= len(plain)
            out.append(_seal(key, _chunk_nonce(index, last), chunk))
        return b"".join(out)

    def decrypt(self, sealed: bytes) -> bytes:
        """Decrypts the output of :meth:`encrypt`, or of age for this key."""
        stanzas, header, mac, payload = _parse(sealed)
        for kind, arguments, body in stanzas:
            if kind == b"X25519" and len(arguments) == 1:
                share = _decode64(arguments[0])
                if len(share) != 32 or len(body) != 32:
                    raise AgeError("this is not an intact age file")
                shared = _x25519(self._secret, share)
                file_key = _open(self._wrapping(shared, share), bytes(12), body)
                if shared != bytes(32) and file_key is not None:
                    break
        else:
            raise AgeError("this key does not open this file: it was encrypted for another one")
        expected = hmac.digest(_hkdf(file_key, b"", b"header"), header, "sha256")
        if not hmac.compare_digest(expected, mac) or len(payload) < 16 + _TAG:
            raise AgeError("this is not an intact age file")
        key, rest = _hkdf(file_key, payload[:16], b"payload"), payload[16:]
        plain = []
        for index in range(-(-len(rest) // (_CHUNK + _TAG))):
            chunk = rest[index * (_CHUNK + _TAG) : (index + 1) * (_CHUNK + _TAG)]
            last = (index + 1) * (_CHUNK + _TAG) >= len(rest)
            found = _open(key, _chunk_nonce(index, last), chunk)
            if found is None or (last and index and not found):
                raise AgeError("this is not an intact age file")
            plain.append(found)
        return b"".join(plain)

    def _wrapping(self, shared: bytes, share: bytes) -> bytes:
        return _hkdf(shared, share + self._public, _INFO)


def _parse(sealed: bytes) -> tuple[list[tuple[bytes, list[bytes], bytes]], bytes, bytes, bytes]:
    """Splits a file into its stanzas, the authenticated header, its MAC and the payload."""
    damaged = AgeError("this is not an intact age file")
    end = sealed.find(b"\n--- ")
    line_end = sealed.find(b"\n", end + 1)
    if not sealed.startswith(_VERSION + b"\n") or end < 0 or line_end < 0:
        raise damaged
    header, mac = sealed[: end + 4], _decode64(sealed[end + 5 : line_end])
    stanzas: list[tuple[bytes, list[bytes], bytes]] = []
    body: list[bytes] = []
    for line in sealed[len(_VERSION) + 1 : end].split(b"\n"):
        if line.startswith(b"-> "):
            kind, *arguments = line[3:].split(b" ")
            body = []
            stanzas.append((kind, arguments, b""))
        elif not stanzas:
            raise damaged
        else:
            body.append(line)
            stanzas[-1] = (*stanzas[-1][:2], _decode64(b"".join(body)))
    return stanzas, header, mac, sealed[line_end + 1 :]


def _chunk_nonce(index: int, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])


def _encode64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise AgeError("this is not an intact age file") from None


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869) with an output of 32 bytes."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


# X25519 (RFC 7748)

_PRIME = 2**255 - 19
_BASE = (9).to_bytes(32, "little")


def _x25519(scalar: bytes, point: bytes) -> bytes:
    number = int.from_bytes(scalar, "little")
    number = (number & ~7 & (1 << 255) - 1) | 1 << 254
    x1 = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3 = 1, 0, x1, 1
    for bit in range(254, -1, -1):
        if swap := number >> bit & 1:
            x2, x3, z2, z3 = x3, x2, z3, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % _PRIME, b * b % _PRIME, d * a % _PRIME, c * b % _PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _PRIME, x1 * (da - cb) ** 2 % _PRIME
        x2, z2 = aa * bb % _PRIME, e * (aa + 121665 * e) % _PRIME
        if swap:
            x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, _PRIME - 2, _PRIME) % _PRIME).to_bytes(32, "little")


# ChaCha20-Poly1305 (RFC 8439)

_ROUNDS = [
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
]  # fmt: skip


def _chacha20(key: bytes, nonce: bytes, counter: int, length: int) -> bytes:
    """Returns the key stream.

    All blocks are computed together: each word of the state is one large number with 64 bits for
    each block, so that Python's arithmetic does the work of the inner loop.
    """
    blocks = -(-length // 64)
    ones = ((1 << 64 * blocks) - 1) // ((1 << 64) - 1)
    low = ones * 0xFFFFFFFF
    words = array("I", b"expand 32-byte k" + key + bytes(4) + nonce)
    state = [word * ones for word in words]
    state[12] = counter * ones + int.from_bytes(array("Q", range(blocks)).tobytes(), "little")
    start = list(state)
    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            for left, right, other, bits in (
                (a, b, d, 16),
                (c, d, b, 12),
                (a, b, d, 8),
                (c, d, b, 7),
            ):
                state[left] = (state[left] + state[right]) & low
                turned = state[other] ^ state[left]
                state[other] = (turned << bits | turned >> 32 - bits) & low
    stream = array("I", bytes(64 * blocks))
    for at in range(16):
        word = (state[at] + start[at]) & low
        stream[at::16] = array("I", array("Q", word.to_bytes(8 * blocks, "little")))
    return stream.tobytes()[:length]


def _poly1305(key: bytes, message: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    prime, total = 2**130 - 5, 0
    for at in range(0, len(message), 16):
        block = int.from_bytes(message[at : at + 16] + b"\x01", "little")
        total = (total + block) * r % prime
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def _tag(key: bytes, nonce: bytes, cipher: bytes) -> bytes:
    padding = bytes(-len(cipher) % 16)
    lengths = bytes(8) + len(cipher).to_bytes(8, "little")
    return _poly1305(_chacha20(key, nonce, 0, 32), cipher + padding + lengths)


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return number.to_bytes(len(left), "little")


def _seal(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    cipher = _xor(plain, _chacha20(key, nonce, 1, len(plain)))
    return cipher + _tag(key, nonce, cipher)


def _open(key: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
    cipher, tag = sealed[:-_TAG], sealed[-_TAG:]
    if len(sealed) < _TAG or not hmac.compare_digest(_tag(key, nonce, cipher), tag):
        return None
    return _xor(cipher, _chacha20(key, nonce, 1, len(cipher)))


# Bech32 (BIP 173), without its limit on the length


def _checksum(prefix: str, values: list[int]) -> int:
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = 1
    for value in [*expanded, *values]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= factor if top >> bit & 1 else 0
    return check


def _bech32_encode(prefix: str, data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    check = _checksum(prefix, [*values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [check >> shift & 31 for shift in range(25, -1, -5)]
    return prefix + "1" + "".join(_BECH32[value] for value in values)


def _bech32_decode(prefix: str, text: str) -> bytes | None:
    start, _, rest = text.rpartition("1")
    if start != prefix or len(rest) < 6 or any(c not in _BECH32 for c in rest):
        return None
    values = [_BECH32.index(c) for c in rest]
    if _checksum(prefix, values) != 1:
        return None
    bits = "".join(f"{value:05b}" for value in values[:-6])
    whole = len(bits) // 8 * 8
    if "1" in bits[whole:]:
        return None
    return bytes(int(bits[at : at + 8], 2) for at in range(0, whole, 8))
