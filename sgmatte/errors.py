"""Errors that people read: each says what went wrong, with which file, and what to do next.

The command line prints the message of a `SgmatteError` as one line and leaves with its `exit_code`; anything else that
escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class SgmatteError(Exception):
    """Base of all expected failures."""

    exit_code = 1


class UsageError(SgmatteError):
    """The command cannot mean what was asked: options that exclude each other, a value out of range."""

    exit_code = 2


class PhotoError(SgmatteError):
    """A file that is no image, is truncated, or is larger than the stated limit."""

    exit_code = 2


class TrimapError(SgmatteError):
    """A trimap that does not fit its photo or leaves nothing to estimate from."""

    exit_code = 2


class NoFaceError(SgmatteError):
    """No face where one is needed."""


class WeightError(SgmatteError):
    """Weights that are missing, damaged, or not what their name promises."""


class DataError(SgmatteError):
    """A training or evaluation folder that lacks what is needed."""

    exit_code = 2


class OperatorError(SgmatteError):
    """Compiled operators that are required and cannot be had."""
