"""Tokens signed with RS256 (RFC 7518, 3.3), made of Python's own integers: the tests need no package for it."""

import base64
import hashlib
import json
import math
import secrets
from functools import cache

E = 65537
BITS = 2048
SMALL = [
    number for number in range(3, 2000, 2) if all(number % other for other in range(3, math.isqrt(number) + 1, 2))
]
SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


def is_prime(number: int) -> bool:
    """Miller and Rabin; wrong with a chance below 4**-20."""
    if any(number % small == 0 for small in SMALL):
        return False
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for _ in range(20):
        power = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if power not in (1, number - 1) and not any(
            (power := pow(power, 2, number)) == number - 1 for _ in range(twos)
        ):
            return False
    return True


def find_prime(bits: int) -> int:
    while True:
        number = secrets.randbits(bits) | 3 << (bits - 2) | 1
        if math.gcd(number - 1, E) == 1 and is_prime(number):
            return number


@cache
def key() -> tuple[int, int]:
    """Modulus and private exponent, new in each process."""
    first, second = find_prime(BITS // 2), find_prime(BITS // 2)
    return first * second, pow(E, -1, (first - 1) * (second - 1))


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_key() -> dict:
    """As a key set has it (RFC 7517)."""
    modulus = key()[0].to_bytes(BITS // 8, "big")
    return {"kty": "RSA", "kid": "tests", "alg": "RS256", "use": "sig", "n": encode(modulus), "e": encode(b"\1\0\1")}


def sign(claims: dict) -> str:
    """The JSON Web Token of these claims."""
    parts = [encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": "tests"}, claims)]
    digest = SHA256 + hashlib.sha256(".".join(parts).encode()).digest()
    padded = b"\0\1" + b"\xff" * (BITS // 8 - len(digest) - 3) + b"\0" + digest
    modulus, exponent = key()
    signature = pow(int.from_bytes(padded, "big"), exponent, modulus).to_bytes(BITS // 8, "big")
    return ".".join([*parts, encode(signature)])
