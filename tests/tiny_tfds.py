"""Small TensorFlow Datasets sets of translations and of text, written by TFDS in array_record, without TensorFlow."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

Splits = Mapping[str, Sequence[tuple[str, str]]]
"""English and foreign sentences of every split."""


def write_wmt14(folder: Path, language: str, splits: Splits) -> None:
    """Prepares `wmt14_translate/LANGUAGE-en`. TFDS's own code, which cannot download here, reads it back."""
    _write(Wmt14Translate(splits=splits, config=f"{language}-en", data_dir=str(folder)))


def write_nested(folder: Path, splits: Splits) -> None:
    """Prepares `nested_translate` (de-en), somebody's own set: found by its files alone, sides a level further down."""
    _write(NestedTranslate(splits=splits, data_dir=str(folder)))


def write_text(folder: Path, texts: Mapping[str, Sequence[str]]) -> None:
    """Prepares `tiny_text`, whose texts are each in `text` and, backwards, in `backwards`; `number` is none."""
    _write(TinyText(splits=texts, data_dir=str(folder)))


def _write(builder: tfds.core.DatasetBuilder) -> None:
    builder.download_and_prepare(file_format="array_record")


class _Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set whose examples are given."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, splits: Splits, **named):
        self._written = splits
        super().__init__(**named)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(pairs) for split, pairs in self._written.items()}


# Kept out of TFDS's register, where the first would hide TFDS's own.
with registered.skip_registration():

    class Wmt14Translate(_Written):
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("de-en", "fr-en")]

        @property
        def _languages(self) -> list[str]:
            return self.builder_config.name.split("-")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.Translation(languages=self._languages))

        def _generate_examples(self, pairs) -> Iterator[tuple[int, dict]]:
            foreign, english = self._languages
            return ((number, {english: pair[0], foreign: pair[1]}) for number, pair in enumerate(pairs))

    class NestedTranslate(_Written):
        def _info(self):
            sides = tfds.features.Translation(languages=("de", "en"))
            features = tfds.features.FeaturesDict({"translation": sides, "id": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _generate_examples(self, pairs) -> Iterator[tuple[int, dict]]:
            for number, (english, german) in enumerate(pairs):
                yield number, {"translation": {"en": english, "de": german}, "id": number}

    class TinyText(_Written):
        def _info(self):
            text = tfds.features.Text()
            features = tfds.features.FeaturesDict({"text": text, "backwards": text, "number": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _generate_examples(self, texts) -> Iterator[tuple[int, dict]]:
            for number, text in enumerate(texts):
                yield number, {"text": text, "backwards": text[::-1], "number": number}
