"""The adapter around TRL's RLOO: a contract test of each option used, so that a change of TRL's meaning is seen."""

import contextlib
import shutil
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from rmkit.commands.rl import RlConfig
from rmkit.core.checks import InputError
from rmkit.models.log_probs import measure_log_probs
from rmkit.models.reward_model import load_tokenizer
from rmkit.models.scoring import load_scorer, score_responses
from rmkit.training.config import build_arguments
from rmkit.training.rl import import_trl, make_rloo_trainer
from rmkit.training.zero import deepspeed_environment, default_config

SETTINGS = {"learning_rate": 1e-3, "max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 2,
            "max_completion_length": 6, "logging_steps": 1, "disable_tqdm": True}
PROMPTS = Dataset.from_dict({"prompt": [[{"role": "user", "content": f"What colour is {thing}?"}]
                                        for thing in ("it", "the lamp", "a grey stone", "that red cloud over there")]})


@pytest.fixture
def build(tiny_base, tiny_reward_model, tmp_path):
    """build(policy, reference, **settings) -> a trainer of a policy, by default `tiny_base`, on PROMPTS."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(deepspeed_environment())

        def make(policy=tiny_base, reference=tiny_base, reward_scale=1.0, deepspeed=None, **settings):
            models = {"policy": str(policy), "reference": str(reference), "reward_model": str(tiny_reward_model)}
            config = RlConfig(
                data="unused", model_name_or_path=models["policy"], reward_model=models["reward_model"], use_cpu=True,
                output_dir=str(tmp_path / "out"), deepspeed=deepspeed, **{**SETTINGS, **settings},
            )
            arguments = build_arguments(
                import_trl().RLOOConfig, "rl", config, reward_weights=[1.0 / reward_scale], shuffle_dataset=False,
                disable_dropout=True, remove_unused_columns=False, dataloader_pin_memory=False,
            )
            trainer = make_rloo_trainer(arguments, prompts=PROMPTS, **models)
            trainer.generated = []
            generate = trainer._generate

            def note(prompts):
                found = generate(prompts)
                trainer.generated += [(prompt, ids) for prompt, ids in zip(*found[:2], strict=True)]
                return found

            trainer._generate = note
            return trainer

        yield make


def read_logs(trainer):
    """Prompts, completions (messages), rewards and advantages of the last step."""
    (rewards,) = trainer._logs["rewards"].values()
    return [list(values) for values in (trainer._logs["prompt"], trainer._logs["completion"], rewards,
                                        trainer._logs["advantages"])]


def leave_one_out(values):
    """Each value less the other one of its prompt."""
    return (np.reshape(values, (-1, 2)) - np.reshape(values, (-1, 2))[:, ::-1]).ravel()


@pytest.mark.parametrize("deepspeed", [None, default_config(2)], ids=["torch", "zero2"])
def test_rewards_are_those_of_rmkit_and_their_scale_is_divided_out(build, tiny_reward_model, deepspeed):
    trainer = build(beta=0.0, reward_scale=0.25, deepspeed=deepspeed)
    trainer.train()
    prompts, completions, rewards, advantages = read_logs(trainer)
    assert len(rewards) == 4 and prompts[0] == prompts[1] != prompts[2] == prompts[3]  # num_generations
    rows = Dataset.from_dict({"prompt": prompts, "responses": [[completion] for completion in completions]})
    expected = np.concatenate(score_responses(*load_scorer(tiny_reward_model), rows, max_length=256))
    np.testing.assert_allclose(rewards, expected, atol=1e-5)
    np.testing.assert_allclose(advantages, leave_one_out(expected) / 0.25, atol=1e-4)
    assert np.abs(leave_one_out(expected)).max() > 1e-3
    assert trainer.ref_model is None


def test_beta_penalises_the_distance_to_the_reference_that_is_named(build, tiny_base, other_policy):
    trainer = build(reference=other_policy, beta=0.3)
    trainer.train()
    _, _, rewards, advantages = read_logs(trainer)
    models = [AutoModelForCausalLM.from_pretrained(path).eval() for path in (tiny_base, other_policy)]
    ratios = []
    for prompt, ids in trainer.generated:
        with torch.no_grad():
            logprobs = [model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1) for model in models]
        at = torch.arange(len(ids)) + len(prompt) - 1
        ours, theirs = (found[at, torch.tensor(ids)].sum().item() for found in logprobs)
        ratios.append(ours - theirs)
    np.testing.assert_allclose(advantages, leave_one_out(np.array(rewards) - 0.3 * np.array(ratios)), atol=1e-4)
    assert np.abs(ratios).max() > 0.1
    same = build(beta=0.3)  # the reference is the policy itself
    same.train()
    assert same.state.log_history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(trainer.state.log_history[0]["kl"]) > 1e-2


def test_responses_are_cut_and_drawn_at_the_temperature(build):
    trainer = build(temperature=1e-4, max_completion_length=3)
    trainer.train()
    answers = [ids for _, ids in trainer.generated]
    assert max(map(len, answers)) == 3 and answers[0] == answers[1]  # all but greedy
    trainer = build(temperature=1.5)
    trainer.train()
    answers = [ids for _, ids in trainer.generated]
    assert max(map(len, answers)) == 6 and answers[0] != answers[1]


def test_steps_move_the_policy_by_the_learning_rate_alone(build, tiny_base):
    before = AutoModelForCausalLM.from_pretrained(tiny_base).state_dict()

    def move(**settings):
        trainer = build(max_grad_norm=0.0, **settings)
        trainer.train()
        after = trainer.model.state_dict()
        return trainer, max(float((after[name] - before[name]).abs().max()) for name in before)

    trainer, moved = move(learning_rate=1e-3, max_steps=2)
    assert trainer.state.global_step == 2 and 1e-3 < moved < 2.1e-3  # Adam's first steps, at a constant rate
    assert move(learning_rate=0.0)[1] == 0.0


def test_every_prompt_comes_once_before_any_comes_again(build):
    texts = [prompt[0]["content"] for prompt in build(max_steps=5).train_dataset["prompt"]]  # two prompts a step
    assert len(texts) == 10 and len(set(texts[:4])) == len(set(texts[4:8])) == 4
    assert texts != [prompt[0]["content"] for prompt in build(max_steps=5, seed=1).train_dataset["prompt"]]


def test_gradient_accumulation_makes_a_step_of_more_prompts(build):
    trainer = build(gradient_accumulation_steps=2)
    trainer.train()
    assert len(trainer.generated) == 8 and trainer.state.global_step == 1


def test_a_policy_without_a_pad_token_of_its_own(build, tiny_base, tmp_path):
    policy = tmp_path / "policy"
    shutil.copytree(tiny_base, policy)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (policy / file).read_text().replace('"pad_token": "<|pad|>"', '"pad_token": "<|end|>"')
        (policy / file).write_text(text.replace("<|pad|>", "<|other|>"))
    tokenizer = load_tokenizer(policy)
    model = AutoModelForCausalLM.from_pretrained(policy)
    assert tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings
    trainer = build(policy=policy, reference=policy)
    trainer.train()
    assert trainer.state.global_step == 1 and trainer.processing_class.pad_token == "<|end|>"
    rows = [{"prompt": PROMPTS[0]["prompt"], "responses": [[{"role": "assistant", "content": text}]
                                                           for text in ("Red.", "It is as red as a lamp.")]}]
    assert np.isfinite(measure_log_probs(model, tokenizer, rows, max_length=128)).all()


def test_without_trl_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(InputError, match=r"Install rmkit\[trl\]"):
        import_trl()
