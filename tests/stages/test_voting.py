"""The stage `vote`: who scored what, what is written, and what a killed vote keeps."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import read_record
from rmkit.data.tables import load_split
from rmkit.models.folds import assign_folds
from rmkit.models.reward import score_with
from rmkit.ratings.ranking import auroc
from rmkit.stages import electing
from rmkit.stages.voting import VoteConfig, vote

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
TRAINING = {"max_steps": 2, "learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}


@pytest.fixture
def pairs_folder(tiny_pairs, tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    planted = [number % 5 == 0 for number in range(len(tiny_pairs))]
    tiny_pairs.remove_columns(["target", "margin"]).add_column("planted", planted).to_parquet(folder / "train.parquet")
    tiny_pairs.select(range(9)).to_parquet(folder / "validation.parquet")
    return folder


@pytest.fixture
def configure(pairs_folder, tiny_base, tmp_path):
    def make(**settings):
        settings = {"members": 2, "max_length": 128, "output_dir": str(tmp_path / "votes"), **settings}
        return VoteConfig(data=str(pairs_folder), model_name_or_path=str(tiny_base), **settings)

    return make


@pytest.mark.parametrize("folds, voting", [(0, "in-sample"), (3, "cross-fitted")])
def test_heads_write_every_pair_with_its_votes(configure, tiny_pairs, folds, voting, capsys):
    folder = vote(configure(members=4, folds=folds))
    record = read_record(folder)
    assert (record["voting"], record["kind"], record["members"]) == (voting, "heads", 4)
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
    assert record["planted_auroc"] == pytest.approx(auroc(-gaps.mean(axis=1), np.array(train["planted"][:])))
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
    gaps = []
    for rows in (flipped, first.select_columns(["id", "prompt", "chosen", "rejected", "source"]).to_list()):
        type(tiny_pairs).from_list(rows).to_parquet(pairs_folder / "train.parquet")
        gaps.append(load_split(vote(configure(folds=0, heads={"epochs": 30})), "train")["strength_mean"][3])
    assert abs(gaps[0] + gaps[1]) > 1e-3  # in-sample, it does


def test_full_members_differ_and_are_the_models_in_their_folders(configure, pairs_folder):
    config = configure(kind="full", folds=0, loss="bradley_terry", train=TRAINING)
    folder = vote(config)
    assert read_record(folder)["voting"] == "in-sample" and read_record(folder)["kind"] == "full"
    members = [folder / "members" / str(member) for member in range(2)]
    assert len({read_record(member)["config"]["seed"] for member in members}) == 2
    assert {read_record(member)["config"]["data"] for member in members} == {str(pairs_folder)}
    for split in ("train", "validation"):
        votes = load_split(folder, split)
        for member, place in enumerate(members):
            expected = score_with(
                place, load_split(pairs_folder, split), max_length=128, batch_size=5, trust_remote_code=False)
            for name, values in zip(("rewards_chosen", "rewards_rejected"), expected, strict=True):
                np.testing.assert_allclose(np.array(votes[name][:])[:, member], values, atol=1e-5)
        rewards = np.array(votes["rewards_chosen"][:])
        assert np.abs(rewards[:, 0] - rewards[:, 1]).min() > 1e-4


def test_cross_fitted_members_never_saw_the_pair(configure, pairs_folder):
    config = configure(kind="full", folds=2, train=TRAINING)
    folder = vote(config)
    train = load_split(folder, "train")
    fold_of_pair = assign_folds([str(prompt) for prompt in train["prompt"]], 2, seed=derive_seed(0, "folds"))
    for fold in range(2):
        held_out = np.flatnonzero(fold_of_pair == fold)
        seen = parquet.read_table(folder / f"members/fold-{fold}/train.parquet")["id"].to_pylist()
        assert not set(seen) & {train["id"][int(row)] for row in held_out} and len(seen) + len(held_out) == 24
        for member in range(2):
            place = folder / f"members/{member}-without-fold-{fold}"
            record = read_record(place)
            assert record["config"]["data"].endswith(f"fold-{fold}") and record["rows"] == len(seen)
            expected, _ = score_with(
                place, train.select(held_out), max_length=128, batch_size=32, trust_remote_code=False)
            np.testing.assert_allclose(np.array(train["rewards_chosen"][:])[held_out, member], expected, atol=1e-5)


def test_a_vote_that_was_stopped_trains_only_what_is_missing(configure, monkeypatch):
    monkeypatch.setattr("rmkit.core.stages.LARGE_FILE", 1)  # as with large data: files are known by their times
    config = configure(kind="full", folds=2, train=TRAINING)
    trained = []

    def stop_after_three(member_config):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(member_config.output_dir)
        return train(member_config)

    train = electing.train
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(electing, "train", stop_after_three)
        vote(config)
    finished = [Path(place) / "model.safetensors" for place in trained]
    times = [path.stat().st_mtime_ns for path in finished]
    assert read_record(config.output_dir) is None
    vote(config)
    assert [path.stat().st_mtime_ns for path in finished] == times
    assert len(list(Path(config.output_dir).glob("members/*/model.safetensors"))) == 4


@pytest.mark.parametrize("settings, match", [
    ({"members": 1}, "members"),
    ({"folds": 1}, "folds"),
    ({"kind": "heads", "train": {"max_steps": 1}}, "train: expected no keys with kind 'heads'"),
    ({"kind": "full", "heads": {"epochs": 1}}, "heads: expected no keys with kind 'full'"),
    ({"heads": {"epoch": 1}}, "heads: epoch: expected a known key.*epochs"),
    ({"heads": {"members": 1}}, "members: expected a key of this section alone"),
    ({"kind": "full", "train": {"seed": 1}}, "seed: expected a key of this section alone"),
    ({"kind": "full", "train": {"lr_scheduler_type": "cosin"}}, "training arguments"),
    ({"batch_size": 0}, "batch_size"),
])
def test_settings_are_checked_before_anything_starts(configure, settings, match):
    with pytest.raises(InputError, match=match):
        configure(**settings)


def test_a_vote_on_votes_replaces_them(configure, tmp_path, tiny_base):
    folder = vote(configure(folds=0))
    again = vote(VoteConfig(str(folder), str(tiny_base), str(tmp_path / "again"), members=3, folds=0, max_length=128))
    assert np.array(load_split(again, "train")["rewards_chosen"][:]).shape == (24, 3)


def test_data_without_pairs_is_refused_and_nothing_is_made(configure, tmp_path):
    config = configure()
    for data in (tmp_path, tmp_path / "nowhere"):
        config.data = str(data)
        with pytest.raises(InputError, match="a stage's folder with train.parquet"):
            vote(config)
    assert not (tmp_path / "votes").exists()
