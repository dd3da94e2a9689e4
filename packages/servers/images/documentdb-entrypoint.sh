#!/bin/sh
# Serves the cluster in the image, which has the extension already, by PostgreSQL's protocol.
set -eu
echo "ALTER ROLE postgres PASSWORD '$POSTGRES_PASSWORD'" | postgres --single -D "$PGDATA" postgres > /dev/null
printf 'local all all trust\nhost all all all scram-sha-256\n' > "$PGDATA/pg_hba.conf"
exec postgres -D "$PGDATA" \
  -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections=200 \
  -c shared_preload_libraries=pg_cron,pg_documentdb_core,pg_documentdb,pg_documentdb_extended_rum \
  -c cron.database_name=postgres -c cron.use_background_workers=on \
  -c documentdb.localhost_connection_string=host=/tmp -c documentdb_core.enableCollation=on \
  -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c jit=off
