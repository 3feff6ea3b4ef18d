"""One member's vote: which pairs its models have seen, and that a job of its own gives what the plain vote gives."""

import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml

from rmkit.cli import main
from rmkit.commands import vote_members
from rmkit.commands.vote import vote
from rmkit.core.config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import read_record
from rmkit.data.parquet import load_split
from rmkit.ensembles.folds import assign_folds
from rmkit.models.scoring import score_pairs_from_path

pytestmark = pytest.mark.slow
TRAINING = {"max_steps": 2, "learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
PATIENCE = 120  # seconds
train = vote_members.train


def test_cross_fitted_members_never_saw_the_pair(configure, tmp_path, monkeypatch):
    lessons = {}

    def train_and_note(config):
        lessons[config.output_dir] = parquet.read_table(f"{config.data}/train.parquet")["id"].to_pylist()
        return train(config)

    monkeypatch.setattr(vote_members, "train", train_and_note)
    pairs = load_split(vote(configure(voters="full", folds=2, train=TRAINING)), "train")
    fold_of_pair = assign_folds([str(prompt) for prompt in pairs["prompt"]], 2, seed=derive_seed(0, "folds"))
    for fold in range(2):
        held_out = np.flatnonzero(fold_of_pair == fold)
        for member in range(2):
            place = tmp_path / f"votes-members/{member}/without-fold-{fold}"
            seen = lessons[str(place)]
            assert not set(seen) & {pairs["id"][int(row)] for row in held_out} and len(seen) + len(held_out) == 24
            assert read_record(place)["rows"] == len(seen)
            expected, _ = score_pairs_from_path(place, pairs.select(held_out), max_length=128)
            np.testing.assert_allclose(np.array(pairs["rewards_chosen"][:])[held_out, member], expected, atol=1e-5)
    assert not list(tmp_path.glob("votes-members/*/fold_pairs"))


def test_a_vote_that_was_stopped_trains_only_what_is_missing(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("rmkit.core.stage.LARGE_FILE", 1)  # as with large data: files are known by their times
    config = configure(voters="full", folds=2, train=TRAINING)
    trained = []

    def stop_after_three(member_config):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(member_config.output_dir)
        return train(member_config)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(vote_members, "train", stop_after_three)
        vote(config)
    finished = list(tmp_path.glob("votes-members/*/*/model.safetensors"))
    times = [path.stat().st_mtime_ns for path in finished]
    assert len(finished) == 3 and read_record(config.output_dir) is None
    assert [read_record(tmp_path / f"votes-members/{member}") is None for member in range(2)] == [False, True]
    vote(config)
    assert [path.stat().st_mtime_ns for path in finished] == times
    assert len(list(tmp_path.glob("votes-members/*/*/model.safetensors"))) == 4


def test_jobs_of_their_own_and_a_merge_are_the_plain_vote_bit_for_bit(
    configure, pairs_folder, tmp_path, monkeypatch, capsys
):
    """Members by the command line in no order, one in a process of its own that is killed; pairs shuffled meanwhile."""
    settings = {"voters": "full", "folds": 2, "train": TRAINING}
    plain = vote(configure(**settings))
    (tmp_path / "vote.yaml").write_text(yaml.safe_dump(as_dict(configure(**settings))))
    jobs = tmp_path / "jobs"
    words = ["vote", "--config", str(tmp_path / "vote.yaml"), "--output_dir", str(jobs)]
    killed = subprocess.Popen([sys.executable, "-m", "rmkit", *words, "--member", "1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / "jobs-members/1/without-fold-0/stage.json"
    deadline = time.time() + PATIENCE
    while not first.exists() and killed.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert main([*words, "--merge"]) == 2
    told = capsys.readouterr().err
    assert "Member 0 is missing: run `rmkit vote ... --member 0`." in told and "Member 1 is unfinished" in told
    made = first.stat().st_mtime_ns
    assert main([*words, "--member", "1"]) == main([*words, "--member=0"]) == 0
    assert first.stat().st_mtime_ns == made
    assert main([*words, "--member"]) == 2  # what an unset variable leaves
    assert "member: expected int >= 0 or null, got True. Give the number." in capsys.readouterr().err
    assert not jobs.exists()

    def refuse_to_train(config):
        raise AssertionError

    monkeypatch.setattr(vote_members, "train", refuse_to_train)
    assert main([*words, "--merge"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("vote of 2 (full, cross-fitted)")
    for split in ("train", "validation"):
        tables = [parquet.read_table(folder / f"{split}.parquet") for folder in (plain, jobs)]
        assert tables[0].equals(tables[1]) and tables[0]["rewards_chosen"].to_pylist()[0][0] != 0
    made = (jobs / "stage.json").stat().st_mtime_ns
    assert main(words) == main([*words, "--merge"]) == 0 and (jobs / "stage.json").stat().st_mtime_ns == made
    rows = load_split(pairs_folder, "train").to_list()
    type(load_split(pairs_folder, "train")).from_list(rows[7:] + rows[:7]).to_parquet(pairs_folder / "train.parquet")
    assert main([*words, "--merge"]) == 0
    turned = parquet.read_table(jobs / "train.parquet")["id"].to_pylist()
    assert turned == [row["id"] for row in rows[7:] + rows[:7]]
    assert parquet.read_table(jobs / "train.parquet").sort_by("id").equals(
        parquet.read_table(plain / "train.parquet").sort_by("id"))
