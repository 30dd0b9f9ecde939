"""What a run is: typed dataclasses, their meaning, and what makes them impossible.

One `Config` describes one run completely. It is built by a file in `configs/`, changed by flags
(`--config.model.d_model=256`), checked once by `validate`, printed, and saved as JSON beside the checkpoints.
The dataclasses are mutable because flags are written into them; nothing changes them after `validate`.
"""

from transformer.config.field_info import FieldInfo, example, fields, get, nearest_field, put, unknown_field
from transformer.config.model import ModelConfig
from transformer.config.options import Bounds, ConfigError
from transformer.config.saved import check_code, code_flag, from_json, to_json
from transformer.config.sections import (
    CheckpointConfig,
    Config,
    DataConfig,
    DecodingConfig,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainingConfig,
    TransferConfig,
)
from transformer.config.validation import validate

__all__ = [
    "Bounds",
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DecodingConfig",
    "EvaluationConfig",
    "FieldInfo",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "TransferConfig",
    "check_code",
    "code_flag",
    "example",
    "fields",
    "from_json",
    "get",
    "nearest_field",
    "put",
    "to_json",
    "unknown_field",
    "validate",
]
