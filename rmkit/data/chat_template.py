"""A prompt and a response, rendered by the tokenizer's chat template and encoded within a length."""

import contextlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import jinja2
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Verbatim, raise_input_error

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
# Several templates write today's date into the text, which would change rewards from day to day. This macro shadows
# the function that gives them the date.
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, ValueError)  # of a template that refuses its messages
ROWS_PER_CALL = 32  # rows whose texts are tokenised in one call


class ResponseTooLong(InputError):
    """The response alone does not fit into `max_length`; truncating it would change what is judged."""


@dataclass(frozen=True)
class Encoded:
    """Token ids, the index of the response's first token, and how many prompt tokens were cut on the left.

    The index is None where the caller did not ask for it.
    """

    input_ids: list[int]
    response_start: int | None
    prompt_tokens_cut: int


class Tokens:
    """A text's tokens: its body, and the special tokens before and after it, each there once.

    `before` and `after` ([CLS] and [SEP], or BOS) were added by the tokenizer or by the template. Raises `InputError`
    for a text without tokens.
    """

    def __init__(self, text: str, encoding: Encoding, tokenizer: PreTrainedTokenizerBase) -> None:
        ids, added = encoding.ids, encoding.special_tokens_mask  # 1 where the tokenizer added a token
        if 0 not in added:
            raise_input_error(
                "chat template and tokenizer", "tokens for the text", Verbatim(f"none for {text!r:.80}"), "Check both."
            )
        first, self.end = added.index(0), len(added) - added[::-1].index(0)
        self.text, self.encoding = text, encoding
        self.before, self.body, self.after = ids[:first], ids[first:self.end], ids[self.end:]
        if not self.before and self.body[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id):
            self.before = self.body[:1]
        if self.body[:len(self.before)] == self.before:
            self.body = self.body[len(self.before):]
        if self.body[-len(self.after):] == self.after:
            self.after = []

    def __len__(self) -> int:
        return len(self.before) + len(self.body) + len(self.after)

    def index_at(self, character: int) -> int:
        """The index in the body of the first token that ends behind a character of the text."""
        ends = [end for _, end in self.encoding.offsets[self.end - len(self.body):self.end]]
        return next((index for index, end in enumerate(ends) if end > character), len(ends))


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Messages, response: Messages, max_length: int) -> Encoded:
    """Token ids of one conversation, as `encode_rows` makes them; raises its errors."""
    return unwrap(encode_rows(tokenizer, [(prompt, [response])], max_length)[0][0])


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Messages, Sequence[Messages]]],
    max_length: int,
    *,
    starts: bool = True,
) -> list[list[Encoded | InputError]]:
    """Token ids of each row's prompt followed by each of its responses, at most `max_length`, responses whole.

    An over-long prompt is truncated from the left, behind BOS or [CLS]. An element is `ResponseTooLong` where the
    response and the special tokens alone exceed `max_length`, and `InputError` where the template refuses the messages.
    Without `starts`, `response_start` is found only where the prompt has to be truncated.

    Raises:
        InputError: for a tokenizer that is slow or has no template.
    """
    encoded: list[list[Encoded | InputError]] = []
    for first in range(0, len(rows), ROWS_PER_CALL):
        block = rows[first:first + ROWS_PER_CALL]
        pairs = [(prompt, response) for prompt, responses in block for response in responses]
        tokens = tokenize(tokenizer, render_each(tokenizer, [[*prompt, *response] for prompt, response in pairs]))
        located = [index for index, item in enumerate(tokens)
                   if isinstance(item, Tokens) and (starts or len(item) > max_length)]
        sentinels = dict(zip(located, render_sentinels(tokenizer, [pairs[index] for index in located]), strict=True))
        flat = iter([truncate(item, sentinels.get(index), max_length) for index, item in enumerate(tokens)])
        encoded += [list(islice(flat, len(responses))) for _, responses in block]
    return encoded


def unwrap(encoded: Encoded | InputError, what: str = "") -> Encoded:
    """An element of `encode_rows`; raises it where it is an error, behind the name `what` of its row."""
    if isinstance(encoded, InputError):
        raise type(encoded)(f"{what}: {encoded}" if what else str(encoded))
    return encoded


