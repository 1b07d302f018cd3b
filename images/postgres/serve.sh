# Makes a cluster on the volume where there is none, with a database `assay` and the password of the Secret, then serves.
# shellcheck shell=sh
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
data=/data/postgres
# A first start that broke off has no marker: begin again.
if [ ! -e "$data/ready" ]; then
    rm -rf "$data"
    "$bin/initdb" -D "$data" -U assay --auth=scram-sha-256 --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 --locale=C.UTF-8 >&2
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    "$bin/pg_ctl" -D "$data" -w -o "-c listen_addresses= -c unix_socket_directories=/tmp" start >&2
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") "$bin/createdb" -h /tmp -U assay assay
    "$bin/pg_ctl" -D "$data" -w stop >&2
    touch "$data/ready"
fi
exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c log_min_messages=warning
