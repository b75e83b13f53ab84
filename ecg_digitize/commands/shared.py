"""What the commands share: exit codes, the networks that are asked for, the progress bar."""

import argparse
import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from ecg_digitize.models import Models

DONE: Final = 0
UNUSABLE: Final = 2
PAGES_FAILED: Final = 3


def models_of(arguments: argparse.Namespace, *, unused: Collection[str] = ()) -> "Models":
    """Load the networks as the arguments say, but for stages that are not used."""
    from ecg_digitize import models, openvino, runtime

    if getattr(arguments, "passes", None) == 0:
        unused = (*unused, "refine")
    loaded = models.load_models(
        weights_dir=arguments.weights,
        device=runtime.choose_device(openvino.device_for(arguments.backend, arguments.device)),
        stages=[stage for stage in models.STAGES if stage not in unused],
        preset=arguments.preset,
        is_final=arguments.backend == models.TORCH,
    )
    return openvino.on_backend(arguments.backend, loaded)


class Step(Protocol):
    """Moves a progress bar on by one page, and prints a line above it if there is one."""

    def __call__(self, line: str | None = None) -> None:
        """Do so."""


@contextmanager
def bar(total: int, *, is_quiet: bool = False) -> Iterator[Step]:
    """Show a progress bar with the time that is left, in terminals only; see ``Step``."""
    from tqdm import tqdm

    with tqdm(total=total, unit="page", disable=is_quiet or None) as shown:

        def step(line: str | None = None) -> None:
            if line is not None:
                tqdm.write(line, file=sys.stderr)
            shown.update()

        yield step


def write_json(path: Path | None, document: Any) -> None:
    """Write figures to a file, whole or not at all, if one is named."""
    from ecg_digitize.files import replacing

    if path is not None:
        with replacing(path) as partial:
            partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
