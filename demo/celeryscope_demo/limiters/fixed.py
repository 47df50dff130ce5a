"""For a provider whose windows follow each other: so many calls until the window ends, then as many again."""

from celeryscope_demo.limiters.window import Window


class FixedWindow(Window):
    """It learns from answers when the provider's window ends, and allows the whole limit again right after.

    Where that is not known (at first, and after a pause), it is as careful as a rolling window: windows counted by
    another clock than the provider's would let twice the limit through, half at the end of one, half at the start of
    the next.
    """

    fixed = True
