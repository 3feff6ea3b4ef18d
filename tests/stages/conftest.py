"""One finished run on a tiny gold world, which several stages' tests look at and start from."""

import contextlib
import io

import pytest
import yaml

from rmkit.core.configuration import load_config

SETTINGS = """\
max_length: 256
gold: {train: 120, validation: 60, test: 10, demonstrations: 64, hidden: 32, layers: 2}
read: {plant_noise: {kind: uniform, rate: 0.3}}
vote: {members: 3, folds: 2, heads: {epochs: 2}}
repair: {shares: [0.2, 0.3], recipes: [flip, drop+margin, soft]}
train:
  {per_device_train_batch_size: 16, learning_rate: 1.0e-3, logging_steps: 4, save_steps: 3, report_to: none,
   disable_tqdm: true}
evaluate: {resamples: 50}
audit: {suspicious: 5}
"""


@pytest.fixture(scope="session")
def settings():
    return yaml.safe_load(SETTINGS)


@pytest.fixture(scope="session")
def gold_run(tmp_path_factory):
    """The folder of a whole run; not to be written to."""
    from rmkit.stages.running import RunConfig, run

    place = tmp_path_factory.mktemp("gold run")
    (place / "run.yaml").write_text(SETTINGS)
    with contextlib.redirect_stdout(io.StringIO()):
        run(load_config(RunConfig, place / "run.yaml", ["--output_dir", str(place / "out")]))
    return place / "out"
