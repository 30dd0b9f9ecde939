"""TensorFlow Datasets sets of translations or of text, read without TensorFlow.

`as_data_source` reads examples by number from array_record files. (TFDS offers parquet too, but ignores slices such
as train[:10%] there.) A set prepared as tfrecord, TFDS's default, needs TensorFlow and is refused with the command that
converts it.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer.data.documents import Part, TextSource, in_parts
from transformer.data.errors import DataError

_READABLE_FORMAT = "array_record"
_RECORDS_AT_ONCE = 1000
_NAME = r"\w+(?:/[\w.+-]+)?"


@dataclasses.dataclass(frozen=True)
class TfdsSet:
    """`tfds:NAME/CONFIG[:SPLIT]`; sides are the features named by the language codes, so either direction works."""

    records: "Records"
    source_language: str
    target_language: str

    @classmethod
    def parse(cls, rest: str, corpus: str, languages: tuple[str, str], data_dir: str | None) -> "TfdsSet":
        """Reads what stands behind `tfds:`; `corpus` is the whole string, for errors."""
        name, _, split = rest.partition(":")
        if not re.fullmatch(_NAME, name):
            raise DataError(f"corpus {corpus!r} names no data set. Write tfds:NAME/CONFIG or tfds:NAME/CONFIG:SPLIT.")
        return cls(Records(name, split or "train", data_dir), *languages)

    @property
    def identity(self) -> str:
        return f"tfds {self.records.split} {self.source_language} {self.target_language}"

    def files(self) -> list[Path]:
        self._check_languages(self.records.features())
        return self.records.files()

    def pairs(self) -> Iterator[tuple[str, str]]:
        features = self.records.features()
        self._check_languages(features)
        prefix = "translation/" if "translation" in features else ""
        for source, target in self.records.texts(prefix + self.source_language, prefix + self.target_language):
            # As in line files, a sentence holds no line end.
            yield source.replace("\n", " ").strip(), target.replace("\n", " ").strip()

    def _check_languages(self, features: Mapping[str, Any]) -> None:
        # TFDS's dictionary of features has no `get`.
        names = sorted(features["translation"] if "translation" in features else features)  # noqa: SIM401
        for field, language in (("source", self.source_language), ("target", self.target_language)):
            if language not in names:
                raise DataError(
                    f"tfds:{self.records.name} has no text in data.{field}_language = {language!r}, only: "
                    f"{', '.join(names)}. Change the languages or the config of the data set; for a language model of "
                    f"text alone write tfds_text:{self.records.name}."
                )


@dataclasses.dataclass(frozen=True)
class TfdsText(TextSource):
    """`tfds_text:NAME/CONFIG[:SPLIT[:FEATURE]]`: every example is a document, kept as it is."""

    records: "Records"
    feature: str

    @classmethod
    def parse(cls, rest: str, corpus: str, data_dir: str | None) -> "TfdsText":
        """Reads what stands behind `tfds_text:`; `corpus` is the whole string, for errors."""
        # A split may be a slice, with a colon in brackets.
        matched = re.fullmatch(rf"({_NAME})(?::((?:[^:\[\]]|\[[^\]]*\])*)(?::(.+))?)?", rest)
        if not matched:
            raise DataError(
                f"corpus {corpus!r} names no data set. Write tfds_text:NAME/CONFIG, tfds_text:NAME/CONFIG:SPLIT or "
                "tfds_text:NAME/CONFIG:SPLIT:FEATURE."
            )
        name, split, feature = matched.groups()
        return cls(Records(name, split or "train", data_dir), feature or "text")

    @property
    def identity(self) -> str:
        return f"tfds_text {self.records.split} {self.feature}"

    def files(self) -> list[Path]:
        self._check_feature()
        return self.records.files()

    def documents(self) -> Iterator[Part]:
        self._check_feature()
        for (text,) in self.records.texts(self.feature):
            yield from in_parts(text.splitlines(keepends=True))

    def _check_feature(self) -> None:
        names = sorted(self.records.features())
        if self.feature not in names:
            raise DataError(
                f"tfds:{self.records.name} has no feature {self.feature!r}, only: {', '.join(names)}. Name the one "
                f"that holds the text: tfds_text:{self.records.name}:{self.records.split}:FEATURE."
            )


@dataclasses.dataclass(frozen=True)
class Records:
    """One split of a set; `data_dir` None is TFDS's own default folder. TFDS's slices, such as `train[:10%]`, are
    splits too."""

    name: str
    split: str
    data_dir: str | None

    def files(self) -> list[Path]:
        return [Path(path) for path in self._builder().info.splits[self.split].filepaths]

    def features(self) -> Mapping[str, Any]:
        """By name, of an example."""
        return self._builder().info.features

    def texts(self, *features: str) -> Iterator[tuple[str, ...]]:
        """What these features hold, example by example."""
        builder = self._builder()
        from tensorflow_datasets import decode
        from tensorflow_datasets.proto import tf_example_pb2

        # TFDS's own decoding, through its features, takes three times as long for two strings.
        records = builder.as_data_source(self.split, deserialize_method=decode.DeserializeMethod.RAW_BYTES)
        for begin in range(0, len(records), _RECORDS_AT_ONCE):
            for record in records.__getitems__(range(begin, min(begin + _RECORDS_AT_ONCE, len(records)))):
                values = tf_example_pb2.Example.FromString(record).features.feature
                yield tuple(self._text(feature, values[feature].bytes_list.value) for feature in features)

    def _text(self, feature: str, values: Sequence[bytes]) -> str:
        if len(values) != 1:
            raise DataError(f"tfds:{self.name}:{self.split}: feature {feature!r} holds no text. Name another one.")
        raw = values[0]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"tfds:{self.name}:{self.split}: {error.reason} at byte {error.start} of the text {raw[:200]!r}: it is "
                "not UTF-8. Prepare the set anew."
            ) from error

    def _builder(self) -> Any:
        """The TFDS builder, with everything checked: prepared, readable, this split."""
        builder = self._find_builder()
        if not builder.is_prepared():
            folder = f" --data_dir={self.data_dir}" if self.data_dir else ""
            raise DataError(
                f"tfds:{self.name} is not prepared in {builder.data_dir}. Prepare it with\n"
                f"  tfds build {self.name} --file_format={_READABLE_FORMAT}{folder}\n"
                "(the extra `wmt` of this package brings what that needs), or point data.data_dir to where it is."
            )
        formats = {file_format.value for file_format in builder.info.available_file_formats()}
        if _READABLE_FORMAT not in formats:
            # `tfds build` refuses to make another format of what is there, with --overwrite too.
            raise DataError(
                f"tfds:{self.name} is prepared as {', '.join(sorted(formats))}, which cannot be read here. Add "
                f"{_READABLE_FORMAT} files beside those with\n"
                f"  tfds convert_format --dataset_version_dir={builder.data_dir} --out_file_format={_READABLE_FORMAT}\n"
                f"(the extra `wmt` of this package brings what that needs), or prepare it in another folder with\n"
                f"  tfds build {self.name} --file_format={_READABLE_FORMAT} --data_dir=FOLDER\n"
                "and set data.data_dir to that."
            )
        # Of several formats, the one whose files are to be found.
        builder.info.set_file_format(_READABLE_FORMAT, override=True, override_if_initialized=True)
        self._check_split(builder.info.splits)
        return builder

    def _find_builder(self) -> Any:
        where = self.data_dir or os.environ.get("TFDS_DATA_DIR", "")
        if "://" in where:
            raise DataError(
                f"tfds:{self.name}: only local folders are read, not {where} (data.data_dir, or TFDS_DATA_DIR where "
                "that is unset). Copy the prepared set here, or mount the bucket, and set data.data_dir to that folder."
            )
        try:
            # Imported here: it takes a second that other corpora need not spend.
            import array_record  # noqa: F401
            import tensorflow_datasets as tfds

            # Without TensorFlow, TFDS gives up importing its own data sets before it comes to these.
            import tensorflow_datasets.translate  # noqa: F401
        except ImportError as error:
            raise DataError(
                f"tfds:{self.name}: {error}. Reading it needs `pip install tensorflow-datasets array_record`."
            ) from error
        try:
            return tfds.builder(self.name, data_dir=self.data_dir)
        except ValueError as error:
            where = self.data_dir or "TFDS's default folder (data.data_dir is unset)"
            # The rest of what TFDS says is its whole catalogue.
            said = str(error).partition("\n")[0][:200]
            raise DataError(
                f"tfds:{self.name}: TFDS knows no data set or config of that name, and none is prepared in {where} "
                f"(TFDS: {said}). Correct the name or data.data_dir; a set of your own has to be prepared first."
            ) from error

    def _check_split(self, splits: Mapping[str, Any]) -> None:
        try:
            splits[self.split]
        except (KeyError, ValueError) as error:
            raise DataError(
                f"tfds:{self.name} has no split {self.split!r}. Choose from {', '.join(splits)}, or a slice such as "
                "train[:10%]."
            ) from error
