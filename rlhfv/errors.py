"""The errors that a person can meet: each says what was wrong, why it cannot work, and what to do next."""


class StudioError(Exception):
    """An expected failure, told in three parts.

    Args:
        what: what was wrong, with the value ("The correction starts at character 90.").
        why: why that cannot work ("The answer has 71 characters.").
        fix: what to do next ("Select the words again.").
    """

    def __init__(self, what: str, why: str, fix: str):
        super().__init__(f"{what} {why} {fix}")
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self):
        return type(self), (self.what, self.why, self.fix)


class InvalidCorrection(StudioError):
    """A correction or a judgement that cannot be stored."""


class InvalidImage(StudioError):
    """Bytes that are not an image the studio accepts."""


class InvalidData(StudioError):
    """A file of pairs, a configuration or a request that does not hold what it should."""


class StoreUnavailable(StudioError):
    """The database of the data folder cannot be opened, read or written."""


class ModelUnavailable(StudioError):
    """A model or an adapter that cannot be loaded or does not fit."""


class GenerationFailed(StudioError):
    """The model was loaded but could not answer."""


class NoGPU(GenerationFailed):
    """A GPU that is lent by the call is not to be had now, for this visitor or for anybody."""


class RunFailed(StudioError):
    """A run that cannot start, resume or be exported."""


class NotFound(StudioError):
    """An id that names nothing the caller may see."""


class Forbidden(StudioError):
    """A request of an actor who lacks the right."""
