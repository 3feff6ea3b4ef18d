"""Chat: a prompt and a response, rendered by the tokenizer's own template and encoded within a length."""

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
# Several templates write today's date into the text, so that a reward would change overnight. This shadows the
# function by which they ask for it.
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


REFUSALS = (jinja2.TemplateError, TypeError, ValueError)  # what comes out of a template that refuses its messages


class ResponseTooLong(InputError):
    """The response alone does not fit into `max_length`; cutting it would change what is judged."""


@dataclass(frozen=True)
class Encoded:
    """Token ids, the position of the response's first token, and how many prompt tokens were cut on the left.

    The position is None where nobody asked for it.
    """

    input_ids: list[int]
    response_start: int | None
    prompt_tokens_cut: int


class Tokens:
    """A text's tokens: its body, and the special ones before and after it, which are there once.

    `before` and `after` ([CLS] and [SEP], or BOS) are those of the tokenizer, or those that the template wrote. Raises
    `InputError` for a text without tokens.
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

    def find(self, character: int) -> int:
        """The place in the body of the first token that goes beyond a character of the text."""
        ends = [end for _, end in self.encoding.offsets[self.end - len(self.body):self.end]]
        return next((place for place, end in enumerate(ends) if end > character), len(ends))


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Messages, response: Messages, max_length: int) -> Encoded:
    """Token ids of one conversation, as `encode_rows` makes them; a fault is raised."""
    return unwrap(encode_rows(tokenizer, [(prompt, [response])], max_length)[0][0])


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Messages, Sequence[Messages]]],
    max_length: int,
    *,
    starts: bool = True,
) -> list[list[Encoded | InputError]]:
    """Token ids of each row's prompt followed by each of its responses, at most `max_length`, the response whole.

    An over-long prompt is cut from the left, behind BOS or [CLS]. In the place of an encoding stands `ResponseTooLong` where
    the response and the special tokens alone exceed `max_length`, and `InputError` where the template refuses the
    messages. The texts of all rows are tokenised together, equal ones once: some dozens of rows are a good number.
    Without `starts`, a response's place is looked for only where its prompt has to be cut. Raises `InputError` for a
    tokenizer that is slow or has no template.
    """
    pairs = [(prompt, response) for prompt, responses in rows for response in responses]
    tokens = tokenize(tokenizer, render_each(tokenizer, [[*prompt, *response] for prompt, response in pairs]))
    asked = [place for place, found in enumerate(tokens)
             if isinstance(found, Tokens) and (starts or len(found) > max_length)]
    frames = dict(zip(asked, render_sentinels(tokenizer, [pairs[place] for place in asked]), strict=True))
    encoded = iter([truncate(found, frames.get(place), max_length) for place, found in enumerate(tokens)])
    return [list(islice(encoded, len(responses))) for _, responses in rows]


def unwrap(encoded: Encoded | InputError, what: str = "") -> Encoded:
    """What `encode_rows` gave for a conversation; raises a fault, naming `what` it is of."""
    if isinstance(encoded, InputError):
        raise type(encoded)(f"{what}: {encoded}" if what else str(encoded))
    return encoded


def truncate(tokens: Tokens | InputError, frame: str | InputError | None, max_length: int) -> Encoded | InputError:
    """A conversation within `max_length`, or its fault; `frame`: it with another response, where that is needed."""
    if isinstance(tokens, InputError):
        return tokens
    if isinstance(frame, InputError):
        return frame
    if frame is None:
        return Encoded(tokens.before + tokens.body + tokens.after, None, 0)
    start = tokens.find(find_response(tokens.text, frame))
    cut = max(0, len(tokens) - max_length)
    if cut > start:
        return ResponseTooLong(
            f"response: expected at most max_length {max_length} tokens, got {len(tokens) - start} with its special "
            "tokens. Raise max_length or leave the pair out."
        )
    return Encoded(tokens.before + tokens.body[cut:] + tokens.after, len(tokens.before) + start - cut, cut)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str | InputError]) -> list[Tokens | InputError]:
    """Each text's tokens, or its fault; equal texts are tokenised once."""
    distinct = list(dict.fromkeys(text for text in texts if isinstance(text, str)))
    encodings: Sequence[Encoding] = ()
    if distinct:
        batch = tokenizer(distinct, return_attention_mask=False, return_token_type_ids=False, verbose=False)
        encodings = batch.encodings or ()
    known: dict[str | InputError, Tokens | InputError] = {text: text for text in texts if isinstance(text, InputError)}
    for text, encoding in zip(distinct, encodings, strict=True):
        try:
            known[text] = Tokens(text, encoding, tokenizer)
        except InputError as error:
            known[text] = error
    return [known[text] for text in texts]


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The conversation as text, by the tokenizer's template, with any date in it fixed."""
    template = get_template(tokenizer)
    try:
        return apply_template(tokenizer, template, [messages])[0]
    except REFUSALS as error:
        roles = ", ".join(message["role"] for message in messages)
        raise_input_error(
            "chat template", f"messages it can render (roles {roles})", Verbatim(error), "Mend the roles or template."
        )


