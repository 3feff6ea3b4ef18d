"""The command line that the studies share."""

import argparse
from pathlib import Path


def make_parser(description: str | None, work: str, *, seeds: int, worlds: bool = False) -> argparse.ArgumentParser:
    """A parser of --seeds and --work, a folder in runs/, and of --worlds where gold worlds are used."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--work", type=Path, default=Path("runs") / work, help="what is finished, and not redone")
    if worlds:
        parser.add_argument("--worlds", type=Path, default=Path("runs/gold_benchmark"), help="gold worlds, by seed")
    return parser
