"""The stage `vote` with adapters: who scored what, what is kept, and what a killed vote does not do again."""

import numpy as np
import pytest
import safetensors.torch

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import read_record
from rmkit.data.tables import load_split
from rmkit.models.adapters import AdaptersConfig, train_adapters
from rmkit.models.features import extract_features
from rmkit.models.folds import assign_folds
from rmkit.models.heads import Heads
from rmkit.models.reward import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_pairs
from rmkit.stages.voting import VoteConfig, adapting, vote
from rmkit.training.lora import merge_lora

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
LORA = {"rank": 2, "epochs": 1, "batch_size": 8, "learning_rate": 3e-3}


@pytest.fixture
def configure(tiny_pairs, tiny_base, tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    tiny_pairs.remove_columns(["target", "margin"]).to_parquet(folder / "train.parquet")
    tiny_pairs.select(range(9)).to_parquet(folder / "validation.parquet")

    def make(**settings):
        settings = {"kind": "lora", "members": 2, "max_length": 128, "lora": LORA,
                    "output_dir": str(tmp_path / "votes"), **settings}
        return VoteConfig(data=str(folder), model_name_or_path=str(tiny_base), **settings)

    return make


def read_rewards(folder, split):
    rows = load_split(folder, split)
    return [np.array(rows[name][:]).T for name in ("rewards_chosen", "rewards_rejected")]


def score(trained, pairs):
    return trained.score(pairs, extract_features(pairs, trained.path, max_length=128))


def test_in_sample_members_score_every_pair_and_are_kept_as_peft_adapters(configure, tiny_pairs, tiny_base):
    folder = vote(configure(folds=0))
    record = read_record(folder)
    assert (record["voting"], record["kind"], record["members"]) == ("in-sample", "lora", 2)
    tokenizer = load_tokenizer(tiny_base)
    heads = Heads(**safetensors.torch.load_file(folder / "adapters" / "all" / "heads.safetensors"))
    for split, pairs in (("train", tiny_pairs), ("validation", tiny_pairs.select(range(9)))):
        rewards = read_rewards(folder, split)
        features = extract_features(pairs, tiny_base, max_length=128)
        own = [heads.score(side) for side in features]
        for member in range(2):
            base = load_reward_model(tiny_base, tokenizer, seed=7)
            model = merge_lora(base, folder / "adapters" / "all" / str(member))
            expected = score_pairs(model, tokenizer, pairs, max_length=128)
            for side in range(2):
                np.testing.assert_allclose(rewards[side][member], expected[side] + own[side][member], atol=1e-5)
    assert np.abs(rewards[0][0] - rewards[0][1]).max() > 1e-3


def test_cross_fitted_members_never_saw_the_pair(configure, tiny_pairs, tiny_base):
    folder = vote(configure(folds=3, loss="bradley_terry"))
    assert read_record(folder)["voting"] == "cross-fitted" and read_record(folder)["noise_rate"] is not None
    fold_of_pair = assign_folds([str(row) for row in tiny_pairs["prompt"]], 3, seed=derive_seed(0, "folds"))
    config = AdaptersConfig(members=2, loss="bradley_terry", **LORA)
    for fold in range(3):
        held_out = np.flatnonzero(fold_of_pair == fold)
        lessons = tiny_pairs.select(np.flatnonzero(fold_of_pair != fold))
        features = extract_features(lessons, tiny_base, max_length=128)
        trained = train_adapters(lessons, features, tiny_base, config, max_length=128, seed=0)
        for side, expected in enumerate(score(trained, tiny_pairs.select(held_out))):
            np.testing.assert_allclose(read_rewards(folder, "train")[side][:, held_out], expected, atol=1e-5)
        if fold == 0:
            for side, expected in enumerate(score(trained, tiny_pairs.select(range(9)))):
                np.testing.assert_allclose(read_rewards(folder, "validation")[side], expected, atol=1e-5)


def test_a_vote_that_was_stopped_trains_only_what_is_missing(configure, monkeypatch):
    config = configure(folds=3)
    trained = []
    train = adapting.train_adapters

    def stop_after_two(lessons, *others, **named):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(len(lessons))
        return train(lessons, *others, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adapting, "train_adapters", stop_after_two)
        vote(config)
    assert read_record(config.output_dir) is None
    monkeypatch.setattr(adapting, "train_adapters", lambda *others, **named: trained.append("again") or train(
        *others, **named))
    stopped = read_rewards(vote(config), "train")
    assert trained.count("again") == 1
    whole = read_rewards(vote(configure(folds=3, output_dir=f"{config.output_dir}-whole")), "train")
    for side in range(2):
        np.testing.assert_array_equal(stopped[side], whole[side])


@pytest.mark.parametrize("settings, match", [
    ({"heads": {"epochs": 1}}, "heads: expected no keys with kind 'lora'"),
    ({"kind": "heads"}, "lora: expected no keys with kind 'heads'"),
    ({"lora": {"rang": 1}}, "lora: rang: expected a known key.*rank"),
    ({"lora": {"members": 3}}, "members: expected a key of this section alone"),
    ({"lora": {"rank": 0}}, "rank: expected at least 1"),
    ({"member": 0}, "member: expected members of kind full"),
])
def test_settings_are_checked_before_anything_starts(configure, settings, match):
    with pytest.raises(InputError, match=match):
        configure(**settings)
