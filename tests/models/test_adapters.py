"""Adapters: trained together they are what each would be alone, by PEFT, one after another."""

import math

import numpy as np
import peft
import pytest
import safetensors.torch
import torch
from sklearn.metrics import roc_auc_score

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.data.collate import encode_pairs
from rmkit.models import adapters
from rmkit.models.adapters import HEADS, AdaptersConfig, train_adapters
from rmkit.models.features import extract_features
from rmkit.models.reward import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_pairs
from rmkit.models.stack import AdapterStack
from rmkit.models.windows import Windows, draw_turns

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
SMALL = AdaptersConfig(members=3, rank=2, layers=1, hidden=4, epochs=2, batch_size=5, learning_rate=3e-3)


def change(**settings):
    return AdaptersConfig(**{**vars(SMALL), **settings})


def train_on(pairs, base, config, max_length=128, **settings):
    return train_adapters(pairs, extract_features(pairs, base, max_length=max_length), base, config,
                          max_length=max_length, **settings)


def score(trained, pairs):
    return trained.score(pairs, extract_features(pairs, trained.path, max_length=128))


def train_alone(pairs, base, folder, config, target, margin, seed, member):
    """One member by PEFT, from its saved start, pair after pair through the whole model, the formulas written out.

    Its head on the frozen features too.
    """
    tokenizer = load_tokenizer(base)
    own = derive_seed(seed, "member", member)
    start = AdapterStack(load_reward_model(base, tokenizer, seed=own), [own], rank=config.rank, alpha=config.alpha,
                         layers=config.layers)
    start.save(folder, base)
    model = peft.PeftModel.from_pretrained(
        load_reward_model(base, tokenizer, seed=own), folder / "0", is_trainable=True
    ).eval()
    frozen = torch.tensor(np.stack(extract_features(pairs, base, max_length=128)))
    frozen = (frozen - frozen.mean((0, 1))) / frozen.std((0, 1), correction=0)
    draw = torch.Generator().manual_seed(derive_seed(own, "start"))
    width = frozen.shape[-1]
    weight = (torch.randn(width, config.hidden, generator=draw) / width**0.5).requires_grad_()
    output = (torch.randn(config.hidden, generator=draw) / config.hidden**0.5).requires_grad_()
    bias = torch.zeros(config.hidden, requires_grad=True)

    def read(row):
        return torch.nn.functional.gelu(frozen[:, row] @ weight + bias) @ output

    windows = Windows(pairs, tokenizer, 128, size=adapters.WINDOW * config.batch_size, device="cpu", keep=False,
                      trunk=start.run_trunk)
    optimizer = torch.optim.AdamW(
        [*(parameter for parameter in model.parameters() if parameter.requires_grad), weight, bias, output],
        lr=config.learning_rate, weight_decay=config.weight_decay, foreach=False,
    )
    shared = np.random.default_rng(derive_seed(seed, "windows"))
    order = np.random.default_rng(derive_seed(own, "order"))
    encoded = encode_pairs(pairs, tokenizer, 128)
    steps = config.epochs * sum(math.ceil(len(rows) / config.batch_size) for rows in windows.rows)
    step = 0
    for _ in range(config.epochs):
        for number in shared.permutation(len(windows)):
            window = windows[int(number)]
            for batch in draw_turns(window, [order], config.batch_size):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 - step / steps)
                optimizer.zero_grad()
                total = 0.0
                for row in window.rows[batch[0]]:
                    rewards = [
                        model(input_ids=torch.tensor([encoded[int(row)][f"input_ids_{side}"]])).logits[0, 0] + own
                        for side, own in zip(("chosen", "rejected"), read(row), strict=True)
                    ]
                    gap = rewards[0] - rewards[1] - margin[row]
                    right, wrong = torch.sigmoid(gap), torch.sigmoid(-gap)
                    if config.loss == "bradley_terry":
                        total = total - target[row] * right.log() - (1 - target[row]) * wrong.log()
                    else:
                        total = total + target[row] * wrong + (1 - target[row]) * right
                (total / batch.shape[1]).backward()
                optimizer.step()
                step += 1
    with torch.no_grad():
        return np.stack(score_pairs(model, tokenizer, pairs, max_length=128)) + read(slice(None)).numpy()


@pytest.mark.parametrize("loss", ["symmetric", "bradley_terry"])
def test_members_trained_together_equal_peft_adapters_trained_one_by_one(loss, tiny_pairs, tiny_base, tmp_path,
                                                                         monkeypatch):
    monkeypatch.setattr(adapters, "WINDOW", 2)  # three windows
    rng = np.random.default_rng(1)
    target, margin = rng.uniform(0.6, 1.0, 24), rng.normal(0.0, 0.5, 24)
    config = change(loss=loss)
    trained = train_on(tiny_pairs, tiny_base, config, max_length=128, target=target, margin=margin, seed=5)
    rewards = score(trained, tiny_pairs)
    for member in range(2):
        expected = train_alone(tiny_pairs, tiny_base, tmp_path / str(member), config, target, margin, 5, member)
        for side in range(2):
            np.testing.assert_allclose(rewards[side][member], expected[side], atol=2e-4)
    start = score(train_on(tiny_pairs, tiny_base, change(learning_rate=1e-9), max_length=128, seed=5), tiny_pairs)
    assert np.abs(rewards[0] - start[0]).max() > 0.05 and np.abs(rewards[0][0] - rewards[0][1]).max() > 0.05


