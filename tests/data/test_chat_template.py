import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.data.chat_template import DEFAULT_TEMPLATE, ResponseTooLong, encode, render, set_default_template

PROMPT = [{"role": "user", "content": "What is the capital of France?"}]
RESPONSE = [{"role": "assistant", "content": "The capital is Paris."}]


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def test_llama_has_one_bos_and_the_whole_conversation(llama):
    encoded = encode(llama, PROMPT, RESPONSE, 200)
    assert encoded.input_ids.count(llama.bos_token_id) == 1
    assert encoded.input_ids[0] == llama.bos_token_id
    assert decode(llama, encoded.input_ids) == render(llama, PROMPT + RESPONSE)
    assert decode(llama, encoded.input_ids[encoded.response_start:]) == "The capital is Paris.</s>\n"
    assert encoded.prompt_tokens_cut == 0


def test_bos_is_added_when_the_template_does_not_write_it(llama):
    llama.chat_template = DEFAULT_TEMPLATE
    encoded = encode(llama, PROMPT, RESPONSE, 200)
    assert encoded.input_ids[0] == llama.bos_token_id
    assert encoded.input_ids.count(llama.bos_token_id) == 1
    assert decode(llama, encoded.input_ids[encoded.response_start:]) == " The capital is Paris.</s>"


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


def test_default_template_leaves_a_tokenizers_own_alone(llama):
    own = llama.chat_template
    set_default_template(llama)
    assert llama.chat_template is own


def test_default_template_is_saved_and_loaded(gpt, tmp_path):
    from transformers import AutoTokenizer

    set_default_template(gpt)
    gpt.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert encode(again, PROMPT, RESPONSE, 200) == encode(gpt, PROMPT, RESPONSE, 200)


def test_the_date_is_fixed(llama):
    assert "Today: 26 Jul 2024\n" in render(llama, PROMPT + RESPONSE)


@pytest.mark.parametrize("short_by", [1, 5, 10])
def test_the_prompt_is_cut_from_the_left(any_tokenizer, short_by):
    whole = encode(any_tokenizer, PROMPT, RESPONSE, 500)
    cut = encode(any_tokenizer, PROMPT, RESPONSE, len(whole.input_ids) - short_by)
    head = 0 if any_tokenizer.bos_token_id is None and any_tokenizer.cls_token_id is None else 1
    assert cut.input_ids == whole.input_ids[:head] + whole.input_ids[head + short_by:]
    assert cut.prompt_tokens_cut == short_by
    assert cut.response_start == whole.response_start - short_by


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


TEMPLATES = {
    "instruction": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }}"
        " [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "thinking": (
        "{% for message in messages %}<|{{ message['role'] }}|>{% if message['role'] == 'assistant' %}"
        "{{ message['content'].split('</think>')[-1] }}</s>{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
    ),
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("response", ["The capital is Paris.", "<think>Hm.</think>Paris.", "[/INST]"])
def test_response_start_under_templates_without_a_faithful_generation_prompt(llama, template, response):
    llama.chat_template = template
    encoded = encode(llama, PROMPT, [{"role": "assistant", "content": response}], 500)
    shown = response.split("</think>")[-1] if template is TEMPLATES["thinking"] else response
    assert decode(llama, encoded.input_ids[encoded.response_start:]).strip() == f"{shown}</s>"
    assert encoded.input_ids.count(llama.bos_token_id) == 1


def test_a_template_that_writes_nothing_is_refused(llama):
    llama.chat_template = "{% if false %}x{% endif %}"
    with pytest.raises(InputError, match="expected tokens for the text, got none for ''"):
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


def test_a_template_that_refuses_is_named(llama):
    llama.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="chat template: .*roles user, assistant.*roles must alternate"):
        encode(llama, PROMPT, RESPONSE, 200)


def test_no_template_and_no_offsets_are_refused(gpt, monkeypatch):
    gpt.chat_template = None
    with pytest.raises(InputError, match="set_default_template"):
        encode(gpt, PROMPT, RESPONSE, 200)
    monkeypatch.setattr(type(gpt), "is_fast", False)
    with pytest.raises(InputError, match="a fast tokenizer"):
        encode(gpt, PROMPT, RESPONSE, 200)
