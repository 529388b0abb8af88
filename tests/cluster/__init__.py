"""Three RabbitMQ nodes on one machine, with faults: `make test-cluster`.

`measuring`, `verdict` and `table` are pure. `network`, `nodes` and `balancer` are the cluster, `scene` puts
services, load and dashboards on it, `faults` break it, `scenarios` say what is broken and for how long, and
`conduct` runs one scenario. `docs/reliability.md` has the results.
"""
