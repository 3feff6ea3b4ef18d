"""Merging members: who is absent and why, what is refused, and that nothing is mixed or lost on the way."""

import contextlib
import shutil

import numpy as np
import pyarrow.parquet as parquet
import pytest
from datasets import Dataset

from rmkit.commands import vote_members
from rmkit.commands.vote import vote
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data.parquet import load_split


def reward_of(response, member):
    return len(response[-1]["content"]) + 0.1 * member + 0.01 * (ord(response[-1]["content"][-3]) % 7)


@pytest.fixture
def models(monkeypatch):
    """Models that need no training: they reward length. `models` holds what shall happen in training, by member."""
    orders = {}

    def train(config):
        member = int(config.output_dir.split("-members/")[1].split("/")[0])
        if member in orders:
            raise orders[member]

    def score_with(place, rows, **_):
        member = int(str(place).split("-members/")[1].split("/")[0])
        return tuple(np.array([reward_of(row[side], member) for row in rows]) for side in ("chosen", "rejected"))

    monkeypatch.setattr(vote_members, "train", train)
    monkeypatch.setattr(vote_members, "score_pairs_from_path", score_with)
    return orders


@pytest.fixture
def full(configure, models):
    """full(**settings): a vote of 4, in-sample, by models that need no training."""
    def make(**settings):
        return configure(**{"voters": "full", "folds": 0, "members": 4, **settings})

    return make


def cast(full, *members, **settings):
    for member in members:
        vote(full(member=member, **settings))


def list_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def swap_first(folder):
    first, *rows = load_split(folder, "train").to_list()
    first |= {"chosen": first["rejected"], "rejected": first["chosen"]}
    Dataset.from_list([first, *rows]).to_parquet(folder / "train.parquet")


def test_absent_members_are_named_and_a_partial_vote_is_made_only_when_asked_for(full, models, tmp_path, capsys):
    cast(full, 3, 0)
    models[1] = InputError("training stopped in step 3: loss: expected a finite number, got nan.")
    with pytest.raises(InputError, match="^member 1: training stopped in step 3"):
        cast(full, 1)
    models[2] = RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="CUDA"):
        cast(full, 2)
    del models[2]
    shutil.rmtree(tmp_path / "votes-members/0")
    before = list_files(tmp_path)
    for settings, wanted in (({}, "all 4"), ({"allow_missing": True}, "2 or more")):
        with pytest.raises(InputError) as refusal:
            vote(full(merge=True, **settings))
        assert f"votes-members: expected {wanted} members' votes, got those of 1. " in str(refusal.value)
        assert "Member 0 is missing: run `rmkit vote ... --member 0`." in str(refusal.value)
        assert "Member 1 failed (training stopped in step 3: loss: expected a finite" in str(refusal.value)
        assert "Member 2 failed (RuntimeError: CUDA out of memory. Tried to allocate 2 GiB)" in str(refusal.value)
        assert "Member 3" not in str(refusal.value) and ("--allow_missing" in str(refusal.value)) == (not settings)
    assert list_files(tmp_path) == before

    cast(full, 2)
    capsys.readouterr()
    folder = vote(full(merge=True, allow_missing=True))
    assert capsys.readouterr().out.startswith("vote of 2 of 4 (full, in-sample): ")
    record = read_record(folder)
    assert record["members"] == 2 and record["missing"].keys() == {"0", "1"}
    assert record["missing"]["1"].startswith("failed (training stopped") and record["config"]["members"] == 4
    votes = load_split(folder, "train")
    expected = [[reward_of(row["chosen"], member) for member in (2, 3)] for row in votes]
    np.testing.assert_array_equal(votes["rewards_chosen"][:], expected)
    before = list_files(folder)
    with pytest.raises(InputError, match="expected all 4 members' votes, got those of 2"):
        vote(full(merge=True))
    vote(full(merge=True, allow_missing=True))
    assert list_files(folder) == before  # neither spoilt nor redone

    cast(full, 0)
    assert read_record(vote(full(merge=True, allow_missing=True)))["members"] == 3  # the newcomer is not forgotten
    del models[1]
    cast(full, 1)
    assert "failed" not in (tmp_path / "votes-members/1/member.json").read_text()
    record = read_record(vote(full(merge=True)))
    assert record["members"] == 4 and record["missing"] == {}
    assert "vote of 4 (full, in-sample): " in capsys.readouterr().out
    key = record["key"]
    for job in ({"merge": True, "allow_missing": True}, {"merge": True}, {}):
        assert read_record(vote(full(**job)))["key"] == key  # all of them is all of them