def truncate(tokens: Tokens | InputError, sentinel: str | InputError | None, max_length: int) -> Encoded | InputError:
    """A conversation within `max_length`, or its error; `sentinel`: `sentinel_conversation` rendered, where needed."""
    if isinstance(tokens, InputError):
        return tokens
    if isinstance(sentinel, InputError):
        return sentinel
    if sentinel is None:
        return Encoded(tokens.before + tokens.body + tokens.after, None, 0)
    start = tokens.index_at(find_response(tokens.text, sentinel))
    cut = max(0, len(tokens) - max_length)
    if cut > start:
        return ResponseTooLong(
            f"response: expected at most max_length {max_length} tokens, got {len(tokens) - start} with its special "
            "tokens. Raise max_length or leave the pair out."
        )
    return Encoded(tokens.before + tokens.body[cut:] + tokens.after, len(tokens.before) + start - cut, cut)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str | InputError]) -> list[Tokens | InputError]:
    """Each text's tokens, or its error; equal texts are tokenised once."""
    distinct = list(dict.fromkeys(text for text in texts if isinstance(text, str)))
    encodings: Sequence[Encoding] = ()
    if distinct:
        batch = tokenizer(distinct, return_attention_mask=False, return_token_type_ids=False, verbose=False)
        encodings = batch.encodings or ()
    results: dict[str | InputError, Tokens | InputError] = {}
    results |= {text: text for text in texts if isinstance(text, InputError)}
    for text, encoding in zip(distinct, encodings, strict=True):
        try:
            results[text] = Tokens(text, encoding, tokenizer)
        except InputError as error:
            results[text] = error
    return [results[text] for text in texts]


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The conversation as text, by the tokenizer's template, with any date in it fixed."""
    template = get_template(tokenizer)
    try:
        return apply_template(tokenizer, template, [messages])[0]
    except TEMPLATE_ERRORS as error:
        expected = f"messages it can render (roles {', '.join(message['role'] for message in messages)})"
        raise_input_error("chat template", expected, Verbatim(error), "Fix the roles or the template.")


def render_each(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Messages]) -> list[str | InputError]:
    """Each conversation as `render` gives it, or the error that it raises."""
    template = get_template(tokenizer)
    with contextlib.suppress(*TEMPLATE_ERRORS):
        return [*apply_template(tokenizer, template, conversations)]
    texts: list[str | InputError] = []
    for messages in conversations:
        try:
            texts.append(render(tokenizer, messages))
        except InputError as error:
            texts.append(error)
    return texts


def get_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's template, with a fixed date."""
    if not tokenizer.is_fast:
        kind = Verbatim(type(tokenizer).__name__)
        hint = "Convert it: its character offsets tell where the response begins."
        raise_input_error("tokenizer", "a fast tokenizer (with character offsets)", kind, hint)
    if tokenizer.chat_template is None:
        hint = "Call rmkit.data.chat_template.set_default_template(tokenizer)."
        raise_input_error("tokenizer", "a chat template", Verbatim("none"), hint)
    return FIXED_DATE + tokenizer.get_chat_template()


def apply_template(
    tokenizer: PreTrainedTokenizerBase, template: str, conversations: Sequence[Messages]
) -> list[str]:
    """Each conversation as text."""
    plain = [[dict(message) for message in messages] for messages in conversations]
    return list(map(str, tokenizer.apply_chat_template(plain, chat_template=template, tokenize=False))) if plain else []


def render_sentinels(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[Messages, Messages]]
) -> list[str | InputError]:
    """Each pair's `sentinel_conversation`, rendered."""
    distinct: list[Messages] = []
    indices = []
    for pair in pairs:
        conversation = sentinel_conversation(*pair)
        if not distinct or conversation != distinct[-1]:  # the responses to a prompt mostly have the same one
            distinct.append(conversation)
        indices.append(len(distinct) - 1)
    rendered = render_each(tokenizer, distinct)
    return [rendered[index] for index in indices]


def sentinel_conversation(prompt: Messages, response: Messages) -> list[Mapping[str, str]]:
    """The conversation with another first character of its response, for `find_response`."""
    mark = "\ue001" if response[0]["content"].lstrip().startswith("\ue000") else "\ue000"
    return [*prompt, {**response[0], "content": mark}, *response[1:]]


def find_response(text: str, sentinel: str) -> int:
    """The character at which the response begins in a rendered conversation: where the rendered sentinel differs.

    This holds for every template, while the prompt rendered with a generation prompt is not always how the whole
    conversation begins.
    """
    sizes = range(1, min(len(text), len(sentinel)) + 1)
    return bisect_left(sizes, True, key=lambda size: text[:size] != sentinel[:size])


def set_default_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template a plain one ("Human: ...", "Assistant: ..."); leave others alone."""
    if tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_TEMPLATE
