"""`rmkit evaluate` on benchmarks, mostly with rewards that are written in the responses."""

import json
import re

import numpy as np
import pytest
from datasets import Dataset

from rmkit.cli import main
from rmkit.commands.evaluate import EvaluateConfig, evaluate
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.evaluation.benchmarks.reward_bench import REQUIRED
from rmkit.evaluation.benchmarks.reward_bench_2 import BEST_OF
from rmkit.evaluation.perturbations import PERTURBATIONS
from rmkit.models import score_file as scoring
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_responses


@pytest.fixture
def written_rewards(monkeypatch):
    """Every model's reward is the number after a response's last #, less one for each **."""

    def read(model, tokenizer, units, **_):
        texts = [tokenizer.decode(sequence) for unit in units["input_ids"] for sequence in unit]
        return np.array([float(re.findall(r"# *(-?[\d.]*\d)", text)[-1]) - text.count("**") for text in texts])

    monkeypatch.setattr(scoring, "score_units", read)


@pytest.fixture
def configure(tiny_reward_model, tmp_path):
    def make(data, rows=None, **settings):
        path = tmp_path / data
        if rows is not None:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {"models": {"mine": str(tiny_reward_model)}, "output_dir": str(tmp_path / "out"), "max_length": 96,
                    "n_bootstrap": 30, **settings}
        return EvaluateConfig(data=str(path), **settings)

    return make


def reward_bench_rows(right):
    return [{"id": number, "prompt": f"Which, {subset}?", "chosen": f"Red #{subset in right:d}",
             "rejected": "Grey #0.5", "subset": subset} for number, subset in enumerate(REQUIRED)]


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_reward_bench_with_invalid_rows(configure, written_rewards, capsys):
    rows = [*reward_bench_rows(["math-prm", "donotanswer"]), {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "b", "rejected": "c", "subset": "maths"}]
    folder = evaluate(configure("rb.jsonl", rows))
    result = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert result["benchmark"] == "reward_bench" and read_record(folder)["measured"] == result
    scores = {name: score["value"] for name, score in result["models"]["mine"]["scores"].items()}
    safety = 136 / 740
    assert scores == pytest.approx(
        {"total": (0.5 + safety) / 4, "Chat": 0, "Chat Hard": 0, "Safety": safety, "Reasoning": 0.5})
    assert (result["rows_in"], result["rows_out"], result["quarantined"]) == (
        25, 23, {"missing subset": 1, "unknown subset": 1})
    assert [entry["line"] for entry in read_lines(folder / "quarantine.jsonl")] == [24, 25]
    assert result["length_baseline"]["total"]["value"] == 0  # every wrong response is longer
    printed = capsys.readouterr().out
    assert "RewardBench: rows in 25 = rows out 23 + quarantined 2" in printed and "0.171" in printed
    assert "25 rows, where the published benchmark has 2985" in printed
    assert (folder / "benchmark.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missing_part_is_an_error(configure, written_rewards):
    rows = reward_bench_rows(["math-prm"])[15:]
    with pytest.raises(InputError, match=r"rb.jsonl \(rows in 8 .*all 23 parts of RewardBench, got none of 15: alpaca"):
        evaluate(configure("rb.jsonl", rows))
    result = read_record(evaluate(configure("rb.jsonl", rows, benchmark="best_of_n")))["measured"]["models"]["mine"]
    assert result["scores"]["best"]["value"] == 1 / 8 and result["parts"]["math-prm"]["value"] == 1


def test_ties_need_their_references(configure, written_rewards):
    best = [{"id": subset, "prompt": f"{subset}?", "chosen": ["Red #1"], "rejected": ["Grey #0"] * 3, "subset": subset}
            for subset in BEST_OF]
    tied = {"id": "tied:1", "prompt": "A colour?", "chosen": ["Red #2", "Blue #3"], "rejected": ["Tree #1.5"],
            "subset": "Ties"}
    with pytest.raises(InputError, match="every score of RewardBench 2, got no item for total, Ties"):
        evaluate(configure("rb2.jsonl", [*best, tied]))
    reference = {**tied, "id": "ref:1", "chosen": ["Red #2"]}
    result = read_record(evaluate(configure("rb2.jsonl", [*best, tied, reference])))["measured"]
    # right margin .5 is less than the one among right answers, 1: neither is preferred, and the tie-break is tanh(-.5)
    ties = 0.6 + 0.01 * np.tanh(-0.5)
    assert result["models"]["mine"]["scores"]["Ties"]["value"] == pytest.approx(ties)
    assert result["models"]["mine"]["scores"]["total"]["value"] == pytest.approx((5 + ties) / 6)


def test_rewards_are_the_models(configure, tiny_pairs, tiny_reward_model):
    rows = [{"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"], "The red one."],
             "scores": [2, 1, 0]} for row in tiny_pairs]
    folder = evaluate(configure("several.jsonl", rows, models={"a": str(tiny_reward_model)}))
    tokenizer = load_tokenizer(tiny_reward_model)
    messages = [{**row, "responses": [*row["responses"][:2], [{"role": "assistant", "content": "The red one."}]]}
                for row in rows]
    rewards = np.stack(score_responses(load_reward_model(tiny_reward_model, tokenizer), tokenizer,
                                       Dataset.from_list(messages), max_length=96))
    scores = read_record(folder)["measured"]["models"]["a"]["scores"]
    assert scores["best"]["value"] == pytest.approx(np.mean(rewards.argmax(axis=1) == 0))
    ordered = [rewards[:, one] > rewards[:, other] for one, other in ((0, 1), (0, 2), (1, 2))]
    assert scores["pairs"]["value"] == pytest.approx(np.mean(ordered))
    assert scores["best"]["low"] <= scores["best"]["value"] <= scores["best"]["high"]


