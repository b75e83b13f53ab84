"""What the commands share: exit codes, the networks that are asked for, the progress bar."""

import argparse
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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


@contextmanager
def bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar, in terminals only; the function given moves it on by one page."""
    from tqdm import tqdm

    with tqdm(total=total, unit="page", disable=None) as shown:
        yield lambda: shown.update()


def write_json(path: Path | None, document: Any) -> None:
    """Write figures to a file, whole or not at all, if one is named."""
    from ecg_digitize.files import replacing

    if path is not None:
        with replacing(path) as partial:
            partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
