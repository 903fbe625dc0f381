"""Which columns of a table hold images, labels and patients: by its schema if `datasets` wrote it, else by names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

IMAGE_COLUMNS = ("image", "images", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "picture", "photo", "scan")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_label", "target", "category", "diagnosis")
SUBJECT_COLUMNS = ("patient_id", "patientid", "patient", "subject_id", "subjectid", "subject")


@dataclass(frozen=True)
class Columns:
    """Names of columns of a shard, None where there is none; class_names: of the label's classes."""

    image: str
    label: str | None
    subject: str | None
    class_names: tuple[str, ...] | None
    others: tuple[str, ...]  # further columns of images or labels, which are not taken


def find_columns(schema: Any) -> Columns | None:
    """Which columns are what; None without a column that can hold image files."""
    from pyarrow import types
    features = features_of(schema)
    typed = [name for name in schema.names if kind_of(features, name) == "Image" and holds_bytes(schema.field(name))]
    images = typed or [name for name in schema.names if holds_bytes(schema.field(name))]
    if not images:
        return None
    classes = [name for name in schema.names if kind_of(features, name) == "ClassLabel"
               and types.is_integer(schema.field(name).type)]
    labels = classes or [name for name in preferred(schema.names, LABEL_COLUMNS, only=True)
                         if is_label_type(schema.field(name).type)]
    image = preferred(images, IMAGE_COLUMNS)[0]
    label = next(iter(preferred(labels, LABEL_COLUMNS)), None)
    subject = next(iter(preferred(schema.names, SUBJECT_COLUMNS, only=True)), None)
    others = tuple(name for name in [*images, *labels] if name not in (image, label))
    return Columns(image, label, subject, class_names(features, label), others)


def preferred(names: Sequence[str], order: Sequence[str], only: bool = False) -> list[str]:
    """names, those in `order` first and as they stand there; only: none but those."""
    known = sorted((name for name in names if name.lower() in order), key=lambda name: order.index(name.lower()))
    return known if only else [*known, *(name for name in names if name not in known)]


def features_of(schema: Any) -> dict:
    """What `datasets` wrote into the schema; {} where it did not, or it is damaged."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def kind_of(features: dict, name: str) -> object:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def class_names(features: dict, label: str | None) -> tuple[str, ...] | None:
    if label is None or kind_of(features, label) != "ClassLabel":
        return None
    names = features[label].get("names")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def holds_bytes(field: Any) -> bool:
    """Whether a column is of bytes, or of records {bytes, path}."""
    from pyarrow import types
    kind = field.type
    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        kind = kind.field(place).type if place >= 0 else kind
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def is_label_type(kind: Any) -> bool:
    from pyarrow import types
    return types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)
