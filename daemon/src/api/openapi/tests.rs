use super::*;

#[test]
fn the_file_is_read_and_every_reference_leads_somewhere() {
    let operation = Operation::post("/a/{name}", "a", "Does it.")
        .takes("Tag")
        .gives("Tag");
    let document = document(vec![operation.under("tag")]);
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(reference) if name == "$ref" => {
                        references.push(reference.clone());
                    }
                    _ => collect(field, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[test]
fn an_operation_says_what_it_refuses_with_in_the_form_of_its_clients() {
    let of = |path: &str| {
        let operation = Operation::get(path, "a", "Gives it.").gives("Nothing");
        let document = document(vec![operation.refuses(&[409])]);
        document["paths"][path]["get"].clone()
    };
    let conflict = |path: &str| of(path)["responses"]["409"]["$ref"].clone();
    assert_eq!(conflict("/a"), "#/components/responses/Error.409");
    assert_eq!(conflict("/v1/a"), "#/components/responses/OpenAiError.409");
    assert_eq!(
        conflict("/v2/a"),
        "#/components/responses/OpenInferenceError.409"
    );
    assert!(of("/a")["responses"].get("404").is_none());
    assert!(of("/a/{name}")["responses"].get("404").is_some());
}
