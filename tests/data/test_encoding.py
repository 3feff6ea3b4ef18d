"""Many conversations encoded together are the same, to the token, as each by itself and by the slow obvious way."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.data.chat_template import DEFAULT_TEMPLATE, FIXED_DATE, ResponseTooLong, encode_rows, unwrap

TEMPLATES = {
    "plain": DEFAULT_TEMPLATE,
    "instruction": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }}"
        " [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "thinking": (
        "{% for message in messages %}<|{{ message['role'] }}|>{% if message['role'] == 'assistant' %}"
        "{{ message['content'].split('</think>')[-1] | trim }}</s>{% else %}{{ message['content'] }}{% endif %}"
        "{% endfor %}"
    ),
    "dated, refusing": (
        "{{ strftime_now('%d %b') }}{% for message in messages %}{% if 'forbidden' in message['content'] %}"
        "{{ raise_exception('no') }}{% endif %}\n{{ message['role'] }}: {{ message['content'] | trim }}{% endfor %}"
    ),
}


def speak(role, content):
    return {"role": role, "content": content}


def encode_slowly(tokenizer, prompt, response, max_length):
    """One conversation: rendered, rendered again with another first character, and tokenised by itself."""
    def render(messages):
        return tokenizer.apply_chat_template(
            messages, chat_template=FIXED_DATE + tokenizer.chat_template, tokenize=False
        )

    text = render([*prompt, *response])
    mark = "\ue001" if response[0]["content"].lstrip().startswith("\ue000") else "\ue000"
    other = render([*prompt, {**response[0], "content": mark}, *response[1:]])
    start_character = len(os.path.commonprefix([text, other]))
    ids = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    body = list(zip(ids["input_ids"], (end for _, end in ids["offset_mapping"]), strict=True))
    empty = tokenizer("")["input_ids"]
    closing = [token for token in empty if token == tokenizer.sep_token_id]
    opening = empty[:len(empty) - len(closing)]
    if not opening and body[0][0] == tokenizer.bos_token_id:
        opening = [body[0][0]]
    if opening and body[0][0] == opening[0]:
        body = body[1:]
    start = next((place for place, (_, end) in enumerate(body) if end > start_character), len(body))
    cut = max(0, len(opening) + len(body) + len(closing) - max_length)
    if cut > start:
        return None
    return opening + [token for token, _ in body[cut:]] + closing, len(opening) + start - cut, cut


ROWS = [
    ([speak("user", "What is the capital of France?")], ["Paris.", "The capital is Paris, on the " * 3, "P", " "]),
    ([speak("system", "Be short."), speak("user", "Hm? " * 30), speak("assistant", "What?"), speak("user", "That.")],
     ["Yes", "\ue000 odd", "日本語 </s> <s>", "<think>So.</think>No."]),
    ([speak("user", "What is the capital of France?")], ["Paris."]),
    ([speak("user", "Say it.")], ["It", "what is forbidden", "It, again."]),
]


def make_rows(rows):
    return [(prompt, [[speak("assistant", text)] for text in texts]) for prompt, texts in rows]


@pytest.mark.parametrize("max_length", [1000, 60, 12])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_rows_together_are_encoded_as_each_by_itself(any_tokenizer, template, max_length):
    any_tokenizer.chat_template = template
    rows = make_rows(ROWS)
    found = encode_rows(any_tokenizer, rows, max_length)
    assert [len(each) for each in found] == [4, 4, 1, 3]
    for (prompt, responses), each in zip(rows, found, strict=True):
        for response, encoded in zip(responses, each, strict=True):
            if template is TEMPLATES["dated, refusing"] and "forbidden" in response[0]["content"]:
                assert type(encoded) is InputError and "no" in str(encoded)
                continue
            expected = encode_slowly(any_tokenizer, prompt, response, max_length)
            if expected is None:
                assert type(encoded) is ResponseTooLong
            else:
                assert (encoded.input_ids, encoded.response_start, encoded.prompt_tokens_cut) == expected


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.text(min_size=1, max_size=40), st.lists(st.text(min_size=1, max_size=30), max_size=4)),
                  max_size=5),
    max_length=st.integers(1, 60),
)
def test_any_text_in_any_company(any_tokenizer, rows, max_length):
    rows = make_rows([([speak("user", question)], answers) for question, answers in rows])
    together = encode_rows(any_tokenizer, rows, max_length)
    for (prompt, responses), each in zip(rows, together, strict=True):
        for response, encoded in zip(responses, each, strict=True):
            (alone,), = encode_rows(any_tokenizer, [(prompt, [response])], max_length)
            assert str(encoded) == str(alone) and type(encoded) is type(alone)


def test_responses_that_are_followed_by_more_keep_their_own_start(llama):
    prompt = [speak("user", "Two things.")]
    follow = [[speak("assistant", "One."), speak("user", text), speak("assistant", "Two.")] for text in ("And?", "Oh.")]
    responses = [*follow, [speak("assistant", "One.")], [speak("tool", "One.")]]
    for response, encoded in zip(responses, encode_rows(llama, [(prompt, responses)], 500)[0], strict=True):
        assert (encoded.input_ids, encoded.response_start, 0) == encode_slowly(llama, prompt, response, 500)


def test_a_fault_is_raised_with_its_kind_and_what_it_is_of(gpt):
    gpt.chat_template = DEFAULT_TEMPLATE
    rows = make_rows([([speak("user", "Hm?")], ["Yes.", "A long one. " * 20])])
    (short, long), = encode_rows(gpt, rows, 30)
    assert unwrap(short, "pair 1") is short
    with pytest.raises(ResponseTooLong, match="^pair 1: response: expected at most max_length 30 tokens"):
        unwrap(long, "pair 1")
