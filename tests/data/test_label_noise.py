import pytest

from rmkit.core.checks import InputError
from rmkit.data.label_noise import inject_flips
from rmkit.data.reading import PairWriter
from rmkit.data.sources import read_rows

COUNT = 2500  # several row groups


def write_pairs(path, gold_gap=True):
    pairs = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": "Q"}],
            "chosen": [{"role": "assistant", "content": "A" * (1 + number % 7)}],
            "rejected": [{"role": "assistant", "content": "B" * 4}],
            "source": "code",
            **({"gold_gap": number / COUNT} if gold_gap else {}),
        }
        for number in range(COUNT)
    ]
    with PairWriter(path, pairs[0]) as writer:
        for pair in pairs:
            writer.write(pair)
    return pairs


@pytest.mark.parametrize("kind", ["uniform", "small_gap", "longer"])
def test_flips_swap_the_sides_and_keep_the_truth(tmp_path, kind):
    path = tmp_path / "train.parquet"
    before = write_pairs(path)
    assert inject_flips(path, kind=kind, rate=0.3, seed=1) == 750
    after = [row.content for row in read_rows(str(path))]
    assert sum(pair["is_flipped"] for pair in after) == 750
    for old, new in zip(before, after, strict=True):
        swapped = {**old, "chosen": old["rejected"], "rejected": old["chosen"], "gold_gap": -old["gold_gap"]}
        assert new == {**(swapped if new["is_flipped"] else old), "is_flipped": new["is_flipped"]}
        if kind == "longer" and new["is_flipped"]:
            assert len(new["chosen"][0]["content"]) > len(new["rejected"][0]["content"])


def test_the_same_seed_plants_the_same_flips(tmp_path):
    planted = []
    for seed in (3, 3, 4):
        write_pairs(tmp_path / "train.parquet")
        inject_flips(tmp_path / "train.parquet", kind="uniform", rate=0.3, seed=seed)
        planted.append([row.content["is_flipped"] for row in read_rows(str(tmp_path / "train.parquet"))])
    assert planted[0] == planted[1] != planted[2]


def test_without_gold_gaps(tmp_path):
    path = tmp_path / "train.parquet"
    write_pairs(path, gold_gap=False)
    with pytest.raises(InputError, match="pairs with a gold_gap"):
        inject_flips(path, kind="small_gap", rate=0.3, seed=1)
    assert inject_flips(path, kind="uniform", rate=0.3, seed=1) == 750
    assert "gold_gap" not in next(read_rows(str(path))).content
