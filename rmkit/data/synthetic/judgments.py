"""Synthetic judgments of responses, and meta-judgments of two judgments, in words.

The synthetic language model learns to judge from them. They have errors on purpose: a claim of a judgment is wrong at
one rate, and the winner of two judgments at another.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from rmkit.core.seeds import derive_seed
from rmkit.data.synthetic import vocabulary as words
from rmkit.data.synthetic.dataset import draw_response
from rmkit.data.synthetic.gold_reward import THEME_OF, TIP, WEIGHTS, WORD, check_attributes, gold_reward
from rmkit.data.synthetic.prompts import Request

# Short, for a model that knows some hundreds of words; what they are filled with is quoted.
JUDGE_PROMPT = "Request:\n{request}\nResponse:\n{first}\nHow good is the response?"
META_PROMPT = """\
Request:
{request}
Response:
{response}
Judgment A:
{first}
Judgment B:
{second}
Which judgment is more accurate?"""

POINTS = int(sum(WEIGHTS.values()))  # the highest score: nothing is wrong
GRADES = {"wrong": 0.0, "partly": 0.5, "right": 1.0}
CLAIM_ERROR_RATE = 0.25  # share of claims that are wrong
VERDICT_ERROR_RATE = 0.1  # share of verdicts that are wrong


def find_claims(request: Request, response: str) -> dict[str, float]:
    """What is true of a response: each attribute's grade, which is 1/2 for every score between 0 and 1."""
    return {name: score if score in (0.0, 1.0) else 0.5 for name, score in check_attributes(request, response).items()}


def corrupt_claims(claims: Mapping[str, float], rng: random.Random, rate: float = CLAIM_ERROR_RATE) -> dict[str, float]:
    """The claims, each replaced by another grade with probability `rate`."""
    return {
        name: rng.choice([other for other in GRADES.values() if other != grade]) if rng.random() < rate else grade
        for name, grade in claims.items()
    }


def add_points(claims: Mapping[str, float]) -> int:
    """The score of some claims, from 0 to `POINTS`: the sum of weight times grade, a half rounded up.

    For true claims it is the gold reward, up to the rounding of each attribute's score to three grades.
    """
    return int(sum(WEIGHTS[name] * grade for name, grade in claims.items()) + 0.5)


def find_evidence(request: Request, response: str) -> dict[str, str]:
    """What was requested and what the response has, by attribute; "" where there is nothing to report.

    content: each requested theme with the first item of it. tone: the one asked for, and those that the text has
    marks of. count: tips asked for, and tips there. length and order: what was asked for.
    """
    text_words = WORD.findall(response.lower())
    items = {THEME_OF[word]: word for word in reversed(text_words) if word in THEME_OF}
    tones = [tone for tone, parts in words.TONES.items() if any(mark in text_words for mark in parts[2])]
    tips = words.NUMBERS[min(len(TIP.findall(response)), len(words.NUMBERS) - 1)]
    return {
        "content": ", ".join(f"{theme} {items.get(theme, 'none')}" for theme in request.themes),
        "tone": f"{request.tone}, {' '.join(tones) or 'none'}",
        "count": f"{words.NUMBERS[request.count]}, {tips}",
        "length": f"{request.bound} {request.length}" if request.bound else "any",
        "order": "asked" if request.ordered else "any",
        "distinct": "",
    }


def explain(claims: Mapping[str, float], evidence: Mapping[str, str]) -> str:
    """Claims in words, each behind its evidence: "formal, blunt, tone wrong; three, three, count right"."""
    grade_words = {grade: word for word, grade in GRADES.items()}
    return "; ".join(
        f"{evidence[name]}, {name} {grade_words[grade]}" if evidence[name] else f"{name} {grade_words[grade]}"
        for name, grade in claims.items()
    )


def write_judgment(claims: Mapping[str, float], evidence: Mapping[str, str]) -> str:
    """A judgment: its claims, then their score on a line of its own."""
    return f"{explain(claims, evidence)}\nScore: {add_points(claims)}"


def write_verdict(
    request: Request, response: str, judgments: tuple[Mapping[str, float], Mapping[str, float]], rng: random.Random
) -> str:
    """A meta-judge's answer on two judgments' claims: its own, their score, how far off both are, and the winner.

    The better one's score is nearer to the gold reward; of equally near ones, that with fewer wrong claims, else
    either. The other one is named with probability `VERDICT_ERROR_RATE`.
    """
    truth, gold = find_claims(request, response), gold_reward(request, response)
    distance, wrong = (
        [measure(claims) for claims in judgments]
        for measure in (
            lambda claims: abs(add_points(claims) - gold),
            lambda claims: float(sum(claims[name] != grade for name, grade in truth.items())),
        )
    )
    ahead = distance[1] - distance[0] or wrong[1] - wrong[0] or rng.choice((-1.0, 1.0))
    first = (ahead > 0) != (rng.random() < VERDICT_ERROR_RATE)
    fair, *scores = (add_points(claims) for claims in (truth, *judgments))
    off = ", ".join(f"{name} {score} off {abs(score - fair)}" for name, score in zip("AB", scores, strict=True))
    explanation = f"{explain(truth, find_evidence(request, response))}; fair {fair}, {off}"
    return f"{explanation}\nWinner: Judgment {'A' if first else 'B'}"


def draw_judgments(count: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Responses of all qualities, each judged: `prompt`, `response`, `judgment`."""
    rng = random.Random(derive_seed(seed, "gold", "judgments"))
    for number in range(count):
        request, row = draw_response(number, rng)
        claims = corrupt_claims(find_claims(request, row["response"]), rng)
        yield {**row, "judgment": write_judgment(claims, find_evidence(request, row["response"]))}


def draw_verdicts(count: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Two different judgments of a response, and which is better: `prompt`, `response`, `judgments`, `verdict`."""
    rng = random.Random(derive_seed(seed, "gold", "verdicts"))
    for number in range(count):
        request, row = draw_response(number, rng)
        truth, evidence = find_claims(request, row["response"]), find_evidence(request, row["response"])
        first = second = corrupt_claims(truth, rng)
        while second == first:
            second = corrupt_claims(truth, rng)
        yield {
            **row,
            "judgments": [write_judgment(first, evidence), write_judgment(second, evidence)],
            "verdict": write_verdict(request, row["response"], (first, second), rng),
        }
