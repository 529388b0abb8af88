#!/bin/bash
# The health check: healthy is a broker that can be reached and has the users of the services. They are made, or
# given the passwords and permissions of today, once for each start of the container, so that a first start needs
# no other step, and a password that was changed in the environment holds after the next one.
set -euo pipefail

if [ -e /tmp/users-made ]; then
  # A program of Erlang takes a second of the processor's time, too much for every few seconds.
  exec 3<>/dev/tcp/127.0.0.1/5672
else
  rabbitmq-diagnostics --quiet check_port_connectivity
  bash /etc/tracking/permissions.sh
  : >/tmp/users-made
fi