def render_each(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Messages]) -> list[str | InputError]:
    """Each conversation as `render` gives it, or the error that it raises."""
    template = get_template(tokenizer)
    with contextlib.suppress(*REFUSALS):
        return [*apply_template(tokenizer, template, conversations)]
    texts: list[str | InputError] = []
    for messages in conversations:
        try:
            texts.append(render(tokenizer, messages))
        except InputError as error:
            texts.append(error)
    return texts


def get_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's template, which asks for a fixed date."""
    if not tokenizer.is_fast:
        raise_input_error(
            "tokenizer",
            "a fast tokenizer (with character offsets)",
            Verbatim(type(tokenizer).__name__),
            "Convert it: the response's place in the tokens is found by its offsets.",
        )
    if tokenizer.chat_template is None:
        raise_input_error(
            "tokenizer",
            "a chat template",
            Verbatim("none"),
            "Call rmkit.data.chat_template.set_default_template(tokenizer).",
        )
    return FIXED_DATE + tokenizer.get_chat_template()


def apply_template(
    tokenizer: PreTrainedTokenizerBase, template: str, conversations: Sequence[Messages]
) -> list[str]:
    """Each conversation as text."""
    plain = [[dict(message) for message in messages] for messages in conversations]
    texts = tokenizer.apply_chat_template(plain, chat_template=template, tokenize=False) if plain else []
    return [str(text) for text in texts]


def render_sentinels(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[Messages, Messages]]
) -> list[str | InputError]:
    """The frame of each prompt with its response, rendered."""
    frames: list[Messages] = []
    places = []
    for pair in pairs:
        frame = sentinel_conversation(*pair)
        if not frames or frame != frames[-1]:  # the responses to a prompt mostly have one frame
            frames.append(frame)
        places.append(len(frames) - 1)
    rendered = render_each(tokenizer, frames)
    return [rendered[place] for place in places]


def sentinel_conversation(prompt: Messages, response: Messages) -> list[Mapping[str, str]]:
    """The conversation with another first character of its response, for `find_response`."""
    mark = "\ue001" if response[0]["content"].lstrip().startswith("\ue000") else "\ue000"
    return [*prompt, {**response[0], "content": mark}, *response[1:]]


def find_response(text: str, frame: str) -> int:
    """The character at which the response begins in a rendered conversation: where the rendered frame differs.

    This holds for every template, while the prompt rendered with a generation prompt is not always how the whole
    conversation begins.
    """
    sizes = range(1, min(len(text), len(frame)) + 1)
    return bisect_left(sizes, True, key=lambda size: text[:size] != frame[:size])


def set_default_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template a plain one ("Human: ...", "Assistant: ..."); leave others alone."""
    if tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_TEMPLATE
