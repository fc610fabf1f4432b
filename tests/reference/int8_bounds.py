"""How far int8 activations may take the logits from the float64 reference.

rms of the deviation / rms of the logits, by weight type and RWKV version (the worst of all small
models), and by file for the trained ones. Twice what `python -m tests.reference.record_int8`
measured, which writes this file.
"""

BOUNDS: dict[str, dict[str, float]] = {}

TRAINED: dict[str, float] = {}
