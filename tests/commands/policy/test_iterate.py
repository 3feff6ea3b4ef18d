"""`rmkit iterate`: both variants on the same steps, a killed run that continues, other prompts, settings."""

import json
from dataclasses import fields

import pytest

from rmkit.commands import iterate as module
from rmkit.commands.iterate import (
    COLUMNS,
    IterateConfig,
    IteratePlanner,
    MetaRMSettings,
    format_rounds,
    iterate,
    plan_metarm,
    run_rounds,
)
from rmkit.commands.train import TrainConfig
from rmkit.core.checks import InputError
from rmkit.core.config import load_config
from rmkit.core.stage import read_record
from rmkit.data.synthetic.dataset import draw_prompts
from rmkit.evaluation import policy_metrics

pytestmark = pytest.mark.slow
SETTINGS = """\
rounds: 2
max_length: 128
synthetic: {train: 24, validation: 4, test: 2, evaluation_prompts: 4, demonstrations: 24, hidden: 32, layers: 1}
sample: {samples: 3, prompts: 4, max_new_tokens: 6}
train: {max_steps: 1, per_device_train_batch_size: 4, report_to: none, disable_tqdm: true, save_strategy: "no"}
metarm: {meta_learning_rate: 0.05}
rl: {max_steps: 1, per_device_train_batch_size: 4, num_generations: 2, max_completion_length: 6, disable_tqdm: true,
     learning_rate: 1.0e-3}
"""


@pytest.fixture
def make(tmp_path):
    """make(**settings) -> a configuration on tiny synthetic data."""
    (tmp_path / "iterate.yaml").write_text(SETTINGS)

    def configure(**settings):
        words = [word for name, value in settings.items() for word in (f"--{name}", json.dumps(value))]
        return load_config(IterateConfig, tmp_path / "iterate.yaml", ["--output_dir", str(tmp_path / "out"), *words])

    return configure


def test_a_run_killed_after_every_step_ends_as_one_that_is_not(make, monkeypatch, tmp_path, capsys):
    prompts = tmp_path / "other.jsonl"  # another distribution: topics that no pair has
    prompts.write_text("".join(json.dumps(row) + "\n" for row in draw_prompts("new_topics", 6)))
    config = make(prompts=str(prompts))
    killed: list[str] = []

    def kill_once(function):
        def step(*args, **settings):
            result = function(*args, **settings)
            folder = settings.get("output_dir") or args[0].output_dir
            if folder not in killed:  # the step is finished, nothing after it has begun
                killed.append(folder)
                raise KeyboardInterrupt
            return result

        return step

    with monkeypatch.context() as patch:
        for name in ("sample", "train", "rl"):
            patch.setattr(module, name, kill_once(getattr(module, name)))
        patch.setattr(policy_metrics, "measure_policy", kill_once(policy_metrics.measure_policy))
        kills = 0
        while True:
            try:
                path = iterate(config)
                break
            except KeyboardInterrupt:
                kills += 1
    # sft; plain: a reward model, and in each round before, rl, responses, after; metarm: also samples, reward model
    assert kills == len(killed) == 1 + 1 + 2 * 4 + 2 * 6
    rounds = json.loads(path.read_text())["rounds"]
    assert "metarm, round 2" in capsys.readouterr().out
    alone = make(output_dir=str(tmp_path / "alone"), prompts=str(prompts), variants=["metarm"])
    assert json.loads(iterate(alone).read_text())["rounds"]["metarm"] == rounds["metarm"]
    first, last = rounds["metarm"][0], rounds["metarm"][2]
    assert first["kl"] == 0.0 and first["win_rate"] == pytest.approx(0.5) and abs(last["kl"]) > 0
    assert set(COLUMNS) <= set(last)
    folder = tmp_path / "out/metarm/round-2"
    policy = read_record(folder / "policy")["config"]
    assert policy["reference"].endswith("base_model") and policy["model_name_or_path"].endswith("round-1/policy")
    assert policy["data"] == str(prompts)
    assert policy["reward_scale"] == rounds["metarm"][2]["spread_before"]
    assert read_record(folder.parent / "round-1/reward_model")["meta_data"]["rows_in"] == 4
    assert "meta_data" not in read_record(tmp_path / "out/plain/reward_model")


