#!/usr/bin/env python3
"""Rebuild an OramaOS volume key from stored key shares.

Standard library only, and written from docs/formats.md alone: it shares no code with the agent or the guardian.

A share file is any of: a file of a vault-guardian's store, the JSON answer of GET /v2/vault/secrets/<name>, or
the share envelope itself as raw bytes, hex or base64. "-" reads one share from standard input.

Shares that are sealed to their owner need the owner's WireGuard private key, as `wg genkey` prints it.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import sys

KEY_BYTES = 32


class Bad(Exception):
    """A share, or a set of shares, that cannot be used; the text says why."""


# --- where the envelope comes from -----------------------------------------------------------------------


def envelope_from_store(data):
    """The share in a guardian's store file, after checking its checksum."""
    body, marker, checksum = data.rpartition(b"sha256 ")
    if not marker or hashlib.sha256(body).hexdigest().encode() + b"\n" != checksum:
        raise Bad("the store file's checksum does not match: torn or edited")
    fields = dict(line.split(" ", 1) for line in body.decode().splitlines()[1:])
    share = base64.b64decode(fields["share"], validate=True)
    if len(share) != int(fields["share_bytes"]):
        raise Bad("the store file's share has another length than it says")
    return share


def envelope_from(data):
    """The envelope's bytes, whatever form they are stored in."""
    if data.startswith(b"orama-guardian-secret 1\n"):
        return envelope_from_store(data)
    if data[:1] in (b"\x01", b"\x02"):  # version byte: a raw envelope
        return data
    text = data.strip()
    if text.startswith(b"{"):
        return base64.b64decode(json.loads(text)["share"], validate=True)
    try:
        return bytes.fromhex(text.decode())
    except ValueError:
        return base64.b64decode(text, validate=True)


# --- the envelope ----------------------------------------------------------------------------------------


class Envelope:
    """The fields, in the order of the layout. Integers are bincode's variable-length ones."""

    def __init__(self, data, wireguard_key):
        self.rest = data
        self.version = self.take(1)[0]
        if self.version not in (1, 2):
            raise Bad(f"envelope version {self.version} is unknown")
        self.volume = self.take(16).hex()
        self.node_id = self.take(self.integer()).decode("ascii")
        self.generation = self.integer()
        self.x, self.k, self.n = self.take(3)
        public = data[: len(data) - len(self.rest)]
        if self.version == 1:
            self.share = self.take(KEY_BYTES)
        else:
            nonce, sealed = self.take(12), self.take(KEY_BYTES + 16)
        if self.rest:
            raise Bad(f"{len(self.rest)} bytes follow after the envelope")
        if not (3 <= self.k <= self.n and 1 <= self.x <= self.n):
            raise Bad(f"point {self.x} of {self.k} of {self.n} is nonsense")
        if self.version == 2:
            if wireguard_key is None:
                raise Bad(f"sealed to its owner {self.node_id}: --wireguard-key is needed")
            key = hkdf(wireguard_key, bytes.fromhex(self.volume), b"orama share seal v1")
            self.share = gcm_decrypt(key, nonce, public, sealed)

    def take(self, count):
        if len(self.rest) < count:
            raise Bad("the envelope ends early")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def integer(self):
        first = self.take(1)[0]
        if first <= 250:
            return first
        widths = {251: 2, 252: 4, 253: 8}
        if first not in widths:
            raise Bad(f"integer marker {first} has no place in an envelope")
        return int.from_bytes(self.take(widths[first]), "little")

    def split(self):
        """What all shares of one split have in common."""
        return self.volume, self.node_id, self.generation, self.k, self.n


# --- the seal: HKDF-SHA256 (RFC 5869) and AES-256-GCM (FIPS 197, NIST SP 800-38D), for clarity, not for speed ---


