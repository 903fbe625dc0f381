"""Damage as files meet it, for tests of what reads them."""

from hypothesis import strategies as st


def damaged(data, most=8):
    """Strategy: `data` cut short anywhere, or with up to `most` bytes changed."""
    cut = st.integers(0, len(data) - 1).map(lambda length: data[:length])
    change = st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255))
    return cut | st.lists(change, min_size=1, max_size=most).map(lambda changes: with_changes(data, changes))


def with_changes(data, changes):
    changed = bytearray(data)
    for place, mask in changes:
        changed[place] ^= mask
    return bytes(changed)


def read_all(source):
    """Whatever a source says of itself, and every image; broken ones may be."""
    from stylegan2_pipeline.decode import BrokenImage, Decoded

    source.state(), source.notes(), source.left_out(), source.labels()
    assert len(set(source.names)) == len(source.names)
    for index in range(len(source.names)):
        source.volume(index), source.subject(index), source.run(index)
        try:
            assert isinstance(source.decode(index), Decoded)
        except BrokenImage as error:
            assert str(error)
