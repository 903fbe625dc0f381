import numpy as np
import pytest
import torch
from image_sets import ArraySet, image_inputs

from metrics.detectors.registry import Detectors
from metrics.inputs import take
from metrics.names import KINDS, parse
from metrics.table import FUNCTIONS, compute, plan, split_available, with_copies
from metrics.weights import WeightsSource
from torch_utils.errors import UserError

IMAGES = np.random.RandomState(0).randint(0, 256, [40, 1, 32, 32], dtype=np.uint8)


def some_inputs(**kwargs):
    return image_inputs(IMAGES[:20], IMAGES[20:], **kwargs)


def test_every_name_has_a_function():
    assert set(FUNCTIONS) == {kind.name for kind in KINDS}


def test_a_result_records_what_it_depends_on():
    inputs = some_inputs(seed=3, snapshot="network.pkl", about={"data_digest": "abc", "truncation_psi": 1.0})
    result, value = compute(parse("pfd32").of(16), inputs)
    assert result["metric"] == "pfd32" and result["results"] == value.results and "pfd32" in value.results
    assert result["num_gpus"] == 1 and result["snapshot_pkl"] == "network.pkl" and result["seed"] == 3
    assert result["counts"]["fake"] == 16 and result["mirror"] == "off"
    assert result["data_digest"] == "abc" and result["truncation_psi"] == 1.0
    found = result["detectors"]["pixels32"]
    assert found["name"] == "pixels32" and found["layer"] == "pixels"
    assert {"python", "torch", "numpy"} <= set(result["versions"]) and result["total_time_str"]


@pytest.mark.parametrize(("name", "mirror", "trained", "found"), [
    ("swd", "auto", True, False), ("swd", "on", False, True), ("fid50k_full", "auto", True, False),
    ("fid50k", "auto", True, True), ("fid50k", "auto", False, False), ("fid50k", "off", True, False),
])  # fmt: skip
def test_older_names_take_mirrored_copies_as_the_training_did(name, mirror, trained, found):
    assert with_copies(parse(name), trained, mirror) is found


def test_mirrored_copies_are_measured_against_where_wanted():
    mirrored = image_inputs(np.concatenate([IMAGES[:20], IMAGES[:20, :, :, ::-1]]), IMAGES[20:])
    assert compute(parse("pfd32").of(16), some_inputs(), mirrored, "on")[0]["mirror"] == "on"
    assert compute(parse("pfd32").of(16), some_inputs(), mirrored)[0]["mirror"] == "off"


def test_one_pass_serves_the_metrics_of_a_detector():
    names = [parse("fid2k_full"), parse("kid50k_full"), parse("pr1k3_full"), parse("swd")]
    assert plan(names) == {"inception": 50000, "vgg16": 1000}


def test_metrics_without_their_weights_are_left_out_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN2_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    usable, sentences = split_available(["fid50k_full", "swd", "ppl2_wend"], WeightsSource(offline=True))
    assert usable == ["swd"] and len(sentences) == 2
    assert "Metric fid50k_full is left out" in sentences[0] and "https://" in sentences[0]


def test_sets_give_images_by_place():
    found = ArraySet(IMAGES)
    np.testing.assert_array_equal(np.stack(found.pick([30, 2, 30])), IMAGES[[30, 2, 30]])
    assert found.name_of(3) == "image 3" and found.pick([]) == []


def test_take_stops_within_a_batch_and_misses_nothing():
    batches = [np.full([3, 1, 2, 2], i, np.uint8) for i in range(3)]
    assert [len(b) for b in take(iter(batches), 7)] == [3, 3, 1]
    with pytest.raises(AssertionError, match="1 of 10"):
        list(take(iter(batches), 10))


def test_few_images_of_either_set_are_told_with_every_figure():
    few, many = np.zeros([30, 1, 8, 8], np.uint8), np.zeros([200, 1, 8, 8], np.uint8)
    for real, fake, words in ((few, many, "With 30 real images chance"), (many, few, "With 30 generated images chance"),
                              (few, few, "With 30 real, 30 generated images chance"), (many, many, None)):
        notes = compute(parse("tone"), image_inputs(real, fake))[0]["notes"]
        assert [note.startswith(words) for note in notes] == [True] if words else not notes


def test_one_image_is_too_few():
    for name in ("pfd32", "rfd", "swd"):
        with pytest.raises(UserError, match="--data"):
            compute(parse(name), image_inputs(IMAGES[:1], IMAGES[:1]))


def test_weights_that_cannot_be_had_are_looked_for_once(monkeypatch):
    asked = []

    def nowhere(name, source):
        asked.append(name)
        raise UserError("not here")

    monkeypatch.setattr("metrics.detectors.registry.locate", nowhere)
    detectors = Detectors(torch.device("cpu"))
    for _ in range(3):
        with pytest.raises(UserError, match="not here"):
            detectors("inception")
    assert asked == ["inception"]
