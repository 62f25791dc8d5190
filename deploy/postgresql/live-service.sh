#!/bin/sh
# Gives examples/live-service its own role and database beside the issuer's, which it cannot enter. PostgreSQL's image
# runs this when it sets up an empty volume; on an existing volume, run it by hand as POSTGRES_USER.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat "$LIVE_SERVICE_PASSWORD_FILE"`
CREATE ROLE live LOGIN PASSWORD :'password';
CREATE DATABASE live OWNER live;
REVOKE ALL ON DATABASE live, :"DBNAME" FROM PUBLIC;
SQL
