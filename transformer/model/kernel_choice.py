"""What is said, at the start of a run, of the kernel that computes attention: a refusal, or which and why."""

from transformer.config import ConfigError, ModelConfig
from transformer.config.kernels import FUSED, obstacles
from transformer.model import cudnn, kernels
from transformer.model.attention import attention_class, scored_as_usual


def check(config: ModelConfig, platform: str) -> None:
    """Refuses a kernel that is forced where it cannot be; what the config alone tells, `config.validate` has refused.

    Raises:
      ConfigError: it is for another platform, or the attention class has scores of its own.
    """
    if config.kernel not in FUSED:
        return

    def refuse(reason: str) -> ConfigError:
        return ConfigError("model.kernel", config.kernel, reason, "Set model.kernel=auto.")

    if FUSED[config.kernel] not in (platform, None):
        raise refuse(f"is for {FUSED[config.kernel]}s, and this run is on a {platform}")
    if config.kernel == "cudnn" and cudnn.missing():
        raise refuse(cudnn.missing())
    if not scored_as_usual(attention_class(config)):
        raise refuse(f"it would not compute the scores of {config.attention}")


def explain(config: ModelConfig, platform: str) -> str:
    """One sentence for the log."""
    if config.kernel == "xla":
        return "Attention is computed by xla, as config.model.kernel says."
    if not scored_as_usual(attention_class(config)):
        return f"Attention is computed by xla: no other kernel would compute the scores of {config.attention}."
    told = [_of_role(config, role, platform) for role in config.attention_roles]
    if len(set(told)) == 1:
        return f"Attention is computed by {told[0]}."
    parts = zip(config.attention_roles, told, strict=True)
    return f"Attention: {'; '.join(f'{role} by {each}' for role, each in parts)}."


def _of_role(config: ModelConfig, role: str, platform: str) -> str:
    if config.kernel != "auto":
        return f"{config.kernel}, as config.model.kernel says, and by xla in decoding"
    better = []
    if platform == FUSED["cudnn"] and cudnn.missing():
        better.append(f"cudnn cannot be had: {cudnn.missing()}")
    for kernel in kernels.on(platform):
        found = obstacles(kernel, config, role)
        if not found:
            why = f" ({'; '.join(better)})" if better else ""
            shortest = kernels.shortest(kernel, platform)
            return f"{kernel} from {shortest} positions on, by xla where there are fewer and in decoding{why}"
        field, value, reason = found[0].field, found[0].value, found[0].reason
        better.append(f"{kernel} cannot serve model.{field} = {value!r}: {reason}")
    return f"xla ({'; '.join(better)})"
