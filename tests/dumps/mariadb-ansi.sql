/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: kamailio
-- ------------------------------------------------------
-- Server version	10.11.19-MariaDB-0+deb12u1
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO,ANSI' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;

--
-- Table structure for table "address"
--

DROP TABLE IF EXISTS "address";
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE "address" (
  "id" int(10) unsigned NOT NULL AUTO_INCREMENT,
  "grp" int(11) unsigned NOT NULL DEFAULT 1,
  "ip_addr" varchar(50) NOT NULL,
  "mask" int(11) NOT NULL DEFAULT 32,
  "port" smallint(5) unsigned NOT NULL DEFAULT 0,
  "tag" varchar(64) DEFAULT NULL,
  PRIMARY KEY ("id")
);
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table "address"
--

LOCK TABLES "address" WRITE;
/*!40000 ALTER TABLE "address" DISABLE KEYS */;
INSERT INTO "address" VALUES
(1,1,'203.0.113.5',32,0,'carrier-a'),
(2,1,'198.51.100.0',24,0,'carrier-a'),
(3,1,'203.0.113.6',32,5060,'carrier-b'),
(4,1,'203.0.113.6',32,5062,'carrier-b'),
(5,2,'2001:db8::',48,0,'carrier six'),
(6,1,'203.0.113.9',32,0,NULL),
(7,1,'203.0.113.300',32,0,'wrong'),
(8,1,'203.0.113.77',24,0,'slip');
/*!40000 ALTER TABLE "address" ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table "notes"
--

DROP TABLE IF EXISTS "notes";
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE "notes" (
  "id" int(11) NOT NULL,
  "text" text DEFAULT NULL,
  PRIMARY KEY ("id")
);
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table "notes"
--

LOCK TABLES "notes" WRITE;
/*!40000 ALTER TABLE "notes" DISABLE KEYS */;
INSERT INTO "notes" VALUES
(1,'it\'s not\nINSERT INTO subscriber VALUES (99,\'trap\',\'x\',\'x\',\'x\',\'x\');\nCOPY public.subscriber (username) FROM stdin;\ntrap\n\\.\n');
/*!40000 ALTER TABLE "notes" ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table "subscriber"
--

DROP TABLE IF EXISTS "subscriber";
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE "subscriber" (
  "id" int(10) unsigned NOT NULL AUTO_INCREMENT,
  "username" varchar(64) NOT NULL DEFAULT '',
  "domain" varchar(64) NOT NULL DEFAULT '',
  "password" varchar(64) NOT NULL DEFAULT '',
  "ha1" varchar(128) NOT NULL DEFAULT '',
  "ha1b" varchar(128) NOT NULL DEFAULT '',
  PRIMARY KEY ("id"),
  UNIQUE KEY "account_idx" ("username","domain"),
  KEY "username_idx" ("username")
);
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table "subscriber"
--

LOCK TABLES "subscriber" WRITE;
/*!40000 ALTER TABLE "subscriber" DISABLE KEYS */;
INSERT INTO "subscriber" VALUES
(1,'office1','sip.example.com','it\'s \"so\" \\ long and ü','',''),
(2,'gw-ha1','sip.example.com','','ca31af667cb6dfaf618452974ec222e0','7153c1f59d1f7524d8ea8171213d0128'),
(3,'both','sip.example.com','lab password of both','912df4eb62ec7b62aeb4cdc817bfc934','d21a95bcc860e6347ec91e06a4707d28'),
(4,'bad name','sip.example.com','lab password','',''),
(5,'nowhere','','','9cfc1aa8efd391007b69cd8b5a2fa8f3','9c85956ead53a9df3ab20757b34c6f83'),
(6,'weak1','sip.example.com','1234','','');
/*!40000 ALTER TABLE "subscriber" ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table "version"
--

DROP TABLE IF EXISTS "version";
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE "version" (
  "id" int(10) unsigned NOT NULL AUTO_INCREMENT,
  "table_name" varchar(32) NOT NULL,
  "table_version" int(10) unsigned NOT NULL DEFAULT 0,
  PRIMARY KEY ("id"),
  UNIQUE KEY "table_name_idx" ("table_name")
);
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table "version"
--

LOCK TABLES "version" WRITE;
/*!40000 ALTER TABLE "version" DISABLE KEYS */;
INSERT INTO "version" VALUES
(1,'version',1),
(2,'subscriber',7),
(3,'trusted',6),
(4,'address',6);
/*!40000 ALTER TABLE "version" ENABLE KEYS */;
UNLOCK TABLES;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2026-11-25  8:43:49
