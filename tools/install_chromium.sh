#!/usr/bin/env bash
# Chromium and its driver, where they are missing and apt-get may install them.
set -euo pipefail
command -v chromium > /dev/null && command -v chromedriver > /dev/null && exit 0
if ! command -v apt-get > /dev/null || [ "$(id -u)" != 0 ]; then
    echo "On Debian, root can: apt-get install chromium chromium-driver" >&2
    exit 1
fi
echo "Installing Chromium, which tests the server's page ..."
apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends \
    chromium chromium-driver > /dev/null
