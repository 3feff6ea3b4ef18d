import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rmkit.core.checks import InputError
from rmkit.data.chat_template import DEFAULT_TEMPLATE, ResponseTooLong, encode, render, set_default_template

PROMPT = [{"role": "user", "content": "What is the capital of France?"}]
RESPONSE = [{"role": "assistant", "content": "The capital is Paris."}]


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("template, tail", [(None, "The capital is Paris.</s>\n"),
                                            (DEFAULT_TEMPLATE, " The capital is Paris.</s>")])
def test_llama_has_one_bos_and_the_whole_conversation(llama, template, tail):
    llama.chat_template = template or llama.chat_template
    encoded = encode(llama, PROMPT, RESPONSE, 200)
    assert encoded.input_ids.count(llama.bos_token_id) == 1 and encoded.input_ids[0] == llama.bos_token_id
    assert decode(llama, encoded.input_ids).removeprefix("<s>") == render(llama, PROMPT + RESPONSE).removeprefix("<s>")
    assert decode(llama, encoded.input_ids[encoded.response_start:]) == tail


def test_bos_written_by_the_template_alone_survives_the_cut(gpt):
    gpt.bos_token = "<|end|>"
    gpt.chat_template = "{{ bos_token }}" + DEFAULT_TEMPLATE
    whole = encode(gpt, PROMPT, RESPONSE, 200)
    cut = encode(gpt, PROMPT, RESPONSE, len(whole.input_ids) - 3)
    assert cut.input_ids == whole.input_ids[:1] + whole.input_ids[4:]


def test_encoder_tokens_surround_the_text(encoder):
    set_default_template(encoder)
    encoded = encode(encoder, PROMPT, RESPONSE, 200)
    assert encoded.input_ids[0] == encoder.cls_token_id
    assert encoded.input_ids[-1] == encoder.sep_token_id
    assert encoded.input_ids.count(encoder.cls_token_id) == encoded.input_ids.count(encoder.sep_token_id) == 1
    assert encoded.input_ids == encoder(render(encoder, PROMPT + RESPONSE))["input_ids"]


def test_default_template_text(gpt):
    set_default_template(gpt)
    conversation = [{"role": "system", "content": "Be short."}, *PROMPT, *RESPONSE]
    assert render(gpt, conversation) == (
        "System: Be short.\n\nHuman: What is the capital of France?\n\nAssistant: The capital is Paris.<|end|>"
    )
    generation = gpt.apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    assert render(gpt, PROMPT + RESPONSE).startswith(generation)


def test_default_template_is_saved_and_leaves_a_tokenizers_own_alone(llama, gpt, tmp_path):
    original = llama.chat_template
    set_default_template(llama)
    assert llama.chat_template is original
    set_default_template(gpt)
    gpt.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert encode(again, PROMPT, RESPONSE, 200) == encode(gpt, PROMPT, RESPONSE, 200)


def test_the_date_is_fixed(llama):
    assert "Today: 26 Jul 2024\n" in render(llama, PROMPT + RESPONSE)


def test_the_response_alone_fits_or_is_refused(any_tokenizer):
    whole = encode(any_tokenizer, PROMPT, RESPONSE, 500)
    head = 0 if any_tokenizer.bos_token_id is None and any_tokenizer.cls_token_id is None else 1
    needed = len(whole.input_ids) - whole.response_start + head
    tight = encode(any_tokenizer, PROMPT, RESPONSE, needed)
    assert tight.input_ids == whole.input_ids[:head] + whole.input_ids[whole.response_start:]
    assert tight.response_start == head
    with pytest.raises(ResponseTooLong, match=f"max_length {needed - 1} tokens, got {needed} "):
        encode(any_tokenizer, PROMPT, RESPONSE, needed - 1)


@pytest.mark.parametrize("response", ["The</s>", "\ue000 odd", "</think>", "  spaces  ", "日本語", "T"])
def test_response_start_whatever_the_response_begins_with(any_tokenizer, response):
    encoded = encode(any_tokenizer, PROMPT, [{"role": "assistant", "content": response}], 500)
    tail = decode(any_tokenizer, encoded.input_ids[encoded.response_start:])
    assert tail.lstrip().startswith(response.strip())
    assert "Assistant" not in tail and "<|assistant|>" not in tail


@pytest.mark.parametrize("template, message", [
    ("{% if false %}x{% endif %}", "expected tokens for the text, got none for ''"),
    ("{{ raise_exception('roles must alternate') }}", "chat template: .*roles user, assistant.*roles must alternate"),
])
def test_templates_that_write_nothing_or_raise_are_refused(llama, template, message):
    llama.chat_template = template
    with pytest.raises(InputError, match=message):
        encode(llama, PROMPT, RESPONSE, 500)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    question=st.text(min_size=1, max_size=60), answer=st.text(min_size=1, max_size=40),
    max_length=st.integers(1, 150),
)
def test_the_response_is_never_cut(any_tokenizer, question, answer, max_length):
    prompt = [{"role": "user", "content": question}]
    response = [{"role": "assistant", "content": answer}]
    whole = encode(any_tokenizer, prompt, response, 10**6)
    try:
        encoded = encode(any_tokenizer, prompt, response, max_length)
    except ResponseTooLong:
        assert len(whole.input_ids) - whole.response_start + 1 > max_length
        return
    assert len(encoded.input_ids) == min(max_length, len(whole.input_ids))
    assert encoded.input_ids[encoded.response_start:] == whole.input_ids[whole.response_start:]
    assert len(encoded.input_ids) + encoded.prompt_tokens_cut == len(whole.input_ids)
    assert encoded.input_ids[:1] == whole.input_ids[:1] or any_tokenizer.bos_token_id is None


def test_no_template_and_no_offsets_are_refused(gpt, monkeypatch):
    gpt.chat_template = None
    with pytest.raises(InputError, match="set_default_template"):
        encode(gpt, PROMPT, RESPONSE, 200)
    monkeypatch.setattr(type(gpt), "is_fast", False)
    with pytest.raises(InputError, match="a fast tokenizer"):
        encode(gpt, PROMPT, RESPONSE, 200)
