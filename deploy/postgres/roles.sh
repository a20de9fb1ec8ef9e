#!/bin/sh
# Runs once, when the Postgres volume is new: a role and a database for Chama, a role for Temporal (which makes its own).
set -eu
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --set=owner="$CHAMA_OWNER_PASSWORD" --set=temporal="$TEMPORAL_DB_PASSWORD" <<'SQL'
create role chama_owner login createrole password :'owner';
create database chama owner chama_owner;
create role temporal login createdb password :'temporal';
SQL
