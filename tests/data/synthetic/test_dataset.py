"""The gold world: deterministic, its reward checkable by hand, its labels Bradley-Terry, its splits as stated."""

import itertools
import json
import math
import random
import re
from dataclasses import replace

import pytest

from rmkit.core.checks import InputError
from rmkit.data.synthetic import (
    SPLITS,
    WEIGHTS,
    Request,
    check_attributes,
    draw_demonstrations,
    draw_pairs,
    draw_request,
    gold_reward,
    vocabulary,
    write_dataset,
    write_prompt,
    write_response,
)

REQUEST = Request(("camping", "baking"), count=2, ordered=True, tone="formal", bound="at most", length=16)
GOOD = "Kindly consider this. First, bring the tent early. Second, check the oven twice. Yours sincerely."  # 15 words


def test_a_good_response_earns_everything():
    assert check_attributes(REQUEST, GOOD) == dict.fromkeys(WEIGHTS, 1.0) and gold_reward(REQUEST, GOOD) == 13.0


@pytest.mark.parametrize("attribute, score, request_, text", [
    ("content", 0.5, REQUEST, GOOD.replace("oven", "piano")),
    ("content", 0.0, REQUEST, GOOD.replace("oven", "piano").replace("tent", "van")),
    ("content", 1.0, REQUEST, GOOD.replace("oven", "dough")),
    ("tone", 0.5, REQUEST, GOOD.replace("Yours sincerely.", "Enjoy it!")),
    ("tone", 0.0, REQUEST, GOOD.replace("Yours sincerely.", "Enjoy it!").replace("Kindly consider this.", "")),
    ("count", 0.5, replace(REQUEST, count=3), GOOD),
    ("count", 0.0, replace(REQUEST, count=4), GOOD),
    ("length", 0.5, replace(REQUEST, length=12), GOOD),  # a quarter too long
    ("length", 0.0, replace(REQUEST, length=10), GOOD),  # half too long
    ("length", 0.5, replace(REQUEST, bound="at least", length=20), GOOD),
    ("length", 1.0, replace(REQUEST, bound="at least", length=15), GOOD),
    ("length", 1.0, replace(REQUEST, bound=None, length=0), GOOD * 5),
    ("order", 0.0, replace(REQUEST, themes=("baking", "camping")), GOOD),
    ("order", 0.0, REQUEST, GOOD.replace("oven", "piano")),
    ("order", 0.5, replace(REQUEST, themes=("baking", "camping", "moving")), GOOD.replace("twice", "with boxes")),
    ("order", 1.0, replace(REQUEST, themes=("baking", "camping"), ordered=False), GOOD),
    ("distinct", 0.5, REQUEST, GOOD.replace("check the oven twice", "bring the tent early")),
    ("distinct", 0.0, REQUEST, "Kindly consider this."),
])
def test_each_attribute_on_texts_written_by_hand(attribute, score, request_, text):
    assert check_attributes(request_, text)[attribute] == pytest.approx(score)


def test_the_reward_is_the_weighted_sum_of_scores_in_their_range():
    rng = random.Random(0)
    for _ in range(300):
        request = draw_request(rng)
        text = write_response(request, rng.random(), rng)
        scores = check_attributes(request, text)
        assert set(scores) == set(WEIGHTS) and all(0 <= score <= 1 for score in scores.values())
        assert gold_reward(request, text) == sum(WEIGHTS[name] * score for name, score in scores.items())


def test_every_check_is_on_words_of_its_own():
    themes = [word for items in vocabulary.THEMES.values() for word in items]
    marks = [mark for _, _, words in vocabulary.TONES.values() for mark in words]
    pieces = itertools.chain(*vocabulary.VERBS, *vocabulary.TIMES, *vocabulary.FILLERS)
    rest = {word for piece in pieces for word in re.findall(r"[a-z]+", piece.lower())} | {"the"}
    rest |= {ordinal.lower() for ordinal in vocabulary.ORDINALS}
    assert len(set(themes)) == len(themes) and len(set(marks)) == len(marks)
    assert not set(themes) & set(marks) and not rest & (set(themes) | set(marks))
    for tone, (openers, closers, words) in vocabulary.TONES.items():
        for text in openers + closers:
            spoken = set(re.findall(r"[a-z]+", text.lower()))
            assert spoken & set(marks) and spoken & set(marks) <= set(words), (tone, text)
            assert not spoken & (set(themes) | {ordinal.lower() for ordinal in vocabulary.ORDINALS})


def test_perfect_quality_earns_everything_and_quality_pays():
    rng = random.Random(1)
    for policy in (0, 1):
        rewards = {quality: [] for quality in (0.0, 0.5, 1.0)}
        for _ in range(400):
            request = draw_request(rng)
            for quality, found in rewards.items():
                found.append(gold_reward(request, write_response(request, quality, rng, policy=policy)))
        means = [sum(found) / len(found) for found in rewards.values()]
        assert means[0] + 2 < means[1] < means[2] - 2
        assert means[2] > 0.97 * sum(WEIGHTS.values())


def test_length_earns_nothing_where_none_is_asked():
    padded = GOOD.replace("early", "early, and write it down").replace("twice", "twice, since it adds up")
    for request in (replace(REQUEST, bound=None, length=0), replace(REQUEST, length=23)):
        assert gold_reward(request, GOOD) == gold_reward(request, padded) == 13.0


