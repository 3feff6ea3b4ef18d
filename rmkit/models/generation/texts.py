"""Drafts as texts: end token and stop string taken off, and each token's own part of the text found."""

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from rmkit.models.generation.decoding import Draft
from rmkit.models.generation.outcomes import Completion, Failure, Outcome, Token, cut_at_stop, cut_tokens

SLACK = 8  # tokens that may carry no character of their own: bytes of one, or special tokens


class Writer:
    """Turns token ids into completions; `stop` are the strings that end a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.reach = max(map(len, stop), default=0) + SLACK  # tokens that a stop string can lie in

    def decode(self, ids: list[int]) -> str:
        """Text of generated ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def has_stopped(self, ids: list[int]) -> bool:
        """Whether a stop string stands in the text of `ids`, of which all but the last have been asked about."""
        if not any(string in self.decode(ids[-self.reach:]) for string in self.stop):
            return False
        text = self.decode(ids)
        return cut_at_stop(text, self.stop) != text

    def write(self, draft: Draft, prompt_tokens: int) -> Outcome:
        """What a draft comes to."""
        if draft.fault is not None:
            return Failure(draft.fault)
        ids = draft.ids[:-1] if draft.ended else draft.ids
        whole = self.decode(ids)
        text = cut_at_stop(whole, self.stop)
        tokens = cut_tokens(self.split(ids, draft, whole), text) if draft.chances else None
        return Completion(text, draft.finish, prompt_tokens, len(draft.ids), tokens)

    def split(self, ids: list[int], draft: Draft, text: str) -> list[Token]:
        """The tokens of a text, with their own parts of it; a character of several is with the last of them."""
        stream = DecodeStream(skip_special_tokens=True)
        parts = [stream.step(self.tokenizer.backend_tokenizer, token) or "" for token in ids]
        if parts:
            parts[-1] += text[sum(map(len, parts)):]  # bytes that became no character
        return [
            Token(part, logprob, tuple((str(self.tokenizer.decode([token])), value) for token, value in zip(
                likely, values, strict=True)))
            for part, (logprob, likely, values) in zip(parts, draft.chances, strict=False)
        ]
