"""eval.subprocess_scorer: a child's answers arrive as they were, and whatever goes wrong with one is said in a line."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from base.errors import BadInput, CheckFailed
from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer
from eval.probes.codec import Growing, codec_sample
from eval.scorer import InTurns, Scorer
from eval.subprocess_scorer import Child, ChildPredictor

HERE = Path(__file__).parent
EXAMPLE, FAULTY = f"{sys.executable} {HERE / 'example_child.py'}", f"{sys.executable} {HERE / 'faulty_child.py'}"
TOKENS = np.concatenate([[1], ByteTokenizer().encode("a child is asked, and it answers; " * 3)]).astype(np.int64)


@pytest.fixture(scope="module")
def scorer() -> Iterator[Child]:
    with Child(f"{EXAMPLE} scorer 260", 20) as child:
        yield child


@pytest.fixture(scope="module")
def predictor() -> Iterator[Child]:
    with Child(f"{EXAMPLE} predictor 260", 20) as child:
        yield child


def in_turns(child: Child) -> Scorer:
    return InTurns(lambda: ChildPredictor(child), ByteTable(ByteTokenizer()))


def test_a_childs_numbers_arrive_to_the_last_bit(scorer: Child) -> None:
    counts = np.full(260, 0.1)
    scored = scorer.score(TOKENS, [0, 7])
    for target, (before, after) in enumerate(zip(TOKENS[:-1], TOKENS[1:], strict=True)):
        counts[before] += 1
        assert scored.nats[target] == pytest.approx(-np.log(counts[after] / counts.sum()), rel=1e-12)
        if target in (0, 7):
            np.testing.assert_allclose(scored.shown[target // 7], counts / counts.sum(), rtol=1e-12)
    assert scored.targets.tolist() == list(range(len(TOKENS) - 1))
    assert scored.size_bytes == len(TOKENS) - 1


def test_a_predictor_that_takes_turns_is_a_scorer_and_each_text_begins_anew(scorer: Child, predictor: Child) -> None:
    whole, turns = scorer.score(TOKENS, [3]), in_turns(predictor)
    for _ in range(2):
        scored = turns.score(TOKENS, [3])
        np.testing.assert_allclose(scored.nats, whole.nats, rtol=1e-12)
        np.testing.assert_allclose(scored.shown, whole.shown, rtol=1e-12)


def test_a_sample_coded_by_one_process_is_decoded_by_another(predictor: Child) -> None:
    with Child(f"{EXAMPLE} predictor 260", 20) as other:
        found = codec_sample(
            in_turns(predictor), lambda: ChildPredictor(predictor), lambda: ChildPredictor(other), TOKENS
        )
    assert found.passed, found.detail


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("hello", "does not begin with its vocab_size and its form, scorer or predictor; it said .*many"),
        ("silent", "ended with exit code 3; it said nothing"),
        ("dies", "ended with exit code 1; it said 'out of ideas'"),
        ("garbage", "answers something else than JSON; it said 'hello world'"),
        ("list", "answers something else than a JSON object"),
        ("nan", "says a nats that is not finite, at 2"),
        ("shape", "says no 3 float64 in base64 as nats"),
        ("base64", "says no 1 x 4 float64 in base64 as shown"),
        ("targets", "says no list of whole numbers as targets; it said .*0.5"),
        ("far", "says no list of whole numbers as targets"),
        ("mute", "ended with exit code None; it said nothing"),
        ("bytes", "says no number of bytes as size_bytes; it said '-1'"),
    ],
)
def test_what_goes_wrong_in_a_child_is_said_in_one_line(fault: str, what: str) -> None:
    with pytest.raises(CheckFailed, match=what), Child(f"{FAULTY} {fault}", 20) as child:
        child.score(np.arange(4), [1])


def test_a_child_that_hangs_is_ended_in_time() -> None:
    with Child(f"{FAULTY} hangs", 1.0) as child:
        started = time.monotonic()
        with pytest.raises(CheckFailed, match="gave no answer in 1 s"):
            child.score(np.zeros(200_000, np.int64))  # more than a pipe holds
        assert time.monotonic() - started < 10
    assert child._process.returncode is not None


def test_what_a_child_started_and_left_behind_is_ended_too() -> None:
    started = time.monotonic()
    with pytest.raises(CheckFailed, match="gave no answer in 1 s"), Child("sh -c 'sleep 60 & exit 0'", 1.0):
        pass
    assert time.monotonic() - started < 10


def test_a_child_without_distributions_fails_the_sample_and_not_the_probes() -> None:
    with Child(f"{FAULTY} nothing", 20) as child:
        found = codec_sample(child, lambda: Growing(child), lambda: Growing(child), np.arange(4))
    assert found.passed is False
    assert "cannot be coded" in found.detail


@pytest.mark.parametrize("command", ["", "no-such-program-anywhere", "'unbalanced"])
def test_a_command_that_does_not_start_is_bad_input(command: str) -> None:
    with pytest.raises(BadInput, match="does not start"):
        Child(command, 1)
