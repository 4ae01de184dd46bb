"""Everything on one machine: a real Kafka, a real PostgreSQL, the sandbox and the services."""
