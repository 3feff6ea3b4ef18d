"""A bias put into the weights of a tiny language model, and what `rmkit judge` measures of it."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.special import expit
from transformers import PhiConfig, PhiForCausalLM

from rmkit.commands.judge import JudgeConfig, judge
from rmkit.core.config import load_config
from rmkit.generation.local import encode_prompt
from rmkit.judges.language_model import by_slot
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.sanitize import quote
from rmkit.models.tiny import build_tokenizer

pytestmark = pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning")
PAIRS = 150
FILLER = "blah"
WINNERS = ("Winner: Response A\nSo", "Winner: Response B\nSo")  # whole, though cut off
SCORES = ("Score: 4\nSo", "Score: 2\nSo")


@pytest.fixture(scope="module")
def tokenizer():
    """In which each answer, and how it goes on, is one token, and so is a word that says nothing."""
    shown = [JUDGE_PROMPTS[name].template for name in ("additive_5", "scale_100", "pairwise")]
    tokenizer = build_tokenizer(shown, vocabulary=1500)
    tokenizer.add_tokens([*WINNERS, *SCORES, f" {FILLER}"])
    return tokenizer


@pytest.fixture
def build(tokenizer, tmp_path):
    """build(the two answers, chance of the first, what filler does for it) -> the model, saved, and its folder.

    One layer whose attention is even over all tokens before: what it adds is the share of filler among them.
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
def measure(tmp_path):
    """measure(chosen, rejected, prompt) -> the report on pairs of such responses by the model in `tmp_path`."""
    def report(chosen, rejected, prompt):
        Dataset.from_list([{
            "id": str(number), "prompt": [{"role": "user", "content": f"{number}?"}],
            "chosen": [{"role": "assistant", "content": one}], "rejected": [{"role": "assistant", "content": other}],
        } for number, (one, other) in enumerate(zip(chosen, rejected, strict=True))]).to_parquet(tmp_path / "p.parquet")
        given = {"data": tmp_path / "p.parquet", "output_dir": tmp_path / "out", "judge.kind": "llm",
                 "judge.prompt": prompt, "judge.model_name_or_path": tmp_path / "model", "judge.temperature": 1,
                 "judge.top_p": 1, "judge.max_new_tokens": 1}
        words = [str(word) for key, value in given.items() for word in (f"--{key}", value)]
        folder = judge(load_config(JudgeConfig, None, words))
        return json.loads((folder / "report.json").read_text())

    return report


@pytest.mark.parametrize("chance", [0.7, 0.5])
def test_a_language_model_whose_first_wins(chance, build, measure):
    build(WINNERS, chance)
    report = measure([f"red {number}" for number in range(PAIRS)], [f"blue {number}" for number in range(PAIRS)],
                     "pairwise")
    found = report["position"]
    assert report["answers"]["asked"] == 2 * PAIRS and report["answers"]["unparsed"] == 0 and found["both"] == PAIRS
    assert found["low"] < chance < found["high"] and found["high"] - found["low"] < 0.15
    assert (found["low"] > 0.5) == (chance > 0.5)
    assert report["agreement"]["low"] < 0.5 < report["agreement"]["high"]  # it knows nothing of the better one


@pytest.mark.parametrize("filler", [1.5, 0.0])
def test_a_language_model_that_likes_length(filler, build, measure, tokenizer):
    """Scores 4 or 2; the more filler, the sooner 4. What is measured holds the share that its probabilities make."""
    model, ids = build(SCORES, float(expit(-1.3 * filler)), filler)  # 4 as often as 2, all in all
    sizes = np.random.default_rng(0).integers(1, 120, (2, PAIRS))
    sides = [[f"{number}{f' {FILLER}' * size}" for number, size in enumerate(own)] for own in sizes]
    report = measure(*sides, "additive_5")

    @torch.inference_mode()
    def find_chance(number, text):
        shown = JUDGE_PROMPTS["additive_5"].render(request=quote(f"{number}?"), **by_slot([quote(text)], "original"))
        return model(torch.tensor([encode_prompt(tokenizer, shown)])).logits[0, -1].softmax(-1)[ids[0]].item()

    first, second = np.array([[find_chance(*text) for text in enumerate(own)] for own in sides])
    apart = sizes[0] != sizes[1]
    up, down = (first * (1 - second))[apart], (second * (1 - first))[apart]
    share = np.where((sizes[0] > sizes[1])[apart], up, down).sum() / (up + down).sum()
    found = report["length"]
    assert found["low"] < share < found["high"]
    assert (found["low"] > 0.5) == (filler > 0) and (share > 0.6) == (filler > 0)
    assert report["answers"]["asked"] == 2 * PAIRS and report["answers"]["unparsed"] == 0
