/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: kamailio
-- ------------------------------------------------------
-- Server version	10.11.19-MariaDB-0+deb12u1

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;

--
-- Dumping data for table `address`
--

LOCK TABLES `address` WRITE;
/*!40000 ALTER TABLE `address` DISABLE KEYS */;
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (1,1,'203.0.113.5',32,0,'carrier-a');
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (2,1,'198.51.100.0',24,0,'carrier-a');
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (3,1,'203.0.113.6',32,5060,'carrier-b');
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (4,1,'203.0.113.6',32,5062,'carrier-b');
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (5,2,'2001:db8::',48,0,'carrier six');
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (6,1,'203.0.113.9',32,0,NULL);
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (7,1,'203.0.113.300',32,0,'wrong');
INSERT INTO `address` (`id`, `grp`, `ip_addr`, `mask`, `port`, `tag`) VALUES (8,1,'203.0.113.77',24,0,'slip');
/*!40000 ALTER TABLE `address` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Dumping data for table `notes`
--

LOCK TABLES `notes` WRITE;
/*!40000 ALTER TABLE `notes` DISABLE KEYS */;
INSERT INTO `notes` (`id`, `text`) VALUES (1,'it\'s not\nINSERT INTO subscriber VALUES (99,\'trap\',\'x\',\'x\',\'x\',\'x\');\nCOPY public.subscriber (username) FROM stdin;\ntrap\n\\.\n');
/*!40000 ALTER TABLE `notes` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Dumping data for table `subscriber`
--

LOCK TABLES `subscriber` WRITE;
/*!40000 ALTER TABLE `subscriber` DISABLE KEYS */;
INSERT INTO `subscriber` (`id`, `username`, `domain`, `password`, `ha1`, `ha1b`) VALUES (1,'office1','sip.example.com','it\'s \"so\" \\ long and ü','','');
INSERT INTO `subscriber` (`id`, `username`, `domain`, `password`, `ha1`, `ha1b`) VALUES (2,'gw-ha1','sip.example.com','','ca31af667cb6dfaf618452974ec222e0','7153c1f59d1f7524d8ea8171213d0128');
INSERT INTO `subscriber` (`id`, `username`, `domain`, `password`, `ha1`, `ha1b`) VALUES (3,'both','sip.example.com','lab password of both','912df4eb62ec7b62aeb4cdc817bfc934','d21a95bcc860e6347ec91e06a4707d28');
INSERT INTO `subscriber` (`id`, `username`, `domain`, `password`, `ha1`, `ha1b`) VALUES (4,'bad name','sip.example.com','lab password','','');
INSERT INTO `subscriber` (`id`, `username`, `domain`, `password`, `ha1`, `ha1b`) VALUES (5,'nowhere','','','9cfc1aa8efd391007b69cd8b5a2fa8f3','9c85956ead53a9df3ab20757b34c6f83');
INSERT INTO `subscriber` (`id`, `username`, `domain`, `password`, `ha1`, `ha1b`) VALUES (6,'weak1','sip.example.com','1234','','');
/*!40000 ALTER TABLE `subscriber` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Dumping data for table `version`
--

LOCK TABLES `version` WRITE;
/*!40000 ALTER TABLE `version` DISABLE KEYS */;
INSERT INTO `version` (`id`, `table_name`, `table_version`) VALUES (1,'version',1);
INSERT INTO `version` (`id`, `table_name`, `table_version`) VALUES (2,'subscriber',7);
INSERT INTO `version` (`id`, `table_name`, `table_version`) VALUES (3,'trusted',6);
INSERT INTO `version` (`id`, `table_name`, `table_version`) VALUES (4,'address',6);
/*!40000 ALTER TABLE `version` ENABLE KEYS */;
UNLOCK TABLES;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2026-11-25  8:43:49
