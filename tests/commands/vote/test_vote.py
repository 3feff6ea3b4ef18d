"""The stage `vote`: who scored what, what is written, and what is refused."""

import numpy as np
import pyarrow.parquet as parquet
import pytest

from rmkit.commands.vote import VoteConfig, vote
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data import memmap as pages
from rmkit.data import parquet as tables
from rmkit.data.parquet import load_split
from rmkit.ensembles import heads, voting
from rmkit.metrics.correlation import auroc
from rmkit.models.scoring import score_pairs_from_path
from rmkit.preferences import noise as rate

TRAINING = {"max_steps": 2, "learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}


@pytest.mark.parametrize("folds, voting", [(0, "in-sample"), (3, "cross-fitted")])
def test_heads_write_every_pair_with_its_votes(configure, tiny_pairs, folds, voting, capsys):
    folder = vote(configure(members=4, folds=folds))
    record = read_record(folder)
    assert (record["voting"], record["voters"], record["members"]) == (voting, "heads", 4)
    assert record["rows_in"] == record["rows_out"] == 33
    assert voting in capsys.readouterr().out
    assert (folder / "strength.png").read_bytes().startswith(b"\x89PNG")
    train = load_split(folder, "train")
    assert train["id"][:] == tiny_pairs["id"][:] and load_split(folder, "validation")["id"][:] == tiny_pairs["id"][:9]
    assert not (folder / "test.parquet").exists()
    rewards = np.array(train["rewards_chosen"][:]), np.array(train["rewards_rejected"][:])
    assert rewards[0].shape == (24, 4) and rewards[0].dtype == np.float64
    gaps = rewards[0] - rewards[1]
    np.testing.assert_allclose(train["strength_mean"][:], gaps.mean(axis=1))
    np.testing.assert_allclose(train["strength_std"][:], gaps.std(axis=1, ddof=0))
    assert np.abs(np.array(train["strength_std"][:]) - gaps.std(axis=1, ddof=1)).min() > 0
    np.testing.assert_allclose(train["agreement"][:], (gaps > 0).mean(axis=1))
    assert record["flip_auroc"] == pytest.approx(auroc(-gaps.mean(axis=1), np.array(train["is_flipped"][:])))
    assert (record["noise_rate"] is None) == (folds == 0)
    if folds:
        assert 0 <= record["noise_rate"]["low"] <= record["noise_rate"]["rate"] <= record["noise_rate"]["high"] <= 0.5
        clean = load_split(vote(configure(members=4, folds=0, output_dir=str(folder.parent / "other"))), "train")
        assert np.abs(np.array(clean["strength_mean"][:]) - gaps.mean(axis=1)).min() > 1e-9  # other heads scored it


def test_a_head_that_has_not_seen_a_pair_does_not_know_its_label(configure, pairs_folder, tiny_pairs):
    """Flipping a pair's label negates its cross-fitted gap exactly, since nothing that scored it was trained on it."""
    first = load_split(vote(configure(folds=24)), "train")
    flipped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} if row["id"] == "p3" else row
               for row in load_split(pairs_folder, "train").to_list()]
    type(tiny_pairs).from_list(flipped).to_parquet(pairs_folder / "train.parquet")
    gaps = [np.array(votes["strength_mean"][:])[3] for votes in (first, load_split(vote(configure(folds=24)), "train"))]
    assert gaps[0] == pytest.approx(-gaps[1], abs=1e-5) and abs(gaps[0]) > 1e-3


@pytest.mark.parametrize("folds", [0, 3])
def test_a_vote_in_blocks_is_the_vote_at_once(configure, tmp_path, monkeypatch, folds):
    """In small blocks, its large arrays on disk, byte for byte."""
    def read(folder):
        splits = [parquet.read_table(folder / f"{split}.parquet") for split in ("train", "validation")]
        record = read_record(folder)
        return [*splits, record["noise_rate"], record["flip_auroc"]]

    settings = {"members": 4, "folds": folds, "heads": {"batch_size": 8, "epochs": 2}}
    whole = read(vote(configure(**settings)))
    for module, name, value in ((tables, "BLOCK", 5), (pages, "MIN_BYTES", 1),
                                (rate, "BLOCK", 4), (voting, "BLOCK", 6)):
        monkeypatch.setattr(module, name, value)
    mapped = []
    monkeypatch.setattr(heads, "memmap_zeros", lambda *given: mapped.append(pages.memmap_zeros(*given)) or mapped[-1])
    in_blocks = read(vote(configure(**settings, output_dir=str(tmp_path / "blocks"))))
    assert mapped and all(isinstance(array, np.memmap) for array in mapped)
    assert all(one == other for one, other in zip(whole, in_blocks, strict=True))
    if folds:
        assert whole[2] is not None


