"""How far int8 activations may take the logits from the float64 reference.

rms of the deviation / rms of the logits, by weight type and RWKV version (the worst of all small
models), and by file for the trained ones. Twice what `python -m tests.reference.record_int8`
measured, which writes this file.
"""

BOUNDS: dict[str, dict[str, float]] = {
    "Q4_0": {"4": 0.019, "5.0": 0.08, "5.1": 0.069, "5.2": 0.062, "6": 0.14, "7": 0.052},
    "Q4_1": {"4": 0.02, "5.0": 0.043, "5.1": 0.074, "5.2": 0.07, "6": 0.15, "7": 0.082},
    "Q5_0": {"4": 0.019, "5.0": 0.056, "5.1": 0.084, "5.2": 0.062, "6": 0.089, "7": 0.12},
    "Q5_1": {"4": 0.019, "5.0": 0.15, "5.1": 0.077, "5.2": 0.054, "6": 0.11, "7": 0.051},
    "Q8_0": {"4": 0.019, "5.0": 0.054, "5.1": 0.094, "5.2": 0.057, "6": 0.12, "7": 0.085},
    "Q6_K": {"4": 0.018, "5.0": 0.057, "5.1": 0.068, "5.2": 0.071, "6": 0.09, "7": 0.066},
}

TRAINED: dict[str, float] = {
    "models/tiny-rwkv-4v0-660K-Q5_1.bin": 0.0044,
    "models/tiny-rwkv-5v2-730K-Q5_1.bin": 0.0079,
    "models/tiny-rwkv-6v0-3m-Q5_1.bin": 0.0044,
    "models/tiny-rwkv-7v0-834K-Q5_1.bin": 0.00074,
    "demo/rwkv7-stories-q8_0.gguf": 0.0078,
}
