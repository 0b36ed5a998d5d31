"""The whole run, readable top to bottom: config, data, loop, average, pack, score. What a step does: training.py.

    python train_gpt.py                                         (configs/demo.yaml: about two minutes on two cores)
    python train_gpt.py configs/cpu10.yaml train.seconds=60     (section.key=value overrides)
    torchrun --nproc_per_node=8 train_gpt.py configs/golf465.yaml
    python train_gpt.py configs/golf465.yaml --dry-run --gpu h100     (sizes, schedule, whether it fits; needs no data)
    python train_gpt.py --score model.golf --data DIR           (an artifact under its own protocol; trains nothing)

A run lives in runs/NAME. The same command again resumes an interrupted run, bit for bit where the budget is in steps;
after a finished one, or under another config, it begins a new folder. The config's dataclasses: run_config.py.
"""

import argparse
import math
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.config import load, to_dict, to_yaml
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, require_folder_of
from base.run_folder import ARTIFACT, CONFIG, RunResult, TrainResult, named_or_newest, new_or_unfinished, sole_writer
from base.source import bundled, code_bytes, sources_sha256
from data.dataset import Dataset, open_dataset
from data.ensure import ensure_dataset
from engine.clock import stop_flag
from engine.config import report_divergence
from engine.device import (
    Device,
    agree,
    barrier,
    from_main,
    joined,
    memory_hint,
    packing_device,
    require_same,
    run_rank,
)
from engine.log import RunLog, describe_environment, head_lines, live_line, packed_lines, scored_line, trained_line
from engine.nodes import find_sharers
from engine.saver import Saver, save_model
from engine.shard import gather_weights
from eval.config import PLAIN, AdaptConfig
from eval.metric import Score
from eval.score import save_block_nats, score_artifact
from model.cost import flops_per_token, parameters
from model.gpt import GPT
from quant.budget import over_cap, require_room
from quant.packer import Packer
from quant.unpack import attach_table, open_artifact
from run_config import DEFAULT, RunConfig
from training import StepReport, Training


def train(training: Training, log: RunLog, saver: Saver, stopped: list[int]) -> None:
    """Step until the budget is used up, or until a signal fills `stopped`: then save and end cleanly."""
    config = training.config
    clock = training.clock
    device = training.device
    saved_s = clock.elapsed_s
    while True:
        # What ranks do together depends on the main rank's clock, on a signal to any of them, and on the slowest disk.
        elapsed_s, is_ending, is_writing = agree(clock.elapsed_s, (len(stopped), saver.is_writing), device)
        step_s = elapsed_s / max(1, clock.step)
        if device.has_queue and clock.progress(elapsed_s + 2 * step_s) >= 1.0:  # so near the end, none is under way
            report_step(training.finish_step(), training, log, saver)
            elapsed_s, is_ending, is_writing = agree(clock.elapsed_s, (len(stopped), saver.is_writing), device)
        progress = clock.progress(elapsed_s)
        is_saving = 0 < config.train.checkpoint_s < elapsed_s - saved_s and not is_writing
        is_validating = training.is_validation_due(progress)
        if is_ending or is_saving or is_validating or progress >= 1.0:
            report_step(training.finish_step(), training, log, saver)
        if is_ending or is_saving:
            saved_s = elapsed_s
            training.save(saver)
        if is_ending:
            saver.wait()
            log.say(f"stopped at step {clock.step}: saved; the same command resumes from there")
            raise KeyboardInterrupt
        if progress >= 1.0:
            return
        if is_validating:
            training.validated = progress
            log.validated(clock, training.score(training.context).bpb)
        report_step(training.step(progress), training, log, saver)


def report_step(done: StepReport | None, training: Training, log: RunLog, saver: Saver) -> None:
    """Log a finished step; give up a run that has diverged or does not progress, before its next checkpoint."""
    if done is None:
        return
    config = training.config
    if not (math.isfinite(done.grad_norm) and done.loss < config.train.diverged_nats):
        raise report_divergence(done.step, done.loss, done.grad_norm, saver.find_latest())
    log.metrics(**{name: value for name, value in done._asdict().items() if name != "progress"})
    flops = flops_per_token(config.model, config.train.seq_len)
    tokens_per_s = config.train.batch_tokens / done.step_s
    bytes_per_token = training.dataset.bytes_per_token
    log.progress(live_line(training.clock, done.step, done.loss, bytes_per_token, tokens_per_s, flops, training.device))
    config.train.require_progress(done.progress, done.smooth_loss)


