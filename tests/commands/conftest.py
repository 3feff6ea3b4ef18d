"""Shared fixtures: a finished run on tiny synthetic data, pairs to vote on, a short training, a scripted judge."""

import contextlib
import io
import re

import pytest
import yaml

from rmkit.core.seeds import derive_seed
from rmkit.generation import Completion, Generator
from rmkit.models.reward_model import load_reward_model, load_tokenizer

SETTINGS = """\
max_length: 256
synthetic: {train: 120, validation: 60, test: 10, demonstrations: 64, hidden: 32, layers: 2}
read: {label_noise: {kind: uniform, rate: 0.3}}
vote: {members: 3, folds: 2, heads: {epochs: 2}}
repair: {fractions: [0.2, 0.3], recipes: [flip, drop+margin, soft]}
train:
  {per_device_train_batch_size: 16, learning_rate: 1.0e-3, logging_steps: 4, save_steps: 3, report_to: none,
   disable_tqdm: true}
evaluate: {n_bootstrap: 50}
report: {n_suspicious: 5}
"""


@pytest.fixture(scope="session")
def settings():
    return yaml.safe_load(SETTINGS)


@pytest.fixture(scope="session")
def synthetic_run(tmp_path_factory):
    """The folder of a finished run; not to be changed."""
    from rmkit.commands.run import RunConfig, run

    folder = tmp_path_factory.mktemp("run")
    with contextlib.redirect_stdout(io.StringIO()):
        run(RunConfig(**yaml.safe_load(SETTINGS), output_dir=str(folder)))
    return folder


@pytest.fixture
def pairs_folder(tiny_pairs, tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    pairs = tiny_pairs.remove_columns(["target", "margin"])
    pairs = pairs.add_column("is_flipped", [number % 5 == 0 for number in range(len(pairs))])
    pairs.to_parquet(folder / "train.parquet")
    tiny_pairs.select(range(9)).to_parquet(folder / "validation.parquet")
    return folder


@pytest.fixture
def configure(pairs_folder, tiny_base, tmp_path):
    """configure(**settings): a small vote on these pairs."""
    from rmkit.commands.vote import VoteConfig

    def make(**settings):
        paths = {"data": pairs_folder, "model_name_or_path": tiny_base, "output_dir": tmp_path / "votes"}
        return VoteConfig(**{**paths, "members": 2, "max_length": 128, **settings})

    return make


@pytest.fixture
def labelled_folder(tiny_pairs, tmp_path):
    """Pairs to train on, with targets and margins, and some to validate on."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    tiny_pairs.to_parquet(folder / "train.parquet")
    tiny_pairs.select(range(9)).to_parquet(folder / "validation.parquet")
    return folder


@pytest.fixture
def words(labelled_folder, tiny_base, tmp_path):
    """The command line of a short training."""
    settings = {
        "data": labelled_folder, "model_name_or_path": tiny_base, "output_dir": tmp_path / "model", "max_length": 128,
        "disable_tqdm": True, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-3,
    }
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


class Scripted(Generator):
    """Answers by `script(texts by tag, random number in [0, 1))`; `asked`: every prompt that it got."""

    name = "script"

    def __init__(self, script):
        self.script = script
        self.asked = []

    def complete(self, requests):
        for number, request in enumerate(requests):
            prompt = request.prompt[-1]["content"]
            self.asked.append(prompt)
            tagged = re.findall(r"<([\w-]+)>\n(.*?)\n</\1>", prompt, re.DOTALL)
            answer = self.script({tag: text.replace("> ", "") for tag, text in tagged},
                                 derive_seed(request.seed, prompt) / 2**31)
            yield number, Completion(answer, "stop", 50, 5) if isinstance(answer, str) else answer


@pytest.fixture
def scripted_judge(monkeypatch):
    """scripted_judge(script) makes every language-model judge answer by the script; returns the generator."""

    def make(script):
        generator = Scripted(script)
        monkeypatch.setattr("rmkit.judges.language_model.load_judge_generator", lambda model, trust: generator)
        return generator

    return make


@pytest.fixture(scope="session")
def reward_models(tiny_base, tmp_path_factory):
    """name -> folder of reward models that differ in their heads."""
    folders = {}
    for seed, name in enumerate(("one", "two", "three")):
        folders[name] = tmp_path_factory.mktemp(name)
        tokenizer = load_tokenizer(tiny_base)
        load_reward_model(tiny_base, tokenizer, seed=seed).save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders
