#!/bin/sh
# Serves the cluster in the image, which has the extension already, by PostgreSQL's protocol.
set -eu
echo "ALTER ROLE postgres PASSWORD '$POSTGRES_PASSWORD'" | postgres --single -D "$PGDATA" postgres > /dev/null
printf 'local all all trust\nhost all all all scram-sha-256\n' > "$PGDATA/pg_hba.conf"
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
