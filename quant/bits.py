"""How many bits each tensor may have: `mlp=5,attn=6,blocks.0.mlp.*=4` -> BitPlan.

A word names a kind of parameter or a glob of tensor names. Globs win over kinds, later words over earlier ones. 2 to 8
bits are integers, 16 and 32 are floats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from base.errors import BadInput

DEFAULT_BITS = {"mlp": 5, "attn": 6, "embed": 6, "head": 6, "bigram": 6, "control": 16}
LEGAL_BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)


@dataclass(frozen=True)
class BitPlan:
    kinds: dict[str, int]
    globs: tuple[tuple[str, int], ...] = ()

    def bits(self, name: str, kind: str) -> int:
        matching = [bits for glob, bits in self.globs if fnmatchcase(name, glob)]
        return matching[-1] if matching else self.kinds[kind]

    def require(self, tensors: Mapping[str, str]) -> None:
        """Refuse a glob that matches none of these tensors (name -> kind)."""
        for glob, _ in self.globs:
            if not any(fnmatchcase(name, glob) for name in tensors):
                shown = ", ".join(list(tensors)[:6])
                raise BadInput(
                    f"--bits {glob}: neither a kind ({', '.join(DEFAULT_BITS)}) nor the name of a tensor ({shown} …)"
                )


def parse_bits(text: str, default: Mapping[str, int] = DEFAULT_BITS) -> BitPlan:
    kinds = dict(default)
    globs = list[tuple[str, int]]()
    for word in filter(None, map(str.strip, text.split(","))):
        name, _, number = word.partition("=")
        if not number.isdecimal() or int(number) not in LEGAL_BITS:
            raise BadInput(f"--bits {word}: write NAME=BITS, with bits out of {', '.join(map(str, LEGAL_BITS))}")
        if name in kinds:
            kinds[name] = int(number)
        else:
            globs.append((name, int(number)))
    return BitPlan(kinds, tuple(globs))
