"""Stage files: what is finished is kept, what has changed is redone, what is not ours is left alone."""

import json
import os
import shutil

import pytest

from rmkit.core import stage as stages
from rmkit.core.checks import InputError
from rmkit.core.stage import STAGE_FILE, UNFINISHED_FILE, open_stage, read_record, write_json


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "source.jsonl"
    file.write_text("one\n")
    return file


@pytest.fixture
def work(tmp_path, source):
    """work(**config) runs a stage that writes one file; says whether it had anything to do."""

    def run(name="read", **config):
        with open_stage(tmp_path / "out", name, {"output_dir": "out", **config}, {"data": source}) as stage:
            if not stage.done:
                (stage.directory / f"made-{len(config)}").write_text("x")
                stage.record["rows"] = 1
            return not stage.done

    return run


def test_an_unchanged_stage_is_not_redone_and_a_changed_one_is(tmp_path, source, work):
    assert work(seed=0)
    record = read_record(tmp_path / "out")
    assert record["rows"] == 1 and record["stage"] == "read" and record["config"] == {"seed": 0}
    assert record["versions"]["torch"] and record["seconds"] >= 0
    assert not work(seed=0)
    assert not work(seed=0, output_dir="elsewhere")  # a folder that was moved is the same stage
    assert work(seed=1)
    assert work(seed=1, more=1)
    assert not (tmp_path / "out/made-1").exists()  # emptied first
    source.write_text("two\n")
    assert work(seed=1, more=1)
    assert not work(seed=1, more=1)


def test_a_stage_that_was_interrupted_is_entered_again_as_it_stands(tmp_path, source):
    def begin(seed):
        return open_stage(tmp_path / "out", "train", {"seed": seed}, {"data": source})

    with pytest.raises(KeyboardInterrupt), begin(0) as stage:
        (stage.directory / "checkpoint").mkdir()
        raise KeyboardInterrupt
    assert read_record(tmp_path / "out") is None
    with begin(0) as stage:
        assert not stage.done and (stage.directory / "checkpoint").exists()
    assert not (tmp_path / "out" / UNFINISHED_FILE).exists()
    with pytest.raises(KeyboardInterrupt), begin(1) as stage:
        assert list(stage.directory.iterdir()) == [stage.directory / UNFINISHED_FILE]
        raise KeyboardInterrupt
    with begin(2) as stage:
        assert list(stage.directory.iterdir()) == [stage.directory / UNFINISHED_FILE]


def test_a_folder_that_was_being_emptied_is_still_ours(tmp_path, work, monkeypatch):
    work(seed=0)
    (tmp_path / "out/folder").mkdir()

    def die(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", die)
        work(seed=1)
    assert work(seed=0)  # half of it may be gone, so it is not taken for finished
    assert not (tmp_path / "out/folder").exists()


def test_what_is_not_ours_is_refused_untouched(tmp_path, source, work):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="a folder with other contents"):
        work(seed=0)
    (out / STAGE_FILE).write_text('{"no": "key"}')
    with pytest.raises(InputError, match="a folder with other contents"):
        work(seed=0)
    assert sorted(os.listdir(out)) == [STAGE_FILE, "thesis.tex"]
    with pytest.raises(InputError, match="a writable folder"), open_stage(source, "read", {}, {}):
        pass
    with pytest.raises(InputError, match="a writable folder"), open_stage(source / "below", "read", {}, {}):
        pass


def test_another_stages_folder_and_the_inputs_own_are_refused_untouched(tmp_path, work):
    work(seed=0)
    with pytest.raises(InputError, match="that of the stage read"):
        work(name="vote", seed=0)
    for place in (tmp_path / "out", tmp_path):
        inside = {"data": tmp_path / "out"}
        with pytest.raises(InputError, match="apart from data"), open_stage(place, "read", {}, inside):
            pass
    assert not work(seed=0)


def test_what_a_run_killed_at_its_very_start_leaves_is_entered(tmp_path, work):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{UNFINISHED_FILE}.part").write_text("{")
    assert work(seed=0)


def test_the_record_is_there_whole_or_not_at_all(tmp_path, work, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages.os, "fsync", die)
        write_json(tmp_path / STAGE_FILE, {"key": "a"})
    assert not (tmp_path / STAGE_FILE).exists()
    write_json(tmp_path / STAGE_FILE, {"key": "b", "text": "é", "path": tmp_path})
    assert json.loads((tmp_path / STAGE_FILE).read_text()) == {"key": "b", "text": "é", "path": str(tmp_path)}


def test_an_input_is_known_by_what_is_in_it(tmp_path, source, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    marks = [stages.input_hash(folder)]
    (folder / "a").write_text("1")
    marks.append(stages.input_hash(folder))
    (folder / "a").rename(folder / "b")
    marks.append(stages.input_hash(folder))
    marks += [stages.input_hash("org/model"), stages.input_hash(source)]
    monkeypatch.setattr(stages, "LARGE_FILE", 1)
    marks.append(stages.input_hash(source))
    assert len(set(marks)) == 6
    write_json(folder / STAGE_FILE, {"key": "the stage's"})
    assert stages.input_hash(folder) == "the stage's"
