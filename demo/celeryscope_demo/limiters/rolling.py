"""For a provider whose window moves with the clock: so many calls in any ten seconds."""

from celeryscope_demo.limiters.window import Window


class RollingWindow(Window):
    """Each call's place is free again a window after its answer, which is no earlier than a window after its arrival.

    It is right for every kind of window; where windows follow each other, it is slower than it had to be.
    """
