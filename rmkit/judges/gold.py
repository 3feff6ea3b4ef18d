"""The gold reward of the synthetic data as a judge."""

from collections.abc import Sequence
from typing import Any

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.synthetic import WEIGHTS, gold_reward
from rmkit.data.synthetic.dataset import read_request
from rmkit.judges.base import JudgeAnswer, JudgeSpec, JudgeTask, Judgment, Scale, check_tasks
from rmkit.judges.config import GoldJudgeConfig


class GoldJudge:
    """Scores each response by `gold_reward`; tasks need their `request`."""

    responses = 1

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[JudgeAnswer]]:
        """One judgment of each task."""
        check_tasks(tasks, self.responses)
        return [[Judgment(sample=0, score=score, reward=score, prompt_tokens=0, answer_tokens=0)]
                for score in map(self.score, tasks)]

    def score(self, task: JudgeTask) -> float:
        """The gold reward of a task's response."""
        if not task.request:
            raise_input_error(
                "data", "rows with the `request` of the synthetic data", Verbatim(f"none in {task.id}"),
                "Name another judge, or sample from the synthetic prompts.",
            )
        return gold_reward(read_request(task.request), task.responses[0][-1]["content"])


def judge_spec(settings: GoldJudgeConfig) -> JudgeSpec:
    """What the answers of the gold judge look like."""
    return JudgeSpec(1, Scale(0.0, sum(WEIGHTS.values())), 1, {})


def build_judge(settings: GoldJudgeConfig, **_: Any) -> GoldJudge:
    """The judge; it has no settings."""
    return GoldJudge()
