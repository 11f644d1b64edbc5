"""What can go wrong that the user can mend.

Every error raised on purpose by this package is a `BioSAM2Error`: its text is one line that says what
is wrong and how to mend it. The command line prints that line and exits with code 2; anything else is
an internal error.
"""


class BioSAM2Error(Exception):
    """Something the user can mend; the message is one clear line."""


class InputError(BioSAM2Error, ValueError):
    """A file, array or argument that cannot be used as it is."""


class PromptError(InputError):
    """A prompt that does not fit the volume: outside it, on another axis, or of the wrong shape."""


class OutputError(BioSAM2Error):
    """A result that cannot be written: no permission, full disk, unknown format."""


class ModelError(BioSAM2Error):
    """A model that is unknown, absent, damaged or does not fit its configuration."""


class DownloadError(ModelError):
    """A model file that could not be fetched whole and verified."""


class DeviceError(BioSAM2Error):
    """A compute device that is absent or out of memory."""


class TrainingError(BioSAM2Error):
    """A training run that cannot go on: its loss is NaN or infinite."""


class DependencyError(BioSAM2Error, ImportError):
    """An optional package that a feature needs and that is not installed."""
