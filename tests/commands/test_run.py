"""The whole run: nothing is done twice, a killed run goes on to the same end, a fault is told before it starts."""

import os
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
import yaml

from rmkit.commands.run import RunConfig, check_plan, make_plan, run
from rmkit.core.checks import InputError
from rmkit.core.legacy_config import build_config
from rmkit.core.stage import read_record

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
STAGES = ("gold", "pairs", "votes", "repaired", "plain", "robust", "evaluation", "audit")


def list_times(folder):
    return {stage: (folder / stage / "stage.json").stat().st_mtime_ns for stage in STAGES}


def test_a_finished_run_has_every_stage_and_its_report(gold_run):
    records = {stage: read_record(gold_run / stage) for stage in STAGES}
    assert all(records.values())
    assert {records[stage]["config"].get("max_length", 256) for stage in STAGES} == {256}
    assert records["robust"]["inputs"]["data"] == records["repaired"]["key"]
    assert records["plain"]["inputs"]["data"] == records["pairs"]["key"]
    assert records["pairs"]["n_flipped"] == 36
    page = (gold_run / "audit/report.html").read_text()
    for model in ("plain", "robust"):
        accuracy = records["evaluation"]["metrics"][model]["accuracy"]
        assert f"{100 * accuracy:.1f}" in page


def test_a_second_call_redoes_nothing_and_a_changed_key_what_depends_on_it(settings, tmp_path):
    folder = tmp_path / "out"
    run(build_config(RunConfig, {**settings, "output_dir": str(folder)}, "test"))
    times = list_times(folder)
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    run(build_config(RunConfig, {**settings, "output_dir": str(folder)}, "test"))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == files
    changed = {**settings, "output_dir": str(folder), "repair": {"recipe": "smooth", "fraction": 0.1}}
    run(build_config(RunConfig, changed, "test"))
    later = list_times(folder)
    redone = {stage for stage in STAGES if later[stage] != times[stage]}
    assert redone == {"repaired", "robust", "evaluation", "audit"}
    assert read_record(folder / "repaired")["recipe"] == "smooth"


def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(gold_run, settings, tmp_path):
    folder = tmp_path / "out"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**settings, "output_dir": str(folder)}))
    for moment in ("gold/stage.unfinished.json", "votes/stage.unfinished.json", "plain/checkpoint-*/complete.json"):
        process = subprocess.Popen([sys.executable, "-m", "rmkit", "run", str(tmp_path / "run.yaml")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.time() + 120
        while not list(folder.glob(moment)) and process.poll() is None and time.time() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, moment
    assert read_record(folder / "audit") is None
    run(build_config(RunConfig, {**settings, "output_dir": str(folder)}, "test"))
    for model in ("plain", "robust"):
        weights = [safetensors.torch.load_file(place / model / "model.safetensors") for place in (gold_run, folder)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    metrics = [read_record(place / "evaluation")["metrics"] for place in (gold_run, folder)]
    assert metrics[0] == metrics[1]
    actions = [read_record(place / "repaired")["actions"] for place in (gold_run, folder)]
    assert actions[0] == actions[1]


@pytest.mark.parametrize("section, settings, match", [
    ("gold", {"hidden": 100}, "gold: hidden: expected a multiple of 32"),
    ("gold", {"output_dir": "x"}, "gold: output_dir: expected a key of the stage alone"),
    ("read", {"data": "x"}, "read: data: expected a key of the stage alone"),
    ("read", {"label_noise": {"kind": "uniform", "rate": 3}}, "label_noise.rate"),
    ("vote", {"membres": 3}, "vote: membres.*Did you mean members"),
    ("vote", {"heads": {"loss": "x"}}, "vote: loss"),
    ("vote", {"kind": "full", "member": 0}, "vote: member: expected the whole vote"),
    ("vote", {"kind": "full", "train": {"learning_rte": 1}}, "vote: train: learning_rte"),
    ("vote", {"max_length": 100}, "vote: max_length: expected at least that of read, 256"),
    ("repair", {"recipe": "flop"}, "repair: recipe"),
    ("repair", {"fraction": "much"}, "repair: fraction"),
    ("train", {"optim": "adamx"}, "train: .*training arguments"),
    ("train", {"deepspeed": "no/where.json"}, "train: deepspeed"),
    ("train", {"data": "x"}, "train: data"),
    ("evaluate", {"split": "tst"}, "evaluate: split"),
    ("evaluate", {"models": {}}, "evaluate: models"),
    ("audit", {"baseline": "none"}, "audit: baseline"),
    ("audit", {"suspicious": 0}, "audit: suspicious"),
])
def test_every_fault_is_told_before_the_first_stage_starts(tmp_path, section, settings, match):
    config = {"output_dir": str(tmp_path / "out"), "max_length": 256, section: settings}
    with pytest.raises(InputError, match=match):
        run(build_config(RunConfig, config, "test"))
    assert not (tmp_path / "out").exists()


def test_stages_that_do_not_fit_together_are_refused(tmp_path):
    def plan(**settings):
        check_plan(make_plan(build_config(RunConfig, {"output_dir": str(tmp_path), **settings}, "test")))

    plan(repair={"fraction": "estimated"})
    with pytest.raises(InputError, match="cross-fitted votes"):
        plan(vote={"folds": 0}, repair={"fraction": "estimated"})
    with pytest.raises(InputError, match="read: test_fraction: expected test pairs"):
        plan(data="pairs.jsonl", read={"test_fraction": 0.0})
    assert make_plan(RunConfig("out", "pairs.jsonl")).gold is not None  # for the base model alone
    assert make_plan(RunConfig("out", "pairs.jsonl", "model")).gold is None


def test_a_launchers_ranks_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="train.processes"):
        run(RunConfig(str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
