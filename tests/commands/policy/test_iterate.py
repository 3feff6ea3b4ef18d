"""The rounds: both arms on the same steps, a killed run that goes on at the step it was in, other prompts."""

import json

import pytest

from rmkit.commands import iterate as iterating
from rmkit.commands.iterate import COLUMNS, IterateConfig, format_rounds, iterate, plan_inputs, plan_variant, run_rounds
from rmkit.core.checks import InputError
from rmkit.core.legacy_config import load_config
from rmkit.core.stage import read_record
from rmkit.data.synthetic.dataset import draw_prompts

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
SETTINGS = """\
rounds: 2
max_length: 128
evaluation: 4
gold: {train: 24, validation: 4, test: 2, demonstrations: 24, hidden: 32, layers: 1}
sample: {samples: 3, prompts: 4, max_new_tokens: 6}
train: {max_steps: 1, per_device_train_batch_size: 4, report_to: none, disable_tqdm: true, save_strategy: "no"}
meta: {meta_learning_rate: 0.05}
reinforce: {max_steps: 1, per_device_train_batch_size: 4, num_generations: 2, max_completion_length: 6,
            disable_tqdm: true, learning_rate: 1.0e-3}
"""


@pytest.fixture
def make(tmp_path):
    """make(**settings) -> a configuration on a tiny gold world."""
    (tmp_path / "rounds.yaml").write_text(SETTINGS)

    def configure(**settings):
        words = [word for name, value in settings.items() for word in (f"--{name}", json.dumps(value))]
        return load_config(IterateConfig, tmp_path / "rounds.yaml", ["--output_dir", str(tmp_path / "out"), *words])

    return configure


def test_a_run_killed_in_every_step_ends_as_one_let_alone(make, monkeypatch, tmp_path, capsys):
    other = tmp_path / "other.jsonl"  # out of distribution: prompts alone, on themes that no pair has
    other.write_text("".join(json.dumps(row) + "\n" for row in draw_prompts("new_topics", 6)))
    config = make(prompts=str(other))
    steps = ("sample", "train", "measure", "reinforce")
    lost: list[str] = []

    def die_once(take):
        def step(settings):
            place = str(settings.output_dir)
            if place not in lost:  # after the step: its folder is there, and nothing that follows
                take(settings)
                lost.append(place)
                raise KeyboardInterrupt
            return take(settings)

        return step

    with monkeypatch.context() as patch:
        for name in steps:
            patch.setattr(iterating, name, die_once(getattr(iterating, name)))
        kills = 0
        while True:
            try:
                path = iterate(config)
                break
            except KeyboardInterrupt:
                kills += 1
    # sft; plain: a shared reward model, and in each round before, policy, responses, after; metarm: and samples and a
    # reward model in each round
    assert kills == len(lost) == 1 + 1 + 2 * 4 + 2 * 6
    rounds = json.loads(path.read_text())["rounds"]
    assert "metarm, round 2" in capsys.readouterr().out
    alone = make(output_dir=str(tmp_path / "alone"), prompts=str(other), arms=["metarm"])
    assert json.loads(iterate(alone).read_text())["rounds"]["metarm"] == rounds["metarm"]
    first, second = rounds["metarm"][0], rounds["metarm"][2]
    assert first["kl"] == 0.0 and first["win_rate"] == pytest.approx(0.5) and abs(second["kl"]) > 0
    assert set(COLUMNS) == set(second) & set(COLUMNS)
    policy = read_record(tmp_path / "out/metarm/round-2/policy")["config"]
    assert policy["reference"].endswith("base_model") and policy["model_name_or_path"].endswith("round-1/policy")
    assert policy["data"] == str(other)
    assert policy["reward_scale"] == read_record(tmp_path / "out/metarm/round-2/before")["figures"]["spread"]
    assert read_record(tmp_path / "out/metarm/round-1/reward_model")["meta_data"]["rows_in"] == 4
    assert "meta_data" not in read_record(tmp_path / "out/plain/reward_model")


