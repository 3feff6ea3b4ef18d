"""Recipes for `rmkit run`, `iterate` and `judge`, each run as it stands with less data, less training, tiny models."""

import json
from pathlib import Path

import pytest

from rmkit.commands.iterate import IterateConfig, iterate
from rmkit.commands.judge import JudgeConfig, judge
from rmkit.commands.run import RunConfig, run
from rmkit.commands.synthetic import SYNTHETIC
from rmkit.core.config import load_config
from rmkit.core.stage import read_record
from rmkit.core.yaml import read_yaml
from rmkit.models.reward_model import load_reward_model, load_tokenizer

pytestmark = pytest.mark.slow
RECIPES = Path(__file__).parents[2] / "recipes"
RUNS = [RECIPES / "hh.yaml", RECIPES / "quickstart.yaml"]
ITERATIONS = sorted((RECIPES / "iterative_rlhf").glob("*.yaml"))
JUDGES = sorted(RECIPES.glob("judge*.yaml"))
TRAINING = {"max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "bf16": False,
            "disable_tqdm": True}
SIZES = {"train": 60, "validation": 20, "test": 5, "demonstrations": 40, "hidden": 32, "layers": 2}


def load(cls, path, changes):
    words = [word for key, value in changes.items() for word in (f"--{key}", json.dumps(value))]
    return load_config(cls, path, words)


@pytest.fixture
def own_data(tiny_pairs, tmp_path):
    """A folder with train, validation and test pairs."""
    pairs = tiny_pairs.remove_columns(["target", "margin"])
    for split, count in (("train", 24), ("validation", 24), ("test", 4)):
        pairs.select(range(count)).to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


@pytest.mark.parametrize("voters", ["heads", "full"])
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_run(path, voters, own_data, tiny_base, tmp_path):
    recipe = read_yaml(path)
    changes = {"output_dir": str(tmp_path / "out"), "vote.voters": voters, "vote.members": 2, "vote.heads.epochs": 1,
               "evaluate.n_bootstrap": 20}
    changes |= {f"{section}.{name}": value for section in ("train", "vote.train") for name, value in TRAINING.items()}
    if recipe["vote"]["folds"]:
        changes["vote.folds"] = 2
    if recipe["data"] == SYNTHETIC:
        changes |= {f"synthetic.{name}": size for name, size in SIZES.items()}
    else:
        changes |= {key: str(own_data / f"{split}.parquet") for key, split in (
            ("data", "train"), ("read.validation", "validation"), ("read.test", "test"))}
        changes["model_name_or_path"] = str(tiny_base)
    report = run(load(RunConfig, path, changes))
    assert (report / "report.html").stat().st_size > 10_000
    record = read_record(tmp_path / "out/repaired")
    assert recipe["repair"]["recipe"] in (record["recipe"], record["chosen_by"])
    assert read_record(tmp_path / "out/votes")["loss"] == recipe["vote"]["loss"]


@pytest.mark.parametrize("path", ITERATIONS, ids=lambda path: path.stem)
def test_iterate(path, own_data, tiny_base, tmp_path):
    recipe = read_yaml(path)
    small = {**TRAINING, "max_steps": 1}
    changes = {"output_dir": str(tmp_path / "out"), "rounds": 1, "sample.prompts": 4, "sample.max_new_tokens": 5,
               "sample.samples": 2, "train.report_to": "none", "train.warmup_steps": 0, "rl.num_generations": 2,
               "rl.max_completion_length": 5}
    changes |= {f"{section}.{name}": value for section in ("train", "rl") for name, value in small.items()}
    if recipe["data"] == SYNTHETIC:
        changes |= {f"synthetic.{name}": size for name, size in SIZES.items()} | {"synthetic.evaluation_prompts": 3}
    else:
        changes |= {"data": str(own_data), "model_name_or_path": str(tiny_base),
                    "evaluation_prompts": str(own_data / "test.parquet")}
    rounds = json.loads(iterate(load(IterateConfig, path, changes)).read_text())["rounds"]
    assert list(rounds) == recipe["variants"] and all(len(metrics) == 2 for metrics in rounds.values())
    assert ("gold" in rounds["metarm"][1]) == (recipe["data"] == SYNTHETIC)


@pytest.mark.parametrize("path", JUDGES, ids=lambda path: path.stem)
def test_judge(path, own_data, tiny_base, tmp_path, capsys):
    changes = {"data": str(own_data / "test.parquet"), "output_dir": str(tmp_path / "out")}
    is_llm = read_yaml(path)["judge"]["kind"] == "llm"
    if is_llm:
        changes |= {"judge.model_name_or_path": str(tiny_base), "judge.max_new_tokens": 4}
    else:
        tokenizer = load_tokenizer(tiny_base)
        load_reward_model(tiny_base, tokenizer, seed=0).save_pretrained(tmp_path / "rm")
        tokenizer.save_pretrained(tmp_path / "rm")
        changes |= {f"judge.models.{name}": str(tmp_path / "rm") for name in "ab"}
    folder = judge(load(JudgeConfig, path, changes))
    report = json.loads((folder / "report.json").read_text())
    assert report == read_record(folder)["report"] and report["pairs"] == 4
    answers = report["answers"]
    if is_llm:  # a model of random weights names no winner
        assert answers["unparsed"] + answers["failed"] == answers["asked"] == 8
        assert report["agreement"]["unjudged"] == 4 and report["agreement"]["with_ties"] is None
    else:
        assert answers["unparsed"] == 0 and report["agreement"]["unjudged"] == 0
    assert "tokens read" in capsys.readouterr().out


@pytest.mark.parametrize("name, beta, prototypes", [
    ("simcse", 1.0, None), ("simcse_difference", 1.0, None), ("swav", 0.1, 50), ("swav_difference", 0.5, 20),
])
def test_contrastive_recipes_have_the_papers_settings(name, beta, prototypes):
    """arXiv 2401.06080, Appendix B.2."""
    paper = {"contrastive": name, "contrastive_beta": beta, "dropout": 0.05, "learning_rate": 5e-6,
             "num_train_epochs": 1, "per_device_train_batch_size": 16}
    recipe = read_yaml(RECIPES / f"{name}.yaml")
    assert {key: recipe[key] for key in paper} == paper and recipe.get("prototypes") == prototypes


def test_every_recipe_is_tested():
    loops = set(RECIPES.glob("meta_rewarding*.yaml"))  # in tests/meta_rewarding/test_meta_recipes.py
    trainings = {*RECIPES.glob("*.yaml")} - {*RUNS, *JUDGES} - loops  # in tests/commands/test_train.py
    assert all("learning_rate" in read_yaml(path) for path in trainings)
    assert {path.stem for path in ITERATIONS} == {"custom", "synthetic"}
