"""The benchmark of kills tells a run that goes on from one that does not: a resumed run is equal, unequal or failed."""

import sys

import pytest

from benchmarks.systems import kills

# Counts to 40, with a checkpoint that is there whole from the start and one every fifth number; goes on from the last.
RUN = """
import json, pathlib, sys, time
kind, folder = sys.argv[1], pathlib.Path(sys.argv[3])
folder.mkdir(exist_ok=True)
(folder / "stage.unfinished.json").touch()
time.sleep(0.1)
sealed = [int(file.parent.name[11:]) for file in folder.glob("checkpoint-*/complete.json")]
if kind == "fails" and list(folder.glob("checkpoint-*")):
    sys.exit(1)
if not sealed:
    (folder / "first").mkdir(exist_ok=True)
    (folder / "first" / "complete.json").touch()
    (folder / "first").rename(folder / "checkpoint-0")
for number in range(max(sealed, default=0) + 1, 41):
    time.sleep(0.01)
    if number % 5 == 0:
        place = folder / f"checkpoint-{number}"
        place.mkdir(exist_ok=True)
        (place / "state").touch()
        time.sleep(0.15)
        (place / "complete.json").touch()
(folder / "model.safetensors").write_text(f"{number} {kind if sealed else ''}")
"""


@pytest.mark.parametrize("kind, end", [("", "equal"), ("forgets", "unequal"), ("fails", "failed")])
def test_a_trial_tells_how_the_resumed_run_ended(tmp_path, kind, end):
    command = [sys.executable, "-c", RUN, kind]
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "undisturbed" / "model.safetensors").write_text("40 ")
    trial = kills.run_trial(command, tmp_path / "undisturbed", tmp_path / "trial", ["model.safetensors"],
                            kills=1, first=2, seconds=0.3, seed=1)
    assert trial["hits"] in (["while saving"], ["in training"])  # the latter where a save ends before the kill arrives
    assert trial["end"] == end


def test_a_kill_is_named_by_what_it_hit(tmp_path):
    command = [sys.executable, "-c", RUN, ""]
    folder = tmp_path / "trial"
    assert kills.strike(command, folder, after=0.0, at_save=False, delay=0.0) == "at start-up"
    assert kills.strike(command, folder, after=60.0, at_save=False, delay=0.0) == "finished"
    assert (folder / "model.safetensors").read_text() == "40 "
    assert kills.strike([*command[:3], "fails"], folder, after=60.0, at_save=False, delay=0.0) == "failed"


def test_every_job_and_what_it_leaves_are_named(tmp_path):
    for job in kills.LEFT:
        assert kills.make_command(job, tmp_path)[1:3] == ["-m", "rmkit"]
