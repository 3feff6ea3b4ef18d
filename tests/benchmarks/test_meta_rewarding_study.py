"""The study of the meta-rewarding loop: its arms can be planned, and are compared within a seed."""

import pytest

from benchmarks.meta_rewarding import meta_rewarding as study
from rmkit.meta_rewarding import MetaRewardConfig
from rmkit.meta_rewarding.plan import LoopPlan


@pytest.mark.parametrize("arm", study.ARMS)
@pytest.mark.parametrize("changes, judge_pairs", [({}, [True, True, False, False]), (study.FAST, [True, False])])
def test_every_arm_can_be_planned(arm, changes, judge_pairs, tmp_path):
    settings = study.read_settings(changes) | study.ARMS[arm]
    assert settings["dpo"]["beta"] == 0.1  # nested settings that are not changed stay
    config = MetaRewardConfig(output_dir=str(tmp_path), **settings, drift=study.NO_STOP)
    plan = LoopPlan(config)
    assert ["meta_judge" in steps for steps in plan.iterations] == [arm == "meta" and train for train in judge_pairs]
    assert ["judge_rm" in steps for steps in plan.iterations] == [arm == "reward"] * len(judge_pairs)
    assert not any(limit.stop for limit in vars(config.drift).values())  # later iterations would have no figures


def test_arms_are_compared_within_a_seed():
    cells = [
        {arm: [{"win_rate": level + ahead * index, "gold": 9.0, "spearman_language": None} for index in range(3)]
         for arm, ahead in (("meta", 0.1), ("self", 0.02), ("reward", 0.15))}
        for level in (0.3, 0.5)  # seeds differ by more than arms
    ]
    figures = study.summarise_cells(cells)
    assert figures["by_arm"]["meta"][2]["win_rate"]["mean"] == pytest.approx(0.6)
    assert "spearman_language" not in figures["by_arm"]["meta"][2]
    ahead = figures["ahead"]["meta over self"]
    assert ahead["mean"] == pytest.approx(0.16) and 0.15 < ahead["low"] <= ahead["high"] < 0.17
    assert figures["ahead"]["reward over meta"]["mean"] == pytest.approx(0.1)