def train_pack_score(config: RunConfig, name: str, device: Device) -> TrainResult:
    precision = device.precision(config.eval.precision)
    config = replace(config, eval=replace(config.eval, precision=precision))  # run and artifact name the one they mean
    text = to_yaml(config)
    require_same(text, "configs", "start all alike", device)
    dataset = open_same_dataset(config, device)
    dataset.require(config.model.vocab_size, config.model.bos_id)
    training = Training(config, dataset, device)  # what it refuses leaves no folder
    code = code_bytes(None)
    Packer.require(training.model, config.quant, code)
    if config.quant.cap_bytes:
        require_room({name: p.numel() for name, p in training.model.named_parameters()}, config.quant.cap_bytes, code)
    with ExitStack() as held:
        made = new_or_unfinished(name, text) if device.main else Path()
        folder = from_main(made, device)
        sharers = find_sharers(folder, device)
        if sharers.is_leader:
            held.enter_context(sole_writer(folder))
            if not (folder / CONFIG).exists():
                (folder / CONFIG).write_text(text)
        own = (folder / CONFIG).read_text() if sharers.is_leader else None
        require_same(own, f"{folder / CONFIG}", "remove the wrong ones or use another --name", device)
        return run_in(Saver(folder, sharers, device), training, code)


def open_same_dataset(config: RunConfig, device: Device) -> Dataset:
    """One rank of each node makes it, where it has to be made, and hashes what that node will read and run."""
    manifest = hashes = None
    for is_next in (device.main, device.leads_node):  # nodes that share a disk must not both make it
        if is_next:
            ensure_dataset(config.data, config.model.vocab_size)
        barrier(device)
    if device.leads_node:
        manifest = open_dataset(config.data.path).manifest
        named = {"sources_sha256": sources_sha256(), **manifest.hashes()}
        hashes = "\n".join(f"{name}: {value}" for name, value in named.items())
    require_same(hashes, "code or data", f"give all nodes one commit and one {config.data.path}", device)
    return open_dataset(config.data.path, checked=from_main(manifest, device))


def run_in(saver: Saver, training: Training, code: int) -> TrainResult:
    """Train what is left to train, score, and unless quant.method is none pack and score that."""
    config = training.config
    device = training.device
    dataset = training.dataset
    log = RunLog(saver.folder if device.main else None)
    if training.resume(saver):
        log.truncate_metrics(training.clock.step)
        log.say(f"resuming at step {training.clock.step}")
    else:
        log.begin()
        log.say(to_yaml(config) + head_lines(device, training.is_compiled, sources_sha256(), dataset.manifest.hashes()))
    training.prime()
    with stop_flag() as stopped:
        train(training, log, saver, stopped)
    if config.quant.method != "none":
        training.save(saver)  # packing may take hours
    saver.wait()
    log.say(trained_line(training.clock, device.peak_memory_bytes()))
    training.average.swap(training.weights)
    weights = gather_weights(training.model)
    if device.main:
        save_model(saver.folder, to_dict(config), weights)
    barrier(device)  # before the others wait for the main rank's device
    training.release()
    float_score, eval_s = timed_score("pre_quant", training, log)
    of_artifact: dict[str, Any]
    if config.quant.method == "none":
        of_artifact = {**dict.fromkeys(RunResult.__annotations__), "calibration_seconds": 0.0, "eval_seconds": eval_s}
    else:
        of_artifact = pack_and_score(training, weights, saver, code, log)
    result = describe(training, saver.folder, code, float_score, of_artifact)
    over = over_cap(result.artifact_bytes or 0, code, config.quant.cap_bytes)
    if over:
        log.say(over)
    log.finish(result)
    barrier(device)  # a rank that fails ends the others
    if over:
        raise CheckFailed(over, result)
    return result


def timed_score(
    name: str, training: Training, log: RunLog, model: GPT | None = None, adapt: AdaptConfig = PLAIN
) -> tuple[Score, float]:
    """The score with the config's windows, and its seconds, both logged."""
    begun_s = time.perf_counter()
    found = training.score(training.config.eval.stride, model, adapt)
    took_s = time.perf_counter() - begun_s
    log.say(scored_line(name, found.nats_per_token, found.bpb, took_s))
    return found, took_s


def pack(training: Training, weights: dict[str, torch.Tensor], code: int) -> bytes:
    """The artifact, on the main rank; the float model that it is made from is freed before the next one is needed."""
    place = packing_device(training.device)
    model = GPT(training.config.model, made=lambda block: block.to(place))  # the host does not hold one for each rank
    model = attach_table(model, training.dataset.tokenizer).to(place)
    if training.device.main:
        model.load_state_dict(weights)
    packer = Packer(model, to_dict(training.config), training.dataset, training.device)
    return packer.pack(training.config.quant, code).data


