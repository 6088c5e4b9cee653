"""A shuffled order of 0 … size - 1 without a list: any size, any place of it at once, the same for the same seed.

A Feistel network with keyed BLAKE2b as its round function is a pseudo-random permutation of a power of two (M. Luby and
C. Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", SIAM J. Computing 17, 1988); its
halves are worked on in turn, so that they may differ by a bit. What falls outside the size is put through again until
it falls inside (cycle walking: J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002), at most
twice on average.

Not covered: secrecy. It spreads samples; it is no cipher.
"""

from hashlib import blake2b

from gristmill.errors import UsageError

ROUNDS = 6
"""Three for each half: Luby and Rackoff need four, and small sizes gain from more."""

MOST_BITS = 1024
"""A half is at most one BLAKE2b digest of 64 bytes."""


class Permutation:
    """The order of `size` numbers that a seed gives."""

    def __init__(self, size: int, seed: int):
        bits = max(size - 1, 0).bit_length()
        if bits > MOST_BITS:
            raise UsageError(
                f"more than 2^{MOST_BITS} combinations of slots; sample fewer values, or from shorter lists"
            )
        self.size = size
        self._low = (bits + 1) // 2
        self._masks = (1 << (bits - self._low)) - 1, (1 << self._low) - 1
        width = max((self._low + 7) // 8, 1)
        self._hashes = [blake2b(f"{seed}:{number}".encode(), digest_size=width) for number in range(ROUNDS)]

    def at(self, place: int, tweak: int = 0) -> int:
        """The number at a place of the order; each `tweak` is another order."""
        low, (high_mask, low_mask) = self._low, self._masks
        while True:
            left, right = place >> low, place & low_mask
            for number, keyed in enumerate(self._hashes):
                hashed = keyed.copy()
                if number % 2:
                    hashed.update(b":%d:%d" % (tweak, left))
                    right ^= int.from_bytes(hashed.digest()) & low_mask
                else:
                    hashed.update(b":%d:%d" % (tweak, right))
                    left ^= int.from_bytes(hashed.digest()) & high_mask
            place = left << low | right
            if place < self.size:
                return place
