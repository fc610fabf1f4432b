"""quantize: a model in fewer bytes, and what that costs."""

from rwkvcpp.quantization.quantize import Written, quantize

__all__ = ["Written", "quantize"]
