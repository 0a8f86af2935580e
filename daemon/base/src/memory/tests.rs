use super::*;

#[test]
fn only_mapped_code_of_a_file_is_released() {
    let code_of = |rights: &str, path: &str| code(&format!("1000-3000 {rights} 00 fe:00 7 {path}"));
    assert_eq!(code_of("r-xp", "/usr/bin/edgeward"), Some((0x1000, 0x3000)));
    assert_eq!(code_of("r-xp", "[vdso]"), None);
    assert_eq!(code_of("r-xp", ""), None);
    for rights in ["rw-p", "r--p", "rwxp", "r-xs", "---p"] {
        assert_eq!(code_of(rights, "/usr/bin/edgeward"), None, "{rights}");
    }
    assert_eq!(code("3000-1000 r-xp 00 fe:00 7 /x"), None);
    assert_eq!(code("what else"), None);
}

#[test]
fn released_code_runs_on() {
    for _ in 0..3 {
        assert!(release_code().unwrap() > ByteCount(0));
    }
}