def test_a_vote_goes_on_without_its_members_folders_once_it_is_merged(full, tmp_path):
    cast(full, 0, 1, 2, 3)
    folder = vote(full(merge=True))
    before = list_files(folder)
    shutil.rmtree(tmp_path / "votes-members")
    assert vote(full(merge=True)) == vote(full()) == folder
    assert list_files(tmp_path / "votes") == before and not (tmp_path / "votes-members").exists()


def test_more_members_are_added_to_those_that_have_voted(full, tmp_path):
    vote(full(members=2))
    before = list_files(tmp_path / "votes-members")
    vote(full(members=3))
    assert before.items() < list_files(tmp_path / "votes-members").items()
    assert read_record(tmp_path / "votes")["members"] == 3


@pytest.mark.parametrize("finished", [True, False])
def test_members_of_another_vote_are_neither_mixed_nor_destroyed(full, models, tmp_path, pairs_folder, finished):
    other = {"train": {"max_steps": 3, "learning_rate": 1e-4}, "seed": 5}
    vote(full(members=2))
    with contextlib.nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        models |= {} if finished else {2: KeyboardInterrupt()}
        cast(full, 2, **other)
    models.clear()
    cast(full, 3)
    before = list_files(tmp_path)
    told = "member 2 in .*votes-members/2: expected one of this vote, got seed 5 instead of 0; train.learning_rate " \
           "0.0001 instead of None; train.max_steps 3 instead of None. Name another output_dir"
    for job in ({"member": 2}, {"merge": True}, {"merge": True, "allow_missing": True}, {}):
        with pytest.raises(InputError, match=told):
            vote(full(**job))
    swap_first(pairs_folder)
    before[pairs_folder / "train.parquet"] = (pairs_folder / "train.parquet").stat().st_mtime_ns
    with pytest.raises(InputError, match="member 0 in .* got other contents of data. "):
        vote(full(members=2))
    assert list_files(tmp_path) == before


def test_another_base_model_or_number_are_refused(full, tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    cast(full, 0, 2, 3)
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    cast(full, 1, model_name_or_path=str(base))
    with pytest.raises(InputError, match="member 1 in .* got other contents of model"):
        vote(full(merge=True))
    shutil.rmtree(tmp_path / "votes-members/1")
    shutil.copytree(tmp_path / "votes-members/0", tmp_path / "votes-members/1")
    with pytest.raises(InputError, match="member 1 in .* got member 0 instead of 1"):
        vote(full(merge=True))


def test_members_come_together_from_machines_with_other_paths(full, tiny_base, tmp_path, pairs_folder):
    """Data in another order, in other places; the base model is not there any more when they are merged."""
    expected = load_split(vote(full(members=2)), "train").to_list()
    for member in range(2):
        machine = tmp_path / f"machine-{member}"
        shutil.copytree(tiny_base, machine / "base")
        shutil.copytree(pairs_folder, machine / "pairs")
        if member:
            rows = load_split(pairs_folder, "train").to_list()
            Dataset.from_list(rows[::-1]).to_parquet(machine / "pairs/train.parquet")
        places = {"data": str(machine / "pairs"), "model_name_or_path": str(machine / "base"),
                  "output_dir": str(machine / "here")}
        cast(full, member, members=2, **places)
        shutil.copytree(machine / f"here-members/{member}", tmp_path / f"together-members/{member}")
        shutil.rmtree(machine)
    folder = vote(full(members=2, merge=True, model_name_or_path="gone", output_dir=str(tmp_path / "together")))
    assert load_split(folder, "train").to_list() == expected


def test_a_copy_that_was_cut_short_is_refused(full, tmp_path):
    cast(full, 0, 1, 2, 3)
    scores = tmp_path / "votes-members/2/scores/train.parquet"
    table, whole = parquet.read_table(scores), scores.read_bytes()
    scores.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="2/scores/train.parquet: expected the member's rewards of every pair"):
        vote(full(merge=True))
    parquet.write_table(table.slice(2), scores)
    with pytest.raises(InputError, match="got no votes on 2 of the pairs"):
        vote(full(merge=True))
    scores.unlink()
    with pytest.raises(InputError, match="2/scores/train.parquet.* Copy the member's folder again"):
        vote(full(merge=True))
    scores.write_bytes(whole)
    assert read_record(vote(full(merge=True)))["members"] == 4


def test_ids_have_to_tell_pairs_apart(full, pairs_folder, tmp_path):
    rows = load_split(pairs_folder, "train").to_list()
    Dataset.from_list([*rows, rows[3]]).to_parquet(pairs_folder / "train.parquet")
    with pytest.raises(InputError, match="train: id: expected a unique one for each pair, got 24 ids of 25 pairs"):
        cast(full, 0)
    assert not (tmp_path / "votes-members").exists()
