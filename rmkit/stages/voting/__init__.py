"""`rmkit vote`: who votes (`electing`), as one stage (`tallying`) or member by member (`casting` to `merging`)."""

from rmkit.stages.voting.electing import VoteConfig
from rmkit.stages.voting.tallying import vote

__all__ = ["VoteConfig", "vote"]
