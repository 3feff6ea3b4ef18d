"""The fields of TrainingArguments, as read from its source, are those of the class."""

import dataclasses

import pytest
from transformers import TrainingArguments

from rmkit.core.checks import InputError
from rmkit.core.config import configuration, load_config, option, output_settings, to_cli_args
from rmkit.core.config_fields import config_fields
from rmkit.training.hf_arguments import HuggingFaceArguments


@configuration
class TrainConfig(HuggingFaceArguments):
    output_dir: str = option(help="Where the model goes.")
    learning_rate: float = option(1e-5, "Peak learning rate.", gt=0)
    members: int = option(1, "Models.", ge=1)


def test_names_and_defaults_are_those_of_the_class():
    theirs = {item.name: item for item in dataclasses.fields(TrainingArguments) if item.init}
    ours = config_fields(HuggingFaceArguments)
    assert ours.keys() == theirs.keys()
    for name, field in ours.items():
        default = theirs[name].default
        if default is dataclasses.MISSING:
            default = theirs[name].default_factory()
        assert field.get_default(call_default_factory=True) == default, name
        assert field.description.endswith("."), name


def test_a_training_adds_its_own_keys():
    words = ["--output_dir", "o", "--num_train_epochs", "2", "--lr_scheduler_type", "cosine", "--save_strategy", "no",
             "--lr_scheduler_kwargs.x", "1", "--bf16"]
    config = load_config(TrainConfig, None, words)
    assert (config.learning_rate, config.num_train_epochs, config.save_strategy) == (1e-5, 2.0, "no")
    assert load_config(TrainConfig, None, to_cli_args(config)) == config
    assert "hub_token" not in output_settings(config)
    for word, message in (("--learning_rte=1", "Did you mean learning_rate?"),
                          ("--train_sampling_strategy=x", "expected one of random, sequential"),
                          ("--optim", "optim: expected str"), ("--max_steps", "Give the number")):
        with pytest.raises(InputError, match=message.replace("?", r"\?")):
            load_config(TrainConfig, None, [*words, word])
