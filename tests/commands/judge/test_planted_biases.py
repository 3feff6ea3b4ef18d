"""A bias put into the weights of a tiny language model, and what `rmkit judge` measures of it."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers import PhiConfig, PhiForCausalLM

from rmkit.generation.local import encode_prompt
from rmkit.judges.language_model import by_slot
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.sanitize import quote
from rmkit.models.tiny import build_tokenizer
from tests.judges.judge_runs import configure, run

PAIRS = 150
FILLER = "blah"
WINNERS = ("Winner: Response A\nSo", "Winner: Response B\nSo")  # whole, though cut off
SCORES = ("Score: 4\nSo", "Score: 2\nSo")


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer in which each answer is one token, and so is the filler word."""
    shown = [JUDGE_PROMPTS[name].template for name in ("additive_5", "scale_100", "pairwise")]
    tokenizer = build_tokenizer(shown, vocabulary=1500)
    tokenizer.add_tokens([*WINNERS, *SCORES, f" {FILLER}"])
    return tokenizer


@pytest.fixture
def build(tokenizer, tmp_path):
    """build(the two answers, probability of the first, effect of filler on its logit) -> the saved model, token ids.

    Its one layer attends uniformly to all earlier tokens, so it adds the share of filler among them.
    """
    def make(answers, chance, filler=0.0):
        model = PhiForCausalLM(PhiConfig(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=4096, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        ))
        layer = model.model.layers[0]
        ids = tokenizer.convert_tokens_to_ids([*answers, f" {FILLER}", "<|assistant|>"])
        with torch.no_grad():
            for weights in model.parameters():
                weights.zero_()
            layer.input_layernorm.weight.fill_(1)
            model.model.final_layernorm.weight.fill_(1)
            layer.self_attn.v_proj.weight.copy_(torch.eye(8))
            layer.self_attn.dense.weight.copy_(4 * torch.eye(8))
            model.get_input_embeddings().weight[ids[2], 0] = 1
            model.get_input_embeddings().weight[ids[3], 1] = 1
            model.lm_head.bias.fill_(-1e4)
            model.lm_head.bias[ids[:2]] = torch.tensor([chance, 1 - chance]).log()
            model.lm_head.weight[ids[0], 0] = filler
        model.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return model.eval(), ids

    return make


@pytest.fixture
def measure(write_pairs, tmp_path):
    """measure(chosen, rejected, prompt) -> the report on pairs of such responses by the model in `tmp_path`."""

    def report(chosen, rejected, prompt):
        data = write_pairs([(f"{number}?", *sides) for number, sides in enumerate(zip(chosen, rejected, strict=True))])
        settings = {"kind": "llm", "prompt": prompt, "model_name_or_path": tmp_path / "model", "temperature": 1,
                    "top_p": 1, "max_new_tokens": 1}
        return run(configure(data, tmp_path, n_bootstrap=1000,
                             **{f"judge.{name}": value for name, value in settings.items()}))[0]

    return report


@pytest.mark.parametrize("chance", [0.7, 0.5])
def test_position_bias_of_a_language_model(chance, build, measure):
    build(WINNERS, chance)
    report = measure([f"red {number}" for number in range(PAIRS)], [f"blue {number}" for number in range(PAIRS)],
                     "pairwise")
    found = report["position"]
    assert report["answers"]["asked"] == 2 * PAIRS and report["answers"]["unparsed"] == 0 and found["both"] == PAIRS
    assert found["low"] < chance < found["high"] and found["high"] - found["low"] < 0.15
    assert (found["low"] > 0.5) == (chance > 0.5)
    assert report["agreement"]["low"] < 0.5 < report["agreement"]["high"]  # no preference by quality


@pytest.mark.parametrize("filler", [1.5, 0.0])
def test_length_bias_of_a_language_model(filler, build, measure, tokenizer):
    """Scores 4 or 2, 4 more often with filler. The measured interval contains the share that the model implies."""
    model, ids = build(SCORES, float(expit(-1.3 * filler)), filler)  # 4 as often as 2, all in all
    sizes = np.random.default_rng(0).integers(1, 120, (2, PAIRS))
    sides = [[f"{number}{f' {FILLER}' * size}" for number, size in enumerate(row)] for row in sizes]
    report = measure(*sides, "additive_5")

    @torch.inference_mode()
    def find_chance(number, text):
        shown = JUDGE_PROMPTS["additive_5"].render(request=quote(f"{number}?"), **by_slot([quote(text)], "original"))
        return model(torch.tensor([encode_prompt(tokenizer, shown)])).logits[0, -1].softmax(-1)[ids[0]].item()

    first, second = np.array([[find_chance(*text) for text in enumerate(side)] for side in sides])
    apart = sizes[0] != sizes[1]
    up, down = (first * (1 - second))[apart], (second * (1 - first))[apart]
    share = np.where((sizes[0] > sizes[1])[apart], up, down).sum() / (up + down).sum()
    found = report["length"]
    assert found["low"] < share < found["high"]
    assert (found["low"] > 0.5) == (filler > 0) and (share > 0.6) == (filler > 0)
    assert report["answers"]["asked"] == 2 * PAIRS and report["answers"]["unparsed"] == 0
