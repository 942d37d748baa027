"""Errors a user can meet. Each message is one line: what was expected, what came, and what to do."""


class MaskeditError(Exception):
    """Base of every error that maskedit raises on purpose; the command line prints it as one line."""


class InputError(MaskeditError, ValueError):
    """An input is missing, unreadable or out of range."""


class NothingFoundError(MaskeditError):
    """A mask came out empty: nothing in the picture answers the phrase."""

    def __init__(
        self,
        phrase: str,
        *,
        score: float | None = None,
        threshold: float | None = None,
        lower: str = "the threshold",
    ) -> None:
        """Say what was looked for.

        Args:
            phrase: what was looked for.
            score: the best that was found.
            threshold: what it did not reach.
            lower: the flag that would let it count.
        """
        self.phrase = phrase
        self.score = score
        self.threshold = threshold
        detail = "" if score is None else f" (best score {score:.3g}, threshold {threshold:.3g})"
        super().__init__(f"nothing found for {phrase!r}{detail}: name it differently, lower {lower} or give a mask")


class ModelError(MaskeditError):
    """A checkpoint is missing, incomplete or of another kind than the editor needs."""


class MissingExtraError(MaskeditError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, *, purpose: str, install: str) -> None:
        self.package = package
        super().__init__(f"{purpose} needs the package {package}: install it with `{install}`")


class SessionError(MaskeditError):
    """An edit session on disk cannot be read, written or resumed."""
