"""The operators of StyleGAN2: `upfirdn2d` and `bias_act`."""

from __future__ import annotations

from sgmatte.ops.reference import bias_act, upfirdn2d

__all__ = ["bias_act", "upfirdn2d"]
