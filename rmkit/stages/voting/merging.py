"""From the members' folders to one vote: who has voted, and their rewards joined by pair `id`."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Seen, refuse
from rmkit.data.pages import release, scratch_array
from rmkit.data.tables import BLOCK, stream_blocks
from rmkit.stages.voting.casting import SCORES
from rmkit.stages.voting.electing import Rewards, VoteConfig
from rmkit.stages.voting.membership import find_folder, read_member


def find_absent(config: VoteConfig, inputs: Mapping[str, str]) -> dict[int, str]:
    """The members that have not finished, each with what is known of it.

    Raises `InputError` for a member, finished or not, that was made with other settings or from other `inputs`
    (digests); where these do not name the base model, all members' must be that of the first.
    """
    absent = {}
    for member in range(config.members):
        made = read_member(config, member, inputs)
        if made is None:
            absent[member] = "is missing"
            continue
        inputs = {**made["inputs"], **inputs}
        if "finished" not in made:
            absent[member] = f"failed ({made['failed']})" if "failed" in made else "is unfinished (at work, or killed)"
    return absent


def refuse_absent(config: VoteConfig, absent: Mapping[int, str]) -> None:
    """Refuse a vote that lacks members, naming each, unless a partial one is asked for; that needs 2 of them."""
    voted = config.members - len(absent)
    if not absent or (config.partial and voted >= 2):
        return
    wanted = "2 or more" if config.partial else f"all {config.members}"
    named = [f"Member {member} {state}: run `rmkit vote ... --member {member}`." for member, state in absent.items()]
    hint = [] if config.partial else ["--partial merges those that have finished."]
    refuse(f"vote: {find_folder(config, 0).parent}", f"{wanted} members' votes", Seen(f"those of {voted}"),
           " ".join([*named, *hint]))


def list_voters(config: VoteConfig, absent: Container[int]) -> list[int]:
    """The members that are not absent, in their order."""
    return [member for member in range(config.members) if member not in absent]


def merge_votes(config: VoteConfig, pairs: Mapping[str, Dataset], voters: Sequence[int]) -> dict[str, Rewards]:
    """Rewards by split: those of each of `voters`, in their order, in the order of `pairs`."""
    rewards = {}
    for split, rows in pairs.items():
        rewards[split] = Rewards(*scratch_array((2, len(voters), len(rows)), np.float64))
        for row, member in enumerate(voters):
            scores = read_scores(find_folder(config, member) / SCORES / f"{split}.parquet", rows)
            for side, values in zip(rewards[split], scores, strict=True):
                side[row] = values
                release(side)
    return rewards


def read_scores(path: Path, rows: Dataset) -> list[NDArray[np.float64]]:
    """A member's rewards of each side, for the pairs in `rows`, in their order."""
    scores = np.empty((2, len(rows)))
    try:
        with parquet.ParquetFile(path) as file:
            done = 0
            for scored, block in zip(file.iter_batches(BLOCK), stream_blocks(rows, ["id"]), strict=False):
                if not scored["id"].equals(block["id"].combine_chunks()):
                    break
                scores[:, done:done + len(block)] = [scored[side].to_numpy() for side in Rewards._fields]
                done += len(block)
        return list(scores) if done == len(rows) else join_scores(path, rows)
    except (OSError, ValueError, KeyError) as error:  # such as a copy that was cut short
        refuse(str(path), "the member's rewards of every pair", Seen(error), "Copy the member's folder again.")


def join_scores(path: Path, rows: Dataset) -> list[NDArray[np.float64]]:
    """The same where the member has its pairs in another order, or not all of them; both tables are held in memory."""
    table = parquet.read_table(path)
    ids = rows.select_columns(["id"]).with_format("arrow")[:]["id"]
    places = compute.index_in(ids, value_set=table["id"].combine_chunks())
    if places.null_count:
        raise ValueError(f"no votes on {places.null_count} of the pairs")
    return [table[side].to_numpy()[places.to_numpy()] for side in Rewards._fields]