def hkdf(secret, salt, info):
    """32 bytes: one block of HKDF-SHA256."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def sbox():
    """The AES S-box: the inverse, then an affine map."""
    table = []
    for byte in range(256):
        x = inverse(byte) if byte else 0
        rotated = [((x << turn) | (x >> (8 - turn))) & 0xFF for turn in range(5)]
        table.append(rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63)
    return table


def aes_round_keys(key, table):
    """The 15 round keys of AES-256, 16 bytes each."""
    words = [list(key[at : at + 4]) for at in range(0, 32, 4)]
    constant = 1
    while len(words) < 60:
        word = list(words[-1])
        if len(words) % 8 == 0:
            word = [table[byte] for byte in word[1:] + word[:1]]
            word[0] ^= constant
            constant = multiply(constant, 2)
        elif len(words) % 8 == 4:
            word = [table[byte] for byte in word]
        words.append([a ^ b for a, b in zip(word, words[-8])])
    return [sum(words[at : at + 4], []) for at in range(0, 60, 4)]


def aes_encrypt(round_keys, table, block):
    """One block. The state is 16 bytes, column after column."""
    state = [a ^ b for a, b in zip(block, round_keys[0])]
    for number, round_key in enumerate(round_keys[1:], 1):
        state = [table[state[(at + 4 * (at % 4)) % 16]] for at in range(16)]  # SubBytes, ShiftRows
        if number < 14:  # MixColumns
            mixed = []
            for at in range(0, 16, 4):
                a, b, c, d = state[at : at + 4]
                for p, q, r, s in ((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c)):
                    mixed.append(multiply(p, 2) ^ multiply(q, 3) ^ r ^ s)
            state = mixed
        state = [a ^ b for a, b in zip(state, round_key)]
    return bytes(state)


def ghash(subkey, data):
    """Of whole blocks. Bits are counted from the left, so that x is a shift to the right."""
    total = 0
    for at in range(0, len(data), 16):
        total ^= int.from_bytes(data[at : at + 16], "big")
        product, factor = 0, subkey
        for bit in range(127, -1, -1):
            if total >> bit & 1:
                product ^= factor
            factor = factor >> 1 ^ (0xE1 << 120 if factor & 1 else 0)
        total = product
    return total.to_bytes(16, "big")


def gcm_decrypt(key, nonce, beside, sealed):
    """The plain text, after checking the 16 bytes of the tag at the end."""
    table = sbox()
    round_keys = aes_round_keys(key, table)
    text, tag = sealed[:-16], sealed[-16:]

    def pad(data):
        return data + bytes(-len(data) % 16)

    def stream(counter):
        return aes_encrypt(round_keys, table, nonce + counter.to_bytes(4, "big"))

    subkey = int.from_bytes(aes_encrypt(round_keys, table, bytes(16)), "big")
    lengths = (8 * len(beside)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    total = ghash(subkey, pad(beside) + pad(text) + lengths)
    if not hmac.compare_digest(bytes(a ^ b for a, b in zip(total, stream(1))), tag):
        raise Bad("the seal does not open: another WireGuard key, or the envelope was edited")
    blocks = (text[at : at + 16] for at in range(0, len(text), 16))
    return b"".join(bytes(a ^ b for a, b in zip(block, stream(counter))) for counter, block in enumerate(blocks, 2))


# --- GF(256) with x^8 + x^4 + x^3 + x + 1 ------------------------------------------------------------------


def multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11B
        b >>= 1
    return product


def inverse(a):
    return next(b for b in range(1, 256) if multiply(a, b) == 1)


def interpolate(points, at):
    """The 32 values at `at` of the polynomials through {x: 32 values}."""
    values = bytearray(KEY_BYTES)
    for x, share in points.items():
        weight = 1
        for other in points:
            if other != x:
                weight = multiply(weight, multiply(at ^ other, inverse(x ^ other)))
        for index in range(KEY_BYTES):
            values[index] ^= multiply(weight, share[index])
    return bytes(values)


def combine(envelopes):
    """The key, from {file name: envelope}."""
    first = next(iter(envelopes.values()))
    points = {}
    for name, envelope in envelopes.items():
        if envelope.split() != first.split():
            raise Bad(f"{name} belongs to another split than the first share")
        if envelope.x in points:
            raise Bad(f"{name} repeats point {envelope.x}")
        points[envelope.x] = envelope.share
    if len(points) < first.k:
        raise Bad(f"{len(points)} shares are not enough, {first.k} are needed")
    used = dict(list(points.items())[: first.k])
    for x, share in points.items():
        if interpolate(used, x) != share:
            raise Bad("the shares do not lie on one polynomial: one of them is wrong")
    return interpolate(used, 0)


# --- the command -----------------------------------------------------------------------------------------


def read(name):
    if name == "-":
        return sys.stdin.buffer.read()
    with open(name, "rb") as file:
        return file.read()


def wireguard_key(name):
    """The 32 bytes of a private key, from its base64 text."""
    try:
        key = base64.b64decode(read(name).strip(), validate=True)
    except OSError as error:
        raise Bad(f"cannot read {name}: {error.strerror}")
    except (ValueError, binascii.Error) as error:
        raise Bad(f"{name} is not a WireGuard private key: {error}")
    if len(key) != 32:
        raise Bad(f"{name} is not a WireGuard private key: {len(key)} bytes instead of 32")
    return key


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: combine_shares.py --raw a b c | cryptsetup open --type luks2 --key-file - /dev/sda4 data",
    )
    parser.add_argument("shares", nargs="+", metavar="SHARE", help="file with one share; - is standard input")
    parser.add_argument("--wireguard-key", metavar="FILE", help="private key of the node that owns the volume, base64")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="print the 32 bytes themselves instead of hex")
    form.add_argument("--output", metavar="FILE", help="write the 32 bytes to a new file with mode 0600")
    parser.add_argument("--verbose", action="store_true", help="say on standard error what each share is")
    arguments = parser.parse_args()

    owner = wireguard_key(arguments.wireguard_key) if arguments.wireguard_key else None
    envelopes = {}
    for name in arguments.shares:
        try:
            data = envelope_from(read(name))
            envelope = envelopes[name] = Envelope(data, owner)
        except OSError as error:
            raise Bad(f"cannot read {name}: {error.strerror}")
        except (Bad, ValueError, KeyError, TypeError, binascii.Error) as error:
            raise Bad(f"{name} is not a share: {error}")
        if arguments.verbose:
            print(
                f"{name}: version {envelope.version}, node {envelope.node_id}, volume {envelope.volume}, generation {envelope.generation}, "
                f"point {envelope.x}, {envelope.k} of {envelope.n}, digest {hashlib.sha256(data).hexdigest()}",
                file=sys.stderr,
            )
    key = combine(envelopes)
    if arguments.output:
        descriptor = os.open(arguments.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
    elif arguments.raw:
        sys.stdout.buffer.write(key)
    else:
        print(key.hex())


if __name__ == "__main__":
    try:
        main()
    except Bad as error:
        sys.exit(f"combine_shares: {error}")
