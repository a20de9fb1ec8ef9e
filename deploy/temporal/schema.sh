#!/bin/sh
# Brings Temporal's two databases to the schema of this server version. Safe to run again.
set -eu
export SQL_PLUGIN=postgres12 SQL_HOST=postgres SQL_PORT=5432 SQL_USER=temporal

for name in temporal visibility; do
    database=temporal
    [ "$name" = visibility ] && database=temporal_visibility
    temporal-sql-tool --database "$database" create
    # Refused when the schema is there already; the update below is then all there is to do.
    temporal-sql-tool --database "$database" setup-schema --version 0.0 || true
    temporal-sql-tool --database "$database" update-schema \
        --schema-dir "/etc/temporal/schema/postgresql/v12/$name/versioned"
done