def test_the_longer_response_wins_about_half_the_time():
    longer = total = 0
    for pair in draw_pairs("train", 6000):
        lengths = len(pair["chosen"].split()), len(pair["rejected"].split())
        if lengths[0] != lengths[1]:
            total += 1
            longer += lengths[0] > lengths[1]
    assert abs(longer / total - 0.5) < 0.06, longer / total


def test_labels_are_bradley_terry_in_the_gold_gap():
    """In each of ten bins of |gap|, the share of labels against the better response is what sigmoid says, to 4 se."""
    pairs = sorted((pair["gold_gap"] for pair in draw_pairs("train", 8000)), key=abs)
    expected_all = 0.0
    for start in range(0, 8000, 800):
        gaps = [gap for gap in pairs[start:start + 800] if gap != 0]
        chances = [1 / (1 + math.exp(abs(gap))) for gap in gaps]
        against = sum(gap < 0 for gap in gaps)
        spread = math.sqrt(sum(chance * (1 - chance) for chance in chances))
        assert abs(against - sum(chances)) < 4 * spread + 1
        expected_all += sum(chances)
    assert 0.03 < expected_all / 8000 < 0.25  # ambiguous pairs exist, and most are not


def test_gaps_are_those_of_the_texts_as_labelled():
    """The request is read back from the prompt, so prompt, texts and gap must belong together."""
    for pair in itertools.chain(*(draw_pairs(split, 100) for split in ("train", "new_phrasings", "new_topics"))):
        request = read_request(pair["prompt"])
        gap = gold_reward(request, pair["chosen"]) - gold_reward(request, pair["rejected"])
        assert pair["gold_gap"] == pytest.approx(gap)
        assert pair["chosen"] != pair["rejected"]


def read_request(prompt):
    spoken = prompt.lower()
    themes = sorted((name for name in vocabulary.THEMES if name in spoken), key=spoken.index)
    count = next(number for number, word in enumerate(vocabulary.NUMBERS) if f" {word} tips" in spoken)
    tone = next(name for name in vocabulary.TONES if name in spoken)
    bound = re.search(r"(at most|at least) (\d+) words", spoken)
    ordered = any(way.lower() in spoken for way in vocabulary.ASK_ORDER)
    return Request(tuple(themes), count, ordered, tone, *((bound[1], int(bound[2])) if bound else (None, 0)))


def test_everything_follows_from_the_seed(tmp_path):
    assert list(draw_pairs("train", 50, seed=1)) == list(draw_pairs("train", 50, seed=1))
    assert list(draw_pairs("train", 50, seed=1)) == list(itertools.islice(draw_pairs("train", 90, seed=1), 50))
    assert list(draw_demonstrations(20, seed=1)) == list(draw_demonstrations(20, seed=1))
    assert list(draw_demonstrations(20, seed=1)) != list(draw_demonstrations(20, seed=2))
    prompts = [{pair["prompt"] for pair in draw_pairs(split, 50, seed=seed)} for seed in (1, 2) for split in SPLITS]
    assert all(len(one & other) < 10 for one, other in itertools.combinations(prompts, 2))
    files = write_dataset(tmp_path / "gold", train=30, validation=20, test=5)
    again = write_dataset(tmp_path / "again", train=30, validation=20, test=5)
    assert all(files[name].read_text() == again[name].read_text() for name in files)
    rows = {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in files.items()}
    assert {name: len(found) for name, found in rows.items()} == {"train": 30, "validation": 20, "test": 20}
    assert {row["source"] for row in rows["test"]} == set(SPLITS) - {"train", "validation"}
    ids = [row["id"] for found in rows.values() for row in found]
    assert len(set(ids)) == len(ids)


def test_splits_differ_from_training_as_stated():
    ways = (vocabulary.ASK_CONTENT, vocabulary.ASK_COUNT, vocabulary.ASK_TONE, vocabulary.ASK_LENGTH)
    held_out = [way[-1].split("{")[0].strip() for way in ways]
    other_words = vocabulary.VERBS[1] + vocabulary.TIMES[1] + vocabulary.FILLERS[1]
    for split in SPLITS:
        pairs = list(draw_pairs(split, 200))
        prompts = [pair["prompt"] for pair in pairs]
        texts = [pair[side] for pair in pairs for side in ("chosen", "rejected")]
        new_topics = [any(theme in prompt for theme in vocabulary.NEW_THEMES) for prompt in prompts]
        assert all(new_topics) if split == "new_topics" else not any(new_topics)
        new_items = [item for theme in vocabulary.NEW_THEMES for item in vocabulary.THEMES[theme]]
        known = [any(f" {item} " in text for item in new_items) for text in texts]
        assert all(known) if split == "new_topics" else not any(known)
        phrased = [any(way in prompt for way in held_out) for prompt in prompts]
        assert all(phrased) if split == "new_phrasings" else not any(phrased)
        others = [any(word in text for word in other_words) for text in texts]
        assert all(others) if split == "another_policy" else not any(others)
    with pytest.raises(InputError, match="split: expected one of train"):
        next(draw_pairs("tst", 1))


def test_new_phrasings_are_asked_in_the_held_out_way_only():
    rng = random.Random(3)
    prompts = {write_prompt(REQUEST, rng, new_phrasings=True) for _ in range(40)}
    assert len(prompts) == 6  # three parts in any order, one way to ask for each
    assert all("Follow the same order." in prompt for prompt in prompts)