def rm_bench_rows():
    right, wrong = ["Red #1", "Red #2", "Red #3"], ["Grey #0", "Grey #1.5", "Grey #2.5"]
    return [{"id": f"{domain}/1", "prompt": f"{domain}?", "chosen": right, "rejected": wrong, "domain": domain}
            for domain in ("chat", "code", "math", "safety-refuse", "safety-response")]


def test_rm_bench_as_downloaded(configure, written_rewards, tmp_path, tiny_reward_model):
    """One JSON list; two models with the same rewards, and every perturbation."""
    (tmp_path / "total_dataset.json").write_text(json.dumps(rm_bench_rows(), indent=1))
    models = {name: str(tiny_reward_model) for name in ("one", "other")}
    folder = evaluate(configure("total_dataset.json", models=models, perturbations=True, max_length=256))
    result = read_record(folder)["measured"]
    scores = {name: score["value"] for name, score in result["models"]["one"]["scores"].items()}
    assert scores == pytest.approx({"total": 6 / 9, "easy": 1, "normal": 1, "hard": 0})
    robustness = result["models"]["one"]["robustness"]
    assert list(robustness["perturbations"]) == list(PERTURBATIONS)
    assert {name for name, entry in robustness["perturbations"].items() if entry["drop"]} == set()  # all lose alike
    assert robustness["mean_drop"] == 0 and {entry["items"] for entry in robustness["perturbations"].values()} == {5}
    comparison, = result["comparisons"]
    assert (comparison["difference"], comparison["p"], comparison["items"]) == (0, 1, 5)


def test_a_model_that_a_perturbation_misleads(configure, monkeypatch):
    """With an ignored tag, the reward is the length, and the wrong response is longer."""

    def read(model, tokenizer, units, **_):
        texts = [tokenizer.decode(sequence) for unit in units["input_ids"] for sequence in unit]
        return np.array([len(text) if "<ignore>" in text else float("right" in text.lower()) for text in texts])

    monkeypatch.setattr(scoring, "score_units", read)
    rows = [{"prompt": f"{number}?", "chosen": "right", "rejected": f"wrong and long {number}"} for number in range(4)]
    config = configure("pairs.jsonl", rows, benchmark="best_of_n", perturbations=True, max_length=256)
    robustness = read_record(evaluate(config))["measured"]["models"]["mine"]["robustness"]
    lost = {name: entry["drop"] for name, entry in robustness["perturbations"].items() if entry["drop"]}
    assert lost == {"ignore tag": 1, "typos": 0.5, "unicode": 0.5}  # the last two hide the word
    assert robustness["worst_drop"] == 1 and robustness["mean_drop"] == pytest.approx(2 / 12)


