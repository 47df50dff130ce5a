"""The provider's server."""

import time

while True:
    time.sleep(1)