def pack_and_score(
    training: Training, weights: dict[str, torch.Tensor], saver: Saver, code: int, log: RunLog
) -> dict[str, Any]:
    """The artifact, and the score of what every reader of it will have, by the names of TrainResult."""
    config = training.config
    device = training.device
    path = saver.folder / ARTIFACT
    begun_s = time.perf_counter()
    data = from_main(pack(training, weights, code), device)
    if saver.sharers.is_leader:
        atomic_file(path, data)
    barrier(device)  # the other ranks read it, too
    artifact = open_artifact(path)
    packed_s = time.perf_counter() - begun_s
    log.say(packed_lines(artifact.size_bytes, artifact.sha256, packed_s, code))
    found, eval_s = timed_score("final", training, log, artifact.model.to(device.torch), config.eval.adapt)
    total = artifact.size_bytes + code
    return {
        "val_bpb": found.bpb,
        "val_nats_per_token": found.nats_per_token,
        "artifact": str(path.resolve()),
        "artifact_sha256": artifact.sha256,
        "artifact_bytes": artifact.size_bytes,
        "total_bytes": total,
        "over_cap_bytes": max(0, total - config.quant.cap_bytes) if config.quant.cap_bytes else 0,
        "calibration_seconds": packed_s,
        "eval_seconds": eval_s,
        "adapt": config.eval.adapt.kind,
    }


def describe(
    training: Training, folder: Path, code: int, float_score: Score, of_artifact: dict[str, Any]
) -> TrainResult:
    config = training.config
    device = training.device
    clock = training.clock
    own = bundled()
    kind = TrainResult if config.quant.method == "none" else RunResult
    return kind(
        run=str(folder.resolve()),
        params=sum(parameters(config.model).values()),
        steps=clock.step,
        train_seconds=clock.elapsed_s,
        tokens_per_second=clock.step * config.train.batch_tokens / clock.elapsed_s,
        float_bpb=float_score.bpb,
        float_nats_per_token=float_score.nats_per_token,
        val_tokens=float_score.tokens,
        val_bytes=float_score.bytes,
        contest_bytes=float_score.contest_bytes,
        code_bytes=code,
        seed=config.seed,
        stride=config.eval.stride,
        context=training.context,
        precision=device.precision(config.eval.precision),
        sources_sha256=sources_sha256(),
        bundle_sha256=own.sha256 if own else "",
        **of_artifact,
        **training.dataset.manifest.hashes(),
        **describe_environment(device),
    )


def act(args: argparse.Namespace) -> Answer | TrainResult:
    words = list(args.overrides)
    for_score = [f"--{flag}" for flag in ("data", "limit", "nats") if getattr(args, flag) is not None]
    if args.score:
        if args.config or words or args.name or args.dry_run:
            raise BadInput("--score scores under the artifact's own config: it takes --data, --limit and --nats only")
        require_folder_of(args.nats)
        with joined() as device:
            found, answer = score_artifact(named_or_newest(args.score, ARTIFACT), args.data, args.limit, device)
            if args.nats and device.main:
                save_block_nats(Path(args.nats), found.block_nats)
            return answer
    if for_score:
        raise BadInput(f"{for_score[0]} is for --score; a run's dataset is data.path=DIR")
    own = bundled()
    path = args.config
    if path is not None and "=" in path:  # no config was named: the first word is an override already
        words.insert(0, path)
        path = None
    if path is None and own is None:
        path = DEFAULT
    config: RunConfig = load(RunConfig, path, words, own.config_yaml if own else "")
    name = own.name if own and path is None else Path(path or DEFAULT).stem
    if args.dry_run:
        if own:
            raise BadInput("--dry-run is the repository's; there: python -m tools.plan CONFIG")
        # By name, since an import statement would put the planner into the single file.
        planned: Answer = import_module("tools.plan.dry_run").dry_run(config, args.gpu)
        return planned
    if args.gpu:
        raise BadInput("--gpu is for --dry-run; a run takes the devices that it finds")
    with joined() as device, memory_hint("lower train.micro_tokens or set train.checkpointing=true"):
        return train_pack_score(config, args.name or name, device)


def parser() -> OneLineParser:
    flags = command("train_gpt", __doc__ or "")
    flags.prog = "train_gpt.py"
    flags.add_argument("config", nargs="?", metavar="CONFIG.yaml", help=f"default: {DEFAULT}")
    flags.add_argument("overrides", nargs="*", metavar="section.key=value")
    flags.add_argument("--name", help="the folder in runs/ (default: the config's name)")
    flags.add_argument("--dry-run", action="store_true", help="sizes and schedule; exit 1 if it does not fit on --gpu")
    flags.add_argument("--gpu", metavar="NAME", help="with --dry-run: of tools/plan/gpus.yaml (default: the one here)")
    flags.add_argument(
        "--score",
        metavar="ARTIFACT",
        help="score it (or the one in a run's folder) under its own protocol, and do nothing else",
    )
    flags.add_argument("--data", metavar="DIR", help="with --score: the dataset (default: the artifact's own)")
    flags.add_argument("--limit", type=int, metavar="TOKENS", help="with --score: the first so many targets")
    flags.add_argument("--nats", metavar="FILE.npy", help="with --score: the nats of each block of targets")
    return flags


if __name__ == "__main__":
    run_rank(lambda: run(parser(), act, show_pairs))
