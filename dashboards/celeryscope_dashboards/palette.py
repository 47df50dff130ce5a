"""Colours that people with any colour vision can tell apart (Okabe and Ito), by what they mean."""

GOOD = "#009E73"
WARNING = "#E69F00"
BAD = "#D55E00"
PLAIN = "#0072B2"  # a fact that is neither good nor bad
SECOND = "#56B4E9"
THIRD = "#CC79A7"
FAINT = "#999999"  # for comparison
