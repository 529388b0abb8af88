#!/bin/bash
# As that of the image: what begins as root goes on as the user mongodb.
set -euo pipefail
if [ "$(id -u)" = 0 ]; then
  chown -R mongodb: /data/db /data/configdb
  exec setpriv --reuid=mongodb --regid=mongodb --init-groups "$0" "$@"
fi
exec mongod.py "$@"
