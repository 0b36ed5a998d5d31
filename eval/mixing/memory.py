"""What contexts have taught: a hashed table of lines, each with the slots of seven nodes. Compiled.

A line belongs to a context and a node of level 0, 3, 6, … and has the slots of that node and of the six below it on
its three levels: one look-up serves three questions. A slot is a state (how many zeros and ones it saw, and the last)
and a probability of its own. Two lines that are neighbours can serve a key; the one that knows less gives way.
"""

import numpy as np
import numpy.typing as npt

from eval.mixing.compiled import compiled

Line = int | np.int64  # its number
Table = npt.NDArray[np.uint32]  # (lines, LINE_SLOTS) the check of its key, then the slots

LEVELS = 3  # of the tree that a line serves
LINE_SLOTS = 1 << LEVELS
MOST = 7  # of zeros or ones that a state counts
STATES = 2 * (MOST + 1) ** 2  # zeros, ones, the last bit
HALF_FORGOTTEN = np.array([0, 1, 2, 2, 3, 4, 4, 5])  # what remains of a count when the other bit comes
BELIEF_BITS = np.uint32(25)  # of a slot; the state has the others
BELIEF_UNIT = (1 << 25) - 1

_ZEROS, _ONES = np.divmod(np.arange(STATES) // 2, MOST + 1)
COUNT = _ZEROS + _ONES  # (STATES,) like all that follow
RATE = 1 / (COUNT + 1.5)  # at which its slot's probability moves
TRUST = 4 * (1 - 1 / (COUNT + 1.0))  # in its slot's probability
SURE = np.where(_ZEROS == 0, np.minimum(_ONES, 6), np.where(_ONES == 0, -np.minimum(_ZEROS, 6), 0)) / 3
ODDS = np.log((_ONES + 0.4) / (_ZEROS + 0.4))
_AFTER_ZERO = (np.minimum(_ZEROS + 1, MOST) * (MOST + 1) + HALF_FORGOTTEN[_ONES]) * 2
_AFTER_ONE = (HALF_FORGOTTEN[_ZEROS] * (MOST + 1) + np.minimum(_ONES + 1, MOST)) * 2 + 1
FOLLOWING = np.stack([_AFTER_ZERO, _AFTER_ONE]).astype(np.uint32)  # (2, STATES) the state after a zero, after a one


@compiled
def find_line(table: Table, key: np.uint64) -> Line:
    """-1: the table has none."""
    check = _check(key)
    line = np.int64(key & np.uint64(len(table) - 1))
    if table[line, 0] == check:
        return line
    line ^= 1
    return line if table[line, 0] == check else -1


@compiled
def take_line(table: Table, key: np.uint64) -> Line:
    found = find_line(table, key)
    if found >= 0:
        return found
    line = np.int64(key & np.uint64(len(table) - 1))
    if _knowledge(table[line ^ 1]) < _knowledge(table[line]):
        line ^= 1
    table[line] = 0
    table[line, 0] = _check(key)
    return line


@compiled
def learn_slot(slot: np.uint32, bit: int) -> np.uint32:
    """The slot after one more bit; 0 is a slot that saw nothing."""
    state = slot >> BELIEF_BITS
    belief = read_belief(slot)
    belief += (bit - belief) * RATE[state]
    after: np.uint32 = FOLLOWING[bit, state] << BELIEF_BITS | np.uint32(belief * BELIEF_UNIT)
    return after


@compiled
def read_belief(slot: np.uint32) -> float:
    return (slot & np.uint32(BELIEF_UNIT)) / BELIEF_UNIT if slot > 0 else 0.5


@compiled
def _check(key: np.uint64) -> np.uint32:
    """Never 0, which is an empty line's."""
    return np.uint32(key >> np.uint64(32)) | np.uint32(1)


@compiled
def _knowledge(line: npt.NDArray[np.uint32]) -> int:
    return COUNT[line[1] >> BELIEF_BITS] if line[0] else -1