def test_full_members_differ_and_are_the_models_in_their_folders(configure, pairs_folder, tmp_path):
    folder = vote(configure(voters="full", folds=0, loss="bradley_terry", train=TRAINING))
    assert read_record(folder)["voting"] == "in-sample" and read_record(folder)["voters"] == "full"
    members = [tmp_path / "votes-members" / str(member) / "model" for member in range(2)]
    assert len({read_record(member)["config"]["seed"] for member in members}) == 2
    assert {read_record(member)["config"]["data"] for member in members} == {str(pairs_folder)}
    for split in ("train", "validation"):
        votes = load_split(folder, split)
        for member, place in enumerate(members):
            expected = score_pairs_from_path(
                place, load_split(pairs_folder, split), max_length=128, max_tokens_per_batch=300)
            for name, values in zip(("rewards_chosen", "rewards_rejected"), expected, strict=True):
                np.testing.assert_allclose(np.array(votes[name][:])[:, member], values, atol=1e-5)
        rewards = np.array(votes["rewards_chosen"][:])
        assert np.abs(rewards[:, 0] - rewards[:, 1]).min() > 1e-4


@pytest.mark.parametrize("settings, match", [
    ({"members": 1}, "members"),
    ({"folds": 1}, "folds"),
    ({"voters": "full", "heads": {"epochs": 0}}, "heads.epochs"),
    ({"heads": {"epoch": 1}}, "heads.epoch: expected a known key.*epochs"),
    ({"heads": {"members": 1}}, "heads.members: expected a known key"),
    ({"train": {"max_step": 1}}, "train.*max_step: expected a known key"),
    ({"voters": "full", "train": {"seed": 1}}, "train.seed: expected no value"),
    ({"train": {"num_processes": 0}}, "train.num_processes"),
    ({"max_tokens_per_batch": 0}, "max_tokens_per_batch"),
    ({"member": 0}, "member: expected voters: full, got heads, which are trained together"),
    ({"merge": True}, "merge: expected voters: full"),
    ({"voters": "full", "members": 10, "member": 10}, "member: expected 0 to 9, got 10"),
    ({"voters": "full", "member": -1}, "member: expected int >= 0"),
    ({"voters": "full", "member": 0, "merge": True}, "member and merge: expected one of them"),
    ({"voters": "full", "allow_missing": True}, "allow_missing: expected merge beside it"),
    ({"voters": "full", "member": 0, "allow_missing": True}, "allow_missing: expected merge beside it"),
])
def test_settings_are_checked_before_anything_starts(configure, settings, match):
    with pytest.raises(InputError, match=match):
        configure(**settings)


@pytest.mark.parametrize("train, match", [
    ({"loss_kwargs": {"flip_rate": 0.2}}, "train.loss_kwargs: expected the arguments of loss symmetric: none"),
    ({"lr_scheduler_type": "cosin"}, "train: expected settings that fit together and this machine"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "train: expected settings that fit together and this machine"),
])
def test_training_settings_that_do_not_fit_are_refused_first(configure, tmp_path, train, match):
    with pytest.raises(InputError, match=match):
        vote(configure(voters="full", train=train))
    assert not list(tmp_path.glob("votes*"))


def test_settings_of_the_other_voters_are_not_used(configure, tmp_path):
    """Neither by the vote nor in its key: `voters` changes on the command line with any recipe."""
    keys = [read_record(vote(configure(folds=0, train=train)))["key"] for train in ({}, TRAINING)]
    assert keys[0] == keys[1]
    settings = [configure(voters="full", heads=heads).output_settings() for heads in ({}, {"epochs": 3})]
    assert settings[0] == settings[1]


def test_a_vote_on_votes_replaces_them(configure, tmp_path, tiny_base):
    folder = vote(configure(folds=0))
    again = vote(VoteConfig(
        data=folder, model_name_or_path=tiny_base, output_dir=tmp_path / "again", members=3, folds=0, max_length=128))
    assert np.array(load_split(again, "train")["rewards_chosen"][:]).shape == (24, 3)


def test_data_without_pairs_is_refused_and_nothing_is_made(configure, tmp_path):
    for data in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="a stage's folder with train.parquet"):
            vote(configure(data=data))
    assert not (tmp_path / "votes").exists()


def test_a_launchers_ranks_are_refused(configure, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="num_processes in train"):
        vote(configure(voters="full", member=0))
    assert not (tmp_path / "votes-members").exists()
