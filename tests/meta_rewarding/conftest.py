"""A tiny language model that answers, judges and meta-judges: after a few steps its texts have the right form."""

import itertools
import json
import random

import pytest

PROMPTS = [f"What colour is {thing}, and why is it {size}?" for thing in ("a lamp", "the sky", "this stone", "my tree")
           for size in ("large", "small", "old")]


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory):
    """The folder of the model; its judgments, 0 to 5, and its verdicts are random."""
    from rmkit.commands.sft import SftConfig, sft
    from rmkit.judges.prompts import JUDGE_PROMPTS, META_JUDGE_PROMPTS
    from rmkit.judges.sanitize import quote
    from rmkit.models.tiny import build_language_model, build_tokenizer

    draw = random.Random(0)
    folder = tmp_path_factory.mktemp("tiny policy")
    rows = []
    for number, prompt in enumerate(itertools.islice(itertools.cycle(PROMPTS), 72)):
        answer = " ".join(draw.choices(["red", "blue", "grey", "warm", "bright"], k=draw.randint(1, 5))) + "."
        judgments = [f"{draw.choice(['good', 'poor'])}\nScore: {draw.randint(1, 5)}" for _ in range(2)]
        judge = JUDGE_PROMPTS["synthetic"].render(request=quote(prompt), first=quote(answer))
        meta_judge = META_JUDGE_PROMPTS["synthetic"].render(
            request=quote(prompt), response=quote(answer), first=quote(judgments[0]), second=quote(judgments[1])
        )
        rows += [
            {"prompt": prompt, "completion": answer},
            {"prompt": judge[0]["content"], "completion": judgments[0]},
            {"prompt": meta_judge[0]["content"], "completion": f"it is so\nWinner: Judgment {'AB'[number % 2]}"},
        ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = build_tokenizer(f"{row['prompt']} {row['completion']}" for row in rows)
    build_language_model(tokenizer, hidden=64, layers=2).save_pretrained(folder / "untrained")
    tokenizer.save_pretrained(folder / "untrained")
    return sft(SftConfig(
        data=str(folder / "rows.jsonl"), model_name_or_path=str(folder / "untrained"), output_dir=str(folder / "model"),
        use_cpu=True, num_train_epochs=4, per_device_train_batch_size=8, learning_rate=5e-3, disable_tqdm=True,
        save_steps=1000, max_length=256, lr_scheduler_type="constant",
    ))


@pytest.fixture(scope="session")
def prompts_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return path