def test_responses_that_do_not_fit_are_counted(configure, written_rewards, capsys):
    rows = [{"prompt": "a?", "chosen": "Red #1", "rejected": "Grey #0"},
            {"prompt": "b?", "chosen": "Red and grey. " * 60 + "#1", "rejected": "Grey #0"}]
    folder = evaluate(configure("two.jsonl", rows, benchmark="best_of_n"))
    result = read_record(folder)["measured"]["models"]["mine"]
    assert (result["scored"], result["unscored"]) == (1, 1)
    assert read_lines(folder / "scores/mine/quarantine.jsonl")[0]["reason"] == "over-long response"
    long = [{**row, "chosen": "Red and grey. " * 60} if row["subset"] == "hep-go" else row
            for row in reward_bench_rows([])]
    with pytest.raises(InputError, match="raise max_length"):
        evaluate(configure("rb.jsonl", long))


def test_a_killed_run_is_resumed(configure, written_rewards, monkeypatch, tmp_path, tiny_reward_model):
    monkeypatch.setattr(scoring, "BLOCK", 6)
    models = {name: str(tiny_reward_model) for name in ("one", "other")}
    whole = evaluate(configure("rb.jsonl", reward_bench_rows(["shp", "hep-go"]), models=models,
                               output_dir=str(tmp_path / "whole")))
    genuine, scored = scoring.score_block, []

    def die(*arguments, **settings):
        scored.append(1)
        if len(scored) == 6:  # in the second model's second block
            raise KeyboardInterrupt
        return genuine(*arguments, **settings)

    monkeypatch.setattr(scoring, "score_block", die)
    with pytest.raises(KeyboardInterrupt):
        evaluate(configure("rb.jsonl", models=models))
    folder = evaluate(configure("rb.jsonl", models=models))
    assert len(scored) == 6 + 3
    assert (folder / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes().replace(b"whole", b"out")
    evaluate(configure("rb.jsonl", models=models))
    assert len(scored) == 6 + 3


def test_results_are_written_to_the_model_card(configure, written_rewards, tmp_path, tiny_base, capsys):
    model = tmp_path / "model"
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.save_pretrained(model)
    load_reward_model(tiny_base, tokenizer, seed=1).save_pretrained(model)
    config = configure("rm.jsonl", rm_bench_rows(), models={"mine": str(model)}, write_model_card=True,
                       perturbations=True, max_length=256)
    folder = evaluate(config)
    card, written = (model / "README.md").read_text(), (folder / "stage.json").stat().st_mtime_ns
    assert "### RM-Bench (`rm.jsonl`)" in card and "| hard | 0 |" in card
    assert "mean drop of accuracy under twelve perturbations" in card
    evaluate(config)
    assert (model / "README.md").read_text() == card
    assert (folder / "stage.json").stat().st_mtime_ns == written  # the card is no reason to score anew
    with pytest.raises(InputError, match="write_model_card: models.mine: expected a model's folder"):
        evaluate(configure("rm.jsonl", models={"mine": "someone/model"}, write_model_card=True))


@pytest.mark.parametrize("settings, match", [
    ({"votes": "x"}, "votes: expected none for a benchmark"),
    ({"benchmark": "rm_bench"}, "at least one usable row of RM-Bench, got rows in 1 = .*missing domain: 1"),
    ({"benchmark": "pairs", "perturbations": True}, "perturbations: expected a benchmark, got pairs"),
])
def test_conflicting_settings(configure, settings, match):
    with pytest.raises(InputError, match=match):
        evaluate(configure("rows.jsonl", [{"prompt": "a?", "responses": ["b", "c"], "best": 0}], **settings))


def test_from_the_command_line(configure, written_rewards, tmp_path, tiny_reward_model, capsys):
    config = configure("steer.jsonl", [
        {"prompt": f"{number}?", "response1": "Red #1", "response2": "Grey #0", "overall_preference": strength}
        for number, strength in enumerate((-3, -1, 2, 0))
    ])
    words = ["evaluate", "--data", config.data, "--models.mine", str(tiny_reward_model), "--output_dir",
             str(tmp_path / "out"), "--n_bootstrap", "20", "--max_length", "64"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "slightly better" in printed and "0.667" in printed and "about_the_same 1" in printed
    assert main([*words, "--benchmark", "helpsteer_9"]) == 2
    assert "one of auto, pairs, reward_bench" in capsys.readouterr().err
