"""Exceptions whose repr and traceback name them in every way that is found in the wild."""


class PaymentError(Exception):
    """Plain: its repr is `PaymentError('declined')`, the traceback names it with its module path."""


class PathError(Exception):
    """Its repr carries the module path, as those of several client libraries do."""

    def __repr__(self) -> str:
        return f"support.workload.errors.PathError({str(self)!r})"


class OddError(Exception):
    """Its repr is no identifier at all."""

    def __repr__(self) -> str:
        return f"<odd: {self}>"


class ValidationError(Exception):
    """Like pydantic's: the repr is the message, which has several lines, indented ones last."""

    def __str__(self) -> str:
        return (
            "1 validation error for Order\n"
            "amount\n"
            "  Input should be a valid integer [type=int_parsing, input_value='x', input_type=str]\n"
            "    For further information visit https://errors.example/int_parsing"
        )

    def __repr__(self) -> str:
        return str(self)


class TwoArgumentsError(Exception):
    """Cannot be unpickled: Celery sends a stand-in for it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
