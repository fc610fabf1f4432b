"""Our types: those of least damage in no more bytes than llama-quantize's file of that name has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from rwkvcpp.file_types import FileType
from rwkvcpp.quantization.budget import Choice, choose
from rwkvcpp.quantization.candidates import candidates
from rwkvcpp.quantization.damage import Part, count_layers, parts
from rwkvcpp.quantization.error import relative_error, sampled_rows
from rwkvcpp.quantization.matrices import Matrix
from rwkvcpp.quantization.rounding import Roundings, Workers
from rwkvcpp.quantization.tensor_types import Types, reference_types

HEADER_ROOM = 128  # bytes that our keys may be longer than llama-quantize's

# Where nothing is measured: how much of the damage a class does when everything has four bits, per
# cent, in RWKV-7 of 1.5B; others follow their kin. What the first layer's att.output meets has a
# channel that is thousands of times larger than the rest.
SHARES = {
    "ffn.value": 30.0,
    "ffn.key": 30.0,
    "head": 18.0,
    "att.output": 13.0,
    "att.value": 10.0,
    "emb": 8.0,
    "att.gate": 3.0,
    "att.receptance": 2.0,
    "att.key": 2.0,
    "ffn.receptance": 2.0,
}
LOW_RANK_SHARE = 1.0
FIRST_OUTPUT = 8.0  # times


def to_choose(matrices: Sequence[Matrix], fixed: Types) -> list[Matrix]:
    """Everything whose type is open."""
    return [m for m in matrices if (m.is_quantized or m.is_low_rank) and m.name not in fixed]


def probe_type(matrix: Matrix, wanted: FileType) -> str:
    """The type that a matrix is measured in: llama-quantize's, for low ranks the next one."""
    own = wanted.type_of(matrix.name, matrix.tensor.shape)
    return candidates(matrix, wanted)[0] if own is None else own


def choose_types(
    matrices: Sequence[Matrix],
    wanted: FileType,
    roundings: Roundings,
    damages: Mapping[str, float] | None,
    workers: Workers,
) -> Types:
    """The types of `matrices`; damages: as measured, by part, or None."""
    reference = reference_types(matrices, wanted)
    budget = sum(m.n_bytes(reference.get(m.name, m.stored)) for m in matrices) - HEADER_ROOM
    errors = dict(workers.map(partial(_errors, wanted=wanted, roundings=roundings), matrices))
    choices, n_layer = {}, count_layers(matrices)
    for part in parts(matrices):
        scale = _scale(part, wanted, errors, damages, n_layer)
        for m in part.matrices:
            found = errors[m.name]
            choices[m.name] = [
                Choice(t, m.n_bytes(t), scale[m.name] * found[t]) for t in candidates(m, wanted)
            ]
    return choose(choices, budget)


Errors = Mapping[str, float]  # relative, by type


def _errors(matrix: Matrix, wanted: FileType, roundings: Roundings) -> tuple[str, Errors]:
    weights = sampled_rows(matrix.tensor)
    # By their squares alone: errors that cancel are larger each.
    rounding = roundings.of(matrix, cancel=False)
    importances = roundings.importances_of(matrix)
    types = {*candidates(matrix, wanted), probe_type(matrix, wanted)}
    return matrix.name, {
        t: relative_error(weights, t, rounding, importances, up_to_means=matrix.is_embedding)
        for t in types
    }


def _scale(
    part: Part,
    wanted: FileType,
    errors: Mapping[str, Errors],
    damages: Mapping[str, float] | None,
    n_layer: int,
) -> dict[str, float]:
    """Damage of each matrix for an error of one."""
    if damages is None:
        return {m.name: _share(m, n_layer) for m in part.matrices}
    probed = sum(errors[m.name][probe_type(m, wanted)] for m in part.matrices)
    scale = damages[part.name] / probed if probed > 0 else 0.0
    return dict.fromkeys((m.name for m in part.matrices), scale)


def _share(matrix: Matrix, n_layer: int) -> float:
    share = SHARES.get(matrix.class_name, LOW_RANK_SHARE)
    if matrix.layer is not None:
        share /= n_layer
    return share * (FIRST_OUTPUT if matrix.name == "blocks.0.att.output.weight" else 1.0)
