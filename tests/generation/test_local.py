"""Generation in process: each completion as if it were made alone, by the whole forward, token by token."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.data.chat_template import encode
from rmkit.generation import Completion, Failure, Generator, Request, Sampling, TransformersGenerator, load_generator
from rmkit.generation import local as in_process
from rmkit.generation.local import encode_prompt
from rmkit.generation.sampling import derive_key, draw_tokens
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


@torch.inference_mode()
def complete_slowly(model, tokenizer, prompt, seed, sampling, ends):
    """Ids of one completion and the log-probabilities behind them, by a whole forward for every token."""
    prompt = encode_prompt(tokenizer, prompt)
    ids, logprobs = [], []
    key = torch.tensor([derive_key(seed, prompt)])
    for step in range(sampling.max_new_tokens):
        logits = model(torch.tensor([prompt + ids]), use_cache=False).logits[:, -1]
        token = draw_tokens(logits, key, step, sampling.temperature, sampling.top_p)
        ids.append(int(token))
        logprobs.append(logits.log_softmax(-1)[0])
        if ids[-1] in ends:
            break
    return ids, logprobs


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
def test_every_completion_is_what_it_is_alone(kind, model, tokenizer):
    if kind != "llama":
        torch.manual_seed(0)
        model = (build_gpt2 if kind == "gpt2" else build_mistral)(len(tokenizer)).eval()
        model.generation_config.eos_token_id = list(range(100, 130))
    sampling = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=14, top_logprobs=4)
    generator = TransformersGenerator(model, tokenizer)
    found = generator.generate(PROMPTS, samples=3, sampling=sampling, seed=5)
    finishes = set()
    for prompt, outcomes in zip(PROMPTS, found, strict=True):
        for number, outcome in enumerate(outcomes):
            seed = derive_seed(5, "sample", number)
            ids, logprobs = complete_slowly(model, tokenizer, prompt, seed, sampling, generator.ends)
            ended = ids[-1] in generator.ends
            finishes.add(ended)
            assert isinstance(outcome, Completion)
            assert outcome.text == tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
            assert outcome.finish == ("stop" if ended else "length")
            assert (outcome.prompt_tokens, outcome.tokens) == (len(encode_prompt(tokenizer, prompt)), len(ids))
            assert "".join(token.text for token in outcome.logprobs) == outcome.text
            for token, drawn, expected in zip(outcome.logprobs, ids, logprobs, strict=False):
                assert token.logprob == pytest.approx(float(expected[drawn]), abs=1e-4)
                likeliest = expected.topk(4)
                assert [text for text, _ in token.top] == [tokenizer.decode([each]) for each in likeliest.indices]
                assert [value for _, value in token.top] == pytest.approx(likeliest.values.tolist(), abs=1e-4)
    assert finishes == {True, False}


@pytest.mark.parametrize("budget", [1, 90, 400])
def test_batching_changes_nothing(budget, model, tokenizer):
    sampling = Sampling(max_new_tokens=12)
    whole = TransformersGenerator(model, tokenizer).generate(PROMPTS, samples=5, sampling=sampling, seed=1)
    parts = TransformersGenerator(model, tokenizer, max_tokens_per_batch=budget)
    assert parts.generate(PROMPTS, samples=5, sampling=sampling, seed=1) == whole
    turned = parts.generate(PROMPTS[::-1], samples=2, sampling=sampling, seed=1)
    assert turned[::-1] == [outcomes[:2] for outcomes in whole]
    assert parts.generate(PROMPTS, samples=5, sampling=sampling, seed=2) != whole


def test_samples_of_a_prompt_differ_and_a_prompt_is_read_once(model, tokenizer, monkeypatch):
    widths = []
    forward = type(model).forward

    def count(self, *args, **named):
        widths.append(tuple(named["input_ids"].shape))
        return forward(self, *args, **named)

    monkeypatch.setattr(type(model), "forward", count)
    (outcomes,) = TransformersGenerator(model, tokenizer).generate(
        [PROMPTS[4]], samples=6, sampling=Sampling(max_new_tokens=8), seed=0
    )
    assert len({outcome.text for outcome in outcomes}) > 3
    assert widths[0][0] == 1 and max(rows for rows, _ in widths[1:]) == 6
    assert all(width == 1 for _, width in widths[1:])


def test_batches_keep_to_the_budget_and_lose_nothing():
    prompts = {tuple(range(length)): list(range(10 * length, 10 * length + count))
               for length, count in [(3, 2), (20, 7), (5, 1), (19, 1), (40, 3)]}
    expected = sorted(number for numbers in prompts.values() for number in numbers)
    batches = list(in_process.cut_batches(dict(prompts), 10, 100))
    assert sorted(number for batch in batches for _, numbers in batch for number in numbers) == expected
    for batch in batches:
        rows = sum(len(numbers) for _, numbers in batch)
        assert rows * (max(len(prompt) for prompt, _ in batch) + 10) <= 100 or rows == 1
    assert len(batches) < len(expected)


def test_greedy_is_what_transformers_generates(model, tokenizer):
    sampling = Sampling(temperature=0, max_new_tokens=10)
    found = TransformersGenerator(model, tokenizer).generate(PROMPTS, sampling=sampling, seed=0)
    for prompt, (outcome,) in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([encode_prompt(tokenizer, prompt)])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10)
        assert outcome.text == tokenizer.decode(expected[0, ids.shape[1]:], skip_special_tokens=True)


def test_text_ends_before_a_stop_string(model, tokenizer):
    free = Sampling(max_new_tokens=20, top_logprobs=1)
    whole = TransformersGenerator(model, tokenizer).generate(PROMPTS, samples=3, sampling=free, seed=4)
    texts = [outcome.text for outcomes in whole for outcome in outcomes]
    stop = next(text for text in texts if len(text) > 20)[8:11]
    cut = Sampling(max_new_tokens=20, top_logprobs=1, stop=("no such text", stop))
    found = TransformersGenerator(model, tokenizer).generate(PROMPTS, samples=3, sampling=cut, seed=4)
    stopped = 0
    for before, after in zip(sum(whole, []), sum(found, []), strict=True):
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


def test_failures_are_told_and_the_rest_is_made(model, tokenizer):
    long = "stone " * 2000
    refusing = load_tokenizer(tokenizer.name_or_path)
    refusing.chat_template = ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}"
                              "{% endif %}" + tokenizer.chat_template)
    found = TransformersGenerator(model, refusing).generate(
        [PROMPTS[0], long, PROMPTS[2]], samples=2, sampling=Sampling(max_new_tokens=4), seed=0
    )
    assert all(isinstance(outcome, Completion) for outcome in found[0])
    assert all("exceed the model's 1024 positions" in outcome.reason for outcome in found[1])
    assert found[2] == [Failure("chat template: no system turns")] * 2


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
    assert first == Failure("the model's logits are not finite at token 2")
    assert isinstance(second, Completion)


def test_a_batch_that_does_not_fit_is_halved(model, tokenizer, monkeypatch):
    sampling = Sampling(max_new_tokens=6)
    generator = TransformersGenerator(model, tokenizer)
    expected = generator.generate(PROMPTS, samples=4, sampling=sampling, seed=0)
    decode, sizes = in_process.decode_batch, []

    def decode_small(model, prompts, drafts, *others):
        rows = sum(map(len, drafts))
        sizes.append(rows)
        if rows > 3:
            raise torch.OutOfMemoryError
        decode(model, prompts, drafts, *others)

    monkeypatch.setattr(in_process, "decode_batch", decode_small)
    assert generator.generate(PROMPTS, samples=4, sampling=sampling, seed=0) == expected
    assert max(sizes) == 20 and min(sizes) == 2


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


def test_no_model_there(tmp_path, tiny_base):
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
    ([[{"role": "assistant", "content": "a"}]], {}, "another's turn"),
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
    keys = {request.make_key(name) for request in requests for name in ("one", "two")}
    assert len(keys) == 10
    assert Request("a", Sampling(), 0).make_key("one") in keys
