use super::*;

const BOOT: BootId = BootId(0xab);

fn written() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let account = Account::open(BOOT, 7, -1);
    let fs = edgeward_base::durable::RealFs;
    account.write(&fs, folder.path()).unwrap();
    std::fs::read(Account::path(folder.path(), BOOT)).unwrap()
}

#[test]
fn an_account_is_read_back() {
    let account = Account::parse(BOOT, &written()).unwrap();
    assert_eq!(account, Account::open(BOOT, 7, -1));
    assert_eq!(
        Account::parse(BootId(1), &written()),
        Err(ParseAccountError::Damaged),
        "of another boot"
    );
}

#[test]
fn any_flipped_bit_is_damage_and_never_another_version() {
    let bytes = written();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The CRC may be written in capitals.
        if !flipped.eq_ignore_ascii_case(&bytes) {
            let read = Account::parse(BOOT, &flipped);
            assert_eq!(read, Err(ParseAccountError::Damaged), "bit {bit}");
        }
    }
}

#[test]
fn a_later_version_is_told_from_damage() {
    let json = r#"{"whatever": "it holds"}"#;
    let crc = crc_of("2", json);
    let text = format!("{MAGIC}2 {crc:08x}\n{json}");
    let read = Account::parse(BOOT, text.as_bytes());
    assert_eq!(read, Err(ParseAccountError::Newer));
}

#[test]
fn version_0_is_read_and_comes_before_boots_that_are_counted() {
    let json = r#"{"boot":"00000000000000ab","opened_us":9,"end":"clean","compacted":1,"tables":{},"segments":[]}"#;
    let text = format!("{MAGIC}0 {:08x}\n{json}", crc32fast::hash(json.as_bytes()));
    let account = Account::parse(BOOT, text.as_bytes()).unwrap();
    assert_eq!((account.ordinal, account.end), (0, BootEnd::Clean));
    assert!(account.age() < Account::open(BOOT, 1, 0).age());
}
