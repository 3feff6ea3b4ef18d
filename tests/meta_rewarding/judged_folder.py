"""Samples and judgments written by hand, as `rmkit judge` leaves them."""

import pyarrow
import pyarrow.parquet
from datasets import Dataset

from rmkit.judges.report import COLUMNS


def speak(text):
    return [{"role": "assistant", "content": text}]


def write_judged(folder, responses, scores, rewards=None):
    """A folder as `rmkit judge` leaves it: responses [prompt][response], scores [prompt][response][judgment]."""
    folder.mkdir()
    Dataset.from_list([
        {"id": f"f:{place}", "prompt": [{"role": "user", "content": f"prompt {place}"}],
         "responses": [speak(text) for text in own]} for place, own in enumerate(responses)
    ]).to_parquet(folder / "rows.parquet")
    lines = []
    for prompt, own in enumerate(scores):
        for response, values in enumerate(own):
            for sample, score in enumerate(values):
                line = dict.fromkeys(COLUMNS.names) | {"task": f"f:{prompt}/{response}", "sample": sample}
                if score is None:
                    lines.append(line | {"kind": "unparsed", "text": "?", "reason": "no score"})
                    continue
                reward = None if rewards is None else rewards[prompt][response][sample]
                text = None if rewards is not None else f"Score: {score}"
                lines.append(line | {"kind": "judgment", "score": score, "reward": reward, "text": text})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines, COLUMNS), folder / "judgments.parquet")
    return str(folder)