@pytest.mark.parametrize("settings, match", [
    ({"rl": {"learning_rat": 1}}, r"rl\W+learning_rat: expected a known key"),
    ({"rl": {"reward_scale": 2}}, "rl.reward_scale: expected none with scale_rewards"),
    ({"metarm": {"meta_learning_rate": -1}}, "metarm.meta_learning_rate: expected float > 0"),
    ({"metarm": {"learning_rate": 1}}, "metarm.learning_rate: expected a known key.* mean metarm.meta_learning_rate"),
    ({"metarm": {"meta_data": "x"}}, "metarm.meta_data: expected no value"),
    ({"variants": ["plain"], "train": {"meta_data": "x"}}, "train.meta_data: expected no value"),
    ({"sample": {"trust_remote_code": True}}, "sample.trust_remote_code: expected no value"),
    ({"sample": {"temperature": 0}}, "samples: expected"),
    ({"data": "pairs"}, "evaluation_prompts: expected prompts to measure on, with data of your own"),
    ({"variants": ["meta"]}, "variants: expected list of one of plain, metarm"),
    ({"rounds": 0}, "rounds: expected int >= 1"),
])
def test_settings_are_checked_before_anything_starts(make, tmp_path, settings, match):
    with pytest.raises(InputError, match=match):
        iterate(make(**settings))
    assert not (tmp_path / "out").exists()


def test_plain_rounds_share_one_reward_model_with_a_base_of_its_own(make):
    first, second = IteratePlanner(make(reward_model="some/model", variants=["plain"])).plan_variant("plain")
    assert first["train"].args[0].model_name_or_path == "some/model" and "sample" not in first
    assert first["train"].args == second["train"].args
    assert first["rl"].args[0].seed != second["rl"].args[0].seed


def test_prompts_and_settings_of_all_steps(make, tmp_path):
    config = make(trust_remote_code=True, data="pairs", evaluation_prompts="synthetic", prompts="others.jsonl")
    planner = IteratePlanner(config)
    assert planner.prompts == "others.jsonl" and planner.evaluation_prompts.endswith("evaluation.jsonl")
    rounds = planner.plan_variant("metarm")
    steps = [planner.plan_setup()["sft"], *(step for steps in rounds for step in steps.values())]
    assert len(steps) == 1 + 2 * 6
    assert all(step.keywords.get("trust_remote_code") or step.args[0].trust_remote_code for step in steps)
    file = tmp_path / "pairs.parquet"
    file.touch()
    assert IteratePlanner(make(data=str(file), evaluation_prompts="p.jsonl")).prompts == str(file)
    assert IteratePlanner(make(data="pairs", evaluation_prompts="p.jsonl")).prompts == "pairs/train.parquet"


def test_missing_data_are_an_error_before_sampling(make, monkeypatch, tmp_path, tiny_pairs):
    monkeypatch.setattr(module, "sample", lambda config: pytest.fail("sampled"))
    tiny_pairs.to_parquet(tmp_path / "pairs.parquet")
    settings = {"data": str(tmp_path / "pairs.parquet"), "model_name_or_path": "m", "evaluation_prompts": "synthetic"}
    with pytest.raises(InputError, match=r"no\.jsonl: expected"):
        iterate(make(**settings, prompts="no.jsonl"))
    with pytest.raises(InputError, match="data no: expected"):
        iterate(make(**{**settings, "data": "no"}))


@pytest.mark.parametrize("scaled, scale", [(True, 4.0), (False, 3.0)])
def test_rewards_are_scaled_by_their_spread_or_by_the_users_scale(make, monkeypatch, scaled, scale):
    scales = []
    for name in ("sample", "train"):
        monkeypatch.setattr(module, name, lambda config: None)
    monkeypatch.setattr(policy_metrics, "measure_policy", lambda *_, **__: {"spread": 4.0})
    monkeypatch.setattr(module, "rl", lambda config: scales.append(config.reward_scale))
    settings = {} if scaled else {"rl.reward_scale": 3.0}
    config = make(scale_rewards=scaled, variants=["plain"], **settings)
    run_rounds(IteratePlanner(config).plan_variant("plain"))
    assert scales == [scale, scale]


def test_missing_metrics_are_dashes():
    assert "  -" in format_rounds({"plain": [{"reward": 1.0}]}).splitlines()[-1]


def test_the_metarm_section_has_all_its_keys():
    keys = {field.name for field in fields(TrainConfig) if field.name.startswith("meta_")}
    assert keys == {field.name for field in fields(MetaRMSettings)} == set(plan_metarm({"meta_learning_rate": 1}, "s"))