def test_all_settings_are_checked_before_anything_starts(make, tmp_path):
    for settings, match in (
        ({"reinforce": {"learning_rat": 1}}, "reinforce: learning_rat: expected a known key"),
        ({"meta": {"meta_learning_rate": -1}}, "meta_learning_rate"),
        ({"meta": {"learning_rate": 1}}, "^meta: learning_rate: expected a known key.* mean meta_learning_rate"),
        ({"meta": {"meta_steps": "x"}}, "^meta: meta_steps: expected int"),
        ({"meta": {"data": "x"}}, "^meta: data: expected a known key"),
        ({"meta": {"meta_data": "x"}}, "^meta: meta_data: expected a key of the stage alone"),
        ({"arms": ["plain"], "train": {"meta_data": "x"}}, "^train: meta_data: expected a key of the stage alone"),
        ({"reinforce": {"reward_scale": 2}}, "reinforce: reward_scale: expected none with scale_rewards"),
        ({"sample": {"trust_remote_code": True}}, "sample: trust_remote_code: expected one for all steps"),
        ({"data": "pairs"}, "evaluation_prompts: expected prompts to measure on, with data other than gold"),
        ({"sample": {"temperature": 0}}, "samples: expected"),
        ({"sample": {"data": "x"}}, "sample: data: expected a key of the stage alone"),
        ({"gold": {"hidden": 33}}, "hidden: expected"),
        ({"arms": ["meta"]}, "arms: expected plain, metarm or both"),
        ({"rounds": 0}, "rounds: expected at least 1"),
    ):
        with pytest.raises(InputError, match=match):
            iterate(make(**settings))
    assert not (tmp_path / "out").exists()


def test_rewards_as_they_are_and_a_reward_model_to_begin_with(make):
    config = make(reward_model="some/model", arms=["plain"])
    plan = plan_variant(config, plan_inputs(config), "plain")
    assert {one.train.model_name_or_path for one in plan} == {"some/model"} and len({id(one) for one in plan}) == 2
    assert plan[0].train == plan[1].train and plan[0].samples is None
    assert plan[0].reinforce.seed != plan[1].reinforce.seed


def test_what_all_steps_share(make, tmp_path):
    config = make(trust_remote_code=True, data="pairs", evaluation_prompts="gold", prompts="others.jsonl")
    world = plan_inputs(config)
    assert world.prompts == "others.jsonl" and world.evaluation.endswith("evaluation.jsonl")
    steps = [world.responses, *(step for one in plan_variant(config, world, "metarm") for step in vars(one).values())]
    assert len(steps) == 1 + 2 * 6 and all(step.trust_remote_code for step in steps)
    file = tmp_path / "own.parquet"
    file.touch()
    assert plan_inputs(make(data=str(file), evaluation_prompts="p.jsonl")).prompts == str(file)
    assert plan_inputs(make(data="pairs", evaluation_prompts="p.jsonl")).prompts == "pairs/train.parquet"


def test_prompts_are_looked_for_before_anything_is_sampled(make, monkeypatch, tmp_path, tiny_pairs):
    monkeypatch.setattr(iterating, "sample", lambda config: pytest.fail("sampled"))
    tiny_pairs.to_parquet(tmp_path / "own.parquet")
    settings = {"data": str(tmp_path / "own.parquet"), "model_name_or_path": "m", "evaluation_prompts": "gold"}
    with pytest.raises(InputError, match=r"no\.jsonl: expected"):
        iterate(make(prompts="no.jsonl", **settings))
    with pytest.raises(InputError, match="data no: expected a stage's folder"):
        iterate(make(**{**settings, "data": "no"}))


@pytest.mark.parametrize("scaled, scale", [(True, 4.0), (False, 3.0)])
def test_the_scale_of_rewards_is_the_spread_or_the_users_own(make, monkeypatch, scaled, scale):
    taken = []
    for name in ("sample", "train"):
        monkeypatch.setattr(iterating, name, lambda config: None)
    monkeypatch.setattr(iterating, "measure", lambda config: {"spread": 4.0})
    monkeypatch.setattr(iterating, "reinforce", lambda config: taken.append(config.reward_scale))
    base = make()
    own = {} if scaled else {"reward_scale": 3.0}
    config = make(scale_rewards=scaled, arms=["plain"], reinforce={**base.reinforce, **own})
    run_rounds(plan_variant(config, plan_inputs(config), "plain"), config.scale_rewards)
    assert taken == [scale, scale]


def test_figures_that_are_missing_are_dashes():
    assert "  -" in format_rounds({"plain": [{"reward": 1.0}]}).splitlines()[-1]
