use proptest::prelude::*;

use super::*;
use crate::{
    auth::Ha1,
    gateway::{Mode, RawGateway, Secret},
};

/// A dump that the program of this name made of Kamailio's own tables, with a table `notes` beside them that has a trap in it.
macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/dumps/", $name, ".sql"))
    };
}

const SAMPLES: [(&str, &str); 7] = [
    ("mariadb-dump", sample!("mariadb")),
    ("mariadb-dump --complete-insert --skip-extended-insert", sample!("mariadb-complete")),
    ("mariadb-dump --compatible=ansi", sample!("mariadb-ansi")),
    ("pg_dump", sample!("postgres-copy")),
    ("pg_dump --inserts", sample!("postgres-inserts")),
    ("pg_dump --column-inserts --rows-per-insert", sample!("postgres-column-inserts")),
    ("sqlite3 .dump", sample!("sqlite")),
];

fn read_text(text: &str) -> Found {
    assert!(is_dump(text.as_bytes()), "{text}");
    read(text.as_bytes()).expect("a dump")
}

fn by_name<'a>(found: &'a Found, name: &str) -> &'a RawGateway {
    let gateway = found.gateways.iter().find(|gateway| gateway.name == name);
    gateway.unwrap_or_else(|| panic!("no {name}: {found:?}"))
}

#[test]
fn the_dumps_of_all_programs_say_the_same() {
    for (program, text) in SAMPLES {
        let found = read_text(text);
        let mut names: Vec<&str> = found.gateways.iter().map(|gateway| gateway.name.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "both",
            "carrier-a",
            "carrier-b",
            "carrier_six",
            "grp1-203.0.113.9",
            "gw-ha1",
            "office1",
            "weak1",
        ];
        assert_eq!(names, expected, "{program}");

        let a = by_name(&found, "carrier-a");
        assert_eq!(
            (a.mode, a.addresses.join(" "), a.ports.len()),
            (Mode::Ip, "198.51.100.0/24 203.0.113.5".to_owned(), 0)
        );
        let b = by_name(&found, "carrier-b");
        assert_eq!(
            (b.mode, b.addresses.join(" "), b.ports.as_slice()),
            (Mode::IpPort, "203.0.113.6".to_owned(), &[5060, 5062][..])
        );
        assert_eq!(by_name(&found, "carrier_six").addresses, ["2001:db8::/48"]);

        let office = by_name(&found, "office1");
        assert_eq!(
            office.password.as_ref().map(Secret::expose),
            Some("it's \"so\" \\ long and \u{fc}"),
            "{program}"
        );
        assert_eq!((office.mode, office.realm.as_deref()), (Mode::Password, Some("sip.example.com")));
        // With a password that its HA1 was made of, everything is known; of an HA1 alone only MD5.
        assert!(by_name(&found, "both").password.is_some());
        let hashed = by_name(&found, "gw-ha1");
        let ha1 = Ha1::from_text(hashed.credentials.as_ref().expect("credentials").expose()).expect("an HA1");
        let right = Ha1::derive("gw-ha1", "sip.example.com", "lab password of gw-ha1");
        assert!(ha1.same_md5(&right) && ha1 != right);
        assert_eq!(hashed.digest.algorithms.as_ref().map(Vec::len), Some(1));

        assert_eq!(found.bad.len(), 4, "{program}: {:?}", found.bad);
        for words in [
            "\"203.0.113.300\" is not an address",
            "203.0.113.77/24 has host bits",
            "bad_name: the username must",
            "no domain",
        ] {
            assert!(
                found.bad.iter().any(|what| what.contains(words)),
                "{program}: {words}: {:?}",
                found.bad
            );
        }
        for what in &found.bad {
            let line: usize = what.split(' ').nth(1).and_then(|line| line.parse().ok()).expect("a line");
            let there = text.lines().nth(line - 1).unwrap_or_default();
            let row = ["203.0.113.300", "203.0.113.77", "bad name", "nowhere"]
                .iter()
                .any(|words| there.contains(words));
            assert!(row, "{program}: {what}: {there}");
        }
        assert!(found.notes.iter().any(|note| note.contains("the groups 1, 2")), "{:?}", found.notes);
    }
}

#[test]
fn a_dump_that_was_cut_off_is_refused() {
    for (program, text) in SAMPLES {
        let ends = ["-- Dump completed", "database dump complete", "COMMIT;"];
        let end = ends.iter().find_map(|end| text.rfind(end)).expect("an end");
        for cut in (0..end).filter(|cut| text.is_char_boundary(*cut)) {
            assert!(read(&text.as_bytes()[..cut]).is_err(), "{program} cut at {cut}");
        }
    }
}

#[test]
fn rows_are_read_however_they_are_written() {
    let found = read_text(
        "insert ignore into `kamailio`.`subscriber` (`username`, domain, PASSWORD) values ('a\\'b', 'd', 'a password\\\\of it'),('c','d',_utf8mb4'''quoted'' # one');\n\
         INSERT INTO `version` VALUES (1,'x;y',2); # a comment; with ' in it\n",
    );
    let passwords: Vec<_> = found.gateways.iter().map(|one| one.password.as_ref().map(Secret::expose)).collect();
    assert_eq!(passwords, [Some("a password\\of it"), Some("'quoted' # one")]);
    assert_eq!(found.gateways[0].name, "a_b");

    let found = read_text(
        "COPY kamailio.subscriber (username, password, domain) FROM stdin;\n\
         a\\ta\tback\\\\slash and more\td\n\
         b\tplain password\t\\N\n\\.\n\
         INSERT INTO \"public\".\"subscriber\" (username, domain, password) VALUES (E'c\\'s', 'd', 'no \\n escape'), ('e', 'd', X'6120706173732077') ON CONFLICT DO NOTHING;\n",
    );
    let passwords: Vec<_> = found.gateways.iter().map(|one| one.password.as_ref().map(Secret::expose)).collect();
    assert_eq!(passwords, [Some("plain password"), Some("no \\n escape"), Some("a pass w")]);
    assert_eq!(found.gateways[0].realm, None);
    assert!(
        found.bad[0].starts_with("line 2 (row 1 there): gateway a_a: the username"),
        "{:?}",
        found.bad
    );
}

#[test]
fn a_row_that_says_nothing_is_named_and_the_next_one_is_read() {
    let found = read_text(
        "INSERT INTO subscriber VALUES (1,'a','d',replace('x\\ny','\\n',char(10)),'',''),\n(2,'b','d','good enough','',''),(3,'b','e','good enough','','');\n\
         INSERT INTO subscriber VALUES (4,'c');\n\
         INSERT INTO subscriber VALUES (5,'d','d','','0123','');\n\
         INSERT INTO address VALUES (1,1,'203.0.113.1',32,70000,'p'),(2,1,'203.0.113.1',99,0,'m'),(3,1,NULL,32,0,'n'),(4,1,'203.0.113.2',32,0,'b');\n",
    );
    assert_eq!(found.gateways.len(), 1, "{found:?}");
    let expected = [
        ("line 1 (row 1 there)", "computed"),
        ("line 2 (id 3)", "username \"b\" is there already, in line 2 (id 2)"),
        ("line 3 (row 1 there)", "which columns"),
        ("line 4 (id 5)", "not an MD5 sum"),
        ("line 5 (id 1)", "\"70000\" is not a port"),
        ("line 5 (id 2)", "203.0.113.1/99"),
        ("line 5 (id 3)", "no ip_addr"),
        ("line 5 (id 4)", "gateway b is there already, from line 2 (id 2)"),
    ];
    assert_eq!(found.bad.len(), expected.len(), "{:?}", found.bad);
    for (what, (place, words)) in found.bad.iter().zip(expected) {
        assert!(what.starts_with(place) && what.contains(words), "{what}");
    }
}

#[test]
fn a_tag_is_one_gateway_unless_its_addresses_have_different_ports() {
    let found = read_text(
        "INSERT INTO address (ip_addr, port, tag) VALUES ('203.0.113.1',5060,'a'),('203.0.113.2',5062,'a'),('203.0.113.3',0,'a'),('203.0.113.3',5060,'a'),\n\
         ('203.0.113.4',5060,'b'),('203.0.113.5',5060,'b');",
    );
    assert!(found.bad.is_empty(), "{:?}", found.bad);
    let made: Vec<(&str, Mode, String)> = found
        .gateways
        .iter()
        .map(|one| (one.name.as_str(), one.mode, one.addresses.join(" ")))
        .collect();
    // 203.0.113.1 may not call from port 5062.
    let expected = [
        ("a-any", Mode::Ip, "203.0.113.3"),
        ("a-5060", Mode::IpPort, "203.0.113.1"),
        ("a-5062", Mode::IpPort, "203.0.113.2"),
        ("b", Mode::IpPort, "203.0.113.4 203.0.113.5"),
    ];
    assert_eq!(made, expected.map(|(name, mode, addresses)| (name, mode, addresses.to_owned())));
}

#[test]
fn a_table_in_csv_is_no_dump_and_a_dump_of_other_tables_is_refused() {
    for text in ["name,mode,address\na,ip,10.0.0.1\n", "copy of,name\ncopy of x,stdout\n", ""] {
        assert!(!is_dump(text.as_bytes()), "{text}");
    }
    let latin = read(b"INSERT INTO subscriber VALUES (1,'a','d','password with \xfc','','');\n").expect("a dump");
    assert!(latin.bad[0].contains("not UTF-8"), "{:?}", latin.bad);
    let error = read(b"CREATE TABLE x (a int);\nINSERT INTO x VALUES (1);\n").expect_err("none");
    assert!(error.to_string().contains("subscriber and address"), "{error}");
}

proptest! {
    #[test]
    fn no_text_is_too_strange(words in prop::collection::vec(prop::sample::select(vec![
        "INSERT INTO ", "subscriber", "address", " VALUES ", "(", ")", ",", "'", "''", "\\", "\"", "`", "$a$", "$", "E'", "X'", ";", "\n", "\t",
        "COPY ", " FROM stdin;\n", "\\.\n", "CREATE TABLE ", "NULL", "-1", "--", "/*", "*/", "#", "\u{fc}", ".", "IF NOT EXISTS ", "1",
    ]), 0..40)) {
        let text = words.concat();
        let _ = (is_dump(text.as_bytes()), read(text.as_bytes()));
    }
}
