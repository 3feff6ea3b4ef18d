"""Prompts as token ids, by the tokenizer's own chat template."""

import jinja2
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import InputError, refuse
from rmkit.data.chat import FIXED_DATE
from rmkit.models.generation.requests import Prompt


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Token ids that the model continues, as `rmkit.data.chat.encode` gives them to a reward model.

    What the tokenizer puts before a text (BOS) is there once, whether it is the template that writes it or the
    tokenizer; what it puts behind (EOS) is left out. Raises `InputError` when the template refuses the messages, or
    when there are no tokens.
    """
    text = prompt if isinstance(prompt, str) else render_turns(tokenizer, prompt)
    encoding = tokenizer(text, add_special_tokens=True, return_special_tokens_mask=True, verbose=False)
    ids, added = list(encoding["input_ids"]), list(encoding["special_tokens_mask"])
    if 0 not in added:
        refuse("prompt", "a text with tokens", text, "Leave it out.")
    before, body = ids[:added.index(0)], ids[added.index(0):len(added) - added[::-1].index(0)]
    return body if body[:len(before)] == before else before + body


def render_turns(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """The conversation as text, with the generation prompt, and any date in it fixed."""
    try:
        template = FIXED_DATE + tokenizer.get_chat_template()
        plain = [dict(message) for message in prompt if not isinstance(message, str)]
        return str(tokenizer.apply_chat_template(
            plain, chat_template=template, tokenize=False, add_generation_prompt=True
        ))
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"chat template: {' '.join(str(error).split())}") from None
