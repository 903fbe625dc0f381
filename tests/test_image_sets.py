import numpy as np
import pytest
import torch

from metrics.cache import StatisticsCache
from metrics.detectors.base import Detector
from metrics.detectors.registry import Detectors
from metrics.inputs import KEPT_BYTES
from stylegan2_pipeline import image_sets
from stylegan2_pipeline.image_sets import GeneratedImages, StoredImages, first, real_order
from stylegan2_pipeline.shared_sampling import ImagePool

IMAGES = np.random.RandomState(0).randint(0, 256, [10, 3, 16, 16], dtype=np.uint8)
NAMES = [f"{i}.png" for i in range(10)]


class Counting(Detectors):
    """Detectors "mean" and "corner", which count the images they see."""

    def __init__(self, digest="one"):
        super().__init__(torch.device("cpu"))
        self.seen = 0
        self.digest = digest

    def __call__(self, name):
        functions = {"mean": lambda x: x.float().mean(dim=[2, 3]),
                     "corner": lambda x: x[:, :1, 0, :2].flatten(1).float()}

        def rows(images):
            self.seen += len(images)
            return functions[name](images)

        return Detector(name, self.digest, rows, {"layer": "last"})


def stored(detectors=None, images=IMAGES, seed=0, batch=4, **kwargs):
    return StoredImages(lambda i: images[i], NAMES, detectors or Counting(), seed=seed, batch=batch, **kwargs)


def all_of(image_set, count=10):
    return np.concatenate(list(image_set.images(count)))


