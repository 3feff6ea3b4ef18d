"""`rmkit run`: nothing is repeated, a killed run continues to the same results, errors come before the first step."""

import os
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
import yaml

from rmkit.commands.run import RunConfig, plan_run, run
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record

pytestmark = pytest.mark.slow
STEPS = ("synthetic", "pairs", "votes", "repaired", "plain", "robust", "evaluation", "report")


def list_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_has_every_step_and_its_report(synthetic_run):
    records = {step: read_record(synthetic_run / step) for step in STEPS}
    assert all(records.values())
    assert {records[step]["config"].get("max_length", 256) for step in STEPS} == {256}
    assert records["robust"]["inputs"]["data"] == records["repaired"]["key"]
    assert records["plain"]["inputs"]["data"] == records["pairs"]["key"]
    assert records["pairs"]["n_flipped"] == 36
    page = (synthetic_run / "report/report.html").read_text()
    for model in ("plain", "robust"):
        assert f"{100 * records['evaluation']['metrics'][model]['accuracy']:.1f}" in page


def test_a_second_run_repeats_only_what_depends_on_a_changed_key(settings, tmp_path):
    run(RunConfig(**settings, output_dir=str(tmp_path)))
    times = list_times(tmp_path)
    run(RunConfig(**settings, output_dir=str(tmp_path)))
    assert list_times(tmp_path) == times
    run(RunConfig(**{**settings, "output_dir": str(tmp_path), "repair": {"recipe": "smooth", "fraction": 0.1}}))
    later = list_times(tmp_path)
    records = {step: tmp_path / step / "stage.json" for step in STEPS}
    repeated = {step for step, record in records.items() if later[record] != times[record]}
    assert repeated == {"repaired", "robust", "evaluation", "report"}
    assert read_record(tmp_path / "repaired")["recipe"] == "smooth"


def test_a_run_killed_at_any_moment_continues_to_the_same_results(synthetic_run, settings, tmp_path):
    folder = tmp_path / "out"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**settings, "output_dir": str(folder)}))
    for file in ("synthetic/stage.unfinished.json", "votes/stage.unfinished.json", "plain/checkpoint-*/complete.json"):
        process = subprocess.Popen([sys.executable, "-m", "rmkit", "run", str(tmp_path / "run.yaml")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.time() + 120
        while not list(folder.glob(file)) and process.poll() is None and time.time() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, file
    assert read_record(folder / "report") is None
    run(RunConfig(**settings, output_dir=str(folder)))
    for model in ("plain", "robust"):
        expected, actual = (safetensors.torch.load_file(place / model / "model.safetensors")
                            for place in (synthetic_run, folder))
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[name], actual[name]) for name in expected)
    for step, name in (("evaluation", "metrics"), ("repaired", "actions")):
        assert read_record(folder / step)[name] == read_record(synthetic_run / step)[name]


@pytest.mark.parametrize("settings, match", [
    ({"synthetic": {"hidden": 100}}, "synthetic.hidden: expected"),
    ({"synthetic": {"output_dir": "x"}}, "synthetic.output_dir: expected no value"),
    ({"read": {"label_noise": {"kind": "uniform", "rate": 3}}}, "label_noise.rate"),
    ({"vote": {"membres": 3}}, "vote.*membres.*Did you mean .*members"),
    ({"vote": {"heads": {"loss": "x"}}}, "vote.*loss"),
    ({"vote": {"voters": "full", "member": 0}}, "vote.member: expected the whole vote"),
    ({"vote": {"voters": "full", "train": {"learning_rte": 1}}}, "vote.*train.*learning_rte"),
    ({"vote": {"max_length": 100}}, "vote.max_length: expected at least that of read, 256"),
    ({"vote": {"folds": 0}, "repair": {"fraction": "estimated"}}, "repair.fraction: expected cross-fitted votes"),
    ({"repair": {"recipe": "flop"}}, "repair.*recipe"),
    ({"train": {"contrastive": "simcsi"}}, "train.contrastive: expected one of"),
    ({"train": {"deepspeed": "no/where.json"}}, "train.*deepspeed"),
    ({"train": {"loss": "hinge"}}, "train.loss: expected one of bradley_terry"),
    ({"train": {"lr_scheduler_type": "cosin"}}, "train: expected settings that fit together"),
    ({"vote": {"voters": "full", "train": {"loss_kwargs": {"x": 1}}}}, "vote.train.loss_kwargs: expected"),
    ({"vote": {"voters": "full", "train": {"bf16": True, "fp16": True}}}, "vote.train: expected settings that fit"),
    ({"evaluate": {"split": "tst"}}, "evaluate.split"),
    ({"report": {"baseline": "none"}}, "report.baseline"),
    ({"data": "pairs.jsonl", "read": {"test_fraction": 0.0}}, "read.test_fraction: expected test pairs"),
])
def test_errors_come_before_the_first_step(tmp_path, settings, match):
    with pytest.raises(InputError, match=match):
        run(RunConfig(**{"output_dir": str(tmp_path / "out"), "max_length": 256, **settings}))
    assert not (tmp_path / "out").exists()


def test_synthetic_data_are_made_where_they_are_used(tmp_path):
    assert "synthetic" in plan_run(RunConfig(output_dir=str(tmp_path), data="pairs.jsonl"))  # for the model
    assert "synthetic" not in plan_run(RunConfig(output_dir=str(tmp_path), data="pairs.jsonl", model_name_or_path="m"))


def test_a_launchers_ranks_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="run: expected one process.* num_processes in vote.train and train"):
        run(RunConfig(output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
