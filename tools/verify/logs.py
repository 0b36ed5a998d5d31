"""Rules of logs and metrics: written as a run writes them, ended once, of one story, within the track's seconds."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tools.record.tracks import Track
from tools.verify.agree import disagreement
from tools.verify.log import Log, Tail
from tools.verify.record import Record
from tools.verify.verdict import Finding, Level

CLOCK_S = 0.002  # what rounding to milliseconds may hide
INSIDE_SLACK_S = 5.0  # by which calibration went past training's seconds in rows that were merged: for people to judge
STALLED = 10  # times the average: a last step as slow as that is for people to judge
Rows = Sequence[Mapping[str, Any]]


def logs(record: Record) -> Iterator[Finding]:
    for seed, log in record.logs.items():
        for trouble in log.troubles:
            yield Finding("log.structure", "invalid", f"seed {seed}'s log: {trouble}", {"seed": seed})
        if log.config and log.config["seed"] != seed:
            yield disagreement(
                "seed.log", f"seed {seed}'s log: seed of its config", log.config["seed"], "it is claimed as", seed
            )
        if log.resumed:
            yield Finding(
                "log.resumed", "note", f"seed {seed}'s run was interrupted and went on at step {log.resumed[-1]:,}"
            )
        if log.tail and log.validations and log.validations[-1][0] > log.tail.steps:
            yield disagreement(
                "log.structure",
                f"seed {seed}'s log: steps",
                log.tail.steps,
                "it validated at step",
                log.validations[-1][0],
            )
        if log.tail and log.tail.steps:
            average = log.tail.train_ms / log.tail.steps
            if abs(average - log.tail.step_avg_ms) > 0.0051 + 0.5 / log.tail.steps:
                yield disagreement(
                    "log.clock", f"seed {seed}'s log: step_avg", log.tail.step_avg_ms, "train_time / steps is", average
                )


def metrics(record: Record) -> Iterator[Finding]:
    for seed, rows in record.metrics.items():
        steps = [row for row in rows if "loss" in row and "step" in row and "elapsed_s" in row]
        validations = [row for row in rows if "val_bpb" in row and "step" in row]
        log = record.logs.get(seed)
        yield from _steps(seed, steps)
        if log and log.tail and steps:
            yield from _against_log(seed, steps, validations, log, log.tail)
        elif not steps:
            yield Finding("log.metrics", "unverified", f"seed {seed}'s metrics have no step")


def _steps(seed: int, steps: Rows) -> Iterator[Finding]:
    for before, after in pairwise([{"step": 0, "elapsed_s": 0.0}, *steps]):
        where = f"seed {seed}'s metrics, step {after['step']}"
        if after["step"] != before["step"] + 1:
            yield Finding("log.metrics", "invalid", f"{where} stands after step {before['step']}", {"seed": seed})
            return
        took = after["elapsed_s"] - before["elapsed_s"]
        if took < 0:
            yield Finding("log.metrics", "invalid", f"{where}: its clock went back by {-took:.3f} s", {"seed": seed})
            return
        if "step_s" in after and abs(took - after["step_s"]) > CLOCK_S:
            yield disagreement("log.metrics", f"{where}: step_s", float(after["step_s"]), "the clock moved by", took)
            return


def _against_log(seed: int, steps: Rows, validations: Rows, log: Log, tail: Tail) -> Iterator[Finding]:
    last = steps[-1]
    if last["step"] != tail.steps:
        yield disagreement(
            "number.metrics", f"seed {seed}'s metrics: last step", last["step"], "the log says", tail.steps
        )
    elif abs(last["elapsed_s"] - tail.train_ms / 1000) > CLOCK_S:
        yield disagreement(
            "number.metrics", f"seed {seed}'s metrics: seconds", last["elapsed_s"], "the log says", tail.train_ms / 1000
        )
    measured = {row["step"]: row["val_bpb"] for row in validations}
    for step, bpb in log.validations:
        if step not in measured or abs(measured[step] - bpb) > 6e-5:
            yield disagreement(
                "number.metrics",
                f"seed {seed}'s log: val_bpb at step {step}",
                bpb,
                "its metrics have",
                measured.get(step),
            )


def budgets(record: Record) -> Iterator[Finding]:
    """The clocks of the logs against the track's seconds. A run may overrun by the step that it was in."""
    if record.track is None:
        return
    for seed, log in record.logs.items():
        if log.tail:
            rows = record.metrics.get(seed, ())
            steps = [row["step_s"] for row in rows if {"step", "loss", "step_s"} <= row.keys()]
            yield from _budget(seed, log.tail, max([log.tail.step_avg_ms / 1000, *steps[-1:]]), record.track)


def _budget(seed: int, tail: Tail, step_s: float, track: Track) -> Iterator[Finding]:
    train_s, calibration_s, eval_s = tail.train_ms / 1000, tail.calibration_ms / 1000, tail.eval_ms / 1000
    evidence = {"seed": seed, "train_s": train_s, "calibration_s": calibration_s, "eval_s": eval_s, "step_s": step_s}
    over_s = train_s - track.train_seconds
    if track.train_seconds and over_s > step_s + CLOCK_S:
        message = (
            f"seed {seed} trained {train_s:.3f} s: {over_s:.3f} s over the {track.train_seconds:g} s of {track.name}"
        )
        yield Finding("budget.train", "invalid", f"{message}, and a step took {step_s:.3f} s", evidence)
    elif track.train_seconds and over_s > STALLED * tail.step_avg_ms / 1000 + CLOCK_S:
        message = f"seed {seed} trained {over_s:.3f} s too long, in a last step of {step_s:.3f} s: others took less"
        yield Finding("budget.train", "flag", message, evidence)
    elif (
        track.train_seconds and track.calibration == "inside" and (over_s := over_s + calibration_s) > step_s + CLOCK_S
    ):
        level: Level = "invalid" if over_s > INSIDE_SLACK_S + step_s else "flag"
        message = f"seed {seed} trained {train_s:.3f} s and calibrated {calibration_s:.3f} s: {over_s:.3f} s over the"
        yield Finding("budget.calibration", level, f"{message} {track.train_seconds:g} s that hold both", evidence)
    elif track.train_seconds and calibration_s > track.train_seconds:
        message = f"seed {seed} calibrated {calibration_s:.0f} s, longer than the {track.train_seconds:g} s of training"
        yield Finding("budget.calibration", "flag", message, evidence)
    if track.eval_seconds and eval_s > track.eval_seconds + CLOCK_S:
        message = f"seed {seed} was scored in {eval_s:.1f} s; {track.name} gives {track.eval_seconds:g} s"
        yield Finding("budget.eval", "invalid", message, evidence)
