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
