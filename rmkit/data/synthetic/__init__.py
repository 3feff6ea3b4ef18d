"""The embedded gold world: instruction/response pairs whose true quality is known.

A prompt asks for several checkable things at once (content, how many tips, an order, a tone, a length); a grammar
writes responses of graded quality; `gold_reward` scores any text by what it can check. Preferences are drawn
Bradley-Terry from the gold gap, so that ambiguous pairs exist. Everything follows from one seed.
"""

from rmkit.data.synthetic.dataset import SPLITS, draw_demonstrations, draw_pairs, write_dataset
from rmkit.data.synthetic.gold_reward import WEIGHTS, check_attributes, gold_reward
from rmkit.data.synthetic.prompts import Request, draw_request, write_prompt
from rmkit.data.synthetic.responses import write_response

__all__ = [
    "SPLITS",
    "WEIGHTS",
    "Request",
    "check_attributes",
    "draw_demonstrations",
    "draw_pairs",
    "draw_request",
    "gold_reward",
    "write_dataset",
    "write_prompt",
    "write_response",
]
