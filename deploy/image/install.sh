#!/bin/sh
# Install into an environment only what a lock names, by its hashes: install.sh ENVIRONMENT PIP-ARGUMENTS...
# The build's secrets `ca` (certificates) and `pip` (pip.conf) are used where they were given.
set -eu
environment=$1
shift
if [ -f /run/secrets/ca ]; then
    export PIP_CERT=/run/secrets/ca
fi
if [ -f /run/secrets/pip ]; then
    export PIP_CONFIG_FILE=/run/secrets/pip
fi
exec python -m pip --python "$environment/bin/python" install --no-cache-dir --disable-pip-version-check \
    --require-hashes --no-deps "$@"
