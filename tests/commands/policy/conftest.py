"""A fixture that interrupts a training."""

import pytest
from transformers import TrainerCallback


@pytest.fixture
def kill_in_step():
    """kill_in_step(build, step) -> `build`, whose trainer stops at the beginning of a step, as if interrupted."""

    class Kill(TrainerCallback):
        def __init__(self, step):
            self.step = step

        def on_step_begin(self, args, state, control, **_):
            if state.global_step == self.step - 1:
                raise KeyboardInterrupt

    def wrap(build, step):
        def build_interrupted(*args, **settings):
            trainer = build(*args, **settings)
            trainer.add_callback(Kill(step))
            return trainer

        return build_interrupted

    return wrap
