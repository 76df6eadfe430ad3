"""Training quickly on a processor, with what it has."""

import torch


def has_bfloat16_units() -> bool:
    """Return whether this processor multiplies bfloat16 natively; without, it is ruinously slow."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "amx_tile"))


def fast_autocast() -> torch.autocast:
    """Return an autocast context to bfloat16, or one that does nothing on older processors."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16_units())
