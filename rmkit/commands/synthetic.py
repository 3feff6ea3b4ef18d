"""`rmkit synthetic`: preference data whose true quality is known, and a small language model pretrained for them."""

from collections.abc import Iterator
from pathlib import Path

from rmkit.core.config import as_dict, configuration, option

SYNTHETIC = "synthetic"  # in place of a path, the data or the model that this command makes
BASE_MODEL = "base_model"


@configuration
class SyntheticConfig:
    """Write synthetic pairs and prompts, and pretrain a small language model on demonstrations.

    By default the model only learns to write responses. With `judgments` and `verdicts` it also learns to be a judge
    and a meta-judge, as the meta-rewarding loop needs.
    """

    output_dir: str = option(help="Output folder.")
    train: int = option(4000, "Training pairs.", ge=1)
    validation: int = option(500, "Validation pairs.", ge=1)
    test: int = option(250, "Pairs of each of the four test splits.", ge=1)
    prompts: int = option(0, "Prompts without responses, to sample on.", ge=0)
    evaluation_prompts: int = option(0, "Prompts without responses, to evaluate on.", ge=0)
    demonstrations: int = option(12000, "Responses to pretrain the model on; 0: no model.", ge=0)
    min_quality: float = option(0.7, "Lowest quality of a demonstration; 1 is the highest.", ge=0, le=1)
    judgments: int = option(0, "Demonstrations of judging a response.", ge=0)
    verdicts: int = option(0, "Demonstrations of comparing two judgments.", ge=0)
    hidden: int = option(128, "Hidden size of the model.", ge=32, multiple_of=32)
    layers: int = option(3, "Layers of the model.", ge=1)
    seed: int = option(0, "Seed of the data and the model.")


def synthetic(config: SyntheticConfig) -> Path:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl` and what else is asked for; returns the output folder.

    `prompts.jsonl` and `evaluation.jsonl` have each prompt's `request`, by which any response can be scored;
    `demonstrations.jsonl` is what the model in `base_model` was pretrained on.
    """
    from rmkit.core.seeds import derive_seed
    from rmkit.core.stage import open_stage
    from rmkit.data.resumable import write_jsonl
    from rmkit.data.synthetic.dataset import draw_prompts, write_dataset
    from rmkit.models.tiny import build_language_model, build_tokenizer
    from rmkit.training.language_model import train_language_model

    with open_stage(config.output_dir, "synthetic", as_dict(config), {}) as stage:
        if stage.done:
            return stage.directory
        folder = stage.directory
        write_dataset(folder, train=config.train, validation=config.validation, test=config.test, seed=config.seed)
        if config.prompts:
            write_jsonl(folder / "prompts.jsonl", draw_prompts("train", config.prompts, seed=config.seed))
        if config.evaluation_prompts:
            rows = draw_prompts("in_distribution", config.evaluation_prompts, seed=config.seed)
            write_jsonl(folder / "evaluation.jsonl", rows)
        if config.demonstrations:
            demonstrations = list(draw_all_demonstrations(config))
            write_jsonl(folder / "demonstrations.jsonl", demonstrations)
            tokenizer = build_tokenizer(f"{row['prompt']} {row['response']}" for row in demonstrations)
            # Two names, so that neither kind of model changes with the other's settings.
            seed = derive_seed(config.seed, "school" if config.judgments or config.verdicts else "base model")
            model = build_language_model(tokenizer, hidden=config.hidden, layers=config.layers, seed=seed)
            train_language_model(model, tokenizer, demonstrations, folder / BASE_MODEL, seed=seed)
        return folder


def draw_all_demonstrations(config: SyntheticConfig) -> Iterator[dict[str, str]]:
    """Demonstrations of responding, judging and meta-judging: `prompt`, exactly as a judge asks, and `response`."""
    from rmkit.data.synthetic import draw_demonstrations
    from rmkit.data.synthetic.judgments import draw_judgments, draw_verdicts
    from rmkit.judges.prompts import JUDGE_PROMPTS, META_JUDGE_PROMPTS
    from rmkit.judges.sanitize import quote

    yield from draw_demonstrations(config.demonstrations, seed=config.seed, worst=config.min_quality)
    for row in draw_judgments(config.judgments, seed=config.seed):
        messages = JUDGE_PROMPTS["synthetic"].render(request=quote(row["prompt"]), first=quote(row["response"]))
        yield {"prompt": messages[0]["content"], "response": row["judgment"]}
    for row in draw_verdicts(config.verdicts, seed=config.seed):
        first, second = map(quote, row["judgments"])
        messages = META_JUDGE_PROMPTS["synthetic"].render(
            request=quote(row["prompt"]), response=quote(row["response"]), first=first, second=second
        )
        yield {"prompt": messages[0]["content"], "response": row["verdict"]}
