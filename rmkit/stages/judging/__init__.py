"""`rmkit judge`: who judges (`appointing`), what is put to them and kept (`hearing`), what is found (`reporting`)."""

from rmkit.stages.judging.appointing import JudgeConfig
from rmkit.stages.judging.hearing import judge

__all__ = ["JudgeConfig", "judge"]
