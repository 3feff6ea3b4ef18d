"""The studies of judges: agreement with people, a small language model as judge, and the effect of attacks."""

import gzip
import json
import math

import numpy as np
import pytest
from datasets import Dataset
from gguf import GGUFWriter

from benchmarks.judges import agreement, language_attacks, language_judges
from benchmarks.judges.language_model import Form, convert
from benchmarks.shared.pairs import make_messages
from rmkit.generation import Completion, Sampling, Token, load_generator
from rmkit.judges.expected_score import expected_score
from rmkit.judges.prompts import JUDGE_PROMPTS

QUESTIONS = [[{"role": "user", "content": f"What colour is the stone? {end}"}] for end in ("red", "blue " * 9, "")]


def make_pair(number, *, chosen="red", rejected="blue"):
    row = {"prompt": f"Question {number}?", "chosen": chosen, "rejected": rejected}
    return {"id": str(number), **make_messages(row)}


def test_people_are_compared_with_each_other_and_never_with_themselves():
    votes = np.array([[1, 1, -1], [1, 0, np.nan], [1, np.nan, np.nan], [1, 1, 1]])
    people = agreement.compare_people(votes, np.array(["a", "b", "c", "d"]))
    one = people["with_one"]  # of a: 2 of 6 agree; of b: the tie with the decided one; of d: all 6
    assert (one["wins"], one["ties"], one["losses"], one["unlabelled"]) == (8, 1, 4, 1)
    others = people["with_others_majority"]  # of a: only the third has a majority against it
    assert (others["wins"], others["losses"], others["unlabelled"]) == (3, 1, 2)
    assert people["pairs"] == 3
    assert agreement.majority(np.array([1.0, -1.0])) == 0 and agreement.majority(np.array([1.0, 0.0, 1.0])) == 1


