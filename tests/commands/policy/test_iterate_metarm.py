"""The section of MetaRM: as many keys as the training has of it."""

from dataclasses import fields

from rmkit.commands.iterate import MetaRMSettings, plan_meta
from rmkit.commands.train import TrainConfig


def test_the_section_of_metarm_has_all_its_keys():
    known = {item.name for item in fields(TrainConfig) if item.name.startswith("meta_")}
    assert known == {item.name for item in fields(MetaRMSettings)}
    assert plan_meta({"meta_learning_rate": 0.1}, "s") == {
        "meta_learning_rate": 0.1, "meta_data": "s", "meta_batch_size": None, "meta_steps": 1}
