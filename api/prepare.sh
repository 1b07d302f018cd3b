#!/bin/sh
# Renews api/.sqlx, what the query macros know without a database. Starts a throw-away PostgreSQL, applies the
# migrations, lets the macros ask it. `prepare.sh --check` fails when the committed files differ.
set -eu
cd "$(dirname "$0")"
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
folder=$(mktemp -d /tmp/assay-prepare-XXXXXX)
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid postgres --regid postgres --clear-groups "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; fi
cleanup() { as "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$folder"; }
trap cleanup EXIT INT TERM
as "$bin/initdb" -D "$folder/data" -U postgres -A trust --no-sync >/dev/null
as "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -o "-k $folder -c listen_addresses= -c fsync=off" start >/dev/null
for migration in migrations/*.sql; do
    "$bin/psql" -h "$folder" -U postgres -q -v ON_ERROR_STOP=1 -1 -f "$migration" postgres
done
export DATABASE_URL="postgres://postgres@localhost/postgres?host=$folder" SQLX_OFFLINE=false
mkdir -p "$folder/sqlx"
if [ "$(id -u)" = 0 ]; then chown root "$folder/sqlx"; fi
export SQLX_OFFLINE_DIR="$folder/sqlx"
touch src/lib.rs
cargo check -q -p assay-api
if [ "${1:-}" = --check ]; then
    diff -r "$folder/sqlx" .sqlx || { echo "api/.sqlx is stale: run api/prepare.sh" >&2; exit 1; }
else
    mkdir -p .sqlx
    find .sqlx -name '*.json' -delete
    cp "$folder"/sqlx/*.json .sqlx/
fi
