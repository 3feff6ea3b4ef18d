"""`rmkit judge`: who judges (`appointing`), what is put to them and kept (`hearing`), what is found (`reporting`)."""

from rmkit.judges.config import JudgeConfig
from rmkit.judges.runner import judge

__all__ = ["JudgeConfig", "judge"]
