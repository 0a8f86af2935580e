use prost::Message;
use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType};

use super::*;

/// A map from text to numbers of this type, or a sequence of such.
fn map(element: DataType, rows: bool) -> wire::Kind {
    let values = wire::Kind {
        tensor: Some(wire::Tensor {
            element: element as i32,
        }),
        ..wire::Kind::default()
    };
    let map = wire::Kind {
        map: Some(Box::new(wire::Map {
            value: Some(Box::new(values)),
        })),
        ..wire::Kind::default()
    };
    if !rows {
        return map;
    }
    wire::Kind {
        sequence: Some(Box::new(wire::Sequence {
            element: Some(Box::new(map)),
        })),
        ..wire::Kind::default()
    }
}

fn node(operator: &str, keys: &[&str]) -> NodeProto {
    let strings = keys.iter().map(|key| key.as_bytes().to_vec());
    NodeProto {
        op_type: operator.to_owned(),
        input: vec!["visits".to_owned()],
        attribute: vec![AttributeProto {
            name: "string_vocabulary".to_owned(),
            r#type: AttributeType::Strings.into(),
            strings: strings.collect(),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}

/// Takes the names of a graph whose inputs have these types.
fn take(kinds: &[wire::Kind], nodes: Vec<NodeProto>) -> (GraphProto, Result<Names, String>) {
    let inputs = kinds.iter().cloned().map(Some);
    let inputs = inputs.map(|kind| wire::Input { kind });
    let bytes = wire::Model {
        graph: Some(wire::Graph {
            input: inputs.collect(),
        }),
    };
    let names = ["visits", "other"].iter().zip(kinds);
    let inputs = names.map(|(name, _)| ValueInfoProto {
        name: (*name).to_owned(),
        ..ValueInfoProto::default()
    });
    let mut graph = GraphProto {
        input: inputs.collect(),
        node: nodes,
        ..GraphProto::default()
    };
    let names = Names::take(&mut graph, &bytes.encode_to_vec());
    (graph, names.map_err(|error| error.to_string()))
}

#[test]
fn a_map_becomes_a_row_of_its_vocabulary() {
    for rows in [false, true] {
        let kind = map(DataType::Double, rows);
        let twice = vec![node("DictVectorizer", &["mo", "tu"]); 2];
        let (graph, names) = take(&[kind], twice);
        assert_eq!(names.unwrap().keys, ["mo", "tu"]);
        let expected = matrix(DataType::Double as i32, 2);
        assert_eq!(graph.input[0].r#type.as_ref(), Some(&expected));
    }
}

#[test]
fn a_map_that_becomes_no_row_is_refused_by_name() {
    let reals = || map(DataType::Float, false);
    let taken = || node("DictVectorizer", &["mo"]);
    let cases = [
        (vec![reals(), reals()], vec![taken()], "only input"),
        (
            vec![map(DataType::Int64, false)],
            vec![taken()],
            "float, double or string",
        ),
        (
            vec![reals()],
            vec![node("Identity", &[])],
            "only a DictVectorizer",
        ),
        (
            vec![reals()],
            vec![taken(), node("DictVectorizer", &["tu"])],
            "one vocabulary",
        ),
        (vec![reals()], vec![], "one vocabulary"),
    ];
    for (kinds, nodes, reason) in cases {
        let refused = take(&kinds, nodes).1.unwrap_err();
        assert!(
            refused.contains("input \"visits\", a map") && refused.contains(reason),
            "{refused}"
        );
    }
}

#[test]
fn an_initializer_is_no_input_beside_a_map() {
    let kinds = [map(DataType::Float, false), wire::Kind::default()];
    let (mut graph, _) = take(&kinds, vec![node("DictVectorizer", &["mo"])]);
    graph.initializer.push(tract_onnx::pb::TensorProto {
        name: "other".to_owned(),
        ..Default::default()
    });
    let bytes = wire::Model {
        graph: Some(wire::Graph {
            input: kinds.map(|kind| wire::Input { kind: Some(kind) }).to_vec(),
        }),
    };
    let names = Names::take(&mut graph, &bytes.encode_to_vec()).unwrap();
    assert_eq!(names.keys, ["mo"]);
}

#[test]
fn what_is_no_map_is_left_alone() {
    let (graph, names) = take(&[wire::Kind::default()], vec![]);
    assert_eq!(graph.input[0].r#type, None);
    assert_eq!(names.unwrap().keys, Vec::<String>::new());
}
