import numpy as np

from rmkit.evaluation.reward_model import evaluate_pairs
from rmkit.evaluation.tables import format_pair_metrics, format_table


def metrics_of(gaps, sources, strength=None):
    count = len(gaps)
    return evaluate_pairs(gaps, np.zeros(count), prompts=np.arange(count), sources=sources, strength=strength,
                          chosen_lengths=np.full(count, 5), rejected_lengths=np.full(count, 5), n_bootstrap=20)


def test_format_table():
    assert format_table(["model", "x"], [["a", "1"], ["longer"]]).split("\n") == [
        "model   x", "---------", "a       1", "longer  -"]


def test_pair_metrics_of_two_models():
    models = {"plain": metrics_of([1.0, -1.0], ["s", "s"]), "repaired": metrics_of([1.0, 2.0], ["s", "s"])}
    text = format_pair_metrics(models)
    header, _, plain, repaired = text.split("\n")
    assert len(header) == len(plain) == len(repaired)
    assert {"0.500", "-"} <= set(plain.split()) and "1.000" in repaired.split()  # no pair of different length
    assert "source" not in text and "strength" not in text


def test_tables_by_source_and_strength():
    models = {"plain": metrics_of([1.0, -1.0], ["s", "t"], [0.1, 0.2]), "other": metrics_of([1.0, -1.0], ["s", "u"])}
    _, sources, strength = format_pair_metrics(models).split("\n\n")
    assert sources.split("\n")[0].split() == ["accuracy", "by", "source", "s", "t", "u"]
    assert sources.split("\n")[3].split() == ["other", "1.000", "-", "0.000"]
    assert strength.split("\n")[2].split() == ["plain", "1.000", "0.000"]
