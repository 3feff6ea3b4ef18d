"""`rmkit vote`: an ensemble of reward models scores every pair and shows which labels to distrust."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict, build_section, configuration, option, output_settings, section

if TYPE_CHECKING:
    from datasets import Dataset

    from rmkit.commands.train import TrainConfig
    from rmkit.core.stage import Stage
    from rmkit.preferences import Strength

MEMBER_KEYS = ("data", "model_name_or_path", "output_dir", "seed", "loss", "max_length", "trust_remote_code")
FEATURES = "features"


@configuration
class HeadsConfig:
    """Training of heads on frozen features."""

    hidden: int = option(64, "Hidden units of a head.", ge=1)
    epochs: int = option(5, "Passes over the pairs, over which the learning rate falls linearly to zero.", ge=1)
    batch_size: int = option(64, "Pairs per step.", ge=1)
    learning_rate: float = option(1e-3, "Learning rate of the first step.", gt=0)
    weight_decay: float = option(0.01, "Decoupled weight decay of AdamW.", ge=0)


@configuration
class VoteConfig:
    """Score pairs with an ensemble of reward models that differ in initialisation and in order of the data.

    Full members can be trained by separate jobs on any machine: `member` makes one, `merge` makes the vote of all.
    """

    data: str = option(help="Folder of pairs, written by rmkit read.")
    model_name_or_path: str = option(help="Base model of the voters: a folder or a hub name.")
    output_dir: str = option(help="Folder for the pairs with their votes.")
    voters: Literal["heads", "full"] = option(
        "heads", "heads: small heads on frozen features; full: fine-tuned models, LoRA ones with train.lora_rank."
    )
    members: int = option(10, "Reward models in the ensemble.", ge=2)
    folds: int = option(
        5, "Cross-fitting folds, each scored by members trained on the others; 0: members score what they saw.", ge=0
    )
    loss: Literal["symmetric", "bradley_terry"] = option(
        "symmetric", "Loss of the voters: symmetric finds wrong labels better, bradley_terry is the paper's."
    )
    max_length: int = option(1024, "Tokens of a prompt with its response; longer prompts are cut from the left.", ge=1)
    max_tokens_per_batch: int = option(16384, "Tokens read at once while scoring.", ge=1, advanced=True)
    seed: int = option(0, "Seed of all random choices.")
    trust_remote_code: bool = option(False, "Run model code from the hub.", advanced=True)
    heads: HeadsConfig = option(
        help="Settings of voters: heads; checked but not used with voters: full.", default_factory=HeadsConfig
    )
    train: dict[str, Any] = section(
        "rmkit.commands.train:TrainConfig", "Settings of voters: full; checked but not used with voters: heads.",
        fixed=MEMBER_KEYS,
    )
    member: int | None = option(
        None, "Train and score this full member alone, in the folder OUTPUT_DIR-members/N.", ge=0, advanced=True,
        affects_output=False,
    )
    merge: bool = option(
        False, "Merge members made by --member, without training.", advanced=True, affects_output=False
    )
    allow_missing: bool = option(
        False, "Merge the finished members only, 2 or more.", advanced=True, affects_output=False
    )

    def __post_init__(self) -> None:
        if self.folds == 1:
            raise_input_error("folds", "0 (in-sample), or 2 or more", self.folds, "5 is usual.")
        if self.voters != "full" and (self.merge or self.member is not None):
            name = "merge" if self.merge else "member"
            raise_input_error(name, "voters: full", Verbatim("heads, which are trained together"), "Vote without it.")
        if self.member is not None and self.member >= self.members:
            raise_input_error("member", f"0 to {self.members - 1}", self.member, "There are `members` of them.")
        if self.merge and self.member is not None:
            raise_input_error("member and merge", "one of them", Verbatim("both"), "Merge when all are finished.")
        if self.allow_missing and not self.merge:
            raise_input_error("allow_missing", "merge beside it", Verbatim("it alone"), "Add --merge.")
        if self.train or self.voters == "full":
            self.member_config(self.data, Path(self.output_dir), 0)

    def member_config(self, data: str, folder: Path, member: int) -> "TrainConfig":
        """The training of one full member, which differs from the others in the seed alone."""
        from rmkit.commands.train import TrainConfig
        from rmkit.core.seeds import derive_seed

        return build_section(
            TrainConfig, self.train, {}, "train", data=data, model_name_or_path=self.model_name_or_path,
            output_dir=str(folder), seed=derive_seed(self.seed, "member", member), loss=self.loss,
            max_length=self.max_length, trust_remote_code=self.trust_remote_code,
        )

    def check_training(self, section: str = "train") -> None:
        """Raise `InputError`, which names `section`, for settings that the training of full members would refuse."""
        from rmkit.training.config import check_training

        if self.voters == "full" and not self.merge:
            check_training(self.member_config(self.data, Path(self.output_dir), 0), section)

    def output_settings(self) -> dict[str, Any]:
        """The settings that the votes depend on."""
        unused = "train" if self.voters == "heads" else "heads"
        return {key: value for key, value in output_settings(self).items() if key != unused}


def vote(config: VoteConfig) -> Path:
    """Write each split with the members' rewards and the strength of every pair, and `strength.png`; the folder.

    The record has the voters, the estimated noise rate with its interval (cross-fitted votes only), the AUROC of
    finding flips by low strength (where `is_flipped` is known), and missing members with the reason. With `member`,
    only that member is made, and its folder returned.
    """
    from rmkit.commands import vote_members
    from rmkit.core.stage import open_stage
    from rmkit.data.parquet import PAIR_SIDES, load_split
    from rmkit.data.splits import SPLITS
    from rmkit.ensembles.voting import measure_strength, score_with_heads, write_votes
    from rmkit.training.zero import check_single_process

    check_single_process("vote", "train")
    config.check_training()
    pairs = {
        split: load_split(config.data, split, ("id", *PAIR_SIDES))
        for split in SPLITS if split == "train" or (Path(config.data) / f"{split}.parquet").is_file()
    }
    settings = config.output_settings()
    inputs: dict[str, str | Path] = {"data": config.data, "model": config.model_name_or_path}
    members = vote_members.Members(config, pairs)
    if config.member is not None:
        return members.run(config.member)
    missing: dict[int, str] = {}
    finished = list(range(config.members))
    if config.voters == "full" and not is_finished(config.output_dir, settings, inputs):
        missing = members.find_missing()  # refuses members of another vote before anything is changed
        if config.merge and missing:
            members.check_missing(missing)
            finished = [member for member in range(config.members) if member not in missing]
            inputs |= {f"member {member}": members.folder(member) for member in finished}
    with open_stage(config.output_dir, "vote", settings, inputs) as stage:
        if not stage.done:
            if config.voters == "heads":
                rewards = score_with_heads(
                    pairs, config.model_name_or_path, folds=config.folds, seed=config.seed,
                    max_length=config.max_length, max_tokens_per_batch=config.max_tokens_per_batch,
                    cache_dir=stage.directory / FEATURES, trust_remote_code=config.trust_remote_code,
                    members=config.members, loss=config.loss, **as_dict(config.heads),
                )
            else:
                if not config.merge:
                    for member in missing:
                        members.run(member)
                    missing = {}
                rewards = members.read_rewards(finished)
            strengths = {split: measure_strength(rewards[split]) for split in pairs}
            for split in pairs:
                write_votes(pairs[split], rewards[split], strengths[split], stage.directory / f"{split}.parquet")
            record_vote(stage, config, pairs, strengths, missing)
        print(stage.record["summary"])
    return stage.directory


def is_finished(directory: str, settings: Mapping[str, Any], inputs: Mapping[str, str | Path]) -> bool:
    """Whether the vote of all members is in `directory` already; their folders may be gone."""
    from rmkit.core.stage import input_hash, read_record

    record = read_record(directory) or {}
    wanted = {key: value for key, value in settings.items() if key != "output_dir"}
    hashes = {role: input_hash(source) for role, source in inputs.items()}
    return bool(record.get("config") == wanted and record.get("inputs") == hashes)


def record_vote(
    stage: "Stage",
    config: VoteConfig,
    pairs: Mapping[str, "Dataset"],
    strengths: Mapping[str, "Strength"],
    missing: Mapping[int, str],
) -> None:
    """Write the figure and the facts of the vote to the stage's folder and record."""
    import numpy as np

    from rmkit.core.seeds import derive_seed
    from rmkit.data.parquet import prompt_ids, read_column
    from rmkit.evaluation.figures import plot_strength
    from rmkit.metrics.correlation import auroc
    from rmkit.preferences import estimate_noise_rate

    train, mean = pairs["train"], strengths["train"].mean
    flipped = read_column(train, "is_flipped", np.bool_) if "is_flipped" in train.column_names else None
    rate = None
    if config.folds:
        rate = estimate_noise_rate(mean, groups=prompt_ids(train), seed=derive_seed(config.seed, "noise rate"))
    flip_auroc = auroc(-mean, flipped) if flipped is not None and 0 < flipped.sum() < len(flipped) else None
    plot_strength(mean, strengths["train"].std, flipped).savefig(stage.directory / "strength.png", dpi=150)
    voting = "cross-fitted" if config.folds else "in-sample"
    negative = float((mean < 0).mean())
    members = config.members - len(missing)
    of_all = f"{members} of {config.members}" if missing else f"{members}"
    summary = f"vote of {of_all} ({config.voters}, {voting}): strength below zero on {negative:.1%} of the pairs"
    summary += f"; estimated noise {rate.rate:.1%} [{rate.low:.1%}, {rate.high:.1%}]" if rate else ""
    summary += f"; flipped labels found with AUROC {flip_auroc:.3f}" if flip_auroc is not None else ""
    rows = sum(map(len, pairs.values()))
    stage.record.update(
        rows_in=rows,
        rows_out=rows,
        voters=config.voters,
        members=members,
        missing=missing,
        loss=config.loss,
        voting=voting,
        noise_rate=None if rate is None else rate._asdict(),
        negative_share=negative,
        flip_auroc=flip_auroc,
        summary=summary,
    )
