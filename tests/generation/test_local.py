"""Generation in process: log-probabilities, texts and lengths against plain forwards, resumption, and failures."""

import json
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from rmkit.core.checks import InputError
from rmkit.data.chat_template import encode
from rmkit.generation import Completion, Failed, Generator, Request, Sampling, TransformersGenerator, load_generator
from rmkit.generation.local import Row, encode_prompt, split_into_batches
from rmkit.models.reward_model import load_tokenizer

PROMPTS = [
    "The river is",
    [{"role": "user", "content": "What colour is the stone?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And the cloud? " * 5}],
    "x",
    "green river, grey stone, " * 4,
]


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="module")
def model(tiny_base):
    """The tiny model, with sharper probabilities and 30 tokens that end a turn."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model.get_input_embeddings().weight.data.mul_(2.0)
    model.generation_config.eos_token_id = [1, *range(100, 130)]
    return model


def build_gpt2(vocabulary):
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.2,
        bos_token_id=None, eos_token_id=1,
    ))


def build_mistral(vocabulary):
    return MistralForCausalLM(MistralConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, initializer_range=0.2, bos_token_id=None, eos_token_id=1,
    ))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
@torch.inference_mode()
def test_completions_follow_from_whole_forwards(kind, model, tokenizer):
    """Each token's log-probabilities are those of a forward over the unpadded text before it."""
    if kind != "llama":
        torch.manual_seed(0)
        model = (build_gpt2 if kind == "gpt2" else build_mistral)(len(tokenizer)).eval()
        model.generation_config.eos_token_id = list(range(100, 130))
    sampling = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=14, top_logprobs=4)
    generator = TransformersGenerator(model, tokenizer)
    sequences, generate = [], model.generate

    def keep(input_ids, **settings):
        sequences.append(generate(input_ids, **settings)[:, input_ids.shape[1]:].tolist())
        return torch.cat([input_ids, torch.tensor(sequences[-1])], 1)

    model.generate = keep
    results = dict(generator.complete([Request(prompt, sampling, seed) for prompt in PROMPTS for seed in range(3)]))
    del model.generate
    order = sorted(range(15), key=lambda index: -len(encode_prompt(tokenizer, PROMPTS[index // 3])))
    finishes = set()
    for index, ids in zip(order, sequences[0], strict=True):
        result, prompt = results[index], encode_prompt(tokenizer, PROMPTS[index // 3])
        length = next((step for step, token in enumerate(ids) if token in generator.end_tokens), len(ids))
        finishes.add(result.finish)
        assert result.text == tokenizer.decode(ids[:length], skip_special_tokens=True)
        assert result.finish == ("stop" if length < len(ids) else "length")
        assert (result.prompt_tokens, result.tokens) == (len(prompt), min(length + 1, len(ids)))
        assert "".join(token.text for token in result.logprobs) == result.text
        expected = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1:].log_softmax(-1)
        for token, drawn, logprobs in zip(result.logprobs, ids, expected, strict=False):
            assert token.logprob == pytest.approx(float(logprobs[drawn]), abs=1e-4)
            likeliest = logprobs.topk(4)
            assert [text for text, _ in token.top] == [tokenizer.decode([each]) for each in likeliest.indices]
            assert [value for _, value in token.top] == pytest.approx(likeliest.values.tolist(), abs=1e-4)
    assert finishes == {"stop", "length"}


@torch.inference_mode()
def test_tokens_are_drawn_from_the_nucleus_of_the_softmax(model, tokenizer):
    """The model's own generation settings have no say, and no two samples share their randomness."""
    model.generation_config.top_k, model.generation_config.repetition_penalty = 1, 9.0
    count, sampling = 3000, Sampling(temperature=0.5, top_p=0.9, max_new_tokens=1, top_logprobs=1)
    (results,) = TransformersGenerator(model, tokenizer).generate(["x"], samples=count, sampling=sampling, seed=0)
    model.generation_config.top_k = model.generation_config.repetition_penalty = None
    logits = model(torch.tensor([encode_prompt(tokenizer, "x")])).logits[0, -1]
    ordered = (logits / 0.5).softmax(-1).sort(descending=True)
    nucleus = ordered.values[:int((ordered.values.cumsum(0) < 0.9).sum()) + 1]
    expected = Counter()
    for token, chance in zip(ordered.indices, nucleus / nucleus.sum(), strict=False):
        expected["" if int(token) in TransformersGenerator(model, tokenizer).end_tokens
                 else tokenizer.decode([token], skip_special_tokens=True)] += float(chance)
    drawn = Counter(result.text for result in results)
    assert set(drawn) <= set(expected) and len(drawn) > 5
    for text, chance in expected.items():
        assert abs(drawn[text] / count - chance) <= 5 * (chance * (1 - chance) / count) ** 0.5


@pytest.mark.parametrize("budget", [1, 90, 400, 32768])
def test_a_resumed_call_gives_the_same(budget, model, tokenizer, tmp_path):
    """With the cache of a call that was killed anywhere, and with any state of the global random generator."""
    sampling, path = Sampling(max_new_tokens=12), tmp_path / "cache.jsonl"
    generator = TransformersGenerator(model, tokenizer, max_tokens_per_batch=budget, name="tiny")
    whole = generator.generate(PROMPTS, samples=5, sampling=sampling, seed=1, cache=path)
    assert generator.generate(PROMPTS, samples=5, sampling=sampling, seed=2) != whole
    lines = [line for line in path.read_text().splitlines() if line]
    state = torch.random.get_rng_state()
    for kept in (1, 7, 24):
        torch.manual_seed(kept)
        path.write_text("\n".join(lines[:kept]) + "\n")
        assert generator.generate(PROMPTS, samples=5, sampling=sampling, seed=1, cache=path) == whole
        added = [line for line in path.read_text().splitlines() if line]
        assert len({json.loads(line)["key"] for line in added}) == len(added) == 25
    torch.random.set_rng_state(state)
    assert len({result.text for result in whole[4]}) > 3


def test_batches_keep_to_the_budget_and_lose_nothing():
    lengths = [3, 3, 20, 20, 20, 5, 19, 40, 40, 120]
    rows = [Row(index, 0, [0] * length) for index, length in enumerate(lengths)]
    batches = list(split_into_batches(rows, 10, 100))
    assert sorted(row.index for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) * (max(len(row.prompt) for row in batch) + 10) <= 100 or len(batch) == 1
    assert len(batches) < len(rows)


def test_text_ends_before_a_stop_string(model, tokenizer):
    def generate(**settings):
        sampling = Sampling(max_new_tokens=20, top_logprobs=1, **settings)
        requests = [Request(prompt, sampling, seed) for prompt in PROMPTS for seed in range(3)]
        return [result for _, result in sorted(TransformersGenerator(model, tokenizer).complete(requests))]

    whole = generate()
    stop = next(result.text for result in whole if len(result.text) > 20)[8:11]
    stopped = 0
    for before, after in zip(whole, generate(stop=("no such text", stop)), strict=True):
        assert after.text == before.text.partition(stop)[0]
        assert "".join(token.text for token in after.logprobs).startswith(after.text)
        if stop in before.text:
            stopped += 1
            assert after.finish == "stop" and after.tokens <= before.tokens
            assert sum(len(token.text) for token in after.logprobs[:-1]) < len(after.text)
        else:
            assert (after.text, after.finish, after.tokens) == (before.text, before.finish, before.tokens)
    assert stopped


def test_prompts_are_encoded_as_a_reward_model_reads_them(tokenizer):
    prompt, response = PROMPTS[2], [{"role": "assistant", "content": "Grey."}]
    encoded = encode(tokenizer, prompt, response, 1000)
    assert encode_prompt(tokenizer, prompt) == encoded.input_ids[:encoded.response_start]


def test_failures_have_a_reason_and_the_rest_is_generated(model, tokenizer):
    long = "stone " * 2000
    refusing = load_tokenizer(tokenizer.name_or_path)
    refusing.chat_template = ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}"
                              "{% endif %}" + tokenizer.chat_template)
    found = TransformersGenerator(model, refusing).generate(
        [PROMPTS[0], long, PROMPTS[2]], samples=2, sampling=Sampling(max_new_tokens=4), seed=0
    )
    assert all(isinstance(outcome, Completion) for outcome in found[0])
    assert all("exceed the model's 1024 positions" in outcome.reason for outcome in found[1])
    assert found[2] == [Failed("chat template: no system turns")] * 2


def test_a_model_without_finite_logits_fails(model, tokenizer, monkeypatch):
    forward = type(model).forward

    def spoil(self, *args, **named):
        output = forward(self, *args, **named)
        if named["input_ids"].shape[1] == 1:
            output.logits[0] = torch.nan
        return output

    monkeypatch.setattr(type(model), "forward", spoil)
    (first, second), = TransformersGenerator(model, tokenizer).generate(
        PROMPTS[:1], samples=2, sampling=Sampling(max_new_tokens=2), seed=0
    )
    assert first == Failed("the model's logits are not finite at token 2")
    assert isinstance(second, Completion)


def test_a_batch_that_does_not_fit_is_split(model, tokenizer, monkeypatch):
    generator, sampling = TransformersGenerator(model, tokenizer), Sampling(max_new_tokens=6)
    sample, sizes = TransformersGenerator.sample, []

    def sample_small(self, batch, sampling):
        sizes.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError
        return sample(self, batch, sampling)

    monkeypatch.setattr(TransformersGenerator, "sample", sample_small)
    limit = 3
    results = generator.generate(PROMPTS, samples=4, sampling=sampling, seed=0)
    assert all(isinstance(result, Completion) for prompt in results for result in prompt)
    assert max(sizes) == 20 and min(sizes) == 2
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate(PROMPTS[:1], sampling=sampling, seed=0)


def test_bfloat16_stays_and_training_goes_on(tiny_base):
    generator = load_generator(tiny_base, dtype=torch.bfloat16)
    generator.model.train()
    found = generator.generate(PROMPTS, samples=2, sampling=Sampling(max_new_tokens=5), seed=0)
    assert all(isinstance(outcome, Completion) for outcomes in found for outcome in outcomes)
    assert generator.model.dtype == torch.bfloat16 and generator.model.training


def test_names_tell_weights_apart(tiny_base, tmp_path, model):
    load_tokenizer(tiny_base).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    names = {load_generator(tiny_base).name, load_generator(tiny_base, dtype=torch.bfloat16).name,
             load_generator(tmp_path).name}
    assert len(names) == 3 and load_generator(tmp_path).name in names


def test_a_folder_without_a_model(tmp_path, tiny_base):
    load_tokenizer(tiny_base).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="causal language model"):
        load_generator(tmp_path)


@pytest.mark.parametrize("values, message", [
    ({"temperature": -0.1}, "temperature"), ({"temperature": float("nan")}, "temperature"), ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"), ({"max_new_tokens": 0}, "max_new_tokens"), ({"stop": "end"}, "stop"),
    ({"stop": ("",)}, "stop"), ({"top_logprobs": 21}, "top_logprobs"),
])
def test_sampling_out_of_range(values, message):
    with pytest.raises(InputError, match=message):
        Sampling(**values)


class Nobody(Generator):
    name = None

    def complete(self, requests):
        raise AssertionError("asked")


@pytest.mark.parametrize("prompts, settings, message", [
    (["", "a"], {}, "prompt 0"), (["a", []], {}, "prompt 1"),
    ([[{"role": "assistant", "content": "a"}]], {}, "assistant's turn"),
    (["a"], {"samples": 0}, "samples"), (["a"], {"samples": 2, "sampling": Sampling(temperature=0)}, "samples"),
    (["a"], {"cache": "cache.jsonl"}, "name"),
])
def test_refused_before_anything_is_made(prompts, settings, message):
    with pytest.raises(InputError, match=message):
        Nobody().generate(prompts, **{"sampling": Sampling(), "seed": 0, **settings})


def test_keys_tell_requests_apart():
    sampling = Sampling()
    requests = [Request("a", sampling, 0), Request("a", sampling, 1), Request("b", sampling, 0),
                Request([{"role": "user", "content": "a"}], sampling, 0), Request("a", Sampling(stop=("a",)), 0)]
    keys = {request.cache_key(name) for request in requests for name in ("one", "two")}
    assert len(keys) == 10
    assert Request("a", Sampling(), 0).cache_key("one") in keys
