"""How many copies the metric finds and how many it does not, alarms where there are none, and what it writes."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from brains import NamedSet, alike, inputs_of, measure
from PIL import Image

from metrics.inputs import MetricInputs, Request
from metrics.memorization.comparison import Comparison
from metrics.memorization.control import plant
from metrics.memorization.figures import inference
from metrics.memorization.metric import memorization
from metrics.memorization.search import Index, Moves
from metrics.memorization.thumbnails import thumbnails
from metrics.memorization.verdict import EXPLAINED
from stylegan2_pipeline.memorization import COLUMNS, write_findings
from stylegan2_pipeline.report.copy_pictures import matched, moved
from stylegan2_pipeline.sample_data.mri import render_mri
from torch_utils.errors import UserError

TRAIN, HOLDOUT, FAKE = 70, 60, 50


@pytest.fixture(scope="module")
def sets():
    """Training images of which the last 5 are copies of the first, a holdout, and generated images."""
    every = alike(TRAIN + HOLDOUT + FAKE, 0)
    train, holdout, fake = every[:TRAIN].copy(), every[TRAIN:TRAIN + HOLDOUT], every[TRAIN + HOLDOUT:]
    train[-5:] = train[:5]
    return train, holdout, fake


def with_copies(fake, train, sources, seed=1):
    """The generated images with disguised copies of training images among them, first."""
    copies = plant([train[i] for i in sources], list(sources), np.random.default_rng(seed))
    return np.concatenate([np.stack([copy.image for copy in copies]), fake[len(copies):]])


def hits(value, sources):
    """Of copies that come first: how many are flagged with their true source; how many others are flagged."""
    source = {i: f"train_{s:04d}.png" for i, s in enumerate(sources)}
    right = [pair for pair in value.details.pairs if pair.flagged and source.get(pair.fake) == pair.real_name]
    return len(right), sum(pair.flagged and pair.fake not in source for pair in value.details.pairs)


@pytest.fixture(scope="module")
def copied(sets):
    train, holdout, fake = sets
    return measure(train, with_copies(fake, train, range(10, 24)), holdout)


@pytest.fixture(scope="module")
def clean(sets):
    return measure(sets[0], sets[2], sets[1])


def test_disguised_copies_are_found_with_their_sources(copied):
    found, false = hits(copied, range(10, 24))
    assert found >= 13 and false <= 2 * copied.results["memorization_expected"] * FAKE < 2
    assert copied.results["memorization_p"] < 0.001 and copied.details.alarm
    assert copied.results["memorization_extracted"] >= 12
    assert copied.notes[0].startswith("Copies of training images: ")
    low, high = copied.intervals["memorization"]
    assert low < copied.results["memorization"] == len(copied.details.flagged) / FAKE < high


def test_no_alarm_where_nothing_was_copied(clean):
    assert not clean.details.alarm and clean.results["memorization_extracted"] == 0
    assert clean.results["memorization"] <= 0.06 and clean.results["memorization_p"] > 0.01
    assert clean.results["memorization_found"] >= 0.9
    assert clean.results["memorization_nndr"] == pytest.approx(clean.results["memorization_nndr_unseen"], abs=0.05)
    for ours, usual in (("authpct", "authpct_unseen"), ("authpct_real", "authpct_real_unseen")):
        difference = clean.results[f"memorization_{ours}"] - clean.results[f"memorization_{usual}"]
        assert abs(difference) < 27  # per cent; three standard deviations
    low, high = clean.intervals["memorization_mia_auc"]
    assert low < 0.5 < high and high - low < 0.25


def test_wording_claims_no_more_than_was_measured(clean, copied):
    assert clean.notes[0].startswith("No evidence of copying at the sensitivity shown: ")
    assert re.search(r"\d+ of 35 disguised copies that were planted were found", clean.notes[0])
    for value in (clean, copied):
        words = " ".join(value.notes)
        assert not re.search("privat|anonym|safe", words, re.IGNORECASE)
        assert "do not show that nobody can be recognised" in words and "Yao et al. 2025" in words


def test_keys_are_explained_and_counted(clean):
    for key in clean.results:
        short = key.removeprefix("memorization").removeprefix("_")
        assert short in EXPLAINED or short in {"expected", *(usual for _, usual, _ in EXPLAINED.values())}
    assert clean.counts == {"real": TRAIN, "fake": FAKE, "unseen": HOLDOUT, "planted": 35}
    assert clean.about["mirror_search"] and clean.about["unseen"] == "holdout"


def test_a_holdout_of_another_kind_is_no_alarm(sets, clean, copied):
    """Whatever is like the data at all would be nearer to it than such images are."""
    train, _, fake = sets
    noise = np.random.default_rng(0).integers(0, 256, [40, *train.shape[1:]], dtype=np.uint8)
    value = measure(train, fake, noise)
    assert value.results["memorization_p"] < 0.001 and not value.details.alarm
    assert value.notes[0].startswith("Nothing can be said: the holdout images are unlike the data")
    assert any("Give --holdout images of the same kind" in note for note in value.notes)
    assert not any("unlike" in note or "same kind" in note for note in (*clean.notes, *copied.notes))
    assert measure(train, with_copies(fake, train, range(10, 24)), noise).details.alarm  # plain copies all the same


def test_an_alarm_says_what_to_do(clean, copied):
    assert any("flagged.txt" in note for note in copied.notes) and not any("flagged" in note for note in clean.notes)


def test_duplicates_in_the_data_mislead_nobody(sets, copied):
    """The next neighbour of a copy of a duplicated image is another image; without the groups it would be its twin, at
    a distance of nothing, and each twin would be its own next one."""
    train, holdout, _ = sets
    value = measure(train, with_copies(sets[2], train, range(5)), holdout)
    assert value.results["memorization_duplicates"] == 5
    assert any(f"5 of {TRAIN} training images show the same" in note for note in value.notes)
    twins = {f"train_{i:04d}.png" for i in (*range(5), *range(TRAIN - 5, TRAIN))}
    for pair in value.details.pairs:
        if pair.fake < 5:
            assert pair.repeated and {pair.real_name} <= twins and pair.second_name not in twins
            assert pair.second_distance > 2 * pair.distance and pair.nndr < 0.5
    assert value.results["memorization_extracted"] == 5
    comparison = Comparison(inputs_of(train, train[:40], holdout), Request("memorization", 40))
    assert comparison.authentic(comparison.fake) == 0  # all of them are copies, the duplicated ones too
    assert sorted(map(len, (group.names for group in value.details.duplicates))) == [2] * 5


def test_without_a_holdout_the_data_itself_is_the_measure_and_it_is_said(sets):
    train, _, fake = sets
    value = measure(train, with_copies(fake, train, range(10, 24)))
    found, false = hits(value, range(10, 24))
    assert found >= 13 and false <= 3 and value.details.weaker and value.counts["unseen"] == TRAIN
    assert any(note.startswith("Without --holdout") for note in value.notes)
    assert not any("mia" in key for key in value.results)
    assert float(value.details.unseen.min()) > 0.05  # no duplicate is its twin's neighbour


def test_holdout_images_that_are_training_images_are_left_out(sets):
    """Else they would be nearest of all, and the threshold would let everything pass."""
    train, holdout, fake = sets
    value = measure(train, with_copies(fake, train, range(10, 24)), np.concatenate([train[30:50], holdout]))
    assert value.counts["unseen"] == HOLDOUT and hits(value, range(10, 24))[0] >= 13
    assert any("20 holdout images are copies of training images" in note for note in value.notes)
    with pytest.raises(UserError, match=r"0 are left without 40 that are copies.*Give --holdout images of other"):
        measure(train, fake, train[:40])


def test_too_few_images_are_refused_in_words(sets):
    train, holdout, fake = sets
    for few, words in (((train[:10], fake, holdout), "20 training images; there are 10. Give more --data"),
                       ((train, fake[:5], holdout), "20 generated images; there are 5. Raise --num"),
                       ((train, fake, holdout[:19]), "20 holdout images; there are 19. Give more --holdout"),
                       ((np.repeat(train[:4], 9, axis=0), fake, holdout), "20 different training images; of 36, 4 are"),
                       ((train, np.zeros_like(fake), holdout), r"0 that show anything \(50 are of one tone\)")):
        with pytest.raises(UserError, match=words):
            measure(*few)
    with pytest.raises(UserError, match="training images 32, generated images 16"):
        measure(train, fake[:, :, ::2, ::2])
    mixed = NamedSet(holdout)
    mixed.images = lambda count: iter([holdout[:9], holdout[:, :, ::2, ::2]])
    with pytest.raises(UserError, match="1 channels, 32 pixels and 1 channels, 16 pixels"):
        memorization(replace(inputs_of(train, fake), holdout=mixed), Request("memorization", 50))


def test_images_of_one_tone_are_left_out(sets):
    """Black slices are in every set: they are nobody's, and would put the threshold at nothing."""
    train, holdout, fake = (np.concatenate([np.full([n, 1, 32, 32], n, np.uint8), images])
                            for n, images in zip((9, 8, 7), sets, strict=True))
    value = measure(train, fake, holdout)
    assert value.counts == {"real": TRAIN, "fake": FAKE, "unseen": HOLDOUT, "planted": 35}
    assert any("one tone were left out: 9 training, 7 generated, 8 holdout" in note for note in value.notes)
    assert not value.details.alarm and min(pair.fake for pair in value.details.pairs) == 7


