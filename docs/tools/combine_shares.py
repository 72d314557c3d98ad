#!/usr/bin/env python3
"""Rebuild an OramaOS volume key from stored key shares.

Standard library only, and written from docs/formats.md alone: it shares no code with the agent or the guardian.

A share file is any of: a file of a vault-guardian's store, the JSON answer of GET /v2/vault/secrets/<name>, or
the share envelope itself as raw bytes, hex or base64. "-" reads one share from standard input.
"""

import argparse
import base64
import binascii
import hashlib
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
    if data.startswith(b"\x01"):  # version byte: a raw envelope
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

    def __init__(self, data):
        self.rest = data
        version = self.take(1)[0]
        if version != 1:
            raise Bad(f"envelope version {version} is unknown")
        self.volume = self.take(16).hex()
        self.node_id = self.take(self.integer()).decode("ascii")
        self.generation = self.integer()
        self.x, self.k, self.n = self.take(3)
        self.share = self.take(KEY_BYTES)
        if self.rest:
            raise Bad(f"{len(self.rest)} bytes follow after the envelope")
        if not (3 <= self.k <= self.n and 1 <= self.x <= self.n):
            raise Bad(f"point {self.x} of {self.k} of {self.n} is nonsense")

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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: combine_shares.py --raw a b c | cryptsetup open --type luks2 --key-file - /dev/sda4 data",
    )
    parser.add_argument("shares", nargs="+", metavar="SHARE", help="file with one share; - is standard input")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="print the 32 bytes themselves instead of hex")
    form.add_argument("--output", metavar="FILE", help="write the 32 bytes to a new file with mode 0600")
    parser.add_argument("--verbose", action="store_true", help="say on standard error what each share is")
    arguments = parser.parse_args()

    envelopes = {}
    for name in arguments.shares:
        try:
            data = envelope_from(read(name))
            envelope = envelopes[name] = Envelope(data)
        except OSError as error:
            raise Bad(f"cannot read {name}: {error.strerror}")
        except (Bad, ValueError, KeyError, TypeError, binascii.Error) as error:
            raise Bad(f"{name} is not a share: {error}")
        if arguments.verbose:
            print(
                f"{name}: node {envelope.node_id}, volume {envelope.volume}, generation {envelope.generation}, "
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
