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

    if FUSED[config.kernel] != platform:
        raise refuse(f"is for {FUSED[config.kernel]}s, and this run is on a {platform}")
    if config.kernel == "cudnn" and cudnn.missing():
        raise refuse(cudnn.missing())
    if not scored_as_usual(attention_class(config)):
        raise refuse(f"it would not compute the scores of {config.attention}")


def explain(config: ModelConfig, platform: str) -> str:
    """One sentence for the log."""
    kernel = kernels.on(platform)
    if config.kernel == "xla":
        return "Attention is computed by xla, as config.model.kernel says."
    if kernel is None:
        why = cudnn.missing() if platform == FUSED["cudnn"] else f"no other kernel is for a {platform}"
        return f"Attention is computed by xla: {why}."
    if not scored_as_usual(attention_class(config)):
        return f"Attention is computed by xla: {kernel} would not compute the scores of {config.attention}."
    told = [_of_role(kernel, config, role) for role in config.attention_roles]
    if len(set(told)) == 1:
        return f"Attention is computed by {told[0]}."
    parts = zip(config.attention_roles, told, strict=True)
    return f"Attention: {'; '.join(f'{role} by {each}' for role, each in parts)}."


def _of_role(kernel: str, config: ModelConfig, role: str) -> str:
    for obstacle in obstacles(kernel, config, role):
        return f"xla ({kernel} cannot serve model.{obstacle.field} = {obstacle.value!r}: {obstacle.reason})"
    if config.kernel == "auto":
        return f"{kernel} from {kernels.SHORTEST} positions on, by xla where there are fewer and in decoding"
    return f"{kernel}, as config.model.kernel says, and by xla in decoding"
