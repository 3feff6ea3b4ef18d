"""The benchmark of kills: a resumed run is equal, unequal or failed, and a kill is named by what it hit."""

import sys

import pytest

from benchmarks.systems import kills

# Counts to 40, with a complete checkpoint at the start and one every fifth number; continues from the last one.
RUN = """
import json, pathlib, sys, time
kind, folder = sys.argv[1], pathlib.Path(sys.argv[3])
folder.mkdir(exist_ok=True)
(folder / "stage.unfinished.json").touch()
time.sleep(0.1)
complete = [int(file.parent.name[11:]) for file in folder.glob("checkpoint-*/complete.json")]
if kind == "fails" and list(folder.glob("checkpoint-*")):
    sys.exit(1)
if not complete:
    (folder / "first").mkdir(exist_ok=True)
    (folder / "first" / "complete.json").touch()
    (folder / "first").rename(folder / "checkpoint-0")
for number in range(max(complete, default=0) + 1, 41):
    time.sleep(0.01)
    if number % 5 == 0:
        checkpoint = folder / f"checkpoint-{number}"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "state").touch()
        time.sleep(0.15)
        (checkpoint / "complete.json").touch()
(folder / "model.safetensors").write_text(f"{number} {kind if complete else ''}")
"""


@pytest.mark.parametrize("kind, end", [("", "equal"), ("forgets", "unequal"), ("fails", "failed")])
def test_a_trial_says_how_the_resumed_run_ended(tmp_path, kind, end):
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "undisturbed" / "model.safetensors").write_text("40 ")
    trial = kills.run_trial([sys.executable, "-c", RUN, kind], tmp_path / "undisturbed", tmp_path / "trial",
                            ["model.safetensors"], kills=1, first=2, seconds=0.3, seed=1)
    assert trial["hits"] in (["while saving"], ["elsewhere"])  # the latter where the save ends before the kill
    assert trial["end"] == end


def test_a_kill_is_named_by_what_it_hit(tmp_path):
    command, folder = [sys.executable, "-c", RUN, ""], tmp_path / "trial"
    assert kills.start_and_kill(command, folder, after=0.0, at_save=False, delay=0.0) == "at start-up"
    assert kills.start_and_kill(command, folder, after=60.0, at_save=False, delay=0.0) == "finished"
    assert (folder / "model.safetensors").read_text() == "40 "
    assert kills.start_and_kill([*command[:3], "fails"], folder, after=60.0, at_save=False, delay=0.0) == "failed"
