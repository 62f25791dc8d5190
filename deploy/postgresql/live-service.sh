#!/bin/sh
# Gives examples/live-service a role and a database of its own, beside the issuer's, which it may not enter. PostgreSQL's image
# runs it when it sets up an empty volume; on a volume that exists run it by hand, as POSTGRES_USER.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat "$LIVE_SERVICE_PASSWORD_FILE"`
CREATE ROLE live LOGIN PASSWORD :'password';
CREATE DATABASE live OWNER live;
REVOKE ALL ON DATABASE live, :"DBNAME" FROM PUBLIC;
SQL
