"""What variables ask for, in the one form that dashboards use."""

import re

# label_values(SELECTOR, LABEL): the selector may hold braces and commas.
VALUES = re.compile(r"label_values\((?:(?P<selector>.+),)?\s*(?P<label>\w+)\)")
