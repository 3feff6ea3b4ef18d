"""The small language model as a judge: its generators, which pairs it is asked, and how far attacks move it."""

import gzip
import json
import math
from pathlib import Path

import pytest
from datasets import Dataset
from gguf import GGUFWriter

from benchmarks.judges import language_attacks, language_judges
from benchmarks.judges import language_model as judge_model
from rmkit.generation import Completion, Sampling, Token, load_generator
from rmkit.judges.expected_score import expected_score
from rmkit.judges.prompts import JUDGE_PROMPTS

TURNS = [[{"role": "user", "content": f"What colour is the stone? {end}"}] for end in ("red", "blue " * 9, "", "red")]


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


def test_a_gguf_file_becomes_the_model_that_it_was(gguf_file, model, tmp_path):
    """Weights, template and tokens; numbers are read digit by digit, as the file says."""
    found = judge_model.find_model(str(gguf_file.parent))
    folder = judge_model.convert(found, tmp_path / "model")
    ours = load_generator(folder)
    assert found == str(gguf_file) and judge_model.convert("hub/name", tmp_path) == "hub/name"
    assert ours.end_tokens == model.end_tokens and ours.tokenizer.pad_token == model.tokenizer.pad_token
    sampling = Sampling(temperature=0, max_new_tokens=6, top_logprobs=3)
    for (one,), (other,) in zip(*(each.generate(TURNS, sampling=sampling, seed=0) for each in (ours, model)),
                                strict=True):
        assert (one.text, one.prompt_tokens) == (other.text, other.prompt_tokens)
        assert [token.logprob for token in one.logprobs] == pytest.approx(
            [token.logprob for token in other.logprobs], abs=1e-4)
    before = ours.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  85")
    assert [piece for piece, _ in before] == ["a", "ĠĠ", "8", "5"]
    written = Path(folder, "model.safetensors").stat().st_mtime_ns
    assert judge_model.convert(found, tmp_path / "model") == folder
    assert Path(folder, "model.safetensors").stat().st_mtime_ns == written  # once


def collect(generator, sampling, samples=1):
    drawn = [generator.generate(turns, samples=samples, sampling=sampling, seed=3) for turns in (TURNS[:2], TURNS)]
    return [one for outcomes in drawn for own in outcomes for one in own]


@pytest.mark.parametrize("temperature, samples", [(0.0, 1), (1.0, 3)])
def test_a_prefix_that_is_read_once_changes_nothing(temperature, samples, model):
    sampling = Sampling(temperature=temperature, max_new_tokens=7, top_logprobs=5)
    ours = collect(judge_model.PrefixGenerator(model.model, model.tokenizer, name="x"), sampling, samples)
    theirs = collect(model, sampling, samples)
    assert [(one.text, one.finish, one.tokens, one.prompt_tokens) for one in ours] == [
        (one.text, one.finish, one.tokens, one.prompt_tokens) for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert [token.logprob for token in one.logprobs] == pytest.approx(
            [token.logprob for token in other.logprobs], abs=1e-4)


def test_a_form_is_an_answer(model):
    """The blank is a digit, whose other likely values count; a form with an end is whole, one without may be cut."""
    question = JUDGE_PROMPTS["additive_5"]
    top = tuple((text, math.log(chance)) for text, chance in (("1", 0.5), ("4", 0.25), ("x", 0.25)))
    blank = Completion("1", "length", 9, 1, (Token("1", math.log(0.5), top),))
    filled = judge_model.Form(model, "Score: ", "\n").fill(blank)
    written = question.parse(filled.text, cut=filled.finish == "length")
    assert filled.text == "Score: 1\n" and written.value == 1
    assert expected_score(filled.text, filled.logprobs, written, question).value == pytest.approx((0.5 + 1) / 0.75)
    filled = judge_model.Form(model, "Score: ").fill(blank)
    assert question.parse(filled.text, cut=filled.finish == "length").reason == "cut off"


def test_a_form_goes_on_from_its_beginning(model):
    sampling = Sampling(temperature=0, max_new_tokens=3, top_logprobs=2)
    (form,), = judge_model.Form(model, "It is ", "!").generate(TURNS[:1], sampling=sampling, seed=0)
    text = f"<|user|>{TURNS[0][0]['content']}<|assistant|>It is "
    (plain,), = model.generate([text], sampling=sampling, seed=0)
    assert form.text == f"It is {plain.text}!" and form.prompt_tokens == plain.prompt_tokens
    assert "".join(token.text for token in form.logprobs) == form.text


def test_pairs_are_short_clear_and_of_each_prompt_one(tmp_path, model):
    judges = language_judges
    long = "red " * (judges.LONGEST + 60)
    for name in ("one", "two"):
        rows = [{"prompt": f"Question {number // 2}?", "chosen": "red", "rejected": "blue", "gold": "chosen"}
                for number in range(12)]
        rows += [{**rows[0], "prompt": f"{name} {number}", **change} for number, change in enumerate((
            {"gold": "tie"}, {"chosen": long}, {"rejected": " "}, {"prompt": long}))]
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.write("\n".join(map(json.dumps, rows)))
    found = judges.choose_pairs([tmp_path / f"{name}.jsonl.gz" for name in ("one", "two")], 10, model.tokenizer)
    assert [name.split("-")[0] for name in found["id"]] == ["one", "two"] * 5
    assert all(row["prompt"][0]["content"].startswith("Question") for row in found)
    for name in ("one", "two"):
        prompts = [row["prompt"][0]["content"] for row in found if row["id"].startswith(name)]
        assert len(set(prompts)) == 5


def test_attacks_follow_the_rejected_and_shifts_are_counted():
    attacks = language_attacks

    def say(role, text):
        return [{"role": role, "content": text}]

    tasks = attacks.build_tasks(Dataset.from_list([{
        "prompt": say("user", "?"), "chosen": say("assistant", "word " * 40),
        "rejected": say("assistant", f"no {number}"),
    } for number in range(attacks.RESPONSES)]))
    kinds = [task.id.split("/")[0] for task in tasks]
    count = kinds.count("attack")
    assert count >= 60
    assert kinds.count("control") == -(-count // attacks.CONTROLLED) and kinds.count("plain") == attacks.RESPONSES
    assert kinds.count("number") == attacks.RESPONSES
    for task in tasks:
        kind, owner = task.id.split("/")[:2]
        assert task.responses[0][0]["content"].startswith(f"no {owner}" + "\n\n" * (kind != "plain"))
    again = {task.id: 2.0 for task in tasks if task.id.startswith("plain")}
    scores = {task.id: 2.01 if task.id.startswith("plain") else 2.0 for task in tasks}
    first, second, third = [task.id for task in tasks if task.id.startswith("attack/0")][:3]
    expected = {**scores, first: 3.01, second: 1.01, third: math.nan}
    found = attacks.compare(expected, {**scores, first: 5.0}, again)
    everything = found["all"]["attack"]
    assert found["noise"] == pytest.approx(0.01) and everything["unread"] == 1
    assert everything["raised"] == pytest.approx(1 / (count - 1))
    assert everything["far"] == pytest.approx(2 / (count - 1)) and found["all"]["control"]["far"] == 0
    assert everything["shift"] == pytest.approx(-0.01 * (count - 3) / (count - 1))
    assert sum(entry["attack"]["unread"] for entry in found["families"].values()) == 1
