#!/bin/sh
# Runs Postgres in the foreground; makes the cluster at first, whole or not at all.
# start.sh BIN_DIR DATA_DIR CONFIG_FILE; POSTGRES_USER and POSTGRES_PASSWORD name the owner.
set -eu
bin=$1 data=$2 config=$3
if [ ! -f "$data/PG_VERSION" ]; then
    rm -rf "$data.new"
    printf '%s\n' "$POSTGRES_PASSWORD" |
        "$bin/initdb" -D "$data.new" -U "$POSTGRES_USER" --pwfile=/dev/stdin -E UTF8 --locale=C.UTF-8 \
            --auth-host=scram-sha-256 --auth-local=reject --no-instructions
    rm -rf "$data"
    mv "$data.new" "$data"
fi
exec "$bin/postgres" -D "$data" -c config_file="$config"
