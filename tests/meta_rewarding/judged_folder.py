"""Samples and judgments written by hand, as `rmkit judge` writes them."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
from datasets import Dataset

from rmkit.judges.report import COLUMNS


def message(text):
    return [{"role": "assistant", "content": text}]


def write_answers(folder, answers):
    """Write answers with some of the columns of `judgments.parquet`."""
    rows = [dict.fromkeys(COLUMNS.names) | answer for answer in answers]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, COLUMNS), Path(folder) / "judgments.parquet")


def write_judged(folder, responses, scores, rewards=None):
    """A folder of `rmkit judge`: responses [prompt][response], scores and rewards [prompt][response][judgment]."""
    folder.mkdir()
    Dataset.from_list([
        {"id": f"f:{prompt}", "prompt": [{"role": "user", "content": f"prompt {prompt}"}],
         "responses": [message(text) for text in texts]} for prompt, texts in enumerate(responses)
    ]).to_parquet(folder / "rows.parquet")
    answers = []
    for prompt, of_prompt in enumerate(scores):
        for response, of_response in enumerate(of_prompt):
            for sample, score in enumerate(of_response):
                answer = {"task": f"f:{prompt}/{response}", "sample": sample, "kind": "judgment", "score": score}
                if score is None:
                    answer |= {"kind": "unparsed", "text": "?", "reason": "no score"}
                elif rewards is None:
                    answer["text"] = f"Score: {score}"
                else:
                    answer["reward"] = rewards[prompt][response][sample]
                answers.append(answer)
    write_answers(folder, answers)
    return str(folder)