def test_subjects_follow_the_order_of_the_images_mirrored_ones_too():
    people = [number // 2 for number in range(10)]
    assert stored().subjects() is None
    for found in (stored(subjects=people), stored(subjects=people, mirror=True)):
        names = [found.name_of(place).removesuffix(" (mirrored)") for place in range(found.size)]
        assert found.subjects() == [people[NAMES.index(name)] for name in names]


def test_stored_images_come_once_each_in_an_order_of_the_seed():
    found = stored()
    assert found.size == 10
    np.testing.assert_array_equal(all_of(found), IMAGES[real_order(10, 0)])
    assert [found.name_of(i) for i in range(10)] == [NAMES[i] for i in real_order(10, 0)]
    np.testing.assert_array_equal(all_of(stored(batch=3)), all_of(found))
    np.testing.assert_array_equal(all_of(found, 6), all_of(found)[:6])
    assert (all_of(stored(seed=1)) != all_of(found)).any()
    np.testing.assert_array_equal(np.stack(found.pick([7, 2])), all_of(found)[[7, 2]])


def test_mirrored_copies_are_images_of_their_own():
    found = stored(mirror=True)
    images = all_of(found, 20)
    expected = np.concatenate([IMAGES, IMAGES[..., ::-1]])[real_order(20, 0)]
    np.testing.assert_array_equal(images, expected)
    names = [found.name_of(i) for i in range(20)]
    assert len(set(names)) == 20 and sum("mirrored" in name for name in names) == 10


def test_images_of_several_sizes_come_in_batches_of_one():
    mixed = [IMAGES[0], IMAGES[1], IMAGES[2][:, :8], IMAGES[3]] + [IMAGES[4]] * 6
    batches = list(StoredImages(lambda i: mixed[i], NAMES, Counting(), seed=0, batch=10).images(10))
    assert sum(map(len, batches)) == 10 and {batch.shape[1:] for batch in batches} == {(3, 16, 16), (3, 8, 16)}


def test_features_are_computed_once_and_serve_fewer_images_too():
    detectors = Counting()
    found = stored(detectors)
    rows = found.features("mean", 10)
    np.testing.assert_allclose(rows, all_of(found).mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(found.features("mean", 4), rows[:4])
    moments = found.moments("mean", 10)
    assert detectors.seen == 10 and moments.count == 10
    np.testing.assert_allclose(moments.mean, rows.double().mean(0), rtol=1e-12)


@pytest.mark.parametrize("what", ["features", "moments"])
def test_statistics_on_the_disk_serve_every_seed_and_no_other_data(tmp_path, what):
    def measured(seed=0, data="a", count=10, mirror=False, digest="one"):
        detectors = Counting(digest)
        found = stored(detectors, seed=seed, mirror=mirror, cache=StatisticsCache(tmp_path), key={"data": data})
        value = getattr(found, what)("mean", count)
        return (value if what == "features" else value.mean), detectors.seen

    rows, seen = measured()
    assert seen == 10
    again, seen = measured(seed=5)
    assert seen == 0
    if what == "features":  # in the order of the new seed
        np.testing.assert_array_equal(again, stored(seed=5).features("mean", 10))
    else:
        np.testing.assert_array_equal(again, rows)
    assert measured(data="b")[1] == 10 and measured(digest="two")[1] == 10 and measured(mirror=True, count=20)[1] == 20
    assert measured(data="c", count=6)[1] == 6 and measured(data="c", count=6, seed=1)[1] == 6  # other images
    assert measured(data="c", count=6)[1] == 0
    assert measured()[1] == 0


def test_without_a_key_nothing_is_kept_on_the_disk(tmp_path):
    stored(cache=StatisticsCache(tmp_path)).features("mean", 10)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Generator:
    """Makers of a pool, which count the images that they make."""

    def __init__(self, detectors):
        self.made = 0

        def fakes(start, count):
            self.made += count
            return torch.from_numpy(np.stack([IMAGES[i % 10] // (1 + i // 10) for i in range(start, start + count)]))

        def rows(names):
            def make(start, count):
                images = fakes(start, count)
                return torch.cat([detectors.rows(name, images) for name in names], dim=1)

            return make

        self.makers = {"fakes": fakes, "fakes:mean": rows(["mean"]), "fakes:mean+corner": rows(["mean", "corner"])}


def generated(batch=4):
    detectors = Counting()
    generator = Generator(detectors)
    return GeneratedImages(ImagePool(generator.makers, batch), detectors, [3, 16, 16]), generator, detectors


def test_few_generated_images_are_made_once_for_everything():
    found, generator, _ = generated()
    found.prefetch({"mean": 12, "corner": 12})
    images = all_of(found, 12)
    np.testing.assert_array_equal(np.concatenate(list(found.images(5))), images[:5])
    np.testing.assert_allclose(found.features("mean", 12), images.mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(np.stack(found.pick([11, 0])), images[[11, 0]])
    assert generator.made == 12
    found, generator, _ = generated()
    assert found.features("mean", 12).shape == (12, 3) and found.features("corner", 12).shape == (12, 2)
    assert generator.made == 12


def test_many_generated_images_pass_once_for_several_detectors(monkeypatch):
    monkeypatch.setattr(image_sets, "KEPT_IMAGES", 100)
    found, generator, _ = generated()
    found.prefetch({"mean": 12, "corner": 7})
    assert generator.made == 12
    np.testing.assert_allclose(found.features("mean", 12), generated()[0].features("mean", 12))
    assert found.features("corner", 7).shape == (7, 2)
    assert generator.made == 12
    all_of(found, 12)
    assert generator.made == 24  # the images themselves were not kept


def test_features_do_not_depend_on_the_batch():
    rows = [generated(batch)[0].features("mean", 12) for batch in (4, 5)]
    np.testing.assert_array_equal(*rows)


def test_features_beyond_the_limit_stream_through(monkeypatch):
    monkeypatch.setattr("metrics.inputs.KEPT_BYTES", 50)
    detectors = Counting()
    found = stored(detectors)
    assert found.moments("mean", 10).count == 10 and found.moments("mean", 10).count == 10
    assert detectors.seen == 20 and KEPT_BYTES > 50


@pytest.mark.parametrize("limit", [50, KEPT_BYTES])
def test_features_on_the_disk_serve_where_they_are_too_many_for_memory(tmp_path, monkeypatch, limit):
    def read(count, seed=0):
        detectors = Counting()
        rows = stored(detectors, seed=seed, cache=StatisticsCache(tmp_path), key={"data": "a"}).features("mean", count)
        return rows, detectors.seen

    monkeypatch.setattr("metrics.inputs.KEPT_BYTES", limit)
    rows, seen = read(10)
    assert seen == 10
    again, seen = read(10)
    assert seen == 0
    np.testing.assert_array_equal(again, rows)
    some, seen = read(4, seed=3)  # those of all images serve fewer, in any order
    assert seen == 0
    np.testing.assert_array_equal(some, stored(seed=3).features("mean", 4))


def test_moments_of_more_images_than_memory_holds_leave_no_short_features(tmp_path, monkeypatch):
    monkeypatch.setattr("metrics.inputs.KEPT_BYTES", 80)  # 6 rows of 3
    cache, key = StatisticsCache(tmp_path), {"data": "a"}
    found = stored(cache=cache, key=key)
    found.features("mean", 6)
    found.moments("mean", 10)
    np.testing.assert_array_equal(stored(cache=cache, key=key).features("mean", 10), stored().features("mean", 10))


def test_one_pass_leaves_out_what_would_not_be_kept_or_is_of_far_fewer_images(monkeypatch):
    monkeypatch.setattr(image_sets, "KEPT_IMAGES", 100)
    found, generator, _ = generated()
    found.prefetch({"mean": 12, "corner": 2})
    assert generator.made == 0
    monkeypatch.setattr(image_sets, "KEPT_BYTES", 100)  # less than 12 rows of 3
    found.prefetch({"mean": 12, "corner": 7})
    assert generator.made == 0


def test_several_ranks_keep_no_images_and_so_make_features_in_one_pass(monkeypatch):
    monkeypatch.setattr(image_sets.distributed, "world_size", lambda: 2)
    found, *_ = generated()
    asked = []
    monkeypatch.setattr(found, "_made", lambda name, count, label: asked.append(name) or iter([]))
    found.prefetch({"mean": 12, "corner": 12})
    assert asked == ["fakes:mean+corner"]


def test_first_takes_no_more_than_asked():
    batches = [np.zeros([3, 1]), np.ones([3, 1])]
    assert [len(batch) for batch in first(batches, 4)] == [3, 1] and not list(first(batches, 0))
