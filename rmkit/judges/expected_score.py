"""The expected score: the mean over the tokens that the model might have written as its score."""

import math
import re
from collections.abc import Sequence

from rmkit.generation import Token
from rmkit.judges.parsing import ParsedScore
from rmkit.judges.prompts import JudgePrompt

SAME_LOGPROB = 1e-4  # nats; the sampled token is among its own alternatives, with or without a space before it


def expected_score(text: str, tokens: Sequence[Token], written: ParsedScore, prompt: JudgePrompt) -> ParsedScore:
    """The expected score from the token probabilities at the position of the written score.

        sum_t p(t) score(t) / sum_t p(t)

    over the sampled token and its most likely alternatives, as far as they are scores by themselves. The sampled token
    has the written score, decimals included; the alternatives have whole numbers (or A and B). A declared tie stays
    1/2. Without a value where the score's whole number takes several tokens, as 0 to 100 does in tokenizers that split
    numbers into digits, and where the tokens do not spell the answer, as from a server that puts a replacement
    character for each part of an emoji.

    Source: Liu et al. 2023, G-Eval (arXiv 2303.16634), Section 2, which sums over fixed score tokens.
    """
    if written.position < 0:  # unparsed, or a declared tie
        return written
    if not tokens:
        return ParsedScore(None, "no probabilities")
    if not "".join(token.text for token in tokens).startswith(text):  # the last one may go on after a stop string
        return ParsedScore(None, "tokens that do not spell the answer")
    spelled = re.compile("-?[0-9]+|[AB]").match(text, written.position)
    assert spelled is not None and written.value is not None
    start = 0
    for token in tokens:
        if start + len(token.text) > written.position:
            break
        start += len(token.text)
    if start + len(token.text) < spelled.end():
        return ParsedScore(None, "a score of several tokens")
    scores = [(token.logprob, written.value)]
    for alternative, logprob in token.top:
        score = prompt.token_score(alternative)
        same_text = alternative.strip() == token.text.strip()
        if score is not None and not (same_text and math.isclose(logprob, token.logprob, abs_tol=SAME_LOGPROB)):
            scores.append((logprob, score))
    highest = max(logprob for logprob, _ in scores)
    weights = [math.exp(logprob - highest) for logprob, _ in scores]
    mean = sum(weight * score for weight, (_, score) in zip(weights, scores, strict=True)) / sum(weights)
    return ParsedScore(mean, position=written.position)