def test_judges_on_a_few_rows():
    rows = [
        {"prompt": f"p{number}", "gold": gold, "votes": votes, "judges": {"other": judge},
         "chosen_length": 5, "rejected_length": 3 + number}
        for number, (gold, votes, judge) in enumerate([
            ("chosen", ["chosen"] * 3, "chosen"), ("chosen", ["chosen", "chosen", "tie"], "rejected"),
            ("tie", ["tie"] * 3, "tie"), ("chosen", ["chosen", "chosen", "rejected"], "tie"),
        ])
    ]
    models = {"robust": [np.array([1.0, 2.0, 0.5, -1.0]), np.array([1.0, 1, 1, 1])], "plain": [np.array([-1.0] * 4)]}
    figures = agreement.compare_judges("pandalm_test", rows, models)
    assert figures["clear"] == 3 and figures["pairs"] == 4
    assert figures["judges"]["other"]["with_majority"]["with_ties"] == 0.5
    robust, plain = figures["reward_models"].values()
    assert [run["with_majority"]["wins"] for run in [*robust, *plain]] == [2, 3, 0]
    assert robust[0]["with_one"]["wins"] == 3 + 2 + 1
    assert figures["first_less"]["other"]["mean"] == pytest.approx((1 + 1 + 0.5) / 3 - 0.5)
    assert figures["first_less"]["plain"]["mean"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert figures["judges"]["the longer wins"]["with_majority"]["wins"] == 2


@pytest.fixture
def model(tiny_base):
    return load_generator(tiny_base)


@pytest.fixture
def gguf_file(model, tmp_path):
    """The tiny model as llama.cpp's tools would write it: queries and keys in their order of rotation."""
    config, path = model.model.config, tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    heads, width = config.num_attention_heads, config.hidden_size
    for name, value in (
        ("block_count", config.num_hidden_layers), ("context_length", 1024), ("embedding_length", width),
        ("feed_forward_length", config.intermediate_size), ("head_count", heads), ("head_count_kv", heads),
        ("layer_norm_rms_eps", config.rms_norm_eps), ("rope_freq_base", 10000.0), ("vocab_size", config.vocab_size),
        ("tokenizer_model", "gpt2"), ("tokenizer_pre", "smollm"), ("chat_template", model.tokenizer.chat_template),
        ("eos_token_id", model.tokenizer.eos_token_id), ("bos_token_id", model.tokenizer.eos_token_id),
        ("pad_token_id", model.tokenizer.pad_token_id), ("file_type", 0),
    ):
        getattr(writer, f"add_{name}")(value)
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    tokens = sorted(model.tokenizer.get_vocab(), key=model.tokenizer.get_vocab().get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    short = {"embed_tokens": "token_embd", "model.norm": "output_norm", "self_attn.q_proj": "attn_q", "layers": "blk",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, weights in model.model.model.state_dict().items():
        if "q_proj" in name or "k_proj" in name:
            weights = weights.reshape(heads, 2, width // heads // 2, width).swapaxes(1, 2).reshape(width, width)
        name = f"model.{name}"
        for ours, theirs in short.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name.removeprefix("model."), weights.numpy().copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_becomes_the_same_model(gguf_file, model, tmp_path):
    """Weights, chat template and tokenizer, which splits numbers into digits as the file says."""
    folder = convert(gguf_file, tmp_path / "model")
    converted = load_generator(folder)
    assert converted.end_tokens == model.end_tokens and converted.tokenizer.pad_token == model.tokenizer.pad_token
    sampling = Sampling(temperature=0, max_new_tokens=6, top_logprobs=3)
    results = [generator.generate(QUESTIONS, sampling=sampling, seed=0) for generator in (converted, model)]
    for (ours,), (theirs,) in zip(*results, strict=True):
        assert (ours.text, ours.prompt_tokens) == (theirs.text, theirs.prompt_tokens)
        assert [token.logprob for token in ours.logprobs] == pytest.approx(
            [token.logprob for token in theirs.logprobs], abs=1e-4)
    pieces = converted.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  85")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "8", "5"]
    (tmp_path / "model" / "model.safetensors").unlink()
    assert convert(gguf_file, tmp_path / "model") == folder  # an existing folder is not written again
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_a_form_is_an_answer(model):
    """The alternatives to the digit count; a form with an end is complete, one without may be cut off."""
    prompt = JUDGE_PROMPTS["additive_5"]
    top = tuple((text, math.log(probability)) for text, probability in (("1", 0.5), ("4", 0.25), ("x", 0.25)))
    middle = Completion("1", "length", 9, 1, (Token("1", math.log(0.5), top),))
    filled = Form(model, "Score: ", "\n").fill(middle)
    parsed = prompt.parse(filled.text, cut=filled.finish == "length")
    assert filled.text == "Score: 1\n" and parsed.value == 1
    assert expected_score(filled.text, filled.logprobs, parsed, prompt).value == pytest.approx((0.5 + 1) / 0.75)
    filled = Form(model, "Score: ").fill(middle)
    assert prompt.parse(filled.text, cut=filled.finish == "length").reason == "cut off"


def test_a_form_continues_its_beginning(model):
    sampling = Sampling(temperature=0, max_new_tokens=3, top_logprobs=2)
    (form,), = Form(model, "It is ", "!").generate(QUESTIONS[:1], sampling=sampling, seed=0)
    text = f"<|user|>{QUESTIONS[0][0]['content']}<|assistant|>It is "
    (plain,), = model.generate([text], sampling=sampling, seed=0)
    assert form.text == f"It is {plain.text}!" and form.prompt_tokens == plain.prompt_tokens
    assert "".join(token.text for token in form.logprobs) == form.text


def test_pairs_are_short_clear_and_one_of_each_prompt(tmp_path, model):
    long = "red " * (language_judges.MAX_TOKENS + 60)
    paths = [tmp_path / f"{name}.jsonl.gz" for name in ("one", "two")]
    for path in paths:
        rows = [{"prompt": f"Question {number // 2}?", "chosen": "red", "rejected": "blue", "gold": "chosen"}
                for number in range(12)]
        rows += [{**rows[0], "prompt": f"{path} {number}", **change} for number, change in enumerate((
            {"gold": "tie"}, {"chosen": long}, {"rejected": " "}, {"prompt": long}))]
        with gzip.open(path, "wt") as file:
            file.write("\n".join(map(json.dumps, rows)))
    pairs = language_judges.choose_pairs(paths, 10, model.tokenizer)
    assert [name.split("-")[0] for name in pairs["id"]] == ["one", "two"] * 5
    prompts = [row["prompt"][0]["content"] for row in pairs]
    assert all(prompt.startswith("Question") for prompt in prompts)
    assert len(set(prompts[::2])) == len(set(prompts[1::2])) == 5


def test_a_round_is_reported_and_not_asked_again(model, tmp_path, monkeypatch):
    rows = Dataset.from_list([make_pair(number) for number in range(2)])
    model.max_positions = None  # the tiny model's are too few for the judge prompt
    setup = language_judges.Round(None, True, ("text", "logprobs"))
    reports = language_judges.run_round(model, "additive_5", setup, rows, tmp_path / "form")
    assert [report["answers"]["asked"] for report in reports.values()] == [4, 4]
    monkeypatch.setattr(model, "complete", None)
    assert language_judges.run_round(model, "additive_5", setup, rows, tmp_path / "form") == reports


def test_attacks_follow_rejected_responses_and_shifts_are_counted():
    tasks = language_attacks.build_tasks(Dataset.from_list([
        make_pair(number, chosen="word " * 40, rejected=f"no {number}") for number in range(language_attacks.RESPONSES)
    ]))
    kinds = [task.id.split("/")[0] for task in tasks]
    count = kinds.count("attack")
    assert count >= 60
    assert kinds.count("control") == -(-count // language_attacks.CONTROLLED)
    assert kinds.count("number") == kinds.count("plain") == language_attacks.RESPONSES
    for task in tasks:
        kind, response = task.id.split("/")[:2]
        assert task.responses[0][0]["content"].startswith(f"no {response}" + "\n\n" * (kind != "plain"))
    again = {task.id: 2.0 for task in tasks if task.id.startswith("plain")}
    scores = {task.id: 2.01 if task.id.startswith("plain") else 2.0 for task in tasks}
    first, second, third = [task.id for task in tasks if task.id.startswith("attack/0")][:3]
    expected = {**scores, first: 3.01, second: 1.01, third: math.nan}
    effects = language_attacks.compare(expected, {**scores, first: 5.0}, again)
    attacks = effects["all"]["attack"]
    assert effects["noise"] == pytest.approx(0.01) and attacks["unread"] == 1
    assert attacks["raised"] == pytest.approx(1 / (count - 1))
    assert attacks["far"] == pytest.approx(2 / (count - 1)) and effects["all"]["control"]["far"] == 0
    assert attacks["shift"] == pytest.approx(-0.01 * (count - 3) / (count - 1))
    assert sum(entry["attack"]["unread"] for entry in effects["families"].values()) == 1
