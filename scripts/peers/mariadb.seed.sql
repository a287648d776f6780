-- The database `shop` for the tests. mariadb.sh replaces :super, :reader, ... with quoted passwords.
-- The user `super` is the definer of the views. root cannot be, because a view without its definer cannot be read and
-- root is dropped at the end.
CREATE USER super@'%' IDENTIFIED BY :super;
GRANT ALL PRIVILEGES ON *.* TO super@'%' WITH GRANT OPTION;
CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE DATABASE other;
USE shop;
CREATE TABLE customer (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(50) NOT NULL,
  born DATE,
  seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
  vip BOOLEAN,
  mood ENUM('glad', 'sad'),
  photo BLOB,
  extra JSON
);
CREATE TABLE `Order ``x``` (
  customer BIGINT UNSIGNED NOT NULL,
  `größe` VARCHAR(20) NOT NULL,
  amount DECIMAL(10, 2),
  PRIMARY KEY (`größe`, customer),
  FOREIGN KEY (customer) REFERENCES customer (id)
);
CREATE TABLE payroll (person VARCHAR(20) PRIMARY KEY, salary DECIMAL(10, 2));
CREATE DEFINER = super@'%' VIEW glad AS SELECT id, name FROM customer WHERE mood = 'glad';
INSERT INTO customer (name, mood) SELECT CONCAT('c', seq), 'glad' FROM seq_1_to_200;
INSERT INTO `Order ``x``` SELECT id, 'M', 9.99 FROM customer LIMIT 30;
INSERT INTO payroll VALUES ('boss', 1);
ANALYZE TABLE customer;

CREATE USER reader@'%' IDENTIFIED BY :reader;
GRANT SELECT, SHOW VIEW ON shop.* TO reader@'%';
CREATE USER blind@'%' IDENTIFIED BY :blind;
-- This user sees a table that it may not read.
CREATE USER narrow@'%' IDENTIFIED BY :narrow;
GRANT INSERT ON shop.payroll TO narrow@'%';
CREATE USER writer@'%' IDENTIFIED BY :writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO writer@'%';
GRANT FILE ON *.* TO writer@'%';

-- Special cases of sources: a view that writes, a view that never ends, an empty database.
CREATE DATABASE trap;
CREATE TABLE trap.log (at TIMESTAMP);
INSERT INTO trap.log VALUES (NOW());
DELIMITER //
CREATE DEFINER = super@'%' FUNCTION trap.sneak() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO trap.log VALUES (NOW()); RETURN 1; END //
DELIMITER ;
CREATE DEFINER = super@'%' VIEW trap.sneaky AS SELECT trap.sneak() AS one;
CREATE DATABASE slow;
CREATE DEFINER = super@'%' VIEW slow.forever AS SELECT SLEEP(60);
CREATE DATABASE void;
GRANT SELECT ON trap.sneaky TO writer@'%';
GRANT INSERT ON trap.log TO writer@'%';
GRANT EXECUTE ON trap.* TO writer@'%';
GRANT SELECT ON slow.* TO writer@'%';
GRANT SELECT ON void.* TO writer@'%';

DROP USER IF EXISTS root@localhost, root@'127.0.0.1', root@'::1', ''@localhost;
