//! Expressions and pieces; `tests/recorded/tokenizer*` has onnxruntime's answers.

use super::{Way, compiled, in_ascii};

fn pieces(way: &Way, text: &str) -> Vec<String> {
    way.pieces(text).into_iter().map(str::to_owned).collect()
}

#[test]
fn classes_are_of_ascii_alone() {
    let words = Way::new(Some(r"\b\w\w+\b"), None).unwrap();
    assert_eq!(pieces(&words, "größe of a box_1"), ["gr", "of", "box_1"]);
    let class = Way::new(Some(r"[\w-]+"), None).unwrap();
    assert_eq!(pieces(&class, "well-kept, é"), ["well-kept"]);
    assert_eq!(in_ascii(r"\.\W[\d|]").0, r"\.[^0-9A-Za-z_][[0-9]|]");
}

#[test]
fn what_chooses_between_lengths_is_refused_by_name() {
    for expression in ["a|ab", "a+?", "(ab)??", "a{1,2}?"] {
        let refused = compiled(expression).unwrap_err().to_string();
        assert!(refused.contains(expression), "{refused}");
    }
    for expression in ["[a|b]+", r"\|+", "[?+]?"] {
        compiled(expression).unwrap();
    }
}

#[test]
fn separators_split_one_after_the_other() {
    let split = Way::new(None, Some(&[",".to_owned(), r"\s+".to_owned()])).unwrap();
    assert_eq!(pieces(&split, "a, b c"), ["a", "", "b", "c"]);
}

#[test]
fn characters_are_pieces() {
    let split = Way::new(None, Some(&[String::new()])).unwrap();
    assert_eq!(pieces(&split, "aé😀"), ["a", "é", "😀"]);
}

#[test]
fn one_way_has_to_be_chosen() {
    assert!(Way::new(None, None).is_err());
    assert!(Way::new(Some("a"), Some(&["b".to_owned()])).is_err());
}
