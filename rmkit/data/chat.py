"""Chat: a prompt and a response, rendered by the tokenizer's own template and encoded within a length."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Seen, refuse

Messages = Sequence[Mapping[str, str]]

# For tokenizers that have no template. Saved with the checkpoint, since it becomes part of the tokenizer.
DEFAULT_TEMPLATE = (
    "{% set names = {'user': 'Human', 'assistant': 'Assistant', 'system': 'System'} %}"
    "{% for message in messages %}"
    "{{ names.get(message['role'], message['role']) }}: {{ message['content'] }}"
    "{% if not loop.last %}{{ '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
# Several templates write today's date into the text, so that a reward would change overnight. This shadows the
# function by which they ask for it.
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


class OverLong(InputError):
    """The response alone does not fit into `max_length`; cutting it would change what is judged."""


@dataclass(frozen=True)
class Encoded:
    """Token ids, the position of the response's first token, and how many prompt tokens were cut on the left."""

    input_ids: list[int]
    response_start: int
    prompt_tokens_cut: int


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Messages, response: Messages, max_length: int) -> Encoded:
    """Token ids of `prompt` followed by `response`, at most `max_length` of them, the response always whole.

    The special tokens that the tokenizer puts around a text ([CLS] and [SEP], or BOS) are there once, whether it
    is the template that writes them or the tokenizer. An over-long prompt is cut from the left, behind BOS.
    Raises `OverLong` when the response and those tokens alone exceed `max_length`, and `InputError` when the
    template refuses the messages.
    """
    text = render(tokenizer, [*prompt, *response])
    encoding = tokenizer(
        text, add_special_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    ids, ends = list(encoding["input_ids"]), [end for _, end in encoding["offset_mapping"]]
    added = encoding["special_tokens_mask"]  # 1 where the tokenizer added a token, 0 for one written in the text
    if 0 not in added:
        refuse("chat template and tokenizer", "tokens for the text", Seen(f"none for {text!r:.80}"), "Check both.")
    first = added.index(0)
    last = len(added) - added[::-1].index(0)
    before, body, after = ids[:first], ids[first:last], ids[last:]
    ends = ends[first:last]
    head = before
    if not before and body[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id):
        head = body[:1]
    if body[:len(head)] == head:  # written by the template
        body, ends = body[len(head):], ends[len(head):]
    if body[-len(after):] == after:
        after = []
    start_character = find_response(tokenizer, prompt, response, text)
    start = next((position for position, end in enumerate(ends) if end > start_character), len(body))
    cut = max(0, len(head) + len(body) + len(after) - max_length)
    if cut > start:
        needed = len(head) + len(body) - start + len(after)
        raise OverLong(
            f"response: expected at most max_length {max_length} tokens, got {needed} with its special tokens. "
            "Raise max_length or leave the pair out."
        )
    return Encoded(head + body[cut:] + after, len(head) + start - cut, cut)


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The conversation as text, by the tokenizer's template, with any date in it fixed."""
    if not tokenizer.is_fast:
        refuse("tokenizer", "a fast tokenizer (with character offsets)", Seen(type(tokenizer).__name__),
               "Convert it: the response's place in the tokens is found by its offsets.")
    if tokenizer.chat_template is None:
        refuse("tokenizer", "a chat template", Seen("none"), "Call rmkit.data.chat.set_default_template(tokenizer).")
    template = FIXED_DATE + tokenizer.get_chat_template()
    try:
        plain = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(plain, chat_template=template, tokenize=False))
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        refuse("chat template", f"messages it can render (roles {roles})", Seen(error), "Mend the roles or template.")


def find_response(tokenizer: PreTrainedTokenizerBase, prompt: Messages, response: Messages, text: str) -> int:
    """The character at which the response begins in `text`, the rendered conversation.

    Where the rendering with another first character of the response differs. This holds for every template,
    while the prompt rendered with a generation prompt is not always how the whole conversation begins.
    """
    mark = "\ue001" if response[0]["content"].lstrip().startswith("\ue000") else "\ue000"
    other = render(tokenizer, [*prompt, {**response[0], "content": mark}, *response[1:]])
    return len(os.path.commonprefix([text, other]))


def set_default_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template a plain one ("Human: ...", "Assistant: ..."); leave others alone."""
    if tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_TEMPLATE
