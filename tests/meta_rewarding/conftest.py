"""A tiny language model that can answer, judge and meta-judge: after a few steps it writes what these look like."""

import itertools
import json
import random

import pytest

REQUESTS = [f"What colour is {thing}, and why is it {size}?" for thing in ("a lamp", "the sky", "this stone", "my tree")
            for size in ("large", "small", "old")]


@pytest.fixture(scope="session")
def player(tmp_path_factory):
    """The folder of the model; its judgments are by chance, 0 to 5, and its verdicts too."""
    from rmkit.commands.sft import SftConfig, sft
    from rmkit.judges.prompts import JUDGE_PROMPTS, META_JUDGE_PROMPTS
    from rmkit.judges.sanitize import quote
    from rmkit.models.tiny import build_language_model, build_tokenizer

    draw = random.Random(0)
    folder = tmp_path_factory.mktemp("player")
    lessons = []
    for number, request in enumerate(itertools.islice(itertools.cycle(REQUESTS), 72)):
        answer = " ".join(draw.choices(["red", "blue", "grey", "warm", "bright"], k=draw.randint(1, 5))) + "."
        said = [f"{draw.choice(['good', 'poor'])}\nScore: {draw.randint(1, 5)}" for _ in range(2)]
        lessons += [
            {"prompt": request, "completion": answer},
            {"prompt": JUDGE_PROMPTS["gold"].ask(request=quote(request), first=quote(answer))[0]["content"],
             "completion": said[0]},
            {"prompt": META_JUDGE_PROMPTS["gold"].ask(
                request=quote(request), response=quote(answer), first=quote(said[0]), second=quote(said[1])
             )[0]["content"], "completion": f"it is so\nWinner: Judgment {'AB'[number % 2]}"},
        ]
    (folder / "lessons.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lessons))
    tokenizer = build_tokenizer(f"{row['prompt']} {row['completion']}" for row in lessons)
    build_language_model(tokenizer, hidden=64, layers=2).save_pretrained(folder / "blank")
    tokenizer.save_pretrained(folder / "blank")
    return sft(SftConfig(
        data=str(folder / "lessons.jsonl"), model_name_or_path=str(folder / "blank"), output_dir=str(folder / "model"),
        use_cpu=True, num_train_epochs=4, per_device_train_batch_size=8, learning_rate=5e-3, disable_tqdm=True,
        save_steps=1000, max_length=256, lr_scheduler_type="constant",
    ))


@pytest.fixture(scope="session")
def prompts_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": request}) + "\n" for request in REQUESTS))
    return path
