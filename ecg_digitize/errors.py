"""The exception tree: every error names the thing, what was expected, what came, what to do."""


class EcgDigitizeError(Exception):
    """Base of all errors this package raises on purpose."""


class ImageError(EcgDigitizeError):
    """A picture is missing, unreadable, or no picture of usable size."""


class StageError(EcgDigitizeError):
    """A page cannot be carried through one stage.

    Attributes:
        stage: Name of what gave up: "stage0", "stage1", "stage2", "signals", "classify", or a
            system of ``systems.registry``.
    """

    def __init__(self, stage: str, message: str) -> None:
        """Store the stage name next to the message."""
        super().__init__(message)
        self.stage = stage


class WeightsError(EcgDigitizeError):
    """A weight file is missing, altered, or does not fit its network."""


class InputError(EcgDigitizeError):
    """A table, folder or option given by the user cannot be used."""
