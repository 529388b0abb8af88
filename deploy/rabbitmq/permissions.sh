#!/bin/bash
# Makes a user of the broker for each service and gives it what it needs there, and no more. Safe to repeat:
# it sets the passwords and permissions again. What each one may do, and why: docs/operations.md.
#
#   INGEST_PASSWORD=… ORDER_STATE_PASSWORD=… NOTIFIER_PASSWORD=… WEBHOOKS_PASSWORD=… OPERATOR_PASSWORD=… \
#     permissions.sh [VHOST]
#
# Runs `rabbitmqctl`, or what RABBITMQCTL says, of RabbitMQ 3.10 to 4.x. Passwords go by its standard input, not by
# its arguments, which every process of the machine can read.
set -euo pipefail

vhost=${1:-/}
ctl=${RABBITMQCTL:-rabbitmqctl}
: "${INGEST_PASSWORD:?}" "${ORDER_STATE_PASSWORD:?}" "${NOTIFIER_PASSWORD:?}" "${WEBHOOKS_PASSWORD:?}"
: "${OPERATOR_PASSWORD:?}"

# Queues of a service's own, for replies and events, have names that the broker makes: amq.gen-….
own='amq\.gen-.*'
partitions='orders\.commands\.p[0-9]+'

users=$("$ctl" --quiet list_users)

# user, password, and what it may configure, write to and read from
grant() {
  # Nothing but the two words: RabbitMQ 4 counts its arguments, and with a third one, --quiet too, it takes
  # that for the password, does not read its standard input, and waits for ever.
  if grep -q "^$1[[:space:]]" <<<"$users"; then
    "$ctl" change_password "$1" <<<"$2" >/dev/null
  else
    "$ctl" add_user "$1" <<<"$2" >/dev/null
  fi
  "$ctl" --quiet set_permissions --vhost "$vhost" "$1" "^($3)$" "^($4)$" "^($5)$"
}

# Sends commands, receives outcomes. It cannot read or change the queues that it fills.
grant ingest "$INGEST_PASSWORD" "$own" "orders\.commands|$own" "$own"

# Declares everything, takes commands, announces events, answers over the default exchange.
everything="orders\.(commands|events|dead)|$partitions"
grant order-state "$ORDER_STATE_PASSWORD" "$everything" "amq\.default|orders\.(events|dead)|$partitions" \
  "orders\.(commands|dead)|$partitions"

# Hears events.
grant notifier "$NOTIFIER_PASSWORD" "$own" "$own" "orders\.events|$own"

# The same: it reads the log as soon as there is something new.
grant webhooks "$WEBHOOKS_PASSWORD" "$own" "$own" "orders\.events|$own"

# `tracking check`, `tracking parked` and `tracking dead`: asks for the lengths of queues, sends releases and dead
# letters, hears the outcome, takes dead letters. From RabbitMQ 4.2.7 and 4.3.1 on, only who has some right on a queue may
# ask for its length; to write to those of the partitions is the least one, since it may send commands anyway.
grant operator "$OPERATOR_PASSWORD" "$own" "orders\.commands|$partitions|$own" "orders\.dead|$own"
