#!/bin/bash
# Starts a replica set's only member. With users, members identify themselves to each other by a key
# file; a set of one shares it with nobody, so it is made here, once. More members need a common one.
set -euo pipefail

key=/data/configdb/replica-set.key
if [[ ! -s $key ]]; then
  (umask 077 && head --bytes=512 /dev/urandom | base64 --wrap=0 > "$key")
fi
chown mongodb:mongodb "$key"

exec docker-entrypoint.sh "$@" --keyFile "$key"
