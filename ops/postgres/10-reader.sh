#!/bin/sh
# The role that the dashboard's pages read through, made when the database is. The worker's migrations give it its rights.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$READER_PASSWORD" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
CREATE ROLE crosswind_reader LOGIN PASSWORD :'password';
SQL