def test_a_member_does_not_depend_on_their_number_nor_on_how_many_tokens_are_read_at_once(tiny_pairs, tiny_base):
    rewards = [
        score(train_on(tiny_pairs, tiny_base, config, max_length=128, seed=seed), tiny_pairs)[0]
        for config, seed in ((SMALL, 0), (change(members=1), 0), (change(tokens_at_once=60), 0), (SMALL, 1), (SMALL, 0))
    ]
    np.testing.assert_allclose(rewards[1], rewards[0][:1], atol=1e-5)
    np.testing.assert_allclose(rewards[2], rewards[0], atol=1e-5)
    assert np.abs(rewards[3] - rewards[0]).max() > 0.01
    np.testing.assert_array_equal(rewards[4], rewards[0])


def test_saved_members_score_as_peft_loads_them(tiny_pairs, tiny_base, tmp_path):
    trained = train_on(tiny_pairs, tiny_base, SMALL, max_length=128, seed=0)
    trained.save(tmp_path)
    rewards = score(trained, tiny_pairs)
    heads = safetensors.torch.load_file(tmp_path / HEADS)
    features = extract_features(tiny_pairs, tiny_base, max_length=128)
    tokenizer = load_tokenizer(tiny_base)
    for member in range(3):
        model = peft.PeftModel.from_pretrained(load_reward_model(tiny_base, tokenizer, seed=9), tmp_path / str(member))
        expected = score_pairs(model.merge_and_unload(), tokenizer, tiny_pairs, max_length=128)
        for side in range(2):
            states = (features[side] - heads["mean"].numpy()) / heads["deviation"].numpy()
            units = torch.nn.functional.gelu(torch.tensor(states) @ heads["weight"][member] + heads["bias"][member])
            own = (units @ heads["output"][member])[:, 0].numpy()
            np.testing.assert_allclose(rewards[side][member], expected[side] + own, atol=1e-5)
            assert np.abs(own).max() > 0.1


def test_a_flip_of_sides_with_target_and_margin_changes_nothing(tiny_pairs, tiny_base):
    margin = np.linspace(-1, 1, 24)
    swapped = tiny_pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    kept = train_on(tiny_pairs, tiny_base, SMALL, max_length=128, target=0.9, margin=margin, seed=0)
    other = train_on(swapped, tiny_base, SMALL, max_length=128, target=0.1, margin=-margin, seed=0)
    np.testing.assert_allclose(score(kept, tiny_pairs)[0], score(other, tiny_pairs)[0], atol=1e-4)


def test_members_learn_what_there_is_to_learn_and_find_what_was_flipped(tiny_pairs, tiny_base):
    flipped = np.arange(24) % 6 == 0
    rows = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} if flip else row
            for row, flip in zip(tiny_pairs, flipped, strict=True)]
    trained = train_on(type(tiny_pairs).from_list(rows), tiny_base, change(epochs=8), max_length=128, seed=0)
    chosen, rejected = score(trained, type(tiny_pairs).from_list(rows))
    assert roc_auc_score(flipped, -(chosen - rejected).mean(axis=0)) > 0.9


@pytest.mark.parametrize(("settings", "message"), [
    ({"target": 1.5}, r"probabilities in \[0, 1\]"),
    ({"target": np.ones((24, 1))}, "one number per pair"),
    ({"margin": np.full(24, np.nan)}, "margin: expected finite"),
])
def test_refuses_what_does_not_fit_together(settings, message, tiny_pairs, tiny_base):
    with pytest.raises(InputError, match=message):
        train_on(tiny_pairs, tiny_base, SMALL, seed=0, **settings)


def test_refuses_pairs_longer_than_the_base_has_positions(tiny_pairs, tiny_base):
    long = tiny_pairs.map(lambda row: {"prompt": [{"role": "user", "content": "red stone " * 700}]})
    with pytest.raises(InputError, match="max_length: expected at most the model's 1024 positions"):
        train_on(long, tiny_base, SMALL, max_length=4096, seed=0)


def test_refuses_a_single_pair(tiny_pairs, tiny_base):
    with pytest.raises(InputError, match="at least two"):
        train_on(tiny_pairs.select([0]), tiny_base, SMALL, seed=0)


@pytest.mark.parametrize("settings", [
    {"members": 0}, {"rank": 0}, {"loss": "hinge"}, {"learning_rate": 0.0}, {"alpha": math.inf}, {"weight_decay": -1.0},
    {"tokens_at_once": 0},
])
def test_refuses_settings_out_of_range(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        change(**settings)
