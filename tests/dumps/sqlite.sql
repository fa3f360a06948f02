PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE version (
    id INTEGER PRIMARY KEY NOT NULL,
    table_name VARCHAR(32) NOT NULL,
    table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_table_name_idx UNIQUE (table_name)
);
INSERT INTO version VALUES(1,'version',1);
INSERT INTO version VALUES(2,'subscriber',7);
INSERT INTO version VALUES(3,'trusted',6);
INSERT INTO version VALUES(4,'address',6);
CREATE TABLE subscriber (
    id INTEGER PRIMARY KEY NOT NULL,
    username VARCHAR(64) DEFAULT '' NOT NULL,
    domain VARCHAR(64) DEFAULT '' NOT NULL,
    password VARCHAR(64) DEFAULT '' NOT NULL,
    ha1 VARCHAR(128) DEFAULT '' NOT NULL,
    ha1b VARCHAR(128) DEFAULT '' NOT NULL,
    CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
);
INSERT INTO subscriber VALUES(1,'office1','sip.example.com','it''s "so" \ long and ü','','');
INSERT INTO subscriber VALUES(2,'gw-ha1','sip.example.com','','ca31af667cb6dfaf618452974ec222e0','7153c1f59d1f7524d8ea8171213d0128');
INSERT INTO subscriber VALUES(3,'both','sip.example.com','lab password of both','912df4eb62ec7b62aeb4cdc817bfc934','d21a95bcc860e6347ec91e06a4707d28');
INSERT INTO subscriber VALUES(4,'bad name','sip.example.com','lab password','','');
INSERT INTO subscriber VALUES(5,'nowhere','','','9cfc1aa8efd391007b69cd8b5a2fa8f3','9c85956ead53a9df3ab20757b34c6f83');
INSERT INTO subscriber VALUES(6,'weak1','sip.example.com','1234','','');
CREATE TABLE trusted (
    id INTEGER PRIMARY KEY NOT NULL,
    src_ip VARCHAR(50) NOT NULL,
    proto VARCHAR(4) NOT NULL,
    from_pattern VARCHAR(64) DEFAULT NULL,
    ruri_pattern VARCHAR(64) DEFAULT NULL,
    tag VARCHAR(64),
    priority INTEGER DEFAULT 0 NOT NULL
);
CREATE TABLE address (
    id INTEGER PRIMARY KEY NOT NULL,
    grp INTEGER DEFAULT 1 NOT NULL,
    ip_addr VARCHAR(50) NOT NULL,
    mask INTEGER DEFAULT 32 NOT NULL,
    port SMALLINT DEFAULT 0 NOT NULL,
    tag VARCHAR(64)
);
INSERT INTO address VALUES(1,1,'203.0.113.5',32,0,'carrier-a');
INSERT INTO address VALUES(2,1,'198.51.100.0',24,0,'carrier-a');
INSERT INTO address VALUES(3,1,'203.0.113.6',32,5060,'carrier-b');
INSERT INTO address VALUES(4,1,'203.0.113.6',32,5062,'carrier-b');
INSERT INTO address VALUES(5,2,'2001:db8::',48,0,'carrier six');
INSERT INTO address VALUES(6,1,'203.0.113.9',32,0,NULL);
INSERT INTO address VALUES(7,1,'203.0.113.300',32,0,'wrong');
INSERT INTO address VALUES(8,1,'203.0.113.77',24,0,'slip');
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
INSERT INTO notes VALUES(1,replace('it''s not\nINSERT INTO subscriber VALUES (99,''trap'',''x'',''x'',''x'',''x'');\nCOPY public.subscriber (username) FROM stdin;\ntrap\n\.\n','\n',char(10)));
CREATE INDEX subscriber_username_idx ON subscriber (username);
CREATE INDEX trusted_peer_idx ON trusted (src_ip);
COMMIT;
