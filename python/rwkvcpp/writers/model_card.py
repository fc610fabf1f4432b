"""Where a model comes from, in its source's own words: a GGUF's general.* keys, an HF card.

Nothing is guessed from names of files: what the source does not say is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.errors import ModelFormatError

# Keys that describe a file, not the model in it.
OF_THE_FILE = {
    "general.architecture",
    "general.type",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
}

# GGUF key -> keys of the card's front matter, the first that is there counts.
TEXTS = {
    "general.name": ("name", "model_name"),
    "general.author": ("author", "model_author", "model_creator"),
    "general.organization": ("organization", "model_organization"),
    "general.version": ("version", "model_version"),
    "general.description": ("description", "model_description"),
    "general.license": ("license",),
    "general.license.name": ("license_name",),
    "general.license.link": ("license_link",),
}
LISTS = {"general.tags": ("tags",), "general.languages": ("language", "languages")}
BASE_MODELS = ("base_model", "base_models")


def card_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """general.* keys, without those of the file itself."""
    found = {
        key: value
        for key, value in checkpoint.metadata.items()
        if key.startswith("general.") and key not in OF_THE_FILE
    }
    if found or not checkpoint.path.is_dir():
        return found
    card = _front_matter(checkpoint.path)
    found = {key: str(value) for key, value in _first(card, TEXTS)}
    found |= {key: _texts(value) for key, value in _first(card, LISTS)}
    return found | dict(_base_models(card))


def _first(
    card: Mapping[str, Any], table: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Any]]:
    for key, names in table.items():
        name = next((name for name in names if card.get(name)), None)
        if name is not None:
            yield key, card[name]


def _texts(value: Any) -> list[str]:
    """A card may give one for a list of one."""
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _base_models(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """ "organization/name", one or several."""
    for _, value in _first(card, {"": BASE_MODELS}):
        models = _texts(value)
        yield "general.base_model.count", len(models)
        for i, model in enumerate(models):
            organization, _, name = model.rpartition("/")
            yield f"general.base_model.{i}.name", name
            if organization:
                yield f"general.base_model.{i}.organization", organization


def _front_matter(folder: Path) -> dict[str, Any]:
    import yaml  # gguf brings it

    try:
        return dict(gguf.Metadata.load_model_card(folder))
    except yaml.YAMLError as error:
        card = folder / "README.md"
        raise ModelFormatError(f"{card}: no YAML between its ---: {error}") from error


# ---- chat template ---------------------------------------------------------------------------


def chat_template(checkpoint: Checkpoint) -> str | None:
    """The template that an HF folder has; a GGUF's is among its tokenizer.* keys."""
    if not checkpoint.path.is_dir():
        return None
    jinja = checkpoint.path / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text("utf-8")
    config = checkpoint.path / "tokenizer_config.json"
    if not config.is_file():
        return None
    try:
        template = json.loads(config.read_text("utf-8")).get("chat_template")
    except (ValueError, AttributeError) as error:
        raise ModelFormatError(f"{config}: is no JSON object: {error}") from error
    return template if isinstance(template, str) else None