@pytest.mark.slow
@pytest.mark.parametrize(("real", "fake"), [(3, 3), (4, 4), (1, 3), (4, 1)])
def test_channels(real, fake):
    """Copies are found in colour, with alpha, and where one set is gray."""
    def channels(images, count):
        color = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
        return {1: images[:, :1], 3: color, 4: np.concatenate([color, 255 - color[:, :1] // 4], axis=1)}[count]
    images = alike(67, 5) if 1 in (real, fake) else alike(67, 5, channels=3)
    train = channels(images[:25], real)
    made = channels(np.concatenate([images[5:10], images[25:42]]), fake)
    value = measure(train, made, channels(images[42:], real))
    assert (real, fake) == (4, 1) or hits(value, range(5, 10))[0] == 5  # there, what alpha hides is another picture
    assert sum(pair.repeated and pair.fake > 4 for pair in value.details.pairs) == 0
    assert all(look.fake.shape == look.real.shape for look in value.details.shown)


def test_both_sides_are_searched_alike(sets):
    """Mirroring searched for members alone makes them look nearer where nothing was copied; here it is not."""
    def kind(seed, n):
        images = alike(n, seed)
        flip = np.random.default_rng(seed).random(n) < 0.5
        images = np.where(np.arange(32) < 16, images, images // 2)
        return np.where(flip[:, None, None, None], images[..., ::-1], images).astype(np.uint8)
    train, holdout, fake = kind(1, 120), kind(2, 110), kind(3, 24)
    def distances(images, mirror):
        made = Index(thumbnails([fake], torch.device("cpu")))
        return made.search(thumbnails([images], torch.device("cpu")), 1, Moves(32, mirror=mirror)).nearest
    one_sided = inference(distances(train, True), distances(holdout, False), 0)
    assert one_sided.auc > 0.6 and one_sided.auc_interval[0] > 0.5
    found = Comparison(inputs_of(train, fake, holdout), Request("memorization", 24))
    both_sides = inference(found.member_distances, found.other_distances, 0)
    assert both_sides.auc_interval[0] < 0.5 < both_sides.auc_interval[1] and both_sides.auc < one_sided.auc - 0.05
    assert not inputs_of(train, fake).trained_mirror and found.moves.mirror  # it is searched all the same


@pytest.mark.slow
def test_result_does_not_depend_on_batches_and_names(sets, clean):
    train, holdout, fake = sets
    inputs = MetricInputs(NamedSet(train, batch=50), NamedSet(fake, batch=3), None, holdout=NamedSet(holdout, batch=11))
    assert memorization(inputs, Request("m", 2000)).results == pytest.approx(
        {key.replace("memorization", "m"): value for key, value in clean.results.items()}, abs=1e-6)
    assert memorization(inputs, Request("m", 30)).counts["fake"] == 30


def test_files(copied, tmp_path):
    files = write_findings(copied.details, tmp_path / "new" / "memorization")
    assert {file.name for file in files} == {"memorization.html", "memorization.json", "memorization.png", "pairs.csv",
                                             "pairs.png", "flagged.txt", "duplicates.png"}
    folder = files[0].parent
    document = json.loads((folder / "memorization.json").read_text())
    assert document["results"] == {key: pytest.approx(value) for key, value in copied.results.items()}
    assert document["alarm"] and len(document["distances"]["generated"]) == FAKE
    assert sum(row["planted"] for row in document["planted"]) == 35
    rows = list(csv.DictReader((folder / "pairs.csv").open()))
    assert len(rows) == FAKE and tuple(rows[0]) == COLUMNS
    assert [float(row["distance"]) for row in rows] == sorted(float(row["distance"]) for row in rows)
    listed = [line for line in (folder / "flagged.txt").read_text().splitlines() if not line.startswith("#")]
    assert listed == [row["generated"] for row in rows if row["flagged"] == "1"] and len(listed) >= 13
    for file in files:
        if file.suffix == ".png":
            with Image.open(file) as picture:
                assert picture.width > 500 and len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_page_loads_nothing_and_keeps_names_as_text(copied, tmp_path):
    named = [replace(pair, fake_name="<script>alert(1)</script>ü.png", real_name="a&b" * 99)
             for pair in copied.details.pairs]
    details = replace(copied.details, pairs=named, shown=[replace(look, pair=pair) for look, pair in
                                                          zip(copied.details.shown, named, strict=False)])
    write_findings(details, tmp_path)
    page = (tmp_path / "memorization.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;ü.png" in page
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", page) and "default-src 'none'" in page
    assert details.verdict in page and "DCR delusion" in page


@pytest.mark.slow
def test_older_files_do_not_stay(clean, copied, sets, tmp_path):
    write_findings(copied.details, tmp_path)
    train, holdout, fake = sets
    unique = measure(train[:-5], fake, holdout)
    assert "duplicates.png" not in {file.name for file in write_findings(unique.details, tmp_path)}
    assert not (tmp_path / "duplicates.png").exists()
    assert "None were found" in (tmp_path / "memorization.html").read_text()


def test_a_folder_that_cannot_be_written_to(clean, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_findings(clean.details, tmp_path / "file")


def test_difference_is_without_contrast_as_the_search_is():
    image = np.repeat(alike(1, 8)[0].transpose(1, 2, 0), 3, axis=2)
    assert np.abs(matched(image, (image * 0.5 + 20).astype(np.uint8)) - image * 0.5 - 20).max() < 1.5
    assert np.array_equal(matched(np.full_like(image, 7), image), np.full(image.shape, image.mean()))


def test_moves_in_words(copied):
    words = {moved(pair) for pair in copied.details.pairs if pair.fake < 14}
    assert "not" in words and any("mirrored" in found for found in words)
    assert any("pixel" in found for found in words) and any("turned 2.5 degrees" in found for found in words)


@pytest.fixture(scope="module")
def brains():
    """The setting of 500 training images, ten of them copies with noise, 250 of a holdout and 500 generated ones."""
    every = np.stack([render_mri(0, index, 64) for index in range(1250)])[:, None]
    train, holdout, fake = every[:500].copy(), every[500:750], every[750:]
    noise = np.random.default_rng(0).normal(0, 2, train[:10].shape)
    train[490:] = np.clip(train[:10] + noise, 0, 255).astype(np.uint8)
    return train, holdout, fake


@pytest.mark.slow
def test_of_35_disguised_copies_among_500_at_least_32_are_found(brains):
    train, holdout, fake = brains
    sources = range(100, 135)
    value = measure(train, with_copies(fake, train, sources), holdout)
    found, false = hits(value, sources)
    assert found >= 32 and false <= 2 * value.results["memorization_expected"] * 500 < 8
    assert value.results["memorization_extracted"] >= 32 and value.results["memorization_p"] < 1e-4
    assert value.results["memorization_found"] >= 32 / 35 and value.results["memorization_duplicates"] == 10
    assert sum(pair.repeated and pair.fake >= 35 for pair in value.details.pairs) == 0


@pytest.mark.slow
def test_no_alarm_among_500_brains_and_an_alarm_where_half_are_copies(brains):
    train, holdout, fake = brains
    clean = measure(train, fake, holdout)
    assert not clean.details.alarm and clean.results["memorization"] <= 2 * 0.01
    assert clean.results["memorization_mia_auc"] == pytest.approx(0.5, abs=0.06)
    sources = range(100, 350)
    half = measure(train, with_copies(fake, train, sources), holdout)
    found, false = hits(half, sources)
    assert found >= 245 and false <= 8 and half.results["memorization_mia_auc"] > 0.65
    assert half.results["memorization_mia_tpr"] > 0.3 and half.results["memorization_z"] < -8
    assert not measure(train, fake).details.alarm  # without a holdout
    assert half.results["memorization_authpct"] < clean.results["memorization_authpct"] - 20
