-- The database `shop` for the tests. psql variables: reader, blind, writer (passwords).
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA sales;
CREATE TYPE sales.mood AS ENUM ('glad', 'sad');
CREATE DOMAIN sales.email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE sales.customer (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  mail sales.email,
  mood sales.mood,
  born date,
  seen timestamptz NOT NULL DEFAULT now(),
  tags text[],
  extra jsonb
);
CREATE TABLE sales."Order ""x""" (
  customer bigint NOT NULL REFERENCES sales.customer,
  "größe" varchar(20) NOT NULL,
  amount numeric(10, 2),
  PRIMARY KEY ("größe", customer)
);
CREATE TABLE sales.payroll (person text PRIMARY KEY, salary numeric);
CREATE VIEW sales.glad AS SELECT id, name FROM sales.customer WHERE mood = 'glad';
INSERT INTO sales.customer (name, mail, mood, tags)
  SELECT 'c' || n, 'c' || n || '@shop.example', 'glad', ARRAY['a', 'b'] FROM generate_series(1, 200) AS n;
INSERT INTO sales."Order ""x""" SELECT id, 'M', 9.99 FROM sales.customer LIMIT 30;
INSERT INTO sales.payroll VALUES ('boss', 1);
ANALYZE;

CREATE ROLE reader LOGIN PASSWORD :'reader';
GRANT USAGE ON SCHEMA sales TO reader;
GRANT SELECT ON sales.customer, sales."Order ""x""", sales.glad TO reader;

CREATE ROLE blind LOGIN PASSWORD :'blind';

CREATE ROLE writer LOGIN CREATEDB PASSWORD :'writer';
GRANT USAGE, CREATE ON SCHEMA sales TO writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sales TO writer;

-- Special cases of sources: a view that writes, a view that never ends, a table with hidden rows, an empty schema.
CREATE DATABASE trap;
\connect trap
CREATE SCHEMA writes;
CREATE TABLE writes.log (at timestamptz);
INSERT INTO writes.log VALUES (now());
CREATE FUNCTION writes.sneak() RETURNS integer LANGUAGE sql VOLATILE AS 'INSERT INTO writes.log VALUES (now()); SELECT 1';
CREATE VIEW writes.sneaky AS SELECT writes.sneak() AS one;
CREATE SCHEMA slow;
CREATE VIEW slow.forever AS SELECT 1 AS x FROM pg_sleep(60);
CREATE SCHEMA hidden;
CREATE TABLE hidden.secret AS SELECT 1 AS x;
ALTER TABLE hidden.secret ENABLE ROW LEVEL SECURITY;
CREATE SCHEMA void;
CREATE SCHEMA narrow;
CREATE TABLE narrow.person AS SELECT 'ann'::text AS name, 1 AS salary;
GRANT USAGE ON SCHEMA writes, slow, hidden, void, narrow TO writer;
GRANT INSERT ON writes.log TO writer;
GRANT SELECT ON writes.sneaky, slow.forever, hidden.secret TO writer;
GRANT SELECT (name) ON narrow.person TO writer;

-- What a client of Amazon Redshift meets, as far as PostgreSQL can show it: the version, the views of Redshift's catalog, and no
-- function of the versions after 8.0 that AAM uses with PostgreSQL.
CREATE DATABASE redshift;
\connect redshift
SET allow_system_table_mods = on;
CREATE OR REPLACE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.12103'::text $$;
ALTER FUNCTION pg_catalog.pg_is_in_recovery() RENAME TO pg_is_not_in_redshift;
CREATE VIEW pg_catalog.svv_columns AS SELECT * FROM information_schema.columns;
CREATE VIEW pg_catalog.svv_tables AS SELECT * FROM information_schema.tables;
GRANT SELECT ON pg_catalog.svv_columns, pg_catalog.svv_tables TO public;
RESET allow_system_table_mods;
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id bigint NOT NULL, amount numeric(12, 2), sold_at timestamptz, note varchar(256));
CREATE TABLE sales.customers (id bigint NOT NULL, name varchar(256));
CREATE TABLE sales.hidden (id bigint);
GRANT USAGE ON SCHEMA sales TO reader, writer;
GRANT REFERENCES ON sales.orders, sales.customers TO reader;
GRANT SELECT, INSERT ON sales.orders TO writer;
